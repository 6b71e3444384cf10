"""Tells receivers what was committed, on a thread of its own: a slow broker delays news, never bars."""

import logging
import threading
from typing import Any

import msgspec

from marketdata.bars.snapshot import BarChange, BarSnapshot
from marketdata.feed.events import Quote
from marketdata.signals import bars_closed, bars_moving, feed_changed, quotes_moving

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 3.0  # news are hints: what a hanging broker keeps from being told, the sweep finds


class Announcer:
    """News for the receivers of our signals, conflated while they are busy."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._closed: dict[tuple[str, int], BarChange] = {}
        self._moving: dict[tuple[str, int], BarSnapshot] = {}
        self._quotes: dict[str, Quote] = {}
        self._status: dict[str, Any] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def closed(self, changes: list[BarChange]) -> None:
        """Announce committed bars; of two changes of one bar the newer is told."""
        with self._wake:
            for change in changes:
                key = (change.bar.symbol, change.bar.opened_at_ms)
                known = self._closed.get(key)
                inserted = change.inserted or (known is not None and known.inserted)
                self._closed[key] = msgspec.structs.replace(change, inserted=inserted)
                self._moving.pop(key, None)
            self._wake.notify()

    def moving(self, bars: list[BarSnapshot]) -> None:
        """Announce forming bars."""
        with self._wake:
            for bar in bars:
                self._moving[bar.symbol, bar.opened_at_ms] = bar
            self._wake.notify()

    def quotes(self, quotes: dict[str, Quote]) -> None:
        """Announce last quotes by symbol; only the newest of each is told."""
        with self._wake:
            self._quotes |= quotes
            self._wake.notify()

    def status(self, status: dict[str, Any]) -> None:
        """Announce the line's state; only the newest is told."""
        with self._wake:
            self._status = status
            self._wake.notify()

    def stop(self) -> None:
        """Tell what waits, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(SHUTDOWN_SECONDS)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._moving or self._quotes or self._status or self._stopping):
                    self._wake.wait()
                closed, self._closed = list(self._closed.values()), {}
                moving, self._moving = list(self._moving.values()), {}
                quotes, self._quotes = list(self._quotes.values()), {}
                status, self._status = self._status, None
                stopping = self._stopping
            if closed:
                _send(bars_closed, bars=closed)
            if moving:
                _send(bars_moving, bars=moving)
            if quotes:
                _send(quotes_moving, quotes=quotes)
            if status is not None:
                _send(feed_changed, status=status)
            if stopping and not closed and not moving:
                return


def _send(signal: Any, **payload: Any) -> None:
    for receiver, answer in signal.send_robust(sender=None, **payload):
        if isinstance(answer, Exception):
            log.error("A receiver of bars failed (%s): %s", getattr(receiver, "__name__", receiver), answer)
