"""
The minute's edge of the whole market: last AM frame received → bars committed → detections committed, with real workers and a real broker.

Against the sum of its parts measured alone in one process: folding the minute, writing its bars, judging them. The values of the indicators
follow within the minute; when the last of them was there stands in the note.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import redis
from django.conf import settings
from django.db import connection

from dashboards.wire import LOG_KEY, PATTERNS
from marketdata.bars.builder import BarBuilder
from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarSnapshot
from marketdata.bars.window import Floats
from marketdata.intake import Intake
from marketdata.models import Source
from marketdata.signals import bars_closed
from marketdata.writer import Writer, line_name
from patterns.models import Detection, ScannedBar
from patterns.receivers import DETECT_BARS
from patterns.scan import detect
from patterns.windows import moment_of
from tickstock.bench.rows import Place, Row, growth_row, not_measured, time_row

SYMBOLS = 11_000
HISTORY = 120
MINUTES = 3
FEWER = (70, 1_000)
PREFIX = "EDGE."  # of our symbols: what was asked for of another subject's bars may be done meanwhile, of the same minutes
FRAME = 500
LIMIT_SECONDS = 5.0
ANNOUNCED_SECONDS = 0.5  # what is committed is announced just after
MOST_SECONDS = 60.0  # everything of a minute must be there before the next one
NAME, AGAINST = "minute edge, 11,000 symbols: last AM frame → detections committed", "its parts alone in one process"


class Market(NamedTuple):
    """Open, high, low, close in cents and volume, shape (5, symbols, minutes), and the start of the first minute in Unix ms."""

    prices: Floats
    first_ms: int


def rows(place: Place) -> Iterator[Row]:
    """Yield the rows of the edge."""
    market = _market(SYMBOLS, HISTORY + (2 + len(FEWER)) * MINUTES)
    writer = Writer(line_name(1, 1))
    writer.acquire()
    try:
        for minute in range(HISTORY):
            writer.write(_bars(market, minute))
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE ohlcv_1min")
        parts = [_alone(writer, market, minute) for minute in _minutes(0)]
        alone = Alone(*(median(times) for times in zip(*parts, strict=True)))
        with _workers(place):
            points = [
                (symbols, median(_edge(writer, _first(market, symbols), minute).detected for minute in _minutes(1 + place)))
                for place, symbols in enumerate(FEWER)
            ]
            measured = [_edge(writer, market, minute) for minute in _minutes(1 + len(FEWER))]
    except TimeoutError as error:
        yield not_measured(NAME, AGAINST, 1.5, str(error), at_least=False)
        return
    finally:
        writer.close()
    taken = median(edge.detected for edge in measured)
    note = (
        f"alone: {alone.folded:.2f} s folding, {alone.written:.2f} s writing, {alone.judged:.2f} s judging; "
        f"bars committed after {median(edge.committed for edge in measured):.2f} s, values after {median(edge.valued for edge in measured):.0f} s"
    )
    yield time_row(NAME, AGAINST, ours=taken, peer=alone.folded + alone.written + alone.judged, goal=1.5, note=note)
    yield time_row("minute edge, 11,000 symbols, seconds", "5 seconds", ours=taken, peer=LIMIT_SECONDS, goal=1.0)
    yield growth_row("minute edge", [*points, (SYMBOLS, taken)])


def _minutes(turn: int) -> range:
    """Return the minutes of one thing that is measured, each of its own."""
    return range(HISTORY + turn * MINUTES, HISTORY + (turn + 1) * MINUTES)


def _first(market: Market, symbols: int) -> Market:
    return market._replace(prices=market.prices[:, :symbols])


class Alone(NamedTuple):
    """Seconds of each part of a minute, one after the other in one process."""

    folded: float
    written: float
    judged: float


class Edge(NamedTuple):
    """Seconds from the last frame of a minute until its bars, its detections and its values were committed."""

    committed: float
    detected: float
    valued: float


def _alone(writer: Writer, market: Market, minute: int) -> Alone:
    frames = _frames(market, minute)
    intake = _intake()
    for frame in frames[:-1]:
        intake.take(frame)
    began = time.perf_counter()
    intake.take(frames[-1])
    intake.finish()
    folded = time.perf_counter()
    changes, _ = writer.write(intake.bars)
    written = time.perf_counter()
    keys = sorted((change.bar.symbol, change.bar.opened_at_ms) for change in changes)
    assert len(keys) == SYMBOLS
    for start in range(0, len(keys), DETECT_BARS):
        detect(keys[start : start + DETECT_BARS], now=datetime.now(UTC))
    return Alone(folded - began, written - folded, time.perf_counter() - written)


def _edge(writer: Writer, market: Market, minute: int) -> Edge:
    opened = moment_of(market.first_ms + minute * MINUTE_MS)
    client: Any = redis.Redis.from_url(settings.REDIS_URL)  # its types know no bytes
    newest = client.xrevrange(LOG_KEY, count=1)
    frames = _frames(market, minute)
    intake = _intake()
    for frame in frames[:-1]:
        intake.take(frame)
    last = datetime.now(UTC)
    intake.take(frames[-1])
    intake.finish()
    changes, refused = writer.write(intake.bars)
    committed = datetime.now(UTC)
    assert len(changes) == market.prices.shape[1]
    assert not refused
    bars_closed.send_robust(sender=None, bars=changes)
    scanned = ScannedBar.objects.filter(symbol__symbol__startswith=PREFIX, timeframe="1m", timestamp=opened)
    _wait(lambda: scanned.count() == len(changes), f"not all of a minute's {len(changes):,} bars were scanned")
    valued = datetime.now(UTC)

    def told() -> list[datetime]:
        return [
            datetime.fromisoformat(fields[b"at"].decode())
            for _, fields in client.xrange(LOG_KEY, min=b"(" + newest[0][0] if newest else b"-")
            if fields[b"kind"].decode() == PATTERNS and _is_of(fields[b"body"], opened)
        ]

    _wait(lambda: bool(told()), "no detection of a minute was announced")
    time.sleep(ANNOUNCED_SECONDS)
    found = Detection.objects.filter(symbol__symbol__startswith=PREFIX, timeframe="1m", timestamp=opened)
    detected = max(told())
    assert not found.filter(detection_timestamp__gt=detected).exists(), "the scan found what was not found before"
    return Edge(*((moment - last).total_seconds() for moment in (committed, detected, valued)))


def _is_of(body: bytes, opened: datetime) -> bool:
    found = (row for row in json.loads(body)["detections"] if row["timeframe"] == "1m" and row["symbol"].startswith(PREFIX))
    return any(datetime.fromisoformat(row["timestamp"]) == opened for row in found)


def _wait(done: Callable[[], bool], sentence: str) -> None:
    end = time.monotonic() + MOST_SECONDS
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{sentence} within {MOST_SECONDS:.0f} s")
        time.sleep(0.1)


@contextmanager
def _workers(place: Place) -> Iterator[None]:
    """Run a worker as compose.yaml does: two processes."""
    command = [sys.executable, "-m", "celery", "-A", "tickstock", "worker", "-P", "prefork", "-c", "2", "-l", "WARNING"]
    with (place.scratch / "worker.log").open("w") as log:
        environment = dict(os.environ)  # noqa: TID251 - a child's
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            time.sleep(6)  # it imports, forks and subscribes
            if process.poll() is not None:
                raise TimeoutError(f"the worker ended: {(place.scratch / 'worker.log').read_text()[-300:]}")
            yield
        finally:
            process.terminate()
            process.wait()


# ---- The market -------------------------------------------------------------------------------------------------------------------------


def _market(symbols: int, minutes: int) -> Market:
    """Return random walks with a fixed seed whose last minute is this one: an older one would be no live minute."""
    chance = np.random.default_rng(7)
    close = np.round(50 * np.exp(np.cumsum(chance.normal(0, 0.001, (symbols, minutes)), axis=1)), 2)
    open_ = np.round(close * (1 + chance.normal(0, 0.0005, close.shape)), 2)
    high = np.round(np.maximum(open_, close) * (1 + np.abs(chance.normal(0, 0.0004, close.shape))), 2)
    low = np.round(np.minimum(open_, close) * (1 - np.abs(chance.normal(0, 0.0004, close.shape))), 2)
    volume = np.round(chance.lognormal(7, 0.5, close.shape))
    return Market(np.stack((open_, high, low, close, volume)), (int(time.time()) // 60 - minutes + 1) * MINUTE_MS)


def _bars(market: Market, minute: int) -> list[BarSnapshot]:
    at = market.first_ms + minute * MINUTE_MS
    return [
        BarSnapshot(
            f"{PREFIX}{number:05d}", at, open_, high, low, close, int(volume) * SHARE, close, None, Source.VENDOR, int(volume), True
        )
        for number, (open_, high, low, close, volume) in enumerate(market.prices[:, :, minute].T.tolist())
    ]


def _frames(market: Market, minute: int) -> list[bytes]:
    at = market.first_ms + minute * MINUTE_MS
    events = [
        {
            "ev": "AM", "sym": f"{PREFIX}{number:05d}", "v": int(volume), "av": 100_000, "op": 49.9, "vw": close, "o": open_, "c": close, "h": high, "l": low,
            "a": 49.8, "z": 100, "s": at, "e": at + MINUTE_MS,
        }
        for number, (open_, high, low, close, volume) in enumerate(market.prices[:, :, minute].T.tolist())
    ]  # fmt: skip
    return [json.dumps(events[start : start + FRAME], separators=(",", ":")).encode() for start in range(0, len(events), FRAME)]


def _intake() -> Intake:
    return Intake(BarBuilder(SessionTable([]), unbroken=True), symbols=None, kinds=None)
