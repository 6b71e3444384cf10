"""
All minutes that begin at one moment. Pure: no clock, no I/O, no Django.

Nearly every event is only one more of an open minute, and larger in its identity than those before. Such a trade goes into the running values at once,
and is remembered in its frame as it came, which costs nothing, or, of a busy minute, in columns. Such a second waits in columns, and all symbols of
a minute are folded at once when somebody looks. The first event whose identity does not grow has its minute's components read from there.
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from msgspec.structs import astuple

from marketdata.bars import blocks
from marketdata.bars.blocks import Column, Columns, Kept
from marketdata.bars.minute import (
    HIGHEST_PRICE,
    SECOND_MS,
    Minute,
    Refuse,
    SecondPart,
    SecondSet,
    TradePart,
    TradeSet,
    second_part,
    trade_part,
)  # fmt: skip
from marketdata.bars.sizes import KNOWN, KNOWN_TWICE, BadSizeError, known_units
from marketdata.bars.snapshot import MINUTE_MS
from marketdata.feed.conditions import ALL, KNOWN_EXTENDED, KNOWN_REGULAR, VOLUME, eligibility
from marketdata.feed.decode import Decoded, decode
from marketdata.feed.events import SecondAggregate, Trade

Pack = Callable[..., bytes]
Read = Callable[[bytes | str], Decoded]
Source = Callable[[Read], Sequence[SecondAggregate]]
"""Reads again what was taken."""

FRAME_BYTES = 1_000_000  # of frames that a page keeps as they came, and of those whose seconds wait
BUSY = 5  # trades in a minute: such a symbol hardly ever rests in the next
CHUNK, FRAMES = 4_000, 400  # events that wait, and frames of theirs that are held as long


class Waiting:
    """
    Seconds that were taken, each frame's made columns at once, while its objects are in the processor's cache.

    Nothing was asked about them yet but their time and whether their size can be read: of one that cannot the size is negative.
    """

    __slots__ = ("_bytes", "_floating", "_sources", "_whole", "count")

    def __init__(self) -> None:
        self.count = self._bytes = 0
        self._whole: list[tuple[bytes, ...]] = []
        self._floating: list[tuple[bytes, ...]] = []
        self._sources: list[Source] = []

    @property
    def enough(self) -> bool:
        """Whether there are many seconds, or frames, or much of these: a frame of other things may hold one second."""
        return self.count >= CHUNK or len(self._sources) >= FRAMES or self._bytes > FRAME_BYTES

    def add(self, count: int, whole: tuple[bytes, ...], floating: tuple[bytes, ...], source: Source, held: int) -> None:
        """Add columns: slot, start, size; open, high, low, close, the day's volume, mean price. `source` holds so many bytes."""
        self.count += count
        self._bytes += held
        self._whole.append(whole)
        self._floating.append(floating)
        self._sources.append(source)

    def columns(self) -> Columns:
        """Return slot, start, open, high, low, close, the day's volume, mean price and size."""
        slots, starts, sizes = (np.frombuffer(b"".join(column), np.dtype("l")) for column in zip(*self._whole, strict=True))
        floating = (np.frombuffer(b"".join(column), np.float64) for column in zip(*self._floating, strict=True))
        opened, high, low, close, accumulated, mean = floating
        return slots, starts, opened, high, low, close, accumulated, np.where((mean > 0) & (mean < HIGHEST_PRICE), mean, close), sizes

    def seconds(self) -> list[SecondAggregate]:
        """Return the seconds as they came."""
        read = cache(decode)  # many may stand in one frame
        return [second for source in self._sources for second in source(read)]


class Page:
    """The minutes of one moment by symbol, and what is remembered of their events."""

    def __init__(self, start: int, *, extended: bool) -> None:
        self.start = start
        self.minutes: dict[str, Minute] = {}
        self.forming: dict[str, Minute] = {}  # not closed yet
        # Of the symbols about whose next trade or second nothing is to be asked but its content
        self._trade_sets: dict[str, TradeSet] = {}
        self._second_slots: dict[str, int] = {}
        self._extended = extended  # outside the regular session
        self._by_slot: list[Minute] = []
        self._slots: dict[str, int] = {}
        self._waiting = Waiting()
        self._second_columns: list[Columns] = []  # not folded yet
        self._kept_seconds = Kept()
        self._frames: list[bytes | str] = []  # as they came, with trades that were taken
        self._places: list[int] = []  # of the last event of each that was seen here
        self._frame_bytes = 0
        self._pieces: list[tuple[bytes, ...]] = []  # columns of trades that were taken from frames that are not kept
        self._pieces_count = 0
        self._kept_trades = Kept()

    def open(self, symbol: str, *, whole: bool) -> Minute:
        """Return a new minute of the symbol."""
        minute = self.minutes[symbol] = self.forming[symbol] = Minute(symbol, self.start, len(self._by_slot), whole)
        self._by_slot.append(minute)
        self._slots[symbol] = minute.slot
        return minute

    # -- one by one ---------------------------------------------------------------------------------------------------------------

    def add(self, minute: Minute, event: Trade | SecondAggregate, refuse: Refuse) -> bool:
        """Add one event, whatever its identity; return whether its minute may have changed. What cannot be goes to `refuse`."""
        if isinstance(event, Trade):
            part = trade_part(event, extended=self._extended, refuse=refuse)
            changed = part is not None and self._add_trade(minute, event.q, part)
        else:
            second = second_part(event, refuse)
            changed = second is not None and self._add_second(minute, event.s, second)
        minute.moved = minute.moved or changed
        return changed

    def _add_trade(self, minute: Minute, number: int, part: TradePart) -> bool:
        trades = minute.trades = TradeSet() if minute.trades is None else minute.trades
        changed = trades.add(number, part, lambda: self._trades_of(minute))
        if trades.listed:
            self._trade_sets.pop(minute.symbol, None)
        return changed

    def _add_second(self, minute: Minute, start: int, part: SecondPart) -> bool:
        seconds = minute.seconds = SecondSet() if minute.seconds is None else minute.seconds
        return seconds.add(start, part, lambda: self._seconds_of(minute))

    def trust(self, minute: Minute, event: Trade | SecondAggregate) -> bool:
        """From now on take events of this kind and symbol without asking; return False where each has to be looked up."""
        if isinstance(event, Trade):
            trades = minute.trades = TradeSet() if minute.trades is None else minute.trades
            if trades.listed:
                return False
            self._trade_sets[minute.symbol] = trades
        else:
            self._second_slots[minute.symbol] = minute.slot
        return True

    def trusts_trades(self, symbol: str) -> bool:
        """Return whether nothing is to be asked about the next trade of this symbol but its content."""
        return symbol in self._trade_sets

    def trusts_seconds(self, symbol: str) -> bool:
        """Return whether nothing is to be asked about the next second of this symbol but its content."""
        return symbol in self._second_slots

    def follow(self, earlier: "Page", *, whole: bool) -> None:
        """Open minutes of the symbols that traded often in the minute before, so that their first trade here need not be asked about."""
        for symbol, trades in earlier._trade_sets.items():
            if symbol not in self.minutes and trades.version >= BUSY:
                self._trade_sets[symbol] = self.open(symbol, whole=whole).trades = TradeSet()

    def distrust(self, symbol: str) -> None:
        """Ask about each further event of this symbol."""
        self._trade_sets.pop(symbol, None)
        self._second_slots.pop(symbol, None)

    def distrust_all(self) -> None:
        """Ask about the next event of each symbol."""
        self._trade_sets.clear()
        self._second_slots.clear()

    # -- seconds: columns -------------------------------------------------------------------------------------------------------

    def take_seconds(self, seconds: Sequence[SecondAggregate], source: Source, held: int = 0) -> int:
        """
        Take seconds of which nothing is to be asked, and return when the latest was over (Unix ms); else take none and return 0.

        `source` reads them again, for which it holds so many bytes.
        """
        symbols, numbers, texts, accumulated, means, opened, close, high, low, starts = zip(*map(astuple, seconds), strict=True)
        latest: int = max(starts)
        if latest >= self.start + MINUTE_MS or min(starts) < self.start:
            return 0
        whole, floating = _packers(len(seconds))
        try:
            slots = whole(*map(self._second_slots.get, symbols))
            sizes = _packed_sizes(numbers, texts, whole)
        except struct.error:  # a symbol that is not trusted, or a size beyond 64 bits
            return 0
        try:
            mean = floating(*means)
        except struct.error:
            mean = floating(*[math.nan if each is None else each for each in means])
        self._waiting.add(
            len(seconds),
            (slots, whole(*starts), sizes),
            (floating(*opened), floating(*high), floating(*low), floating(*close), floating(*accumulated), mean),
            source,
            held,
        )
        return latest + SECOND_MS

    def gather(self, refuse: Refuse) -> None:
        """Make columns of the seconds that wait, once they are enough. What cannot be goes to `refuse`."""
        if self._waiting.enough:
            self._gather(refuse)

    def fold(self, refuse: Refuse) -> None:
        """Fold in all seconds that were taken."""
        if self._waiting.count:
            self._gather(refuse)
        if self._second_columns:
            taken, self._second_columns = self._second_columns, []
            self._fold_seconds(blocks.joined(taken))

    def _gather(self, refuse: Refuse) -> None:
        waiting, self._waiting = self._waiting, Waiting()
        taken = waiting.columns()
        _, start, opened, high, low, close, _, _, sizes = taken
        right = (low <= opened) & (opened <= high) & (low <= close) & (close <= high) & (start % SECOND_MS == 0) & (sizes >= 0)
        if not right.all():
            seconds = waiting.seconds()
            for place in np.flatnonzero(~right).tolist():
                second_part(seconds[place], refuse)  # says why
            taken = tuple(column[right] for column in taken)
        if len(taken[0]):
            self._second_columns.append(taken)

    def _fold_seconds(self, taken: Columns) -> None:
        slots, seconds_at, opened, high, low, close, accumulated, mean, sizes = taken
        order, starts, ends, broken = blocks.by_minute(taken)
        firsts, lasts, sizes = order[starts], order[ends - 1], sizes[order]
        runs = zip(
            slots[firsts].tolist(), starts.tolist(), ends.tolist(), seconds_at[firsts].tolist(), seconds_at[lasts].tolist(),
            opened[firsts].tolist(), np.maximum.reduceat(high[order], starts).tolist(), np.minimum.reduceat(low[order], starts).tolist(),
            close[lasts].tolist(), blocks.sums(sizes, starts), np.add.reduceat(accumulated[order].astype(np.int64), starts).tolist(),
            blocks.value_sums(mean[order] * sizes, starts), strict=True,
        )  # fmt: skip
        alone: list[Column] = []  # what stands in a minute's own set
        for place, (slot, lo, hi, lowest, largest, first, top, bottom, final, volume, day, value) in enumerate(runs):
            minute = self._by_slot[slot]
            seconds = minute.seconds = SecondSet() if minute.seconds is None else minute.seconds
            if lowest <= seconds.last or place in broken:
                alone.append(order[lo:hi])
                changed = [self._add_second(minute, *each) for each in _second_parts(blocks.rows(taken, order[lo:hi]))]
                minute.moved = minute.moved or any(changed)
                continue
            seconds.add_run(hi - lo, lowest, largest, first, top, bottom, final, volume, day, value)
            if seconds.listed and seconds.parts is not None:
                alone.append(order[lo:hi])
                seconds.parts.update(_second_parts(blocks.rows(taken, order[lo:hi])))
        self._kept_seconds.add(blocks.without(taken, alone))

    def _seconds_of(self, minute: Minute) -> Iterable[tuple[int, SecondPart]]:
        return _second_parts(self._kept_seconds.of(minute.slot))

    # -- trades: running values ---------------------------------------------------------------------------------------------------

    def take_trades(self, ahead: Iterator[Trade]) -> tuple[int, bool]:
        """
        Add trades to the running values until one comes about which something is to be asked.

        Return the largest time of those taken (below `start` without any), and whether one came that was not.

        Whoever calls must `keep` what was taken. This loop is what a busy feed costs, so it writes out what `TradeSet.fold` says of nearly all trades.
        """
        sets, sizes, eligible = self._trade_sets, KNOWN_TWICE, KNOWN_EXTENDED if self._extended else KNOWN_REGULAR
        everything, only_volume = ALL, VOLUME
        start, end = self.start, self.start + MINUTE_MS
        newest = start - 1
        try:
            for trade in ahead:
                number = trade.q
                trades = sets[trade.sym]
                if number <= trades.last:
                    return newest, True
                text = trade.ds
                size, factor = sizes[trade.s] if text is None else sizes[text]
                flags = eligible[trade.c]
                at = trade.t
                if at > newest:
                    if at >= end:
                        return newest, True
                    newest = at  # of a trade that is taken, so after all that may stop it
                elif at < start:
                    return newest, True
                trades.last = number
                price = trade.p
                if flags == everything:
                    latest = trades.final_at
                    if at >= latest:
                        trades.final_at = at
                        trades.final_price = price
                        if not latest:
                            trades.first_at, trades.first_price = at, price
                    elif at < trades.first_at:
                        trades.first_at, trades.first_price = at, price
                    if price > trades.high:
                        trades.high = price
                    if price < trades.low:
                        trades.low = price
                    waiting = trades.waiting
                    waiting.append(size)
                    waiting.append(price * factor)
                elif flags == only_volume:  # an odd lot: most of today's trades
                    waiting = trades.waiting
                    waiting.append(size)
                    waiting.append(price * factor)
                else:
                    trades.fold(number, (size, price, at, flags))
        except KeyError:  # a symbol that is not trusted, a size or conditions that were not met before
            return newest, True
        return newest, False

    def keep(self, frame: bytes | str, place: int, trades: list[Trade], begin: int, end: int) -> None:
        """Remember the trades [begin, end), which were taken; the last of them is the event at `place` of this frame."""
        if self._frames and self._frames[-1] is frame:
            self._places[-1] = max(self._places[-1], place)  # the same frame may come again
        elif self._frame_bytes + len(frame) <= FRAME_BYTES:
            self._frames.append(frame)
            self._places.append(place)
            self._frame_bytes += len(frame)
        else:
            self._keep_columns(trades[begin:end])

    def settle(self) -> None:
        """Let go of what waits in the running values of forming minutes."""
        for minute in self.forming.values():
            if minute.trades is not None:
                minute.trades.settle()

    def _trades_of(self, minute: Minute) -> Iterable[tuple[int, TradePart]]:
        """
        Return what is remembered of one minute's trades; from now on in columns: where one asks, others will.

        A frame may hold more than was taken from it. Up to the place that was seen, all that is of this page's minutes stands in their sets too, and a
        set does not mind.
        """
        self._frame_bytes = FRAME_BYTES
        frames, self._frames = self._frames, []
        for frame, place in zip(frames, self._places, strict=True):
            self._keep_columns([event for event in decode(frame).events[: place + 1] if type(event) is Trade and self._has_place(event)])
        self._places = []
        self._join_pieces()
        return ((number, (size, price, at, flags)) for number, at, price, size, flags in self._kept_trades.of(minute.slot))

    def _has_place(self, trade: Trade) -> bool:
        return (
            self.start <= trade.t < self.start + MINUTE_MS
            and trade.sym in self.minutes
            and trade_part(trade, extended=self._extended, refuse=_say_nothing) is not None
        )

    def _keep_columns(self, trades: Sequence[Trade]) -> None:
        """Keep trades as columns, while their objects are in the processor's cache."""
        if not trades:
            return
        symbols, prices, numbers, texts, conditions, times, identities = zip(*map(astuple, trades), strict=True)
        whole, floating = _packers(len(trades))
        eligible = KNOWN_EXTENDED if self._extended else KNOWN_REGULAR
        try:
            flags = bytes(map(eligible.get, conditions))  # type: ignore[arg-type]  # None stands for none
        except TypeError:
            flags = bytes([eligibility(each, extended=self._extended) for each in conditions])
        try:
            piece = (
                whole(*map(self._slots.get, symbols)), whole(*identities), whole(*times), floating(*prices),
                _packed_sizes(numbers, texts, whole), flags,
            )  # fmt: skip
        except struct.error:  # a number beyond 64 bits: the sets themselves remember
            for trade in trades:
                self._remember(trade)
            return
        self._pieces.append(piece)
        self._pieces_count += len(trades)
        if self._pieces_count >= CHUNK:
            self._join_pieces()

    def _remember(self, trade: Trade) -> None:
        part = trade_part(trade, extended=self._extended, refuse=_say_nothing)
        trades = self.minutes[trade.sym].trades
        if trades is not None and part is not None:
            trades.remember(trade.q, part)

    def _join_pieces(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._pieces_count = self._pieces, [], 0
            columns = (b"".join(column) for column in zip(*pieces, strict=True))
            self._kept_trades.add(tuple(np.frombuffer(column, np.dtype(kind)) for column, kind in zip(columns, "llldlB", strict=True)))


def seconds_of(frame: bytes | str, begin: int, end: int, read: Read) -> list[SecondAggregate]:
    """Return the seconds at the places [begin, end) of a frame."""
    return read(frame).events[begin:end]  # type: ignore[return-value]


@lru_cache(1_000)
def _packers(number: int) -> tuple[Pack, Pack]:
    """Return what makes the bytes of so many integers and floats: a third of the time that array and numpy take, and `q` takes twice that of `l`."""
    return struct.Struct(f"{number}l").pack, struct.Struct(f"{number}d").pack


def _packed_sizes(numbers: Iterable[float], texts: Iterable[str | None], whole: Pack) -> bytes:
    """Return the sizes in 1/SHARE shares, −1 for one that cannot be read. struct.error where one has no place in 64 bits."""
    try:
        return whole(*map(KNOWN.get, texts))  # type: ignore[arg-type]  # None stands for none
    except struct.error:
        pass
    try:
        return whole(*[KNOWN.get(number if text is None else text) for number, text in zip(numbers, texts, strict=True)])
    except struct.error:
        sizes = []
    for number, text in zip(numbers, texts, strict=True):
        try:
            sizes.append(known_units(text, number))
        except BadSizeError:
            sizes.append(-1)
    return whole(*sizes)


def _second_parts(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, SecondPart]]:
    return (
        (start, (accumulated, size, high, -low, close, opened, mean)) for start, opened, high, low, close, accumulated, mean, size in rows
    )


def _say_nothing(reason: str, detail: str, event: Trade | SecondAggregate) -> None:
    """Whoever refused the event has said so."""
