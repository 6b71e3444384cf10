"""The product's stream, run by a test in its own process, and what the table and the heartbeat say of it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from marketdata.connection import LineState
from marketdata.feed.protocol import State
from marketdata.history import RestHistory
from marketdata.models import Bar, Heartbeat, Session
from marketdata.stream import LiveStream
from marketdata.writer import Writer, line_name
from tests.feed_server import Peer, trade

MINUTE = 60_000
PAIR = ("AAPL", "MSFT")


def _stream(url: str, *, symbols: Sequence[str], kinds: Sequence[str] = ("T",), connections: int, rest: str = "") -> LiveStream:
    writer = Writer(line_name(1, 1))
    writer.acquire_within(20)  # the server may still be taking leave of the test before
    return LiveStream(
        writer, Session.objects.table(), feed="massive", ws_url=url, key="k", symbols=symbols, kinds=kinds, connections=connections,
        batch_size=100, flush_seconds=5.0, history=(lambda: RestHistory(url=rest, key="k")) if rest else None, requests_per_second=200.0,
    )  # fmt: skip


@contextmanager
def streaming(
    url: str, *, symbols: Sequence[str] = PAIR, kinds: Sequence[str] = ("T",), connections: int = 1, rest: str = ""
) -> Iterator[LiveStream]:
    """Stream from a feed at `url`, with the past from a REST at `rest`; at the end it must have stored everything and raised nothing."""
    stream = _stream(url, symbols=symbols, kinds=kinds, connections=connections, rest=rest)
    failures: list[Exception] = []

    def run() -> None:
        try:
            stream.run()
        except Exception as error:  # noqa: BLE001 - shown by the assertion at the end
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield stream
    finally:
        stream.stop()
        thread.join(60)
        assert not thread.is_alive()
    assert not failures, failures


@contextmanager
def unstarted(*, symbols: Sequence[str] = PAIR, connections: int = 1) -> Iterator[LiveStream]:
    """A stream whose lines are not started: the test says what they hand on, and when it came."""
    stream = _stream("ws://127.0.0.1:9", symbols=symbols, connections=connections)
    try:
        yield stream
    finally:
        stream._flusher.stop()
        stream._announcer.stop()


def up(line: int, *symbols: str) -> LineState:
    """The line has signed in and carries these symbols."""
    return LineState(line, State.LIVE, "", pairs=frozenset(f"T.{symbol}" for symbol in symbols))


def this_minute() -> int:
    return int(time.time() * 1000) // MINUTE * MINUTE


def three_minutes(peer: Peer, *, price: float = 10.0, first_q: int = 1, start: int | None = None) -> None:
    """Send a trade in each of three minutes: the second is the first whole one, the third closes it."""
    begin = this_minute() if start is None else start
    for number in range(3):
        peer.send(trade(price + number, begin + number * MINUTE + 1_500, first_q + number))


def whole_bars() -> list[float]:
    return [float(close) for close in Bar.objects.filter(complete=True).order_by("timestamp").values_list("close", flat=True)]


def heartbeat() -> dict[str, Any]:
    """Return what the stream says of itself; before its first word nothing but an empty state."""
    row = Heartbeat.objects.filter(part="stream 1/1").first()
    return {**row.detail, "state": row.state} if row else {"state": "", "lines": []}
