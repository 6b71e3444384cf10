"""
The last bars up to each end as rows of one matrix, so that a chart pattern is sought for all ends at once. Pure.

Prices are natural logarithms counted from the end's close: scale falls out, and a pattern turned upside down is the same numbers with the
other sign. They are rounded to whole 2^-30 (a billionth), so that sums are exact: equal prices tie exactly, in any order and mirrored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.window import BarWindow, Floats, Integers

VOLUME_BARS = 20
_GRAIN = 2.0**30
_ROWS = 4_096  # judged in one block: bounds the memory

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Paths:
    """
    Bars before and at each end, shape (m, n), oldest first, the end itself last.

    `side` is -1 where prices are mirrored (then `high` is the mirrored low). `usual` is the mean true range of the bars before the end,
    `volume` the end's volume over the mean of the 20 before, NaN where those traded nothing; both of shape (m,).
    """

    window: BarWindow
    ends: Integers
    side: int
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    usual: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def last(self) -> int:
        """Return the column of the ends."""
        return int(self.close.shape[1]) - 1

    def take(self, rows: Integers | Flags) -> "Paths":
        """Return some of the rows."""
        return Paths(
            self.window, self.ends[rows], self.side, self.open[rows], self.high[rows], self.low[rows], self.close[rows],
            self.usual[rows], self.volume[rows],
        )  # fmt: skip

    def at_ms(self, row: int, column: int) -> int:
        """Return the start of a bar."""
        return int(self.window.opened_at_ms[self.ends[row] - self.last + column])

    def price(self, row: int, level: float) -> float:
        """Return what a level (a logarithm from the end's close) is in dollars."""
        return float(self.window.close[self.ends[row]] * np.exp(self.side * level))

    def top(self, row: int, column: int) -> float:
        """Return a bar's high in dollars; its low where prices are mirrored."""
        return float((self.window.high if self.side > 0 else self.window.low)[self.ends[row] - self.last + column])

    def bottom(self, row: int, column: int) -> float:
        """Return a bar's low in dollars; its high where prices are mirrored."""
        return float((self.window.low if self.side > 0 else self.window.high)[self.ends[row] - self.last + column])


def paths(window: BarWindow, ends: Integers, *, look_back: int, side: int, newest: int = 0) -> Iterator[Paths]:
    """
    Yield the paths of the ends that have `look_back` bars before them, in blocks, mirrored where `side` is -1.

    Only those whose close is above (mirrored: below) the closes of the `newest` bars before it. Bars without a positive, finite price are
    no market: an end whose path holds one is left out.
    """
    start = window.starts[np.searchsorted(window.starts, ends, side="right") - 1]
    ends = ends[ends - start >= look_back]
    for back in range(1, newest + 1):
        ends = ends[side * (window.close[ends] - window.close[ends - back]) > 0]
    sound = _sound(window)
    for first in range(0, len(ends), _ROWS):
        block = ends[first : first + _ROWS]
        index = block[:, None] + np.arange(-look_back, 1, dtype=np.int64)
        fit = sound[index].all(axis=1)
        if fit.any():
            yield _path(window, block[fit], index[fit], side)


def _sound(window: BarWindow) -> Flags:
    prices = (window.open, window.high, window.low, window.close)
    return np.asarray(np.logical_and.reduce([np.isfinite(price) & (price > 0) for price in prices]))


def _path(window: BarWindow, ends: Integers, index: Integers, side: int) -> Paths:
    open_, high, low, close = (_logarithm(price[index]) for price in (window.open, window.high, window.low, window.close))
    origin = close[:, -1:].copy()
    open_, high, low, close = (side * (price - origin) for price in (open_, high, low, close))
    if side < 0:
        high, low = low, high
    reach = np.maximum(high[:, 1:-1], close[:, :-2]) - np.minimum(low[:, 1:-1], close[:, :-2])
    before = row_sums(window.volume[index[:, -1 - VOLUME_BARS : -1]])
    volume = quotient(window.volume[ends] * VOLUME_BARS, before)
    return Paths(window, ends, side, open_, high, low, close, row_sums(reach) / reach.shape[1], volume)


def _logarithm(prices: Floats) -> Floats:
    return np.asarray(np.rint(np.log(prices) * _GRAIN) / _GRAIN)


def row_sums(matrix: Floats) -> Floats:
    """Return the sum of each row, added in one order however many rows there are."""
    total = np.zeros(len(matrix))
    for column in range(matrix.shape[1]):
        total += matrix[:, column]
    return total


def quotient(above: Floats, below: Floats) -> Floats:
    """Return above / below, NaN where below is not positive."""
    result = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=result, where=np.greater(below, 0))
    return result
