"""
One minute of one symbol as a set of components keyed by identity, and its bar as a function of that set. Pure: no clock, no I/O, no Django.

A trade's identity is its sequence number, a second's its start. Repeats, order and restarts cannot change a set. Components that come in the order
of their identities, as nearly all do, are remembered by page.py; a set takes them back from there at the first one that does not.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from marketdata.bars.blocks import FRACTION
from marketdata.bars.sizes import BadSizeError, known_units
from marketdata.bars.snapshot import BarSnapshot
from marketdata.feed.conditions import HIGH_LOW, OPEN_CLOSE, VOLUME, eligibility
from marketdata.feed.events import LATEST_MS, SecondAggregate, Trade

PARTIAL, SECONDS, TRADES, VENDOR = 10, 20, 25, 30  # ranks of PRODUCT A3, the same numbers as models.Source
SECOND_MS = 1_000
HIGHEST_PRICE = 10**7
BEFORE_ALL = -(1 << 128)  # no identity of a feed is smaller

Refuse = Callable[[str, str, Trade | SecondAggregate], None]
"""Takes reason, detail and the event that was refused."""

TradePart = tuple[int, float, int, int]
"""Size in 1/SHARE shares, price, time in Unix ms, what it may update: of two contents of one identity the larger stays."""

SecondPart = tuple[float, int, float, float, float, float, float]
"""The day's volume, size in 1/SHARE shares, high, −low, close, open, mean price: of two contents the larger stays."""


Part = TypeVar("Part", TradePart, SecondPart)


class Components(ABC, Generic[Part]):
    """
    The components of one minute as a set by identity, with the running values of its bar.

    While identities grow, page.py keeps the running values itself and remembers elsewhere where the components stand. `parts` has those added one
    by one, and all of them once `listed`. `last`: the largest identity; `volume` is in 1/SHARE shares.
    """

    __slots__ = ("high", "last", "listed", "low", "parts", "volume")

    def __init__(self) -> None:
        self.parts: dict[int, Part] | None = None
        self.listed = False
        self._empty()

    def _empty(self) -> None:
        self.last = BEFORE_ALL
        self.high, self.low = 0.0, math.inf
        self.volume = 0

    @abstractmethod
    def fold(self, identity: int, part: Part) -> None:
        """Add one component to the running values, and to nothing else."""

    def add(self, identity: int, part: Part, elsewhere: Callable[[], Iterable[tuple[int, Part]]]) -> bool:
        """Add one component, whatever its identity; return whether the set may have changed. `elsewhere` gives those that are remembered there."""
        parts = self.parts = {} if self.parts is None else self.parts
        known = None
        if identity <= self.last:
            if not self.listed:  # from now on every identity can be looked up
                self.listed = True
                _merge(parts, elsewhere())
                _merge(parts, [(identity, part)])
                self._rebuild(parts)
                return True
            known = parts.get(identity)
            if known is not None and part <= known:
                return False
        parts[identity] = part
        if known is None:
            self.fold(identity, part)
        else:
            self._rebuild(parts)
        return True

    def remember(self, identity: int, part: Part) -> None:
        """Keep a component that the running values know already and that nobody else can remember."""
        self.parts = {} if self.parts is None else self.parts
        _merge(self.parts, [(identity, part)])

    def _rebuild(self, parts: dict[int, Part]) -> None:
        self._empty()
        for identity, part in parts.items():
            self.fold(identity, part)

    @abstractmethod
    def vwap(self) -> float | None:
        """Return the mean price by volume."""


class TradeSet(Components[TradePart]):
    """
    The trades of one minute by sequence number. Of those that may set open and close the first and the last; `silent` do not count as volume.

    `waiting` has size and price × size by turns, of the latest that count as volume: these are not in `volume`, `counted` and `value` until `settle`.
    Whoever adds trades whose numbers grow need not set `first_number` and `final_number`: these break ties, and whatever stands there is smaller
    than the number of the next trade.
    """

    __slots__ = (
        "counted",
        "final_at",
        "final_number",
        "final_price",
        "first_at",
        "first_number",
        "first_price",
        "rest",
        "silent",
        "value",
        "waiting",
    )

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        super().__init__()

    def _empty(self) -> None:
        super()._empty()
        self.counted = self.silent = 0
        self.value = self.rest = 0.0
        self.waiting.clear()
        self.first_at, self.first_number, self.first_price = LATEST_MS, BEFORE_ALL, 0.0
        self.final_at, self.final_number, self.final_price = 0, BEFORE_ALL, 0.0

    def fold(self, identity: int, part: TradePart) -> None:
        """Add one trade to the running values, and to nothing else."""
        size, price, at, flags = part
        self.last = max(self.last, identity)
        if flags & HIGH_LOW:
            self.high = max(self.high, price)
            self.low = min(self.low, price)
        if flags & OPEN_CLOSE:
            if (at, identity) < (self.first_at, self.first_number):
                self.first_at, self.first_number, self.first_price = at, identity, price
            if (at, identity) > (self.final_at, self.final_number):
                self.final_at, self.final_number, self.final_price = at, identity, price
        if flags & VOLUME:
            self.waiting.append(size)
            self.waiting.append(price * size)
        else:
            self.silent += 1

    @property
    def count(self) -> int:
        """The number of trades that count as volume."""
        return self.counted + len(self.waiting) // 2

    def settle(self) -> None:
        """Add up what waits."""
        if self.waiting:
            self.counted += len(self.waiting) // 2
            self.volume += sum(self.waiting[::2])
            self.value, self.rest = _total(self.value, self.rest, self.waiting[1::2])
            self.waiting.clear()

    def vwap(self) -> float | None:
        """Return the mean price by volume."""
        return _rounded(self.value / self.volume) if self.volume else None

    @property
    def version(self) -> int:
        """The number of trades, which only grows with the set."""
        return self.count + self.silent

    @property
    def priced(self) -> bool:
        """Whether a trade set open and close: without one there is no bar."""
        return self.final_at > 0

    @property
    def prices(self) -> tuple[float, float, float, float] | None:
        """Return open, high, low, close; None where no trade may set open and close."""
        if not self.priced:
            return None
        opened, closed = self.first_price, self.final_price
        return opened, max(self.high, opened, closed), min(self.low, opened, closed), closed


class SecondSet(Components[SecondPart]):
    """
    The second aggregates of one minute by the start of the second; `accumulated` is the sum of the day's volumes that they name,
    of each its whole shares: sums of fractions would know the order.

    `value` is the sum of mean price × size in 1/blocks.FRACTION: the mean is each second's own where it names one that can be, else its close.
    """

    __slots__ = ("accumulated", "close", "count", "first", "open", "value")

    def _empty(self) -> None:
        super()._empty()
        self.count = self.value = 0
        self.first = LATEST_MS
        self.open = self.close = 0.0
        self.accumulated = 0

    def fold(self, identity: int, part: SecondPart) -> None:
        """Add one second to the running values, and to nothing else."""
        accumulated, size, high, low, close, opened, mean = part
        if identity < self.first:
            self.first, self.open = identity, opened
        if identity > self.last:
            self.last, self.close = identity, close
        self.high = max(self.high, high)
        self.low = min(self.low, -low)
        self.volume += size
        self.accumulated += int(accumulated)
        self.count += 1
        self.value += round(mean * size * FRACTION)

    def add_run(
        self,
        count: int,
        first: int,
        last: int,
        opened: float,
        high: float,
        low: float,
        close: float,
        volume: int,
        accumulated: int,
        value: int,
    ) -> None:
        """Add what `count` new seconds from `first` to `last`, all later than those before, come to together."""
        if first < self.first:
            self.first, self.open = first, opened
        self.last, self.close = last, close
        if high > self.high:
            self.high = high
        if low < self.low:
            self.low = low
        self.volume += volume
        self.accumulated += accumulated
        self.count += count
        self.value += value

    def vwap(self) -> float | None:
        """Return the mean price by volume."""
        return _rounded(self.value / (self.volume * FRACTION)) if self.volume else None

    @property
    def version(self) -> int:
        """Components first, then the accumulated volume they name: both only grow with the set."""
        return (self.count << 56) | (self.accumulated & ((1 << 56) - 1))


def _merge(parts: dict[int, Part], others: Iterable[tuple[int, Part]]) -> None:
    """Unite two sets: of two contents of one identity the larger stays."""
    for identity, part in others:
        known = parts.get(identity)
        if known is None or part > known:
            parts[identity] = part


def _rounded(price: float) -> float:
    """Return the price to six places; `round` does it by way of a text."""
    return round(price * 1e6) / 1e6


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

    `slot`: its number on its page; `whole`: the line was up when it began, `broken`: and fell before it was closed. `given`: the bar last handed out;
    `told`: as it was last told while it formed; `moved`: perhaps it changed since then, though no identity grew.
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
    told: BarSnapshot | None = None
    told_last: tuple[int | None, int | None] = (None, None)
    moved: bool = False

    def moving(self) -> BarSnapshot | None:
        """Return the bar as it forms, if it is another than this last returned."""
        last = (None if self.trades is None else self.trades.last, None if self.seconds is None else self.seconds.last)
        if not self.moved and last == self.told_last:
            return None
        self.told_last, self.moved = last, False
        bar, told = self.bar(), self.told
        self.told = bar
        return None if bar == told else bar

    def bar(self) -> BarSnapshot | None:
        """Return the best bar that the minute has now, or None without a price."""
        if self.vendor is not None:
            return self.vendor
        complete = self.whole and not self.broken
        if self.trades is not None:
            self.trades.settle()  # with or without a price: what waits must not fill the memory
        if self.trades is not None and (prices := self.trades.prices) is not None:
            return self._of(self.trades, prices, TRADES if complete else PARTIAL, self.trades.count)
        if self.seconds is not None and self.seconds.count:
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
