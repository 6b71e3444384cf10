"""
Moving averages and their difference. Pure: arrays in, arrays of the same shape out, along the first axis.

Every step is element by element in a fixed order, so that a symbol's value is the same bits alone and among thousands.
"""

import numpy as np

from marketdata.bars.window import Floats


def trailing_mean(values: Floats, *, length: int) -> Floats:
    """Return the mean of the last `length` rows at each row (simple moving average); the first `length` - 1 rows are NaN."""
    means = np.full(values.shape, np.nan)
    rows = len(values) - length + 1
    if rows > 0:
        total = values[:rows].copy()
        for row in range(1, length):
            total += values[row : row + rows]
        means[length - 1 :] = total / length
    return means


def exponential_average(values: Floats, *, length: int, seeded_at: int | None = None) -> Floats:
    """
    Return the exponential moving average with the factor 2 / (`length` + 1).

    It begins at row `seeded_at` (`length` - 1 unless told) with the mean of the `length` rows up to it; the rows before are NaN.
    Source: TA-Lib, ta_EMA.c.
    """
    first = length - 1 if seeded_at is None else seeded_at
    averages = np.full(values.shape, np.nan)
    if len(values) > first:
        average = trailing_mean(values[first - length + 1 : first + 1], length=length)[-1]
        averages[first] = average
        factor = 2 / (length + 1)
        for row in range(first + 1, len(values)):
            average = (values[row] - average) * factor + average
            averages[row] = average
    return averages


def wilder_average(values: Floats, *, length: int) -> Floats:
    """
    Return Wilder's smoothing: the mean of the first `length` rows, then (previous · (`length` - 1) + value) / `length`.

    The first `length` - 1 rows are NaN. Source: Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    averages = np.full(values.shape, np.nan)
    if len(values) >= length:
        average = trailing_mean(values[:length], length=length)[-1]
        averages[length - 1] = average
        for row in range(length, len(values)):
            average = (average * (length - 1) + values[row]) / length
            averages[row] = average
    return averages


def macd(close: Floats, *, fast: int, slow: int, signal: int) -> tuple[Floats, Floats, Floats]:
    """
    Return (macd, signal, histogram): fast less slow average, its own average, and the difference of the two.

    All three are NaN before row `slow` + `signal` - 2. Both averages begin at the same row, as TA-Lib's do. Source: TA-Lib, ta_MACD.c.
    """
    line = exponential_average(close, length=fast, seeded_at=slow - 1) - exponential_average(close, length=slow)
    smooth = np.full(line.shape, np.nan)
    smooth[slow - 1 :] = exponential_average(line[slow - 1 :], length=signal)
    line[: slow + signal - 2] = np.nan
    return line, smooth, line - smooth
