"""
When the twin says what: which events of the market fall due between two moments. Pure.

A trade falls due when its second is over, a second 2 s after its end, a minute 0.2 to 3 s after its end, each ticker at its own moment.
One minute in a hundred is sent too early, without its last trades, and again, whole, within the next minute. Minutes without a bar are not
sent. Trades that a scenario reports late leave late, and after them the seconds and the minute that they change, once more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from marketdata.twin.days import DAYS, MINUTE_MS, SECOND_MS, day_starts
from marketdata.twin.market import Market
from marketdata.twin.messages import (
    Event,
    band_event,
    early_minute_event,
    minute_event,
    partial_minute_event,
    quote_events,
    second_events,
    trade_events,
)
from marketdata.twin.noise import Integers, streams, uniforms
from marketdata.twin.scenarios import HALT_MINUTES, halt_starts, late_minutes, late_prints
from marketdata.twin.securities import Security

SECOND_HOLD_MS = 2_000
_MINUTE_DELAYS_MS = (200, 3_000)
_CORRECTION_DELAYS_MS = (5_000, 50_000)
_EARLY_SHARE = 0.01
_LATE_SECONDS_MS, _LATE_MINUTE_MS = 2_000, 4_000  # from the late trades to the bars that they change
_LATEST_MS = 15 * MINUTE_MS
_BAND_MS = 50  # from the beginning of a pause or a reopening to its LULD
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
        self._place = np.arange(len(market.everyone))
        self._tapes = lru_cache(maxsize=3 * len(market.everyone) + 256)(self._make_tape)
        self._late = lru_cache(maxsize=4 * len(market.everyone) + 1_024)(self._make_late)
        self._late_delays = lru_cache(maxsize=64)(lambda minute: late_minutes(market.scenario, market.seed, minute, len(market.everyone)))

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
            elif topic in ("T", "Q"):
                events.extend(self._seconds(after_ms, until_ms, securities, topic=topic, hold_ms=0))
            elif topic == "LULD":
                events.extend(self._bands(after_ms, until_ms, securities))
            if self._market.scenario.late and topic in ("AM", "A", "T"):
                events.extend(self._late_reports(after_ms, until_ms, securities, topic=topic))
        events.sort(key=lambda event: event.at_ms)  # stable: a ticker's trades stay in order
        return events

    def _wanted(self, symbols: Iterable[str]) -> Sequence[Security]:
        """Return the securities that are named, in the market's order."""
        names = set(symbols)
        return (
            self._market.securities if WILDCARD in names else [security for security in self._market.everyone if security.symbol in names]
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
        """Return the encoded events of a minute by the start of their second, without those that come late."""
        if topic == "Q":
            return {second: [_encode(event)] for second, event in quote_events(self._market, security, minute).items()}
        late = self._late_of(security, minute)
        if topic == "A":
            tape = None if late is None else self._market.tape(security, minute).only(~late)
            return {second: [_encode(event)] for second, event in second_events(self._market, security, minute, tape).items()}
        by_second: dict[int, list[bytes]] = {}
        for n, event in enumerate(trade_events(self._market, security, minute)):
            if late is None or not late[n]:
                by_second.setdefault(event["t"] // SECOND_MS * SECOND_MS, []).append(_encode(event))
        return by_second

    def _late_of(self, security: Security, minute: int) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Return which trades of a minute come late, or None where none does."""
        if not self._market.scenario.late or not self._late_delays(minute)[self._market.place_of[security.symbol]]:
            return None
        return late_prints(self._market.seed, security, minute, setting=self._market.tape(security, minute).setting())

    def _late_reports(self, after_ms: int, until_ms: int, securities: Sequence[Security], *, topic: str) -> Iterator[Due]:
        """Yield late trades, and the bars that they change."""
        earliest = max(after_ms - _LATEST_MS - MINUTE_MS, int(day_starts()[0]))
        places = np.array([self._market.place_of[security.symbol] for security in securities], dtype=np.int64)
        for minute in range(earliest // MINUTE_MS, until_ms // MINUTE_MS):
            delays = self._late_delays(minute)
            for place in places[delays[places] > 0].tolist():
                for event in self._late(self._market.everyone[place], minute, topic):
                    if after_ms < event.at_ms <= until_ms:
                        yield event

    def _make_late(self, security: Security, minute: int, topic: str) -> list[Due]:
        """Return what a minute's late trades make due: themselves, the seconds they stand in, or the minute."""
        late = self._late_of(security, minute)
        if late is None:
            return []
        reported_at_ms = (minute + 1) * MINUTE_MS + int(self._late_delays(minute)[self._market.place_of[security.symbol]])
        if topic == "T":
            trades = trade_events(self._market, security, minute)
            return [Due(reported_at_ms, topic, security.symbol, _encode(trades[n])) for n in np.flatnonzero(late).tolist()]
        if topic == "AM":
            body = _encode(minute_event(self._market, security, minute))
            return [Due(reported_at_ms + _LATE_MINUTE_MS, topic, security.symbol, body)]
        changed = set((self._market.tape(security, minute).at_ms[late] // SECOND_MS * SECOND_MS).tolist())
        seconds = second_events(self._market, security, minute)
        return [
            Due(reported_at_ms + _LATE_SECONDS_MS, topic, security.symbol, _encode(event))
            for opened_at_ms, event in seconds.items()
            if opened_at_ms in changed
        ]

    def _bands(self, after_ms: int, until_ms: int, securities: Sequence[Security]) -> Iterator[Due]:
        """Yield the LULD of pauses and reopenings."""
        if not self._market.scenario.halts:
            return
        first = max(after_ms - MINUTE_MS, int(day_starts()[0]) + MINUTE_MS) // MINUTE_MS
        for minute in range(first, until_ms // MINUTE_MS + 1):
            if after_ms < minute * MINUTE_MS + _BAND_MS <= until_ms:
                for security in securities:
                    place = self._market.place_of[security.symbol]
                    start = int(halt_starts(self._market.seed, security, place, np.array([minute // 60]))[0])
                    if start >= 0 and minute % 60 in (start, start + HALT_MINUTES):
                        event = band_event(self._market, security, minute, paused=minute % 60 == start)
                        yield Due(minute * MINUTE_MS + _BAND_MS, "LULD", security.symbol, _encode(event))

    def _minutes(self, after_ms: int, until_ms: int, securities: Sequence[Security]) -> Iterator[Due]:
        """Yield the minutes whose own delay has passed, and the corrections of those that were sent early."""
        earliest = after_ms - _MINUTE_DELAYS_MS[1] - _CORRECTION_DELAYS_MS[1] - MINUTE_MS
        wanted = {security.symbol for security in securities}
        for minute in range(max(earliest, int(day_starts()[0])) // MINUTE_MS, until_ms // MINUTE_MS):
            closed_at_ms = (minute + 1) * MINUTE_MS
            first, second, early = self._delays(minute)
            for due_at, corrects in ((first, False), (second, True)):
                falls_due = (closed_at_ms + due_at > after_ms) & (closed_at_ms + due_at <= until_ms)
                if corrects:
                    falls_due &= early
                for place in np.flatnonzero(falls_due):
                    security = self._market.everyone[place]
                    if security.symbol in wanted and self._market.minute(security, minute).trades:
                        event = self._version(security, minute, early=not corrects and bool(early[place]))
                        yield Due(closed_at_ms + int(due_at[place]), "AM", security.symbol, _encode(event))

    def _version(self, security: Security, minute: int, *, early: bool) -> Event:
        """Return the AM of a minute as it is known soon after its end."""
        late = self._late_of(security, minute)
        if late is not None:
            return partial_minute_event(self._market, security, minute, self._market.tape(security, minute).only(~late))
        return (early_minute_event if early else minute_event)(self._market, security, minute)

    def _delays(self, minute: int) -> tuple[Integers, Integers, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return, for each ticker, ms from the minute's end to its AM and to the correction, and whether there is one."""
        first, early, second = uniforms(self._keys, minute * 2**20 + self._place)
        delays = _between(_MINUTE_DELAYS_MS, first)
        return delays, delays + _between(_CORRECTION_DELAYS_MS, second), early < _EARLY_SHARE


def _between(bounds: tuple[int, int], draws: np.ndarray[Any, np.dtype[np.float64]]) -> Integers:
    """Return whole ms between the bounds."""
    return np.asarray(np.floor(bounds[0] + draws * (bounds[1] - bounds[0])), dtype=np.int64)


_encode = msgspec.json.Encoder().encode
