"""
All minutes that begin at one moment. Pure: no clock, no I/O, no Django.

Nearly every event is only one more of an open minute. Such events wait here in the order of their arrival, become columns by the thousand, and are
folded all symbols at once when somebody looks. What was folded stays in columns, sorted by symbol: 45 bytes a trade, 70 a second.
"""

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from marketdata.bars.minute import (
    HIGHEST_PRICE,
    SECOND_MS,
    Mark,
    Minute,
    Refuse,
    SecondPart,
    SecondSet,
    TradePart,
    TradeSet,
    second_part,
    trade_part,
)  # fmt: skip
from marketdata.bars.sizes import KNOWN
from marketdata.feed.conditions import HIGH_LOW, KNOWN_EXTENDED, KNOWN_REGULAR, OPEN_CLOSE, VOLUME
from marketdata.feed.events import SecondAggregate, Trade

CHUNK = 1_000  # events that wait as objects: few enough to stay in the cache, and columns are made many at a time
LARGEST_SUM = 2.0**62  # of sizes that are added up in machine integers

Column = npt.NDArray[Any]
Columns = tuple[Column, ...]
"""Columns of equal length; the first is the slot of the minute that a row belongs to, the second its identity there."""


class Kept:
    """Rows that were folded, sorted by slot; few blocks, however small the pieces that come."""

    def __init__(self) -> None:
        self._blocks: list[Columns] = []

    def add(self, block: Columns) -> None:
        """Keep one more block."""
        blocks = self._blocks
        if not len(block[0]):
            return
        blocks.append((block[0].astype(np.int32), *block[1:]))
        while len(blocks) > 1 and len(blocks[-2][0]) <= 2 * len(blocks[-1][0]):
            joined = [np.concatenate(pair) for pair in zip(blocks.pop(-2), blocks.pop(), strict=True)]
            order = np.argsort(joined[0], kind="stable")
            blocks.append(tuple(column[order] for column in joined))

    def of(self, slot: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one minute, without the slot."""
        for block in self._blocks:
            yield from _rows(block, *np.searchsorted(block[0], (slot, slot + 1)).tolist())


class Page:
    """The minutes of one moment by symbol, and the events of theirs that are not folded yet."""

    def __init__(self, start: int, *, extended: bool) -> None:
        self.start = start
        self.extended = extended  # outside the regular session
        self.minutes: dict[str, Minute] = {}
        self.forming: dict[str, Minute] = {}  # not closed yet
        self.moved: dict[str, Minute] = {}  # of those, what changed since somebody asked
        self._by_slot: list[Minute] = []
        self.trades: list[Trade] = []  # taken in, no columns yet
        self.trade_slots: list[int] = []
        self.seconds: list[SecondAggregate] = []
        self.second_slots: list[int] = []
        self._trade_columns: list[Columns] = []  # not folded yet
        self._second_columns: list[Columns] = []
        self._kept_trades = Kept()
        self._kept_seconds = Kept()

    def open(self, symbol: str, *, whole: bool) -> Minute:
        """Return a new minute of the symbol."""
        minute = self.minutes[symbol] = Minute(symbol, self.start, len(self._by_slot), whole)
        self._by_slot.append(minute)
        return minute

    # -- one by one ---------------------------------------------------------------------------------------------------------------

    def take(self, minute: Minute, event: Trade | SecondAggregate) -> None:
        """Take one event of an open minute; it is folded when somebody looks."""
        self.forming[minute.symbol] = minute
        if isinstance(event, Trade):
            self.trades.append(event)
            self.trade_slots.append(minute.slot)
        else:
            self.seconds.append(event)
            self.second_slots.append(minute.slot)

    def add(self, minute: Minute, event: Trade | SecondAggregate, refuse: Refuse) -> bool:
        """Fold one event in at once; return whether that changed its minute. What cannot be goes to `refuse`."""
        if isinstance(event, Trade):
            part = trade_part(event, extended=self.extended, refuse=refuse)
            return part is not None and self._add_trade(minute, event.q, part)
        second = second_part(event, refuse)
        return second is not None and self._add_second(minute, event.s, second)

    def _add_trade(self, minute: Minute, number: int, part: TradePart) -> bool:
        if minute.trades is None:
            minute.trades = TradeSet()
        return minute.trades.add(number, part, lambda: _trade_parts(self._kept_trades.of(minute.slot)))

    def _add_second(self, minute: Minute, start: int, part: SecondPart) -> bool:
        if minute.seconds is None:
            minute.seconds = SecondSet()
        return minute.seconds.add(start, part, lambda: _second_parts(self._kept_seconds.of(minute.slot)))

    # -- many at once -------------------------------------------------------------------------------------------------------------

    def gather(self, refuse: Refuse) -> None:
        """Make columns of what waits as objects, once it is enough. What cannot be goes to `refuse`."""
        if len(self.trades) >= CHUNK:
            self._gather_trades(refuse)
        if len(self.seconds) >= CHUNK:
            self._gather_seconds(refuse)

    def fold(self, refuse: Refuse) -> None:
        """Fold in all that was taken; the minutes that changed are in `moved`, if they are forming."""
        if self.trades:
            self._gather_trades(refuse)
        if self.seconds:
            self._gather_seconds(refuse)
        if self._trade_columns:
            columns, self._trade_columns = self._trade_columns, []
            self._fold_trades(_joined(columns))
        if self._second_columns:
            columns, self._second_columns = self._second_columns, []
            self._fold_seconds(_joined(columns))

    def _note(self, minute: Minute) -> None:
        if not minute.closed:
            self.moved[minute.symbol] = minute

    def _gather_trades(self, refuse: Refuse) -> None:
        """Make columns of the trades that wait. Those that no column can hold are folded at once."""
        trades, slots = self.trades.copy(), self.trade_slots.copy()
        self.trades.clear()
        self.trade_slots.clear()
        sizes = list(map(KNOWN.get, [trade.s if trade.ds is None else trade.ds for trade in trades]))
        flags = list(map((KNOWN_EXTENDED if self.extended else KNOWN_REGULAR).get, [trade.c for trade in trades]))
        if None in sizes or None in flags:
            known = [size is not None and may is not None for size, may in zip(sizes, flags, strict=True)]
            for place in reversed([place for place, is_known in enumerate(known) if not is_known]):
                part = trade_part(trades[place], extended=self.extended, refuse=refuse)
                if part is None:
                    del trades[place], slots[place], sizes[place], flags[place]
                else:
                    sizes[place], flags[place] = part[0], part[3]
        try:
            columns = (
                _integers(slots), _integers([trade.q for trade in trades]), _integers([trade.t for trade in trades]),
                _floats([trade.p for trade in trades]), _integers(sizes), _integers(flags),
            )  # fmt: skip
        except struct.error:  # a number beyond 64 bits
            self._one_by_one(trades, slots, refuse)
        else:
            if trades:
                self._trade_columns.append(columns)

    def _gather_seconds(self, refuse: Refuse) -> None:
        """Make columns of the seconds that wait; otherwise like `_gather_trades`."""
        seconds, slots = self.seconds.copy(), self.second_slots.copy()
        self.seconds.clear()
        self.second_slots.clear()
        sizes = list(map(KNOWN.get, [second.v if second.dv is None else second.dv for second in seconds]))
        start, opened, high, low, close = _columns_of(seconds)
        right = (low <= opened) & (opened <= high) & (low <= close) & (close <= high) & (start % SECOND_MS == 0)
        if None in sizes or not right.all():
            asked = {place for place, size in enumerate(sizes) if size is None}.union(np.flatnonzero(~right).tolist())
            for place in sorted(asked, reverse=True):
                part = second_part(seconds[place], refuse)
                if part is None:
                    del seconds[place], slots[place], sizes[place]
                else:
                    sizes[place] = part[1]
            start, opened, high, low, close = _columns_of(seconds)
        mean = _floats([math.nan if second.vw is None else second.vw for second in seconds])
        mean = np.where((mean > 0) & (mean < HIGHEST_PRICE), mean, close)
        accumulated = _floats([second.av for second in seconds])
        try:
            columns = (_integers(slots), start, opened, high, low, close, accumulated, mean, _integers(sizes))
        except struct.error:  # a number beyond 64 bits
            self._one_by_one(seconds, slots, refuse)
        else:
            if seconds:
                self._second_columns.append(columns)

    def _one_by_one(self, events: Sequence[Trade | SecondAggregate], slots: list[int], refuse: Refuse) -> None:
        for slot, event in zip(slots, events, strict=True):
            minute = self._by_slot[slot]
            if self.add(minute, event, refuse):
                self._note(minute)

    def _fold_trades(self, taken: Columns) -> None:
        rows, starts, ends, broken = _by_minute(taken)
        slots, numbers, times, prices, sizes, flags = rows
        broken |= _falls(times[1:] >= times[:-1], starts)
        shared = int(np.bitwise_and.reduce(flags))  # what all of them may update
        first, final = _marks(rows, starts, ends, every=bool(shared & OPEN_CLOSE))
        may_range = None if shared & HIGH_LOW else (flags & HIGH_LOW) != 0
        high = np.maximum.reduceat(prices if may_range is None else np.where(may_range, prices, 0.0), starts).tolist()
        low = np.minimum.reduceat(prices if may_range is None else np.where(may_range, prices, math.inf), starts).tolist()
        values = prices * sizes
        if shared & VOLUME:
            value_ends = ends
        else:
            counts = (flags & VOLUME) != 0
            values, sizes = values[counts], np.where(counts, sizes, 0)
            value_ends = np.cumsum(counts)[ends - 1]
        volume = _sums(sizes, starts)
        all_values = values.tolist()
        alone: list[tuple[int, int]] = []  # what stands in a minute's own set
        by_slot, moved = self._by_slot, self.moved
        value_end = 0
        runs = zip(
            slots[starts].tolist(), starts.tolist(), ends.tolist(), numbers[starts].tolist(), numbers[ends - 1].tolist(), value_ends.tolist(),
            strict=True,
        )  # fmt: skip
        for place, (slot, lo, hi, lowest, largest, valued) in enumerate(runs):
            value_start, value_end = value_end, valued
            minute = by_slot[slot]
            trades = minute.trades
            if trades is None:
                trades = minute.trades = TradeSet()
            if lowest <= trades.last or place in broken:
                alone.append((lo, hi))
                news = [self._add_trade(minute, *each) for each in _trade_parts(_rows(rows, lo, hi))]
                if any(news):
                    self._note(minute)
                continue
            trades.add_run(
                hi - lo, largest, high[place], low[place], first[place], final[place], value_end - value_start, volume[place],
                all_values[value_start:value_end],
            )  # fmt: skip
            if not minute.closed:
                moved[minute.symbol] = minute
            if trades.listed and trades.parts is not None:
                alone.append((lo, hi))
                trades.parts.update(_trade_parts(_rows(rows, lo, hi)))
        self._kept_trades.add(_without(rows, alone))

    def _fold_seconds(self, taken: Columns) -> None:
        rows, starts, ends, broken = _by_minute(taken)
        slots, seconds_at, opened, high, low, close, accumulated, mean, sizes = rows
        runs = zip(
            slots[starts].tolist(), starts.tolist(), ends.tolist(), seconds_at[starts].tolist(), seconds_at[ends - 1].tolist(),
            opened[starts].tolist(), np.maximum.reduceat(high, starts).tolist(), np.minimum.reduceat(low, starts).tolist(),
            close[ends - 1].tolist(), _sums(sizes, starts), np.add.reduceat(accumulated, starts).tolist(), strict=True,
        )  # fmt: skip
        values = (mean * sizes).tolist()
        alone: list[tuple[int, int]] = []
        by_slot, moved = self._by_slot, self.moved
        for place, (slot, lo, hi, lowest, largest, first, top, bottom, final, volume, day) in enumerate(runs):
            minute = by_slot[slot]
            seconds = minute.seconds
            if seconds is None:
                seconds = minute.seconds = SecondSet()
            if lowest <= seconds.last or place in broken:
                alone.append((lo, hi))
                news = [self._add_second(minute, *each) for each in _second_parts(_rows(rows, lo, hi))]
                if any(news):
                    self._note(minute)
                continue
            seconds.add_run(hi - lo, lowest, largest, first, top, bottom, final, volume, day, values[lo:hi])
            if not minute.closed:
                moved[minute.symbol] = minute
            if seconds.listed and seconds.parts is not None:
                alone.append((lo, hi))
                seconds.parts.update(_second_parts(_rows(rows, lo, hi)))
        self._kept_seconds.add(_without(rows, alone))


def _integers(values: Sequence[Any]) -> Column:
    """Return a column of integers. struct.error where one has no place in it."""
    return np.frombuffer(struct.pack(f"{len(values)}l", *values), dtype=np.dtype("l"))  # a third of the time that array and numpy take


def _floats(values: Sequence[float]) -> Column:
    return np.frombuffer(struct.pack(f"{len(values)}d", *values), dtype=np.float64)


def _columns_of(seconds: Sequence[SecondAggregate]) -> Columns:
    """Return start, open, high, low, close."""
    return (
        _integers([second.s for second in seconds]), _floats([second.o for second in seconds]), _floats([second.h for second in seconds]),
        _floats([second.l for second in seconds]), _floats([second.c for second in seconds]),
    )  # fmt: skip


def _joined(columns: list[Columns]) -> Columns:
    return columns[0] if len(columns) == 1 else tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))


def _by_minute(taken: Columns) -> tuple[Columns, Column, Column, set[int]]:
    """Return the rows by slot, then by identity; where each minute begins and ends; which of the minutes have an identity twice."""
    slots, identities = taken[0], taken[1]
    order = np.argsort(slots.astype(np.uint16) if len(slots) and slots.max() < 2**16 else slots, kind="stable")  # of 16 bits by radix
    slots = slots[order]
    starts = np.concatenate(([0], np.flatnonzero(slots[1:] != slots[:-1]) + 1))
    sorted_ = identities[order]
    broken = _falls(sorted_[1:] > sorted_[:-1], starts)
    if broken:
        order = np.lexsort((identities, taken[0]))
        sorted_ = identities[order]
        broken = _falls(sorted_[1:] > sorted_[:-1], starts)
    return tuple(column[order] for column in taken), starts, np.append(starts[1:], len(slots)), broken


def _falls(grows: Column, starts: Column) -> set[int]:
    """Return the minutes in which a row does not grow against the one before; `grows` is what the comparison says of all but the first row."""
    grows[starts[1:] - 1] = True  # the first of a minute follows none
    if grows.all():
        return set()
    return set((np.searchsorted(starts, np.flatnonzero(~grows) + 1, side="right") - 1).tolist())


def _sums(sizes: Column, starts: Column) -> list[int]:
    """Return the sum of each minute, exact however large."""
    if float(sizes.max()) * len(sizes) > LARGEST_SUM:
        sizes = sizes.astype(object)
    return np.add.reduceat(sizes, starts).tolist()  # type: ignore[no-any-return]


def _marks(rows: Columns, starts: Column, ends: Column, *, every: bool) -> tuple[list[Mark | None], list[Mark | None]]:
    """Return of each minute the first and the last trade that may set a price; `every` one may. None where there is none."""
    _, numbers, times, prices, _, flags = rows
    there = None
    first, final = starts, ends - 1
    if not every:
        places = np.flatnonzero(flags & OPEN_CLOSE)
        lo, hi = np.searchsorted(places, starts), np.searchsorted(places, ends)
        there = lo < hi
        if not len(places):
            return [None] * len(starts), [None] * len(starts)
        first, final = places[np.minimum(lo, len(places) - 1)], places[np.maximum(hi - 1, 0)]
    both: list[list[Mark | None]] = []
    for chosen in (first, final):
        marks: list[Mark | None] = list(zip(times[chosen].tolist(), numbers[chosen].tolist(), prices[chosen].tolist(), strict=True))
        if there is not None:
            marks = [mark if is_there else None for mark, is_there in zip(marks, there.tolist(), strict=True)]
        both.append(marks)
    return both[0], both[1]


def _without(rows: Columns, alone: list[tuple[int, int]]) -> Columns:
    """Return the rows but for those in one of the ranges."""
    if not alone:
        return rows
    stays = np.ones(len(rows[0]), dtype=bool)
    for lo, hi in alone:
        stays[lo:hi] = False
    return tuple(column[stays] for column in rows)


def _rows(rows: Columns, lo: int, hi: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows [lo, hi), without the slot."""
    return zip(*(column[lo:hi].tolist() for column in rows[1:]), strict=True)


def _trade_parts(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, TradePart]]:
    return ((number, (size, price, at, flags)) for number, at, price, size, flags in rows)


def _second_parts(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, SecondPart]]:
    return (
        (start, (accumulated, size, high, -low, close, opened, mean)) for start, opened, high, low, close, accumulated, mean, size in rows
    )
