"""
One minute of one symbol as a set of components keyed by identity, and its bar as a function of that set. Pure: no clock, no I/O, no Django.

A trade's identity is its sequence number, a second's its start. Repeats, order and restarts cannot change a set. Components that come in the order
of their identities, as nearly all do, stand in the columns of page.py; a set takes them back from there at the first one that does not.
"""

import math
from collections.abc import Callable, Iterable

import msgspec

from marketdata.bars.sizes import BadSizeError, known_units
from marketdata.bars.snapshot import BarSnapshot
from marketdata.feed.conditions import HIGH_LOW, OPEN_CLOSE, VOLUME, eligibility
from marketdata.feed.events import SecondAggregate, Trade

PARTIAL, SECONDS, TRADES, VENDOR = 10, 20, 25, 30  # ranks of PRODUCT A3, the same numbers as models.Source
SECOND_MS = 1_000
HIGHEST_PRICE = 10**7

Refuse = Callable[[str, str, Trade | SecondAggregate], None]
"""Takes reason, detail and the event that was refused."""

TradePart = tuple[int, float, int, int]
"""Size in 1/SHARE shares, price, time in Unix ms, what it may update: of two contents of one identity the larger stays."""

SecondPart = tuple[float, int, float, float, float, float, float]
"""The day's volume, size in 1/SHARE shares, high, −low, close, open: of two contents the larger stays. Behind them the mean price."""

Mark = tuple[int, int, float]
"""Time, sequence number and price of a trade that may set open and close."""


# The classes below are not tracked by the garbage collector, which would look at each of tens of thousands again and again: they form no cycles.


class TradeSet(msgspec.Struct, gc=False, eq=False):
    """
    The trades of one minute as a set, with the running values of its bar.

    `parts` has, by sequence number, those that do not stand in columns; `listed`: all of them. `last`: the largest number. `version` is the
    number of components, which only grows with the set; `count` and `volume` (1/SHARE shares) are of the trades that count as volume.
    """

    parts: dict[int, TradePart] | None = None
    listed: bool = False
    last: float = -math.inf
    high: float = 0.0
    low: float = math.inf
    first: Mark | None = None
    final: Mark | None = None
    volume: int = 0
    count: int = 0
    version: int = 0
    value: float = 0.0
    value_rest: float = 0.0

    def add(self, number: int, part: TradePart, earlier: Callable[[], Iterable[tuple[int, TradePart]]]) -> bool:
        """Add one trade, whatever its sequence number; return whether the set changed. `earlier` gives those that stand in columns."""
        parts = self.parts = {} if self.parts is None else self.parts
        if number <= self.last:
            if not self.listed:  # from now on every identity can be looked up
                self.listed = True
                self.parts = parts = {**dict(earlier()), **parts}
            known = parts.get(number)
            if known is not None:
                if part <= known:
                    return False
                parts[number] = part
                self._rebuild(parts)
                return True
        parts[number] = part
        self._fold(number, part)
        return True

    def _rebuild(self, parts: dict[int, TradePart]) -> None:
        fresh = TradeSet(parts, listed=True)
        for number, part in parts.items():
            fresh._fold(number, part)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(fresh, name))

    def _fold(self, number: int, part: TradePart) -> None:
        size, price, at, flags = part
        high, low = (price, price) if flags & HIGH_LOW else (0.0, math.inf)
        mark = (at, number, price) if flags & OPEN_CLOSE else None
        count = 1 if flags & VOLUME else 0
        self.add_run(1, number, high, low, mark, mark, count, size * count, [price * size] * count)

    def add_run(
        self, number: int, last: int, high: float, low: float, first: Mark | None, final: Mark | None, count: int, volume: int,
        values: list[float],
    ) -> None:  # fmt: skip
        """Add what `number` new trades come to together; `count`, `volume` and `values` (price × size) are of those that count as volume."""
        self.version += number
        if last > self.last:
            self.last = last
        if high > self.high:
            self.high = high
        if low < self.low:
            self.low = low
        if first is not None and (self.first is None or first < self.first):
            self.first = first
        if final is not None and (self.final is None or final > self.final):
            self.final = final
        self.count += count
        self.volume += volume
        if values:
            self.value, self.value_rest = _total(self.value, self.value_rest, values)

    @property
    def priced(self) -> bool:
        """Whether a trade set open and close: without one there is no bar."""
        return self.first is not None

    @property
    def prices(self) -> tuple[float, float, float, float] | None:
        """Return open, high, low, close; None where no trade may set open and close."""
        if self.first is None or self.final is None:
            return None
        opened, closed = self.first[2], self.final[2]
        return opened, max(self.high, opened, closed), min(self.low, opened, closed), closed

    def vwap(self) -> float | None:
        """Return the mean price by volume."""
        return round(self.value / self.volume, 6) if self.volume else None


class SecondSet(msgspec.Struct, gc=False, eq=False):
    """
    The second aggregates of one minute as a set, with the running values of its bar.

    `parts` has, by start of the second, those that do not stand in columns; `listed`: all of them. `volume` is in 1/SHARE shares.
    """

    parts: dict[int, SecondPart] | None = None
    listed: bool = False
    first: float = math.inf
    last: float = -math.inf
    open: float = 0.0
    high: float = 0.0
    low: float = math.inf
    close: float = 0.0
    volume: int = 0
    number: int = 0
    accumulated: float = 0.0
    value: float = 0.0
    value_rest: float = 0.0

    def add(self, start: int, part: SecondPart, earlier: Callable[[], Iterable[tuple[int, SecondPart]]]) -> bool:
        """Add one second, whatever its start; return whether the set changed. `earlier` gives those that stand in columns."""
        parts = self.parts = {} if self.parts is None else self.parts
        if start <= self.last:
            if not self.listed:
                self.listed = True
                self.parts = parts = {**dict(earlier()), **parts}
            known = parts.get(start)
            if known is not None:
                if part[:6] <= known[:6]:
                    return False
                parts[start] = part
                self._rebuild(parts)
                return True
        parts[start] = part
        self._fold(start, part)
        return True

    def _rebuild(self, parts: dict[int, SecondPart]) -> None:
        fresh = SecondSet(parts, listed=True)
        for start, part in parts.items():
            fresh._fold(start, part)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(fresh, name))

    def _fold(self, start: int, part: SecondPart) -> None:
        accumulated, size, high, low, close, opened, mean = part
        self.add_run(1, start, start, opened, high, -low, close, size, accumulated, [mean * size])

    def add_run(
        self, number: int, first: int, last: int, opened: float, high: float, low: float, close: float, volume: int, accumulated: float,
        values: list[float],
    ) -> None:  # fmt: skip
        """Add what `number` new seconds from `first` to `last` come to together; `values` are mean price × size of each."""
        self.number += number
        if first < self.first:
            self.first = first
            self.open = opened
        if last > self.last:
            self.last = last
            self.close = close
        if high > self.high:
            self.high = high
        if low < self.low:
            self.low = low
        self.volume += volume
        self.accumulated += accumulated
        self.value, self.value_rest = _total(self.value, self.value_rest, values)

    @property
    def version(self) -> int:
        """Components first, then the accumulated volume they name: both only grow with the set."""
        return (self.number << 56) | (int(self.accumulated) & ((1 << 56) - 1))

    def vwap(self) -> float | None:
        """Return the mean price by volume, of each second's own where it names one that can be, else its close."""
        return round(self.value / self.volume, 6) if self.volume else None


def _total(value: float, rest: float, summands: list[float]) -> tuple[float, float]:
    """Return `value` + `rest` + all summands, again as what it rounds to and the rest: the order of arrival cannot show in it, up to 106 bits."""
    summands.append(value)
    summands.append(rest)
    value = math.fsum(summands)
    summands.append(-value)
    return value, math.fsum(summands)


def trade_part(trade: Trade, *, extended: bool, refuse: Refuse) -> TradePart | None:
    """Return what of a trade a bar is made of; None where its size cannot be read, and `refuse` knows why."""
    try:
        size = known_units(trade.ds, trade.s)
    except BadSizeError as error:
        refuse("bad_value", str(error), trade)
        return None
    return size, trade.p, trade.t, eligibility(trade.c, extended=extended)


def second_part(second: SecondAggregate, refuse: Refuse) -> SecondPart | None:
    """Return what of a second a bar is made of; None where it cannot be, and `refuse` knows why."""
    if not second.l <= second.o <= second.h or not second.l <= second.c <= second.h:
        refuse("bad_value", "open and close must lie between low and high", second)
        return None
    if second.s % SECOND_MS:
        refuse("bad_value", "a second aggregate must begin on the second", second)
        return None
    try:
        size = known_units(second.dv, second.v)
    except BadSizeError as error:
        refuse("bad_value", str(error), second)
        return None
    mean = second.vw if second.vw and 0 < second.vw < HIGHEST_PRICE else second.c
    return second.av, size, second.h, -second.l, second.c, second.o, mean


class Minute(msgspec.Struct, gc=False, eq=False):
    """
    One minute of one symbol: what was seen, and what was last handed out.

    `slot`: its number on its page; `whole`: the line was up when it began, `broken`: and fell before it was closed.
    """

    symbol: str
    start: int
    slot: int
    whole: bool
    broken: bool = False
    closed: bool = False
    trades: TradeSet | None = None
    seconds: SecondSet | None = None
    vendor: BarSnapshot | None = None
    vendor_content: tuple[float, ...] = ()
    given: BarSnapshot | None = None

    def bar(self) -> BarSnapshot | None:
        """Return the best bar that the minute has now, or None without a price."""
        if self.vendor is not None:
            return self.vendor
        complete = self.whole and not self.broken
        if self.trades is not None and (prices := self.trades.prices) is not None:
            return self._of(self.trades, prices, TRADES if complete else PARTIAL, self.trades.count)
        if self.seconds is not None and self.seconds.number:
            seconds = self.seconds
            return self._of(seconds, (seconds.open, seconds.high, seconds.low, seconds.close), SECONDS if complete else PARTIAL, None)
        return None

    def _of(self, parts: TradeSet | SecondSet, prices: tuple[float, float, float, float], source: int, trades: int | None) -> BarSnapshot:
        opened, high, low, close = prices
        return BarSnapshot(
            symbol=self.symbol,
            opened_at_ms=self.start,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=parts.volume,
            vwap=parts.vwap(),
            trades=trades,
            source=source,
            version=parts.version,
            complete=source != PARTIAL,
        )
