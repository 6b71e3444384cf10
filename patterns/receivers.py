"""Stored bars → scan and survey tasks. A hint only: what the broker does not take, the sweep finds."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Task
from django.conf import settings
from django.dispatch import receiver
from kombu.exceptions import OperationalError

from marketdata.bars.snapshot import MINUTE_MS, BarChange
from marketdata.models import Source
from marketdata.signals import bars_closed
from patterns.tasks import detect_bars, scan_bars, survey_market
from patterns.windows import LENGTH_MS, Key, milliseconds_of

log = logging.getLogger(__name__)

TASK_BARS = {"1m": 300, "5m": 100, "15m": 60, "1h": 30}  # the longer the interval, the more minutes are behind a bar
MANY_BARS = 1_000
"""Of a flush with more minutes the patterns are sought first: to count and store all values takes several times as long."""
DETECT_BARS = 1_000
PRIORITY = {"1m": 0, "5m": 3, "15m": 6, "1h": 9}  # of Redis the lowest comes first: minutes never wait for what is made of them
PAST_PRIORITY = 9
PAST = timedelta(minutes=20)  # longer than the late window: what a start or a repair brings never stands before a live minute
HINT_SECONDS = 300  # an older hint is the sweep's work by then
REST_SECONDS = 5.0  # how long a broker that refused is not asked
SECONDS_BETWEEN_WARNINGS = 60.0


class ScanQueue:
    """The way of hints to the broker; any thread may use it. It never raises, and asks a broker that refuses only now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rest_until = float("-inf")
        self._warned_at = float("-inf")
        self._dropped = 0

    def put(self, keys: Iterable[Key], timeframe: str = "1m", *, past: bool = False) -> None:
        """Queue the bars in tasks of some hundred, symbol by symbol; of very many live minutes the patterns alone before."""
        ordered = sorted(keys)
        priority = PAST_PRIORITY if past else PRIORITY[timeframe]
        if timeframe == "1m" and len(ordered) > MANY_BARS and not past:
            for start in range(0, len(ordered), DETECT_BARS):
                self._send(detect_bars, ordered[start : start + DETECT_BARS], priority)
        for start in range(0, len(ordered), TASK_BARS[timeframe]):
            self._send(scan_bars, ordered[start : start + TASK_BARS[timeframe]], priority, timeframe)

    def _send(self, task: "Task[Any, None]", batch: list[Key], priority: int, *rest: str) -> None:
        with self._lock:
            if time.monotonic() < self._rest_until:
                self._dropped += len(batch)
                return
        try:
            task.apply_async(args=(batch, *rest), expires=HINT_SECONDS, retry=False, ignore_result=True, priority=priority)
        except (OperationalError, OSError) as error:
            self._refused(batch, error)

    def _refused(self, batch: list[Key], error: Exception) -> None:
        with self._lock:
            now = time.monotonic()
            self._rest_until = now + REST_SECONDS
            self._dropped += len(batch)
            if now - self._warned_at >= SECONDS_BETWEEN_WARNINGS:
                self._warned_at = now
                log.warning("The broker takes no scans (%d bars so far), the sweep will find them: %s", self._dropped, error)


queue = ScanQueue()


@receiver(bars_closed, dispatch_uid="scan closed bars")
def queue_scans(bars: list[BarChange], **_: Any) -> None:
    """Bars were stored: have the whole and final ones scanned, imported ones only where they are recent, and the longer bars they end."""
    now = datetime.now(UTC)
    imports_from = milliseconds_of(now - timedelta(days=settings.SCAN_IMPORTS_DAYS))
    wanted = [change for change in bars if _is_wanted(change, imports_from)]
    now_ms, past_ms = milliseconds_of(now), milliseconds_of(now - PAST)
    for past in (False, True):
        some = [change for change in wanted if (change.bar.opened_at_ms < past_ms) is past]
        queue.put([(change.bar.symbol, change.bar.opened_at_ms) for change in some], past=past)
        for timeframe in list(TASK_BARS)[1:]:
            queue.put(_made_of(some, timeframe, now_ms=now_ms), timeframe, past=past)


def _is_wanted(change: BarChange, imports_from: int) -> bool:
    return (change.bar.complete or change.is_final) and (change.bar.source <= Source.VENDOR or change.bar.opened_at_ms >= imports_from)


def _made_of(changes: Iterable[BarChange], timeframe: str, *, now_ms: int) -> set[Key]:
    """Return the longer bars that these minutes end, or that are over already; whether one is, its scan decides from the table."""
    length = LENGTH_MS[timeframe]
    ends = ((change.bar.symbol, change.bar.opened_at_ms, change.bar.opened_at_ms // length * length) for change in changes)
    return {(symbol, opened) for symbol, minute, opened in ends if minute + MINUTE_MS == opened + length or opened + length <= now_ms}


# ---- Surveys of the market ----------------------------------------------------------------------------------------------------------------

SURVEY_WAIT_SECONDS = 4  # after a minute's first bar, for those of the other symbols
SURVEY_HINT_SECONDS = 50
YOUNG = timedelta(minutes=3)  # older minutes are past bars: their days are surveyed when they are over


class SurveyHint:
    """One survey a minute, whatever number of flushes brings its bars. It never raises; beat finds what the broker does not take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hinted = -1

    def give(self, newest_ms: int) -> None:
        """Ask for a survey where this minute is newer than the last one hinted at."""
        with self._lock:
            if newest_ms <= self._hinted:
                return
            self._hinted = newest_ms
        with contextlib.suppress(OperationalError, OSError):
            survey_market.apply_async(countdown=SURVEY_WAIT_SECONDS, expires=SURVEY_HINT_SECONDS, retry=False, ignore_result=True)


hint = SurveyHint()


@receiver(bars_closed, dispatch_uid="survey closed bars")
def queue_survey(bars: list[BarChange], **_: Any) -> None:
    """Bars were stored: have the market surveyed, once a minute."""
    young = milliseconds_of(datetime.now(UTC) - YOUNG)
    newest = max((change.bar.opened_at_ms for change in bars if change.bar.complete or change.is_final), default=-1)
    if newest >= young:
        hint.give(newest)
