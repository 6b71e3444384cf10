"""How one-sided the last moves were. Pure: arrays in, arrays of the same shape out, along the first axis."""

import numpy as np

from marketdata.bars.window import Floats
from patterns.indicators.averages import trailing_mean, wilder_average
from patterns.indicators.volatility import true_range

_ZERO = 1e-14  # what TA-Lib takes for nothing
_TOGETHER = 8_192  # values worked on at once: they stay in the processor's cache, and of few symbols many rows are one step


def relative_strength_index(close: Floats, *, length: int) -> Floats:
    """
    Return Wilder's relative strength index, 0 to 100; 50 where no price has moved, neither side being stronger.

    The first `length` rows are NaN. Source: Wilder, New Concepts in Technical Trading Systems, 1978 (TA-Lib says 0 for a flat series).
    """
    change = np.diff(close, axis=0)
    index = np.full(close.shape, np.nan)
    gain = wilder_average(np.maximum(change, 0), length=length)
    both = gain + wilder_average(np.maximum(-change, 0), length=length)
    flat = both == 0
    index[1:] = np.where(flat, 50.0, 100 * gain / np.where(flat, 1.0, both))
    return index


def stochastic(high: Floats, low: Floats, close: Floats, *, length: int, smooth: int) -> tuple[Floats, Floats]:
    """
    Return (%K, %D): where the close lies in the range of the last `length` rows, 0 to 100, and the mean of the last `smooth` of these.

    0 where that range is nothing. Both are NaN in the first `length` + `smooth` - 2 rows. Source: Lane's fast stochastic; TA-Lib, ta_STOCHF.c.
    """
    fast, slow = np.full(close.shape, np.nan), np.full(close.shape, np.nan)
    rows = len(close) - length + 1
    if rows >= smooth:
        highest, lowest = high[:rows].copy(), low[:rows].copy()
        for row in range(1, length):
            np.maximum(highest, high[row : row + rows], out=highest)
            np.minimum(lowest, low[row : row + rows], out=lowest)
        span = (highest - lowest) / 100
        place = np.divide(close[length - 1 :] - lowest, span, out=np.zeros(span.shape), where=span != 0)
        slow[length - 1 :] = trailing_mean(place, length=smooth)
        fast[length + smooth - 2 :] = place[smooth - 1 :]
    return fast, slow


def directional_index(high: Floats, low: Floats, close: Floats, *, length: int) -> Floats:
    """
    Return Wilder's average directional index, 0 to 100; a row without any movement leaves it as it was.

    The first 2 · `length` - 1 rows are NaN. Source: Wilder, New Concepts in Technical Trading Systems, 1978, seeded as in TA-Lib's ta_ADX.c.
    """
    index = np.full(close.shape, np.nan)
    if len(close) < 2 * length:
        return index
    rise, fall = np.diff(high, axis=0), -np.diff(low, axis=0)
    up = np.where((rise > 0) & (rise > fall), rise, 0.0)
    down = np.where((fall > 0) & (rise < fall), fall, 0.0)
    swing = true_range(high, low, close)
    moved = np.stack((up, down, swing), axis=1)
    before = _sum_of_first(moved, length - 1)
    total, average = np.zeros(close.shape[1:]), np.zeros(close.shape[1:])
    step = max(1, _TOGETHER // max(1, before[0].size))
    for first in range(length - 1, len(moved), step):
        sums = np.empty((len(moved[first : first + step]), *before.shape))
        for place, row in enumerate(moved[first : first + step]):
            before += row - before / length
            sums[place] = before
        for row, directed, moves in zip(range(first, first + step), *_direction(sums[:, 0], sums[:, 1], sums[:, 2]), strict=False):
            if row < 2 * length - 1:
                total += np.where(moves, directed, 0.0)
                average = total / length
            else:
                average = np.where(moves, (average * (length - 1) + directed) / length, average)
            if row >= 2 * length - 2:
                index[row + 1] = average
    return index


def _sum_of_first(column: Floats, rows: int) -> Floats:
    total = np.zeros(column.shape[1:])
    for row in range(rows):
        total += column[row]
    return total


def _direction(up: Floats, down: Floats, swing: Floats) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Return (directional movement index, whether there is one)."""
    moved = np.abs(swing) >= _ZERO
    share = np.where(moved, swing, 1.0)
    plus, minus = 100 * (up / share), 100 * (down / share)
    both = plus + minus
    known = moved & (np.abs(both) >= _ZERO)
    return 100 * np.abs(minus - plus) / np.where(known, both, 1.0), known
