"""
One minute of one symbol as a set of components keyed by identity, and its bar as a function of that set. Pure: no clock, no I/O, no Django.

A trade's identity is its sequence number, a second's its start. Repeats, order and restarts cannot change a set.
"""

from marketdata.bars.snapshot import BarSnapshot
from marketdata.feed.conditions import HIGH_LOW, OPEN_CLOSE, VOLUME
from marketdata.feed.events import SecondAggregate, Trade

PARTIAL, SECONDS, TRADES, VENDOR = 10, 20, 25, 30  # ranks of PRODUCT A3, the same numbers as models.Source
PRICE_UNITS = 10**6  # of a dollar; only means by volume are rounded to it


class TradeSet:
    """The trades of one minute as a set, with the running values that a growing sequence allows."""

    __slots__ = ("_close_at", "_keys", "_last_q", "_open_at", "_value", "close", "count", "high", "low", "open", "parts", "volume")

    def __init__(self) -> None:
        self.parts: list[tuple[Trade, int, int]] = []  # trade, size, eligibility
        self._keys: dict[int, int] | None = None  # sequence number -> place in parts; built at the first one out of order
        self._last_q = -1
        self._clear()

    def _clear(self) -> None:
        self.open = self.close = self.high = self.low = 0.0
        self._open_at: tuple[int, int] | None = None
        self._close_at: tuple[int, int] | None = None
        self.volume = self.count = 0
        self._value = 0

    def add(self, trade: Trade, size: int, flags: int) -> bool:
        """Return whether the set changed."""
        if trade.q > self._last_q:  # the usual case: it cannot be a repeat
            self._last_q = trade.q
            if self._keys is not None:
                self._keys[trade.q] = len(self.parts)
        else:
            if self._keys is None:
                self._keys = {part.q: place for place, (part, _, _) in enumerate(self.parts)}
            place = self._keys.get(trade.q)
            if place is not None:
                return self._replace(place, (trade, size, flags))
            self._keys[trade.q] = len(self.parts)
        self.parts.append((trade, size, flags))
        self._fold(trade, size, flags)
        return True

    def _replace(self, place: int, part: tuple[Trade, int, int]) -> bool:
        """Of two contents of one identity keep the larger; the order is total, so arrival does not matter."""
        if _trade_content(part) <= _trade_content(self.parts[place]):
            return False
        self.parts[place] = part
        self._clear()
        for trade, size, flags in self.parts:
            self._fold(trade, size, flags)
        return True

    def _fold(self, trade: Trade, size: int, flags: int) -> None:
        price = trade.p
        if flags & VOLUME:
            self.volume += size
            self.count += 1
            self._value += round(price * PRICE_UNITS) * size
        if flags & HIGH_LOW:
            if price > self.high:
                self.high = price
            if price < self.low or not self.low:
                self.low = price
        if flags & OPEN_CLOSE:
            at = (trade.t, trade.q)
            if self._open_at is None or at < self._open_at:
                self._open_at = at
                self.open = price
            if self._close_at is None or at > self._close_at:
                self._close_at = at
                self.close = price

    @property
    def priced(self) -> bool:
        """Whether a trade set open and close: without one there is no bar."""
        return self._open_at is not None

    @property
    def version(self) -> int:
        """Number of components: it only grows with the set."""
        return len(self.parts)

    def vwap(self) -> float | None:
        """Return the mean price by volume; summed in whole numbers, so that the order of arrival cannot show in it."""
        return round(self._value / self.volume / PRICE_UNITS, 6) if self.volume else None


def _trade_content(part: tuple[Trade, int, int]) -> tuple[int, float, int, int]:
    trade, size, flags = part
    return (size, trade.p, trade.t, flags)


class SecondSet:
    """The second aggregates of one minute as a set."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: dict[int, tuple[SecondAggregate, int]] = {}

    def add(self, second: SecondAggregate, size: int) -> bool:
        """Return whether the set changed; of two contents of one second the larger stays."""
        known = self.parts.get(second.s)
        if known is not None and _second_content(second, size) <= _second_content(*known):
            return False
        self.parts[second.s] = (second, size)
        return True

    @property
    def version(self) -> int:
        """Components first, then the accumulated volume they name: both only grow with the set."""
        return (len(self.parts) << 56) | (int(sum(second.av for second, _ in self.parts.values())) & ((1 << 56) - 1))


def _second_content(second: SecondAggregate, size: int) -> tuple[float, ...]:
    return (second.av, size, second.h, -second.l, second.c, second.o)


def _mean_price(second: SecondAggregate) -> float:
    """Return its mean price by volume where it names one that can be, else its close."""
    return second.vw if second.vw is not None and 0 < second.vw < 10**7 else second.c


class Minute:
    """One minute of one symbol: what was seen, and what was last handed out."""

    __slots__ = ("broken", "closed", "given", "seconds", "start", "symbol", "trades", "vendor", "vendor_content", "whole")

    def __init__(self, symbol: str, start: int, whole: bool) -> None:
        self.symbol = symbol
        self.start = start
        self.whole = whole  # the line was up when it began
        self.broken = False
        self.closed = False
        self.trades: TradeSet | None = None
        self.seconds: SecondSet | None = None
        self.vendor: BarSnapshot | None = None
        self.vendor_content: tuple[float, ...] = ()
        self.given: BarSnapshot | None = None

    def bar(self) -> BarSnapshot | None:
        """Return the best bar that the minute has now, or None without a price."""
        if self.vendor is not None:
            return self.vendor
        if self.trades is not None and self.trades.priced:
            return self._from_trades(self.trades)
        if self.seconds is not None:
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
        parts = [seconds.parts[start] for start in sorted(seconds.parts)]
        volume = sum(size for _, size in parts)
        value = sum(size * round(_mean_price(second) * PRICE_UNITS) for second, size in parts)
        complete = self.whole and not self.broken
        return BarSnapshot(
            symbol=self.symbol,
            opened_at_ms=self.start,
            open=parts[0][0].o,
            high=max(second.h for second, _ in parts),
            low=min(second.l for second, _ in parts),
            close=parts[-1][0].c,
            volume=volume,
            vwap=round(value / volume / PRICE_UNITS, 6) if volume else None,
            trades=None,
            source=SECONDS if complete else PARTIAL,
            version=seconds.version,
            complete=complete,
        )
