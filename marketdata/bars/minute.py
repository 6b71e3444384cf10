"""
One minute of one symbol as a set of components keyed by identity, and its bar as a function of that set. Pure: no clock, no I/O, no Django.

A trade's identity is its sequence number, a second's its start. Repeats, order and restarts cannot change a set.
"""

import math
import operator
from collections.abc import Callable, Sequence

from marketdata.bars.sizes import KNOWN, BadSizeError, known_units, units
from marketdata.bars.snapshot import BarSnapshot
from marketdata.feed.conditions import HIGH_LOW, KNOWN_EXTENDED, KNOWN_REGULAR, OPEN_CLOSE, VOLUME, eligibility
from marketdata.feed.events import SecondAggregate, Trade

PARTIAL, SECONDS, TRADES, VENDOR = 10, 20, 25, 30  # ranks of PRODUCT A3, the same numbers as models.Source
SECOND_MS = 1_000
HIGHEST_PRICE = 10**7

Refuse = Callable[[str, str, Trade | SecondAggregate], None]
"""Takes reason, detail and the event that was refused."""


class TradeSet:
    """The trades of one minute as a set, with the running values that a growing sequence allows."""

    __slots__ = ("_close_at", "_keys", "_last_q", "_open_at", "_prices", "_sizes", "close", "high", "low", "open", "parts")

    def __init__(self) -> None:
        self.parts: list[Trade] = []
        self._keys: dict[int, int] | None = None  # sequence number -> place in parts; built at the first one out of order
        self._last_q = -1
        self._clear()

    def _clear(self) -> None:
        self.open = self.close = self.high = self.low = 0.0
        self._open_at: tuple[int, int] | None = None
        self._close_at: tuple[int, int] | None = None
        self._prices: list[float] = []  # of the trades that count as volume
        self._sizes: list[int] = []

    def add(self, trades: Sequence[Trade], *, extended: bool, refuse: Refuse) -> bool:
        """
        Return whether the set changed. A trade without a readable size goes to `refuse`.

        Trades that come in the order of their sequence numbers, as nearly all do, are new and are folded in one run.
        """
        before = len(self.parts)
        done = self._add_run(trades, extended=extended, refuse=refuse)
        changed = len(self.parts) != before
        for trade in trades[done:]:
            changed |= self._add_one(trade, extended=extended, refuse=refuse)
        return changed

    def _add_run(self, trades: Sequence[Trade], *, extended: bool, refuse: Refuse) -> int:
        """Fold trades as long as sequence and time grow; return how many."""
        rules, sizes_known = (KNOWN_EXTENDED if extended else KNOWN_REGULAR), KNOWN
        last_q, last_t = self._last_q, 0
        high, low = self.high, self.low or math.inf
        add_price, add_size = self._prices.append, self._sizes.append
        first = last = None
        refused: list[Trade] = []
        done = 0
        for trade in trades:
            if trade.q <= last_q or trade.t < last_t:
                break
            last_q, last_t = trade.q, trade.t
            done += 1
            size = sizes_known.get(trade.s if trade.ds is None else trade.ds)
            if size is None and (size := _size_of(trade, refuse)) is None:
                refused.append(trade)
                continue
            flags = rules.get(trade.c)
            if flags is None:
                flags = eligibility(trade.c, extended=extended)
            price = trade.p
            if flags & VOLUME:
                add_price(price)
                add_size(size)
            if flags & HIGH_LOW:
                if price > high:
                    high = price
                if price < low:
                    low = price
            if flags & OPEN_CLOSE:
                if first is None:
                    first = trade
                last = trade
        self._last_q = last_q
        self.high, self.low = high, low if low < math.inf else 0.0
        if first is not None and last is not None:
            self._mark(first)
            self._mark(last)
        self._keep(trades[:done], refused)
        return done

    def _keep(self, trades: Sequence[Trade], refused: Sequence[Trade]) -> None:
        gone = {id(trade) for trade in refused}
        kept = [trade for trade in trades if id(trade) not in gone] if gone else trades
        if self._keys is not None:
            self._keys.update((trade.q, len(self.parts) + place) for place, trade in enumerate(kept))
        self.parts += kept

    def _add_one(self, trade: Trade, *, extended: bool, refuse: Refuse) -> bool:
        size = _size_of(trade, refuse)
        if size is None:
            return False
        if self._keys is None:
            self._keys = {part.q: place for place, part in enumerate(self.parts)}
        place = self._keys.get(trade.q)
        if place is not None:
            return self._replace(place, trade, extended=extended)
        self._keys[trade.q] = len(self.parts)
        self._last_q = max(self._last_q, trade.q)
        self.parts.append(trade)
        self._fold(trade, size, eligibility(trade.c, extended=extended))
        return True

    def _replace(self, place: int, trade: Trade, *, extended: bool) -> bool:
        """Of two contents of one identity keep the larger; the order is total, so arrival does not matter."""

        def content(part: Trade) -> tuple[int, float, int, int]:
            return (units(part.ds, part.s), part.p, part.t, eligibility(part.c, extended=extended))

        if content(trade) <= content(self.parts[place]):
            return False
        self.parts[place] = trade
        self._clear()
        for part in self.parts:
            self._fold(part, units(part.ds, part.s), eligibility(part.c, extended=extended))
        return True

    def _fold(self, trade: Trade, size: int, flags: int) -> None:
        price = trade.p
        if flags & VOLUME:
            self._prices.append(price)
            self._sizes.append(size)
        if flags & HIGH_LOW:
            if price > self.high:
                self.high = price
            if price < self.low or not self.low:
                self.low = price
        if flags & OPEN_CLOSE:
            self._mark(trade)

    def _mark(self, trade: Trade) -> None:
        """Take the trade as the first or last that may set a price, by the SIP's time, then by sequence."""
        at = (trade.t, trade.q)
        if self._open_at is None or at < self._open_at:
            self._open_at = at
            self.open = trade.p
        if self._close_at is None or at > self._close_at:
            self._close_at = at
            self.close = trade.p

    @property
    def priced(self) -> bool:
        """Whether a trade set open and close: without one there is no bar."""
        return self._open_at is not None

    @property
    def version(self) -> int:
        """Number of components: it only grows with the set."""
        return len(self.parts)

    @property
    def volume(self) -> int:
        """Return the volume in 1/SHARE shares."""
        return sum(self._sizes)

    @property
    def count(self) -> int:
        """Return how many trades count as volume."""
        return len(self._sizes)

    def vwap(self) -> float | None:
        """Return the mean price by volume; the sum is rounded once, so that the order of arrival cannot show in it."""
        volume = self.volume
        return round(math.fsum(map(operator.mul, self._prices, self._sizes)) / volume, 6) if volume else None


def _size_of(trade: Trade, refuse: Refuse) -> int | None:
    try:
        return known_units(trade.ds, trade.s)
    except BadSizeError as error:
        refuse("bad_value", str(error), trade)
        return None


class SecondSet:
    """The second aggregates of one minute as a set, with the running values that growing seconds allow."""

    __slots__ = ("_accumulated", "_last", "_places", "_value", "close", "high", "low", "open", "parts", "volume")

    def __init__(self) -> None:
        self.parts: list[SecondAggregate] = []
        self._places: dict[int, int] | None = None  # start of the second -> place in parts; built at the first one out of order
        self._clear()

    def _clear(self) -> None:
        self._last = -1  # start of the newest second; the running values hold as long as seconds grow
        self.open = self.high = self.close = 0.0
        self.low = math.inf
        self.volume = 0
        self._value = self._accumulated = 0.0

    def add(self, seconds: Sequence[SecondAggregate], *, refuse: Refuse) -> bool:
        """
        Return whether the set changed; of two contents of one second the larger stays. What cannot be a second goes to `refuse`.

        Seconds that grow, as nearly all do, are new and are folded in one run.
        """
        before = len(self.parts)
        done = self._add_run(seconds, refuse)
        changed = len(self.parts) != before
        rest = [self._add_one(second, refuse) for second in seconds[done:]]
        if any(rest):
            self._rebuild()
            changed = True
        return changed

    def _add_run(self, seconds: Sequence[SecondAggregate], refuse: Refuse) -> int:
        """Fold seconds as long as they grow; return how many."""
        known = KNOWN
        last, high, low, volume = self._last, self.high, self.low, self.volume
        value, accumulated = self._value, self._accumulated
        close = self.close
        refused: list[SecondAggregate] = []
        done = 0
        for second in seconds:
            start = second.s
            if start <= last:
                break
            done += 1
            o, h, l, c = second.o, second.h, second.l, second.c  # noqa: E741 - Massive's name
            size = known.get(second.v if second.dv is None else second.dv)
            if size is None or start % SECOND_MS or not l <= o <= h or not l <= c <= h:
                size = _second_size(second, refuse)
                if size is None:
                    refused.append(second)
                    continue
            if last < 0:
                self.open = o
            last = start
            if h > high:
                high = h
            if l < low:
                low = l
            close = c
            volume += size
            vwap = second.vw
            value += size * (vwap if vwap and 0 < vwap < HIGHEST_PRICE else c)
            accumulated += second.av
        self._last, self.high, self.low, self.volume, self.close = last, high, low, volume, close
        self._value, self._accumulated = value, accumulated
        self._keep(seconds[:done], refused)
        return done

    def _keep(self, seconds: Sequence[SecondAggregate], refused: Sequence[SecondAggregate]) -> None:
        gone = {id(second) for second in refused}
        kept = [second for second in seconds if id(second) not in gone] if gone else seconds
        if self._places is not None:
            self._places.update((second.s, len(self.parts) + place) for place, second in enumerate(kept))
        self.parts += kept

    def _add_one(self, second: SecondAggregate, refuse: Refuse) -> bool:
        size = _second_size(second, refuse)
        if size is None:
            return False
        if self._places is None:
            self._places = {part.s: place for place, part in enumerate(self.parts)}
        place = self._places.get(second.s)
        if place is None:
            self._places[second.s] = len(self.parts)
            self.parts.append(second)
            return True
        if _second_content(second) <= _second_content(self.parts[place]):
            return False
        self.parts[place] = second
        return True

    def _rebuild(self) -> None:
        """Compute the running values again from the set in its order."""
        parts, self.parts, self._places = sorted(self.parts, key=operator.attrgetter("s")), [], None
        self._clear()
        self._add_run(parts, _refuse_nothing)

    @property
    def version(self) -> int:
        """Components first, then the accumulated volume they name: both only grow with the set."""
        return (len(self.parts) << 56) | (int(self._accumulated) & ((1 << 56) - 1))

    def vwap(self) -> float | None:
        """Return the mean price by volume, of each second's own where it names one that can be, else its close."""
        return round(self._value / self.volume, 6) if self.volume else None


def _second_size(second: SecondAggregate, refuse: Refuse) -> int | None:
    """Return the size in 1/SHARE shares; None where the second cannot be, and `refuse` knows why."""
    if not second.l <= second.o <= second.h or not second.l <= second.c <= second.h:
        refuse("bad_value", "open and close must lie between low and high", second)
        return None
    if second.s % SECOND_MS:
        refuse("bad_value", "a second aggregate must begin on the second", second)
        return None
    try:
        return known_units(second.dv, second.v)
    except BadSizeError as error:
        refuse("bad_value", str(error), second)
        return None


def _refuse_nothing(reason: str, detail: str, event: Trade | SecondAggregate) -> None:
    raise AssertionError(f"{event} was in the set and is refused now: {reason}, {detail}")


def _second_content(second: SecondAggregate) -> tuple[float, ...]:
    return (second.av, units(second.dv, second.v), second.h, -second.l, second.c, second.o)


class Minute:
    """One minute of one symbol: what was seen, and what was last handed out."""

    __slots__ = (
        "broken", "closed", "extended", "given", "new_seconds", "new_trades", "seconds", "start", "symbol", "trades", "vendor", "vendor_content",
        "whole",
    )  # fmt: skip

    def __init__(self, symbol: str, start: int, *, whole: bool, extended: bool) -> None:
        self.symbol = symbol
        self.start = start
        self.whole = whole  # the line was up when it began
        self.extended = extended  # outside the regular session
        self.new_trades: list[Trade] = []  # taken in, not yet folded
        self.new_seconds: list[SecondAggregate] = []
        self.broken = False
        self.closed = False
        self.trades: TradeSet | None = None
        self.seconds: SecondSet | None = None
        self.vendor: BarSnapshot | None = None
        self.vendor_content: tuple[float, ...] = ()
        self.given: BarSnapshot | None = None

    def fold(self, refuse: Refuse) -> bool:
        """Fold in what was taken; return whether that changed a set."""
        changed = False
        if self.new_trades:
            new_trades, self.new_trades[:] = self.new_trades.copy(), []
            if self.trades is None:
                self.trades = TradeSet()
            changed |= self.trades.add(new_trades, extended=self.extended, refuse=refuse)
        if self.new_seconds:
            new_seconds, self.new_seconds[:] = self.new_seconds.copy(), []
            if self.seconds is None:
                self.seconds = SecondSet()
            changed |= self.seconds.add(new_seconds, refuse=refuse)
        return changed

    def bar(self) -> BarSnapshot | None:
        """Return the best bar that the minute has now, or None without a price."""
        if self.vendor is not None:
            return self.vendor
        if self.trades is not None and self.trades.priced:
            return self._from_trades(self.trades)
        if self.seconds is not None and self.seconds.parts:
            return self._from_seconds(self.seconds)
        return None

    def _from_trades(self, trades: TradeSet) -> BarSnapshot:
        complete = self.whole and not self.broken
        return BarSnapshot(
            symbol=self.symbol,
            opened_at_ms=self.start,
            open=trades.open,
            high=max(trades.high, trades.open, trades.close),
            low=min(trades.low or trades.open, trades.open, trades.close),
            close=trades.close,
            volume=trades.volume,
            vwap=trades.vwap(),
            trades=trades.count,
            source=TRADES if complete else PARTIAL,
            version=trades.version,
            complete=complete,
        )

    def _from_seconds(self, seconds: SecondSet) -> BarSnapshot:
        complete = self.whole and not self.broken
        return BarSnapshot(
            symbol=self.symbol,
            opened_at_ms=self.start,
            open=seconds.open,
            high=seconds.high,
            low=seconds.low,
            close=seconds.close,
            volume=seconds.volume,
            vwap=seconds.vwap(),
            trades=None,
            source=SECONDS if complete else PARTIAL,
            version=seconds.version,
            complete=complete,
        )
