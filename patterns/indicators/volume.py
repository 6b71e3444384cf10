"""How much was traded, and at which price on average. Pure: arrays in, arrays out."""

from itertools import pairwise

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.indicators.averages import trailing_mean


def relative_volume(volume: Floats, *, length: int) -> Floats:
    """Return volume ÷ mean of the `length` rows before, along the first axis; NaN in the first `length` rows and where the mean is 0."""
    usual = trailing_mean(volume, length=length)[:-1]
    ratio = np.full(volume.shape, np.nan)
    np.divide(volume[1:], usual, out=ratio[1:], where=usual > 0)
    return ratio


def session_sums(
    window: BarWindow, session_open_ms: Integers, *, begin: Integers, turnover: Floats, volume: Floats
) -> tuple[Floats, Floats]:
    """
    Return (turnover, volume) of each bar's regular session up to and with the bar; their quotient is the session's VWAP.

    `session_open_ms` is each bar's session, -1 outside of one. Of symbol k the bars before `begin[k]` are left out (NaN); `turnover[k]` and
    `volume[k]` are what its session held before that bar. A bar counts with its own VWAP where that lies inside its range, else with
    (high + low + close) / 3. The sums run strictly from left to right, so that a day summed in pieces equals the day summed at once.
    """
    inside = (window.vwap >= window.low) & (window.vwap <= window.high)
    price = np.where(inside, window.vwap, (window.high + window.low + window.close) / 3)
    columns = (price * window.volume, window.volume)
    sums = (np.full(len(window), np.nan), np.full(len(window), np.nan))
    for symbol, first in enumerate(begin.tolist()):
        end = int(window.starts[symbol + 1])
        edges = [first, *(np.flatnonzero(np.diff(session_open_ms[first:end])) + first + 1).tolist(), end]
        for number, (start, stop) in enumerate(pairwise(edges)):
            if start < stop and session_open_ms[start] >= 0:
                before = (turnover[symbol], volume[symbol]) if number == 0 else (0.0, 0.0)
                for total, column, carried in zip(sums, columns, before, strict=True):
                    total[start:stop] = np.cumsum(np.concatenate(([carried], column[start:stop])))[1:]
    return sums
