"""How much was traded, and at which price on average. Pure: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.indicators.averages import trailing_mean


def relative_volume(volume: Floats, *, length: int) -> Floats:
    """Return volume ÷ mean of the `length` rows before, along the first axis; NaN in the first `length` rows and where the mean is 0."""
    usual = trailing_mean(volume, length=length)[:-1]
    ratio = np.full(volume.shape, np.nan)
    np.divide(volume[1:], usual, out=ratio[1:], where=usual > 0)
    return ratio


def on_balance_volume(close: Floats, volume: Floats) -> Floats:
    """
    Return the running sum of the volume, taken with the sign of the close's change; it begins with the first row's volume.

    Source: Granville, New Key to Stock Market Profits, 1963; TA-Lib, ta_OBV.c.
    """
    total = volume[0].copy() if len(volume) else np.zeros(volume.shape[1:])
    sums = np.empty(volume.shape)
    for row in range(len(volume)):
        if row:
            total += np.sign(close[row] - close[row - 1]) * volume[row]
        sums[row] = total
    return sums


@dataclass(frozen=True, eq=False, slots=True)
class SessionSums:
    """
    What a session held up to and with a bar; all of one shape, NaN where not asked for or outside of a session.

    `turnover` is price times volume, `volume` in shares, `spread` the sum of volume · (price - mean)², `balance` the on-balance volume.
    """

    turnover: Floats
    volume: Floats
    spread: Floats
    balance: Floats

    def columns(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the four in their order."""
        return self.turnover, self.volume, self.spread, self.balance

    def at(self, index: Integers) -> "SessionSums":
        """Return the sums of some bars."""
        return SessionSums(*(column[index] for column in self.columns()))

    def average(self) -> Floats:
        """Return the average price by volume (VWAP); NaN where nothing was traded."""
        return _quotient(self.turnover, self.volume)

    def deviation(self) -> Floats:
        """Return the standard deviation of the price by volume around that average."""
        return np.sqrt(_quotient(self.spread, self.volume))


def no_sums(count: int, *, value: float) -> SessionSums:
    """Return sums of `count` bars that are all `value`."""
    return SessionSums(*(np.full(count, value) for _ in range(4)))


def traded_prices(window: BarWindow) -> Floats:
    """Return each bar's own average price where that lies inside its range, else (high + low + close) / 3."""
    inside = (window.vwap >= window.low) & (window.vwap <= window.high)
    return np.where(inside, window.vwap, (window.high + window.low + window.close) / 3)


def session_sums(
    window: BarWindow,
    session_open_ms: Integers,
    *,
    price: Floats,
    volume: Floats,
    begin: Integers,
    before: SessionSums,
    close_before: Floats,
) -> SessionSums:
    """
    Return the sums of each bar's regular session up to and with the bar.

    `session_open_ms` is each bar's session, -1 outside of one; `price` and `volume` are what of the bar lies inside of it. Of symbol k the
    bars before `begin[k]` are left out (NaN); `before` and `close_before` are what its session held before that bar and the last close there,
    zeros and NaN where it begins there. All sums run strictly from left to right, so that a day summed in pieces equals the day summed at
    once. The spread grows by West's step volume · (price - mean before) · (price - mean after), which is never negative (West, Updating
    mean and variance estimates, 1979).
    """
    index = np.arange(len(window), dtype=np.int64)
    run = window.run
    mine = (index >= begin[run]) & (session_open_ms >= 0)
    fresh = mine & ((index == begin[run]) | np.concatenate(([True], (np.diff(run) != 0) | (np.diff(session_open_ms) != 0)))[: len(index)])
    head = np.flatnonzero(fresh)
    goes_on = head == begin[run[head]]
    carried = [np.where(goes_on, column[run[head]], 0.0) for column in before.columns()]
    known_close = np.where(goes_on, close_before[run[head]], np.nan)
    step = np.where(mine, index - np.maximum.accumulate(np.where(fresh, index, 0)), 0)
    sums = no_sums(len(window), value=np.nan)
    turnover, total, spread, balance = sums.columns()
    order = np.flatnonzero(mine)[np.argsort(step[mine], kind="stable")]
    edges = np.searchsorted(step[order], np.arange(int(step[order].max(initial=-1)) + 2))
    for row, (first, last) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        at = order[first:last]
        held = carried if row == 0 else [column[at - 1] for column in (turnover, total, spread, balance)]
        sign = np.sign(window.close[at] - (known_close if row == 0 else window.close[at - 1]))
        sign = np.where(np.isnan(sign), 1.0, sign)
        turnover[at] = held[0] + price[at] * volume[at]
        total[at] = held[1] + volume[at]
        mean_after = _quotient(turnover[at], total[at])
        mean_before = np.where(held[1] > 0, _quotient(held[0], held[1]), mean_after)
        moved = volume[at] * (price[at] - mean_before) * (price[at] - mean_after)
        spread[at] = held[2] + np.where(volume[at] > 0, np.maximum(moved, 0.0), 0.0)
        balance[at] = held[3] + sign * volume[at]
    return sums


def _quotient(above: Floats, below: Floats) -> Floats:
    """Return above / below, NaN where below is not positive."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=np.greater(below, 0))
    return result
