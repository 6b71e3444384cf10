"""Follow one symbol from the socket to the page, and say where the counts part. Each station counts the same minutes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from django.conf import settings

from dashboards.wire import LOG_KEY
from marketdata.history import HistoryError, RestHistory
from marketdata.models import Bar, FeedSpan, Gap, GapState, Heartbeat, RejectedEvent, Session, Symbol, Universe, UnknownUniverseError
from patterns.models import Detection, IndicatorValue, ScanFailure, ScannedBar

MINUTES = 15
SETTLED = timedelta(seconds=90)  # a minute that young is still on its way
EVIDENCE_LAG = timedelta(minutes=3)
LOG_ENTRIES = 300


@dataclass(frozen=True)
class Station:
    """One station of the way: what was counted there, and where that is too little, what is wrong and its cure."""

    name: str
    count: int | None
    words: str
    wrong: str = ""


def follow(symbol: str, *, now: datetime) -> Iterator[Station]:
    """Yield the stations of the quarter of an hour before the minute that is still on its way."""
    last = (now - SETTLED).replace(second=0, microsecond=0)
    first = last - timedelta(minutes=MINUTES)
    yield _universe(symbol)
    yield from _line(symbol, first, last)
    expected = _with_trades(symbol, first, last, now)
    if expected is not None:
        yield Station("vendor's REST", expected, f"minutes with trades in [{first:%H:%M}, {last:%H:%M}) UTC")
    yield from _bars(symbol, first, last, expected)
    yield from _scans(symbol, first, last)
    yield from _live(symbol)


def _universe(symbol: str) -> Station:
    try:
        members = Universe.objects.symbols_of(settings.SYMBOL_UNIVERSE_KEY)
    except UnknownUniverseError as error:
        return Station("universe", None, settings.SYMBOL_UNIVERSE_KEY, str(error))
    if symbol in members:
        return Station("universe", 1, f"{symbol} is one of {len(members)} symbols of {settings.SYMBOL_UNIVERSE_KEY}")
    known = Symbol.objects.filter(symbol__iexact=symbol).values_list("symbol", flat=True).first()
    hint = f" There is {known}: case matters." if known and known != symbol else ""
    return Station(
        "universe", 0, settings.SYMBOL_UNIVERSE_KEY, f"{symbol} is not in the universe; add it, then restart stream_ticks.{hint}"
    )


def _line(symbol: str, first: datetime, last: datetime) -> Iterator[Station]:
    beats = list(Heartbeat.objects.filter(part__startswith="stream ").order_by("-at"))
    if not beats:
        yield Station("socket", 0, "no stream has ever run", "Start `manage.py stream_ticks`.")
        return
    newest = beats[0]
    age = (datetime.now(UTC) - newest.at).total_seconds()
    detail = newest.detail
    gone = f"{newest.part} gave its last sign of life {age:.0f} s ago; start it again." if age > 15 else ""
    down = (
        ""
        if newest.state in {"live", "delayed", "replay"}
        else f"{newest.part} is {newest.state}: {detail.get('reason') or 'no reason told'}."
    )
    yield Station(
        "socket", detail.get("frames"), f"frames of {newest.part} since its start, {detail.get('frames_per_minute')} a minute", gone or down
    )
    lost = detail.get("dropped_frames") or 0
    yield Station(
        "frames",
        lost,
        "of them dropped",
        f"{lost} frames were dropped: this machine is too slow; divide the symbols with --shard." if lost else "",
    )
    spans = FeedSpan.objects.filter(alive_until__gte=first, symbols__contains=[symbol])
    words = "stretches of the line with this symbol in these minutes"
    is_new = datetime.now(UTC) - newest.started_at < EVIDENCE_LAG
    if is_new and not spans.exists():
        words += "; the stream has just started, evidence comes two minutes behind"
    silent = "" if spans.exists() or is_new else f"No line had {symbol} in these minutes: not subscribed, or down."
    yield Station("subscription", spans.count(), words, silent)
    refused = RejectedEvent.objects.filter(symbol=symbol, received_at__gte=first, received_at__lt=last + SETTLED)
    reasons = ", ".join(sorted(set(refused.values_list("reason", flat=True))))
    yield Station("events", detail.get("events"), f"decoded since the start; of {symbol} {refused.count()} were refused {reasons}".rstrip())


def _with_trades(symbol: str, first: datetime, last: datetime, now: datetime) -> int | None:
    """Return how many minutes the vendor has, None where it cannot be asked."""
    if not settings.MASSIVE_API_KEY:
        return None
    try:
        bars = RestHistory(url=settings.MASSIVE_REST_URL, key=settings.MASSIVE_API_KEY).minutes(
            symbol, first, last - timedelta(seconds=1), asked_at=now
        )
        return len({bar.opened_at_ms for bar in bars})
    except HistoryError:
        return None


def _bars(symbol: str, first: datetime, last: datetime, expected: int | None) -> Iterator[Station]:
    within = Bar.objects.of(symbol).since(first).filter(timestamp__lt=last)
    stored, whole = within.count(), within.whole().count()
    session = Session.objects.filter(pre_open__lt=last, post_close__gt=first).exists()
    gaps = Gap.objects.filter(symbol_id=symbol, state=GapState.OPEN, first_minute__lt=last, last_minute__gte=first)
    wrong = ""
    if expected is not None and stored < expected:
        open_gaps = f"{gaps.count()} gaps are open: {gaps[0].last_error or 'REST is asked soon'}" if gaps.exists() else "no gap is open yet"
        wrong = f"The vendor has {expected} minutes, the table {stored}; {open_gaps}. `manage.py repair_gaps` asks at once."
    elif not stored and session and expected is None:
        wrong = (
            f"Not one minute in {MINUTES}: no trade, or nothing was written. Look at waiting_bars in the heartbeat and at rejected_events."
        )
    words = f"minutes stored, {stored - whole} of them seen in part" + ("" if session else "; no session then, none are expected")
    yield Station("bars", stored, words, wrong)


def _scans(symbol: str, first: datetime, last: datetime) -> Iterator[Station]:
    same: dict[str, Any] = {"symbol_id": symbol, "timeframe": "1m", "timestamp__gte": first, "timestamp__lt": last}
    whole = Bar.objects.of(symbol).since(first).filter(timestamp__lt=last).whole().count()
    scanned, failed = ScannedBar.objects.filter(**same).count(), ScanFailure.objects.filter(**same).count()
    wrong = ""
    if scanned < whole:
        wrong = f"{whole - scanned} whole minutes were not looked at" + (
            f"; {failed} of them failed, scan_failures says why."
            if failed
            else ": is the worker alive? The sweep finds them within a minute when it is."
        )
    yield Station("scan", scanned, "whole minutes looked at", wrong)
    values = IndicatorValue.objects.filter(**same).values("timestamp").distinct().count()
    yield Station(
        "indicators",
        values,
        "minutes with values",
        "" if values or not scanned else "No values: fewer than two bars in the window, or pruned.",
    )
    found = Detection.objects.filter(**same).count()
    yield Station("detections", found, "patterns on these minutes; none is no fault")


def _live(symbol: str) -> Iterator[Station]:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3, socket_connect_timeout=3)
    try:
        entries: Any = client.xrevrange(LOG_KEY, count=LOG_ENTRIES)
    except (redis.RedisError, OSError):
        yield Station("live log", None, "", "Redis does not answer: pages show stored bars, nothing moves. Start it, and check REDIS_URL.")
        return
    finally:
        client.close()
    needle = json.dumps(symbol).encode()
    mine = sum(needle in fields.get(b"body", b"") for _, fields in entries)
    wrong = (
        ""
        if mine or not entries
        else f"None of the last {len(entries)} messages speaks of {symbol}; it did not move, or its bars did not come."
    )
    yield Station(
        "live log",
        mine,
        f"of the last {len(entries)} messages to browsers speak of it",
        wrong if entries else "Nobody wrote to the live log.",
    )
    newest = Bar.objects.of(symbol).whole().newest_first().first()
    shown = "none" if newest is None else f"{newest.timestamp:%Y-%m-%d %H:%M} UTC, close {newest.close.normalize():f}"
    yield Station("page", None if newest is None else 1, f"newest minute that pages and REST show: {shown}")
