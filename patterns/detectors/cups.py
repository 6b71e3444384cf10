"""
Cup with handle. Pure.

Written for the cup; the inverse cup is the same on mirrored prices. Source: Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. 2005, "Cup with
Handle" (after O'Neil, How to Make Money in Stocks): a rise, a rounded cup between two rims of about one height, a handle in its upper half, a close above
the right rim. Bars stand where he has days and weeks.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.matches import Geometry, Line, Point, Shape
from patterns.detectors.paths import Paths, paths, quotient, row_sums
from patterns.detectors.reversals import Finder
from patterns.detectors.turns import Candidates, drawn_line, extreme_between, shapes_of
from patterns.detectors.verdict import Measure, met

LONGEST_HANDLE = 25
SHORTEST_HANDLE = 4
CUPS = (16, 24, 34, 48, 66)
"""The longest cup of each class, in bars; the left rim is sought over the farther third of it."""
LOOK_BACK = LONGEST_HANDLE + CUPS[-1] * 3 // 2
_CURVE_BARS = 8  # straight pieces a cup is drawn with


def find_cup(side: int) -> Finder:
    """
    Return the finder of cups with handle (+1) or inverse ones (-1).

    Confidence: how closely the closes follow a parabola between the rims (weight 2), how equal the rims are, how deep in usual ranges the cup is, how
    shallow the handle, the rise before it, the volume at the break.
    """

    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        found = paths(window, ends, look_back=LOOK_BACK, side=side, newest=2)
        return shapes_of(candidates for path in found for candidates in _candidates(path))

    return find


def _candidates(path: Paths) -> Iterator[Candidates]:
    start = path.last - LONGEST_HANDLE
    right = start + np.argmax(path.high[:, start : path.last], axis=1)
    rows = np.arange(len(path))
    broken = (path.last - right >= SHORTEST_HANDLE) & (path.high[rows, right] < 0)
    path, right = path.take(broken), right[broken].astype(np.int64)
    for longest in CUPS:
        if len(path):
            yield _cups(path, right, longest)


def _cups(path: Paths, right: Integers, longest: int) -> Candidates:
    near = right[:, None] + np.arange(-longest, -longest * 2 // 3 + 1)
    left = np.take_along_axis(near, np.argmax(np.take_along_axis(path.high, near, axis=1), axis=1)[:, None], axis=1)[:, 0].astype(np.int64)
    rows = np.arange(len(path))
    rim_1, rim_2 = path.high[rows, left], path.high[rows, right]
    bottom = -extreme_between(-path.low, left, right)
    depth = np.minimum(rim_1, rim_2) - bottom
    unit = np.where(depth > 0, depth, np.inf)
    handle = rim_2 + extreme_between(-path.low, right, np.full(len(path), path.last - 1))
    before = -extreme_between(-path.low, np.maximum(left - longest // 2, 0), left)
    bars = (right - left).astype(np.float64)
    measures = [
        Measure("rims differ, of the depth", np.abs(rim_1 - rim_2) / unit, "<=", 0.35),
        Measure("price above the rims inside, of the depth", (extreme_between(path.high, left, right) - np.maximum(rim_1, rim_2)) / unit, "<=", 0.05,
                weight=0),
        Measure("depth in usual ranges", quotient(depth, path.usual), ">=", 4.0),
        Measure("handle's depth, of the cup's", handle / unit, "<=", 0.5),
        Measure("handle over cup, in bars", (path.last - right) / bars, "<=", 0.6, weight=0.5),
        Measure("rise before the cup, of its depth", (rim_1 - before) / unit, ">=", 0.3, scale=2),
    ]  # fmt: skip
    keep = met(measures)
    path, left, right, rim_1, rim_2, unit = path.take(keep), left[keep], right[keep], rim_1[keep], rim_2[keep], unit[keep]
    measures = [
        *(measure.take(keep) for measure in measures),
        Measure(
            "closes off the parabola, of the depth", _off_parabola(path, (left, rim_1), (right, rim_2), unit) / unit, "<=", 0.17, weight=2
        ),
        Measure("volume at the break over the mean of 20 bars", path.volume, ">=", 1.0, needed=False),
    ]

    def draw(row: int) -> Geometry:
        return _drawn(path, row, (int(left[row]), float(rim_1[row])), (int(right[row]), float(rim_2[row])), float(unit[row]))

    return path, measures, draw


def _off_parabola(path: Paths, left: tuple[Integers, Floats], right: tuple[Integers, Floats], depth: Floats) -> Floats:
    """Return the root mean square distance of the closes between the rims from the parabola that hangs from them."""
    (begin, rim_1), (end, rim_2) = left, right
    column = np.arange(path.last + 1)
    share = (column - begin[:, None]) / (end - begin)[:, None]
    curve = rim_1[:, None] + (rim_2 - rim_1)[:, None] * share - depth[:, None] * (4 * share * (1 - share))
    inside = (column >= begin[:, None]) & (column <= end[:, None])
    away = np.where(inside, path.close - curve, 0.0)
    return np.asarray(np.sqrt(row_sums(away * away) / (end - begin + 1)))


def _drawn(path: Paths, row: int, left: tuple[int, float], right: tuple[int, float], depth: float) -> Geometry:
    between = path.low[row, left[0] : right[0] + 1]
    bottom, handle = left[0] + int(np.argmin(between)), right[0] + int(np.argmin(path.low[row, right[0] : path.last]))
    named = ((left[0], "left rim", True), (bottom, "bottom", False), (right[0], "right rim", True), (handle, "handle", False))
    points = tuple(
        Point(path.at_ms(row, column), path.top(row, column) if high else path.bottom(row, column), label) for column, label, high in named
    )
    columns = np.unique(np.linspace(left[0], right[0], _CURVE_BARS + 1).round().astype(int)).tolist()
    curve = []
    for column in columns:
        share = (column - left[0]) / (right[0] - left[0])
        curve.append((column, left[1] + (right[1] - left[1]) * share - depth * 4 * share * (1 - share)))
    lines = [drawn_line(path, row, first, second, "curve") for first, second in pairwise(curve)]
    level = points[2].price
    lines.append(Line(points[2].at_ms, level, path.at_ms(row, path.last), level, "level"))
    return Geometry(points, tuple(lines), level)
