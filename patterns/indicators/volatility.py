"""How far prices swing. Pure: arrays in, arrays of the same shape out, along the first axis."""

import numpy as np

from marketdata.bars.window import Floats
from patterns.indicators.averages import trailing_mean, wilder_average


def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """Return the range of each row but the first, widened to the close before it: one row less than came in."""
    before = close[:-1]
    return np.maximum(high[1:] - low[1:], np.maximum(np.abs(high[1:] - before), np.abs(low[1:] - before)))


def average_true_range(high: Floats, low: Floats, close: Floats, *, length: int) -> Floats:
    """
    Return the average true range with Wilder's smoothing, in price units; the first `length` rows are NaN.

    Source: Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    averages = np.full(close.shape, np.nan)
    averages[1:] = wilder_average(true_range(high, low, close), length=length)
    return averages


def bollinger_bands(close: Floats, *, length: int, deviations: float) -> tuple[Floats, Floats, Floats]:
    """
    Return (upper, middle, lower): the mean of `length` rows, and `deviations` population standard deviations around it.

    The first `length` - 1 rows are NaN. Source: Bollinger, Bollinger on Bollinger Bands, 2001.
    """
    middle = trailing_mean(close, length=length)
    squares = np.zeros(middle[length - 1 :].shape)
    for row in range(length):
        squares += (close[row : row + len(squares)] - middle[length - 1 :]) ** 2
    width = np.full(close.shape, np.nan)
    width[length - 1 :] = deviations * np.sqrt(squares / length)
    return middle + width, middle, middle - width
