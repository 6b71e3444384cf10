"""A program that asks: two addresses of the API under daphne at ten requests a second, and beside them the SQL alone."""

import http.client
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

import psycopg
from django.db import connection

from accounts.models import ApiToken, User
from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarSnapshot
from marketdata.models import Source
from marketdata.writer import Writer, line_name
from tickstock.bench.rows import Place, Row, not_measured, time_row
from tickstock.bench.serving import daphne

SYMBOL = "ASKED"
BARS = 600
FIRST_MS = 1_795_185_000_000
PER_SECOND = 10
ASKED = 100
FLAT_OUT_SECONDS = 3
LIMIT_SECONDS = 0.020
QUESTIONS = (
    ("/api/ticks/recent", f"/api/ticks/recent?symbol={SYMBOL}", 100),
    ("/api/bars, 500 bars", f"/api/bars/{SYMBOL}/?interval=1m&limit=500", 500),
)
_SQL = """
SELECT symbol, timestamp, open, high, low, close, volume, vwap, trades, source, complete, is_final, revision, updated_at
FROM ohlcv_1min WHERE symbol = %s AND (complete OR is_final) ORDER BY timestamp DESC LIMIT %s
"""


def rows(place: Place) -> Iterator[Row]:  # noqa: ARG001 - every subject gets it
    """Yield the rows of asking."""
    _store_bars()
    user = User.objects.create_user(username="bench", password=None)
    _, secret = ApiToken.objects.issue(user, scopes=["read:bars"], expires_at=datetime.now(UTC) + timedelta(hours=1), name="bench")
    try:
        with daphne(API_REQUESTS_PER_USER="10000000", API_REQUESTS_PER_ADDRESS="10000000") as (port, _):
            for name, path, limit in QUESTIONS:
                yield _asked(name, port, path, secret, limit=limit)
    except TimeoutError as error:
        yield not_measured("/api under daphne", "20 ms", 1.0, str(error), at_least=False)
    finally:
        user.delete()


def _store_bars() -> None:
    writer = Writer(line_name(1, 1))
    writer.acquire()
    try:
        writer.write(
            [
                BarSnapshot(
                    SYMBOL, FIRST_MS + number * MINUTE_MS, 50.01, 50.25, 49.9, 50.11, 1_000 * SHARE, 50.05, 12, Source.VENDOR, 1, True
                )
                for number in range(BARS)
            ]
        )  # fmt: skip
    finally:
        writer.close()


def _asked(name: str, port: int, path: str, secret: str, *, limit: int) -> Row:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask() -> None:
        line.request("GET", path, headers={"Authorization": f"Bearer {secret}"})
        answer = line.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answers {answer.status}: {body[:200]!r}")

    try:
        for _ in range(20):  # the first ones load what the process has not needed yet
            ask()
        taken = paced(ask)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < FLAT_OUT_SECONDS:
            ask()
            count += 1
        rate = count / (time.perf_counter() - began)
    finally:
        line.close()
    bare = _bare(limit)
    p95 = quantiles(taken, n=20)[-1]
    note = (
        f"p95 at {PER_SECOND} a second; p50 {median(taken) * 1000:.1f} ms, the bare SQL {bare * 1000:.1f} ms, "
        f"{median(taken) / bare:.1f} times; {rate:.0f} a second one after the other"
    )
    return time_row(name, "20 ms", ours=p95, peer=LIMIT_SECONDS, goal=1.0, note=note)


def paced(ask: Callable[[], None]) -> list[float]:
    """Ask at an even pace; an answer's time counts from when it was due, so that a slow one does not hide those behind it."""
    first = time.perf_counter()
    taken = []
    for number in range(ASKED):
        due = first + number / PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        ask()
        taken.append(time.perf_counter() - due)
    return taken


def _bare(limit: int) -> float:
    settings = connection.get_connection_params()
    known = {key: value for key, value in settings.items() if key not in {"cursor_factory", "context", "prepare_threshold"}}
    taken = []
    with psycopg.connect(**known, autocommit=True) as line:
        for _ in range(ASKED):
            began = time.perf_counter()
            found = line.execute(_SQL, (SYMBOL, limit)).fetchall()
            taken.append(time.perf_counter() - began)
            assert len(found) == limit
    return median(taken)
