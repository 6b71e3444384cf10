"""How one-sided the last moves were. Pure: arrays in, arrays of the same shape out, along the first axis."""

import numpy as np

from marketdata.bars.window import Floats
from patterns.indicators.averages import wilder_average


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
