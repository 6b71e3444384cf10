"""
Stored bars → detections and indicator values: the one workflow behind tasks, sweep and command.

It reads windows from the table and never believes a message, so a lost, late or repeated hint is harmless. A bar that is new or revised
changes the windows of the bars after it: those that were judged already are judged again as far as its influence reaches (the next
119 bars, and for the VWAP to the end of its session), so that the rows do not depend on the order in which bars came.
"""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from billiard.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from numpy.typing import NDArray

from marketdata.bars.snapshot import MINUTE_MS
from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.candlesticks import CANDLESTICKS, find_candlesticks
from patterns.detectors.quality import judge
from patterns.indicators.minute import VWAP, minute_values
from patterns.indicators.volume import session_sums
from patterns.models import Direction
from patterns.signals import bars_scanned, patterns_detected, patterns_retracted
from patterns.windows import BEFORE, NEVER, Read, moment_of, read_windows, session_opens, sums_since_open
from patterns.writer import (
    Announcement,
    FoundPattern,
    JudgedBars,
    count_attempts,
    lock_symbols,
    store_detections,
    store_ledger,
    store_values,
)

log = logging.getLogger(__name__)

Key = tuple[str, int]
"""A one-minute bar: symbol and start in Unix ms."""

TIMEFRAME = "1m"
DIRECTIONS = {1: Direction.BULLISH, -1: Direction.BEARISH, 0: Direction.NEUTRAL}

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScanReport:
    """How many bars were judged, detections stand on them, values were computed for them; `failed` bars could not be judged."""

    bars: int = 0
    detections: int = 0
    indicators: int = 0
    failed: int = 0
    seconds: float = 0.0

    def __add__(self, other: "ScanReport") -> "ScanReport":
        return ScanReport(
            self.bars + other.bars,
            self.detections + other.detections,
            self.indicators + other.indicators,
            self.failed + other.failed,
            self.seconds + other.seconds,
        )


# ---- Choosing ---------------------------------------------------------------------------------------------------------------------------


def _asked(window: BarWindow, keys: Iterable[Key]) -> Flags:
    """Return which bars of the window are among the keys."""
    place = {symbol: run for run, symbol in enumerate(window.symbols)}
    step = 10**9  # minutes of one symbol; more than there are until the year 3871
    codes = np.array([place[symbol] * step + opened_at_ms // MINUTE_MS for symbol, opened_at_ms in keys], dtype=np.int64)
    return np.isin(window.run * step + window.opened_at_ms // MINUTE_MS, codes)


def _touched(read: Read, changed: Flags, session_open_ms: Integers) -> tuple[Flags, Flags]:
    """
    Return which judged bars a changed bar before them reaches: (by their last 120 bars, by their session's VWAP only).

    A changed bar is one whose present revision was never judged.
    """
    index = np.arange(len(changed), dtype=np.int64)
    latest = np.maximum.accumulate(np.where(changed, index, NEVER))
    behind = (latest >= read.window.starts[read.window.run]) & ~changed & (read.scanned != NEVER) & read.scannable
    near = behind & (index - latest <= BEFORE)
    same_session = (session_open_ms >= 0) & (read.window.opened_at_ms[np.maximum(latest, 0)] >= session_open_ms)
    return near, behind & ~near & same_session


# ---- Judging ----------------------------------------------------------------------------------------------------------------------------


def _vwap_sums(read: Read, due: Flags, session_open_ms: Integers) -> tuple[Floats, Floats]:
    """
    Return (turnover, volume) of the session at each bar, NaN where they are not needed.

    They go on from the ledger's sums at the newest judged bar before the first that is due; without one the session's bars are read from
    its open on.
    """
    window = read.window
    begin = window.starts[1:].copy()
    turnover, volume = np.zeros(len(begin)), np.zeros(len(begin))
    missing: list[tuple[int, int]] = []
    needed = np.flatnonzero(due & (session_open_ms >= 0))
    runs, place = np.unique(window.run[needed], return_index=True)
    for run, first_due in zip(runs.tolist(), needed[place].tolist(), strict=True):
        start = int(window.starts[run])
        earlier = slice(start, first_due)
        mine = session_open_ms[earlier] == session_open_ms[first_due]
        trusted = np.flatnonzero(mine & (read.scanned[earlier] == read.revision[earlier]) & ~np.isnan(read.volume[earlier]))
        if len(trusted):
            known = start + int(trusted[-1])
            begin[run], turnover[run], volume[run] = known + 1, read.turnover[known], read.volume[known]
            continue
        begin[run] = start + int(np.argmax(mine)) if mine.any() else first_due
        if begin[run] == start and window.opened_at_ms[start] > session_open_ms[start]:
            missing.append((run, int(session_open_ms[start])))
    for run, before in sums_since_open(window, missing).items():
        turnover[run], volume[run] = before
    return session_sums(window, session_open_ms, begin=begin, turnover=turnover, volume=volume)


def _find(window: BarWindow, ends: Integers) -> list[FoundPattern]:
    """Return the candlesticks on the bars `ends` with their confidence and what it was measured from."""
    matches = find_candlesticks(window, ends)
    quality = judge(window, matches, CANDLESTICKS)
    bars = np.searchsorted(ends, matches.end)
    measures = {"size": quality.size, "body": quality.body, "drift": quality.drift, "volume": quality.volume, "range": quality.usual_range}
    found = []
    for index in range(len(matches)):
        detector = CANDLESTICKS[matches.detector[index]]
        detail = {
            "trend": quality.trend(index),
            "measures": {name: _measure(values[index]) for name, values in measures.items()},
            "grade": int(matches.grade[index]),
            "bars": detector.look_back + 1,
            "candles": detector.candles,
        }
        direction = DIRECTIONS[int(quality.sign[index])]
        confidence = round(float(quality.confidence[index]), 4)
        found.append(FoundPattern(int(bars[index]), detector.pattern_type, confidence, direction, json.dumps(detail)))
    return found


def _measure(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


# ---- The workflow -----------------------------------------------------------------------------------------------------------------------


def scan(keys: Sequence[Key], *, now: datetime, again: bool = False) -> ScanReport:
    """
    Judge these one-minute bars, and those already judged whose windows they change, in one transaction; announce after its commit.

    A bar that is neither whole nor final is left for later, a bar whose present revision was judged is left alone unless `again`.
    Whatever runs twice changes nothing the second time.
    """
    started = time.monotonic()
    if not keys:
        return ScanReport()
    spans = _spans(keys)
    with transaction.atomic():
        lock_symbols([span[0] for span in spans])
        read = read_windows(spans)
        asked = _asked(read.window, keys) & read.scannable
        changed = asked & (read.scanned != read.revision)
        if not (changed.any() or (again and asked.any())):
            return ScanReport(seconds=time.monotonic() - started)
        session_open_ms = session_opens(read.window.opened_at_ms)
        near, far = _touched(read, changed, session_open_ms)
        report, news, retracted = _judge_and_store(read, changed | near | (asked & again), far, session_open_ms, now=now)
        report += ScanReport(seconds=time.monotonic() - started)
        newest = moment_of(int(read.window.opened_at_ms[asked].max()))
        transaction.on_commit(lambda: _announce(report, news, retracted, newest))
    return report


def _spans(keys: Iterable[Key]) -> list[tuple[str, int, int]]:
    """Return (symbol, first, last) of the keys of each symbol."""
    minutes: dict[str, list[int]] = {}
    for symbol, opened_at_ms in keys:
        minutes.setdefault(symbol, []).append(opened_at_ms)
    return [(symbol, min(of_symbol), max(of_symbol)) for symbol, of_symbol in sorted(minutes.items())]


def _judge_and_store(
    read: Read, due: Flags, far: Flags, session_open_ms: Integers, *, now: datetime
) -> tuple[ScanReport, list[Announcement], list[Announcement]]:
    turnover, volume = _vwap_sums(read, due | far, session_open_ms)
    vwap = np.divide(turnover, volume, out=np.full(len(volume), np.nan), where=volume > 0)
    ends = np.flatnonzero(due)
    bars = _judged(read, ends)
    found = _find(read.window, ends)
    detected, retracted = store_detections(bars, found, now=now)
    counted = store_values(bars, minute_values(read.window, ends) | {VWAP: vwap[ends]}, now=now)
    store_ledger(bars, turnover=turnover[ends], volume=volume[ends], now=now)
    rest = np.flatnonzero(far)
    if len(rest):
        later = _judged(read, rest)
        counted += store_values(later, {VWAP: vwap[rest]}, now=now)
        store_ledger(later, turnover=turnover[rest], volume=volume[rest], now=now)
    return ScanReport(bars=len(ends), detections=len(found), indicators=counted), detected, retracted


def _judged(read: Read, ends: Integers) -> JudgedBars:
    symbols = [read.window.symbols[run] for run in read.window.run[ends].tolist()]
    return JudgedBars(TIMEFRAME, symbols, read.window.opened_at_ms[ends], read.revision[ends], read.scanned[ends] != NEVER)


def _announce(report: ScanReport, detected: list[Announcement], retracted: list[Announcement], newest: datetime) -> None:
    if detected:
        patterns_detected.send_robust(sender=scan, detections=detected)
    if retracted:
        patterns_retracted.send_robust(sender=scan, detections=retracted)
    summary = {
        "timeframe": TIMEFRAME,
        "bars": report.bars,
        "detections": report.detections,
        "indicators": report.indicators,
        "seconds": report.seconds,
        "newest": newest,
    }
    bars_scanned.send_robust(sender=scan, report=summary)


def scan_apart(keys: Sequence[Key], *, now: datetime, again: bool = False) -> ScanReport:
    """
    Scan, and where that fails scan the halves, down to single symbols: one symbol's defect does not stop the others.

    A symbol that cannot be scanned is logged, its bars are noted with the reason and counted as `failed`. A database that is away raises.
    """
    try:
        return scan(keys, now=now, again=again)
    except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
        raise  # nobody's defect
    except Exception as error:
        symbols = sorted({symbol for symbol, _ in keys})
        if len(symbols) == 1:
            log.error("%s cannot be scanned, %d bars of it are left out: %s", symbols[0], len(keys), _sentence(error), exc_info=error)
            count_attempts(sorted(set(keys)), now=now, error=_sentence(error))
            return ScanReport(failed=len(keys))
    half = set(symbols[: len(symbols) // 2])
    return scan_apart([key for key in keys if key[0] in half], now=now, again=again) + scan_apart(
        [key for key in keys if key[0] not in half], now=now, again=again
    )


def _sentence(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, DatabaseError) else f"{type(error).__name__}: {text}"
