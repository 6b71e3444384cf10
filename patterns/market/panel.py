"""
The whole market as arrays: each symbol's own daily bars, and the day that is surveyed. Pure: no clock, no I/O, no Django.

Bars stand at the right: column -1 is a symbol's newest one, column -k the k-th newest of its own, whatever days others have. What is missing
is NaN, at the left only. Prices are adjusted for splits.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.window import Floats, Integers

Kind = TypeVar("Kind", np.float64, np.int64)
NO_DAY = 0
DAYS_A_WEEK = 7


@dataclass(frozen=True, eq=False, slots=True)
class Panel:
    """Daily bars, shape (symbols, bars). `day` is the exchange day's proleptic ordinal, NO_DAY where there is no bar."""

    symbols: tuple[str, ...]
    day: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def prices(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return open, high, low, close and volume."""
        return self.open, self.high, self.low, self.close, self.volume

    def before(self, day: int) -> "Panel":
        """Return the bars of earlier days only."""
        later = (self.day >= day).sum(axis=1)
        open_, high, low, close, volume = (dropped(column, later) for column in self.prices())
        return Panel(self.symbols, dropped(self.day, later), open_, high, low, close, volume)

    def chosen(self, rows: Integers) -> "Panel":
        """Return the bars of some symbols."""
        open_, high, low, close, volume = (column[rows] for column in self.prices())
        return Panel(tuple(self.symbols[row] for row in rows.tolist()), self.day[rows], open_, high, low, close, volume)

    def put(self, rows: Integers, those: "Panel") -> "Panel":
        """Return it with other bars in some rows; both are as wide as the wider one."""
        width = max(self.day.shape[1], those.day.shape[1])
        open_, high, low, close, volume = (
            _replaced(mine, rows, other, width) for mine, other in zip(self.prices(), those.prices(), strict=True)
        )
        return Panel(self.symbols, _replaced(self.day, rows, those.day, width), open_, high, low, close, volume)


def _replaced(columns: NDArray[Kind], rows: Integers, those: NDArray[Kind], width: int) -> NDArray[Kind]:
    empty = np.array(np.nan if columns.dtype.kind == "f" else NO_DAY, dtype=columns.dtype)
    found = np.full((len(columns), width), empty)
    found[:, width - columns.shape[1] :] = columns
    found[rows, : width - those.shape[1]] = empty
    found[rows, width - those.shape[1] :] = those
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Today:
    """
    The day surveyed, shape (symbols,), NaN where a symbol has no price: what a daily bar says, or the minutes so far.

    `whole` tells that the regular session is over; `part` is how much of it is, 0 to 1; `bar_at_ms` is the start of the newest bar.
    `opened` tells that the first half hour is known, `unbroken` that every one so far is: half an hour in which no symbol has a bar is a hole, not
    a quiet market, and the day's open, or its volume, is then unknown.
    """

    day: int
    whole: bool
    part: float
    open: Floats
    high: Floats
    low: Floats
    last: Floats
    volume: Floats
    bar_at_ms: Integers
    opened: bool = True
    unbroken: bool = True


def dropped(columns: NDArray[Kind], newest: Integers) -> NDArray[Kind]:
    """Return the columns of each row without its `newest` last ones, again at the right; zeros or NaN come in at the left."""
    width = columns.shape[1]
    most = int(newest.max(initial=0))
    if int(newest.min(initial=most)) == most:
        return columns[:, : width - most]
    empty = np.nan if columns.dtype.kind == "f" else NO_DAY
    place = np.arange(width)[None, :] - newest[:, None]
    return np.where(place >= 0, np.take_along_axis(columns, np.maximum(place, 0), axis=1), np.array(empty, dtype=columns.dtype))


def tail(columns: Floats, count: int) -> Floats:
    """Return the last `count` columns; where there are fewer, NaN comes in at the left."""
    short = count - columns.shape[1]
    if short <= 0:
        return columns[:, columns.shape[1] - count :]
    return np.concatenate([np.full((columns.shape[0], short), np.nan), columns], axis=1)


def with_today(columns: Floats, today: Floats, count: int) -> Floats:
    """Return the last `count` values of each row with today's as the newest of them, shape (n, count)."""
    return np.concatenate([tail(columns, count - 1), today[:, None]], axis=1)


def packed(values: Floats, keep: NDArray[np.bool_]) -> Floats:
    """Return the values that are kept of each row, in their order and at the right; NaN at the left."""
    width = int(keep.sum(axis=1).max(initial=0))
    found = np.full((values.shape[0], width), np.nan)
    row, column = np.nonzero(keep)
    place = width - keep.sum(axis=1)[row] + (np.cumsum(keep, axis=1)[row, column] - 1)
    found[row, place] = values[row, column]
    return found


def week_of(day: Integers) -> Integers:
    """Return the number of the ISO week of a day's ordinal; it rises by one each Monday."""
    return (day - 1) // DAYS_A_WEEK
