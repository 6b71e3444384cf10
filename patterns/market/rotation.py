"""
Where each symbol stands against a benchmark, and which way it moves: relative strength and its momentum, standardised. Pure.

Relative strength as price ÷ benchmark: Levy, The Relative Strength Concept of Common Stock Price Forecasting, 1967. Smoothing, z-scores and
spans are ours and stated here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from marketdata.bars.window import Floats, Integers
from patterns.market.panel import Panel, Today, packed, tail

SMOOTH, SPAN, BACK, TAIL = 10, 63, 10, 10
NEEDED = SMOOTH + SPAN - 1 + BACK + SPAN - 1 + TAIL - 1  # bars for a whole tail; TAIL − 1 fewer give the newest point
CENTRE = 100.0
FLAT = 1e-12  # a relative strength that moves less does not move: what is left is the rounding of floats


@dataclass(frozen=True, eq=False, slots=True)
class Relative:
    """
    The logarithm of price ÷ benchmark on the bars that both have, the newest at the right, shape (n, bars), and the day of each.

    The last column is today's and NaN where one of both has no price today.
    """

    value: Floats
    day: Floats


def relative(history: Panel, today: Today, *, benchmark: Panel, benchmark_last: float) -> Relative:
    """Return the relative strength against a benchmark, a panel of one symbol."""
    recent = min(history.day.shape[1], 2 * NEEDED)
    day, close = history.day[:, history.day.shape[1] - recent :], history.close[:, history.close.shape[1] - recent :]
    known = np.isfinite(benchmark.close[0])
    theirs, price = benchmark.day[0][known], benchmark.close[0][known]
    if not len(theirs) or not recent:
        nothing = np.full((len(history.symbols), NEEDED), np.nan)
        return Relative(nothing, nothing)
    place = np.minimum(np.searchsorted(theirs, day), len(theirs) - 1)
    both = (theirs[place] == day) & np.isfinite(close)
    past = tail(packed(np.log(close / price[place]), both), NEEDED - 1)
    days = tail(packed(day.astype(np.float64), both), NEEDED - 1)
    last = np.log(today.last / benchmark_last)
    return Relative(
        np.concatenate([past, last[:, None]], axis=1), np.concatenate([days, np.full((len(last), 1), float(today.day))], axis=1)
    )


def rotate(value: Floats) -> tuple[Floats, Floats]:
    """
    Return (ratio, momentum) of the last ten bars, shape (n, 10) each, NaN where the history is too short.

    s = mean of 10 values of the logarithm of price ÷ benchmark; ratio = 100 + z-score of s in its last 63 values; momentum = 100 + z-score in
    its last 63 values of the ratio's change over 10 bars. The z-score's deviation is the population's; one that does not move has none.
    """
    smooth = sliding_window_view(value, SMOOTH, axis=1).mean(axis=-1)
    ratio = CENTRE + _z_scores(smooth)
    momentum = CENTRE + _z_scores(ratio[:, BACK:] - ratio[:, :-BACK])
    return ratio[:, -TAIL:], momentum[:, -TAIL:]


def _z_scores(values: Floats) -> Floats:
    windows = sliding_window_view(values, SPAN, axis=1)
    spread = windows.std(axis=-1)
    distance = values[:, SPAN - 1 :] - windows.mean(axis=-1)
    found: Floats = np.divide(distance, spread, out=np.full(distance.shape, np.nan), where=np.isfinite(spread) & (spread > FLAT))
    return found


def rotate_at(relative: Relative, last: Floats) -> tuple[Floats, Floats]:
    """Return (ratio, momentum), shape (n, moments), with other values of today: `last` (n, moments) is ln(price ÷ benchmark) then."""
    value = relative.value.copy()
    points = []
    for moment in range(last.shape[1]):
        value[:, -1] = last[:, moment]
        ratio, momentum = rotate(value[:, TAIL - 1 :])  # the newest point alone
        points.append((ratio[:, -1], momentum[:, -1]))
    if not points:
        nothing = np.empty((len(last), 0))
        return nothing, nothing
    return np.stack([point[0] for point in points], axis=1), np.stack([point[1] for point in points], axis=1)


def quadrant(ratio: float | None, momentum: float | None) -> str | None:
    """Return leading, weakening, lagging or improving; None where a number is missing."""
    if ratio is None or momentum is None:
        return None
    if ratio >= CENTRE:
        return "leading" if momentum >= CENTRE else "weakening"
    return "improving" if momentum >= CENTRE else "lagging"


def bars_known(relative: Relative) -> Integers:
    """Return how many bars each symbol shares with the benchmark, today's included."""
    return np.asarray(np.isfinite(relative.value).sum(axis=1))
