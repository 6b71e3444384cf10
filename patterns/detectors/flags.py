"""
Flags and pennants: a steep pole, a short pause that leans against it or closes in, a break in its direction. Pure.

Written for the bull side; the bear side is the same on mirrored prices. Source: Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. 2005, "Flags" and
"Pennants": the pole is steep and leads straight into the pause, a flag's lines run parallel and slope against it, a pennant's meet, the pause gives back
less than half of the pole and is short (three weeks of days there; up to 30 bars here), and a close beyond the pause's line confirms it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.matches import Geometry, Line, Point, Shape
from patterns.detectors.paths import Flags, Paths, paths, quotient, row_sums
from patterns.detectors.reversals import Finder
from patterns.detectors.turns import Candidates, drawn_line, shapes_of
from patterns.detectors.verdict import Measure, met

LONGEST_PAUSE = 30
SHORTEST_PAUSE = 5
LONGEST_POLE = 20
LOOK_BACK = 60
_BREAK = 0.1  # usual ranges


@dataclass(frozen=True, eq=False, slots=True)
class _Pause:
    """Pole and pause of paths: columns of foot and tip, their heights, and the pause's lines as (slope, level at the end)."""

    foot: Integers
    tip: Integers
    low: Floats
    top: Floats
    upper: tuple[Floats, Floats]
    lower: tuple[Floats, Floats]

    def take(self, rows: Flags) -> "_Pause":
        (a, b), (c, d) = self.upper, self.lower
        return _Pause(self.foot[rows], self.tip[rows], self.low[rows], self.top[rows], (a[rows], b[rows]), (c[rows], d[rows]))


def find_flag(side: int) -> Finder:
    """
    Return the finder of bull (+1) or bear (-1) flags.

    Confidence: how straight and how high the pole is, how little of it is given back, how narrow and how parallel the pause is, the volume at the
    break.
    """
    return _finder(side, pennant=False)


def find_pennant(side: int) -> Finder:
    """
    Return the finder of bull (+1) or bear (-1) pennants.

    Confidence: how straight and how high the pole is, how little of it is given back, how far the pause closes in, the volume at the break.
    """
    return _finder(side, pennant=True)


def _finder(side: int, *, pennant: bool) -> Finder:
    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        return shapes_of(_candidates(path, pennant=pennant) for path in paths(window, ends, look_back=LOOK_BACK, side=side, newest=2))

    return find


def _candidates(path: Paths, *, pennant: bool) -> Candidates:
    path, foot, tip = _poles(path)
    rows = np.arange(len(path))
    low, top = path.low[rows, foot], path.high[rows, tip]
    pole = top - low
    unit = np.where(pole > 0, pole, np.inf)
    column = np.arange(path.last + 1)
    inside = (column > tip[:, None]) & (column < path.last)
    given_back = (top - np.where(inside, path.low, np.inf).min(axis=1)) / unit
    first = [
        Measure("pole in usual ranges", quotient(pole, path.usual), ">=", 6.0, weight=2, scale=1),
        Measure("pole's net move over its closes' way", _straightness(path, foot, tip), ">=", 0.6, scale=0.3),
        Measure("pause over the pole, in bars", (path.last - tip) / (tip - foot), "<=", 3.0),
        Measure("given back, of the pole", given_back, "<=", 0.55 if pennant else 0.5),
    ]
    keep = met(first)
    path, foot, tip, low, top, unit, inside = path.take(keep), foot[keep], tip[keep], low[keep], top[keep], unit[keep], inside[keep]
    fit = _over_halves if pennant else _along
    slope_below, below = fit(-path.low, inside)
    pause = _Pause(foot, tip, low, top, fit(path.high, inside), (-slope_below, -below))
    bars = (path.last - tip).astype(np.float64)
    (rise, level), (under, floor) = pause.upper, pause.lower
    begin = level - rise * bars - (floor - under * bars)
    end = level - floor
    narrowing = quotient(end, begin)
    beyond = np.where(_just_broken(path, tip, fit, bars=1 if pennant else 2), np.nan, quotient(-level, path.usual))
    measures = [
        *(measure.take(keep) for measure in first),
        Measure("width of the pause, of the pole", np.maximum(begin, end) / unit, "<=", 0.6 if pennant else 0.3),
        Measure("upper line moves over the pause, in poles", rise * bars / unit, "<=", 0.02 if pennant else 0.0, weight=0),
    ]
    if pennant:
        measures += [
            Measure("lower line moves over the pause, in poles", under * bars / unit, ">=", -0.15, weight=0),
            Measure("width at the end over width at the begin", narrowing, "<=", 0.7, weight=1.5),
        ]
    else:
        measures += [
            Measure("lower line moves over the pause, in poles", under * bars / unit, "<=", 0.05, weight=0),
            Measure("lines off parallel, in widths", np.abs(narrowing - 1), "<=", 0.35, weight=1.5),
        ]
    measures += [
        Measure("close beyond the line for the first time, in usual ranges", beyond, ">=", _BREAK, weight=0),
        Measure("volume at the break over the mean of 20 bars", path.volume, ">=", 1.0, needed=False),
    ]

    def draw(row: int) -> Geometry:
        return _drawn(path, pause, row)

    return path, measures, draw


def _drawn(path: Paths, pause: _Pause, row: int) -> Geometry:
    foot, tip, last = int(pause.foot[row]), int(pause.tip[row]), path.last
    bottom, top = path.bottom(row, foot), path.top(row, tip)
    end = tip + 1 + int(np.argmin(path.low[row, tip + 1 :]))
    points = (
        Point(path.at_ms(row, foot), bottom, "foot of the pole"),
        Point(path.at_ms(row, tip), top, "tip of the pole"),
        Point(path.at_ms(row, end), path.bottom(row, end), "end of the pause"),
    )
    lines = [Line(points[0].at_ms, bottom, points[1].at_ms, top, "pole")]
    kinds = ("upper", "lower") if path.side > 0 else ("lower", "upper")
    for (slope, level), kind in zip((pause.upper, pause.lower), kinds, strict=True):
        begin = (tip, float(level[row] - slope[row] * (last - tip)))
        lines.append(drawn_line(path, row, begin, (last, float(level[row])), kind))
    return Geometry(points, tuple(lines), lines[1].to_price)


def _poles(path: Paths) -> tuple[Paths, Integers, Integers]:
    """Return (paths, foot, tip): the highest of the last bars with a pause after it, and the lowest of those that lead up to it."""
    start = path.last - LONGEST_PAUSE
    tip = start + np.argmax(path.high[:, start : path.last], axis=1)
    path, tip = path.take(tip <= path.last - SHORTEST_PAUSE - 1), tip[tip <= path.last - SHORTEST_PAUSE - 1]
    near = tip[:, None] + np.arange(-LONGEST_POLE, 0)
    lows = np.take_along_axis(path.low, near, axis=1)
    foot = np.take_along_axis(near, (near.shape[1] - 1 - np.argmin(lows[:, ::-1], axis=1))[:, None], axis=1)[:, 0]
    return path, foot.astype(np.int64), tip.astype(np.int64)


def _straightness(path: Paths, foot: Integers, tip: Integers) -> Floats:
    """Return the closes' net move from foot to tip over the sum of their moves; NaN for a pole of fewer than 3 bars."""
    column = np.arange(1, path.last + 1)
    inside = (column > foot[:, None]) & (column <= tip[:, None])
    moves = np.where(inside, np.diff(path.close, axis=1), 0.0)
    result = quotient(row_sums(moves), row_sums(np.abs(moves)))
    return np.where(tip - foot >= 3, result, np.nan)


Fit = Callable[[Floats, Flags], tuple[Floats, Floats]]


def _along(prices: Floats, inside: Flags) -> tuple[Floats, Floats]:
    """Return (slope, level at the end) of the least squares line through the prices inside, raised to touch the highest of them."""
    column = np.arange(1 - prices.shape[1], 1, dtype=np.float64)
    count = row_sums(inside.astype(np.float64))
    x, y = np.where(inside, column, 0.0), np.where(inside, prices, 0.0)
    middle, height = row_sums(x) / count, row_sums(y) / count
    dx, dy = np.where(inside, column - middle[:, None], 0.0), np.where(inside, prices - height[:, None], 0.0)
    return _touching(prices, inside, row_sums(dx * dy) / row_sums(dx * dx))


def _over_halves(prices: Floats, inside: Flags) -> tuple[Floats, Floats]:
    """Return (slope, level at the end) of the line through the highest price of each half inside, raised to touch the highest of all."""
    order = np.cumsum(inside, axis=1)
    early = inside & (2 * order <= order[:, -1:])
    first, second = (np.argmax(np.where(half, prices, -np.inf), axis=1) for half in (early, inside & ~early))
    rows = np.arange(len(prices))
    return _touching(prices, inside, (prices[rows, second] - prices[rows, first]) / (second - first))


def _touching(prices: Floats, inside: Flags, slope: Floats) -> tuple[Floats, Floats]:
    column = np.arange(1 - prices.shape[1], 1, dtype=np.float64)
    return slope, np.where(inside, prices - slope[:, None] * column, -np.inf).max(axis=1)


def _just_broken(path: Paths, tip: Integers, fit: Fit, *, bars: int) -> Flags:
    """Return where one of the `bars` just before the end had closed beyond the line of the pause as it was then."""
    column = np.arange(path.last + 1)
    broken = np.zeros(len(path), dtype=bool)
    for back in range(1, bars + 1):
        long_enough = path.last - back - tip > 2
        inside = (column > tip[:, None]) & ((column < path.last - back) | ~long_enough[:, None])
        slope, level = fit(path.high, inside)
        broken |= long_enough & (path.close[:, -1 - back] >= level - slope * back + _BREAK * path.usual)
    return broken
