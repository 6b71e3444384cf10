"""Runs of bars as arrays, the symbols one behind the other. Pure: no clock, no I/O, no Django."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class BarWindow:
    """
    Bars of several symbols: `symbols[k]` owns the bars [starts[k], starts[k + 1]) of every array, oldest first.

    Minutes without a trade are absent, not filled. Prices in dollars, volume in shares, times in Unix ms; `vwap` is the bar's own,
    NaN where its source gave none. ValueError if the arrays do not fit together.
    """

    symbols: tuple[str, ...]
    starts: Integers
    opened_at_ms: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats

    def __post_init__(self) -> None:
        if len(self.starts) != len(self.symbols) + 1:
            raise ValueError(f"{len(self.symbols)} symbols need {len(self.symbols) + 1} starts, not {len(self.starts)}")
        odd = [field.name for field in fields(self)[2:] if getattr(self, field.name).shape != (int(self.starts[-1]),)]
        if odd:
            raise ValueError(f"the last start says {int(self.starts[-1])} bars, which {', '.join(odd)} contradicts")

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def run(self) -> Integers:
        """Return for each bar the index of its symbol."""
        return np.repeat(np.arange(len(self.symbols), dtype=np.int64), np.diff(self.starts))

    @property
    def position(self) -> Integers:
        """Return for each bar how many bars of its symbol stand before it."""
        return np.arange(len(self), dtype=np.int64) - self.starts[self.run]


def last_bars(window: BarWindow, ends: Integers, *, length: int) -> tuple[Integers, Integers]:
    """
    Return (index, count): for each bar of `ends` the indices of the last `length` bars of its symbol up to itself, oldest first.

    `index` has shape (length, m). Where fewer bars are stored, `count` says how many; the rows after them repeat the end, so that what is
    computed from the top down can be read at row count - 1.
    """
    position = ends - window.starts[np.searchsorted(window.starts, ends, side="right") - 1]
    count = np.minimum(position + 1, length)
    first = ends - count + 1
    return np.minimum(first + np.arange(length, dtype=np.int64)[:, None], ends), count
