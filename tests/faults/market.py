"""
A small market that runs fifty times as fast as the clock: a WebSocket feed that tells it live, and a REST that tells its finished minutes.

Both are real servers. What it printed is kept, so that the table can be held against it.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from websockets.exceptions import ConnectionClosed

from marketdata.models import Bar, Gap
from marketdata.stream import LiveStream
from tests.faults.proxy import Proxy
from tests.feed_server import FeedServer, Peer
from tests.processes import wait_until
from tests.rest_server import AGGREGATES, RestServer
from tests.streams import MINUTE, streaming

STEP = 0.02  # real seconds a market second
Values = tuple[float, float, float, float, int]


class Market:
    """Prints one trade a symbol and second; `now` is the market's time in Unix ms."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = list(symbols)
        self.start = int(time.time() * 1000) // MINUTE * MINUTE + 2 * MINUTE  # ahead of the clock, so that it is its own clock
        self.now = self.start
        self.talking = True  # the server sends what happens
        self._prints: dict[tuple[str, int], list[tuple[float, int]]] = {}
        self._peers: dict[Peer, set[str]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.feed = FeedServer(self._serve)
        self.rest = RestServer()
        self.rest.answer = self._answer
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self.feed.stop()
        self.rest.stop()

    def _serve(self, peer: Peer, number: int) -> None:
        wanted = set(peer.log_in())
        with self._lock:
            self._peers[peer] = wanted

        def change(action: str, pairs: list[str]) -> None:
            with self._lock:
                (wanted.update if action == "subscribe" else wanted.difference_update)(pairs)

        try:
            peer.acknowledge(change)
        finally:
            with self._lock:
                self._peers.pop(peer, None)

    def _run(self) -> None:
        q, due = 0, time.monotonic()
        while not self._over.is_set():
            due += STEP
            time.sleep(max(0.0, due - time.monotonic()))
            q += 1
            with self._lock:
                events = []
                for place, symbol in enumerate(self.symbols):
                    price, size = round(50 + place + (q * 7 % 113) / 100, 2), 1 + q % 9
                    events.append({"ev": "T", "sym": symbol, "p": price, "s": size, "t": self.now + 500, "q": q})
                    self._prints.setdefault((symbol, self.now // MINUTE * MINUTE), []).append((price, size))
                self.now += 1_000
                peers = dict(self._peers) if self.talking else {}
            for peer, wanted in peers.items():
                with suppress(ConnectionClosed, OSError):
                    peer.send(*(event for event in events if f"T.{event['sym']}" in wanted))

    def truth(self, until: int | None = None) -> dict[tuple[str, int], Values]:
        """Return the bars of all finished minutes, or of those that end by `until`."""
        with self._lock:
            end = self.now if until is None else min(until, self.now)
            return {
                key: (p[0][0], max(x for x, _ in p), min(x for x, _ in p), p[-1][0], sum(s for _, s in p))
                for key, p in self._prints.items()
                if key[1] + MINUTE <= end
            }

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        found = AGGREGATES.match(path)
        if found is None:
            return 404, {}, b'{"status":"ERROR"}'
        symbol, first, last = found[1], int(found[3]), int(found[4])
        rows = [
            {"t": start, "o": o, "h": h, "l": l, "c": c, "v": v, "n": 60}
            for (name, start), (o, h, l, c, v) in sorted(self.truth().items())
            if name == symbol and first // MINUTE * MINUTE <= start <= last
        ]
        return 200, {"Content-Type": "application/json"}, json.dumps({"status": "OK", "results": rows}).encode()


@contextmanager
def market_of(*symbols: str) -> Iterator[Market]:
    made = Market(symbols)
    try:
        yield made
    finally:
        made.close()


def stream_of(market: Market, url: str) -> AbstractContextManager[LiveStream]:
    """The product's stream on this market, its feed at `url`."""
    return streaming(url, symbols=market.symbols, rest=market.rest.url)


def through(proxy: Proxy) -> str:
    return f"ws://127.0.0.1:{proxy.port}/stocks"


def stored() -> dict[tuple[str, int], Values]:
    """Return all bars that are told to anybody: whole or final ones."""
    rows = Bar.objects.whole().values_list("symbol_id", "timestamp", "open", "high", "low", "close", "volume")
    return {
        (symbol, round(timestamp.timestamp() * 1000)): (float(o), float(h), float(l), float(c), int(v))
        for symbol, timestamp, o, h, l, c, v in rows
    }


def table_is_truth(market: Market, *, since: int, until: int) -> bool:
    """Return whether every minute that starts in [since, until) is stored as it was, and nothing else; wrong values fail at once."""
    have, want = stored(), market.truth()
    wrong = {key: (values, want.get(key)) for key, values in have.items() if key in want and values != want[key]}
    assert not wrong, wrong
    asked = {key for key in want if since <= key[1] < until}
    return asked <= have.keys() and not Gap.objects.filter(state="open", last_minute__lt=_moment(until)).exists()


def settle(market: Market, *, since: int, seconds: float = 90) -> SimpleNamespace:
    """Wait until all that has happened up to now is stored; return how long that took."""
    until, began = market.now // MINUTE * MINUTE, time.monotonic()
    wait_until(lambda: table_is_truth(market, since=since, until=until), seconds)
    return SimpleNamespace(seconds=time.monotonic() - began)


def _moment(milliseconds: int) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC)
