"""
When the twin says what: which events of the market fall due between two moments. Pure.

A trade falls due when its second is over, a second 2 s after its end, a minute 0.2 to 3 s after its end, each ticker at its own moment.
One minute in a hundred is sent too early, without its last trades, and again, whole, within the next minute.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from marketdata.twin.days import DAYS, MINUTE_MS, SECOND_MS, day_starts
from marketdata.twin.market import Market
from marketdata.twin.messages import early_minute_event, minute_event, second_events, trade_events
from marketdata.twin.noise import Integers, streams, uniforms
from marketdata.twin.securities import Security

SECOND_HOLD_MS = 2_000
_MINUTE_DELAYS_MS = (200, 3_000)
_CORRECTION_DELAYS_MS = (5_000, 50_000)
_EARLY_SHARE = 0.01
WILDCARD = "*"


class Due(NamedTuple):
    """One event, encoded, with the moment of market time at which it leaves."""

    at_ms: int
    topic: str
    symbol: str
    body: bytes


class Schedule:
    """What falls due in a market. Not thread-safe, like the market."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._keys = streams(market.seed, "minute delay", "minute sent early", "correction delay")
        self._place = np.arange(len(market.securities))
        self._tapes = lru_cache(maxsize=2 * len(market.securities) + 256)(self._make_tape)

    def due(self, after_ms: int, until_ms: int, *, demand: Mapping[str, Iterable[str]]) -> list[Due]:
        """
        Return the events that leave in (after_ms, until_ms], earliest first, of the tickers that `demand` names by topic.

        The trades of a ticker keep the order of the tape. Unknown topics and tickers have no events.
        """
        until_ms = min(until_ms, int(day_starts()[DAYS]))
        events: list[Due] = []
        for topic, symbols in demand.items():
            securities = self._wanted(symbols)
            if topic == "AM":
                events.extend(self._minutes(after_ms, until_ms, securities))
            elif topic == "A":
                events.extend(self._seconds(after_ms, until_ms, securities, topic=topic, hold_ms=SECOND_HOLD_MS))
            elif topic == "T":
                events.extend(self._seconds(after_ms, until_ms, securities, topic=topic, hold_ms=0))
        events.sort(key=lambda event: event.at_ms)  # stable: a ticker's trades stay in order
        return events

    def _wanted(self, symbols: Iterable[str]) -> Sequence[Security]:
        """Return the securities that are named, in the market's order."""
        names = set(symbols)
        return (
            self._market.securities if WILDCARD in names else [security for security in self._market.securities if security.symbol in names]
        )

    def _seconds(self, after_ms: int, until_ms: int, securities: Sequence[Security], *, topic: str, hold_ms: int) -> Iterator[Due]:
        """Yield what happened in the seconds whose end, plus the hold, falls due."""
        first, end = ((moment - hold_ms) // SECOND_MS * SECOND_MS for moment in (after_ms, until_ms))
        for opened_at_ms in range(max(first, int(day_starts()[0])), end, SECOND_MS):
            for security in securities:
                bodies = self._tapes(security, opened_at_ms // MINUTE_MS, topic).get(opened_at_ms, ())
                for body in bodies:
                    yield Due(opened_at_ms + SECOND_MS + hold_ms, topic, security.symbol, body)

    def _make_tape(self, security: Security, minute: int, topic: str) -> dict[int, list[bytes]]:
        """Return the encoded events of a minute by the start of their second."""
        if topic == "A":
            return {second: [_encode(event)] for second, event in second_events(self._market, security, minute).items()}
        by_second: dict[int, list[bytes]] = {}
        for event in trade_events(self._market, security, minute):
            by_second.setdefault(event["t"] // SECOND_MS * SECOND_MS, []).append(_encode(event))
        return by_second

    def _minutes(self, after_ms: int, until_ms: int, securities: Sequence[Security]) -> Iterator[Due]:
        """Yield the minutes whose own delay has passed, and the corrections of those that were sent early."""
        earliest = after_ms - _MINUTE_DELAYS_MS[1] - _CORRECTION_DELAYS_MS[1] - MINUTE_MS
        wanted = {security.symbol for security in securities}
        for minute in range(max(earliest, int(day_starts()[0])) // MINUTE_MS, until_ms // MINUTE_MS):
            closed_at_ms = (minute + 1) * MINUTE_MS
            first, second, early = self._delays(minute)
            for due_at, make in ((first, None), (second, minute_event)):
                falls_due = (closed_at_ms + due_at > after_ms) & (closed_at_ms + due_at <= until_ms)
                if make is not None:
                    falls_due &= early
                for place in np.flatnonzero(falls_due):
                    security = self._market.securities[place]
                    if security.symbol in wanted:
                        event = (make or _first_version(early=bool(early[place])))(self._market, security, minute)
                        yield Due(closed_at_ms + int(due_at[place]), "AM", security.symbol, _encode(event))

    def _delays(self, minute: int) -> tuple[Integers, Integers, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return, for each ticker, ms from the minute's end to its AM and to the correction, and whether there is one."""
        first, early, second = uniforms(self._keys, minute * 2**20 + self._place)
        delays = _between(_MINUTE_DELAYS_MS, first)
        return delays, delays + _between(_CORRECTION_DELAYS_MS, second), early < _EARLY_SHARE


def _first_version(*, early: bool) -> Callable[[Market, Security, int], dict[str, Any]]:
    """Return what makes the first AM of a minute."""
    return early_minute_event if early else minute_event


def _between(bounds: tuple[int, int], draws: np.ndarray[Any, np.dtype[np.float64]]) -> Integers:
    """Return whole ms between the bounds."""
    return np.asarray(np.floor(bounds[0] + draws * (bounds[1] - bounds[0])), dtype=np.int64)


_encode = msgspec.json.Encoder().encode
