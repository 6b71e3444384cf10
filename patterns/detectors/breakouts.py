"""
Range breakout: a close out of the range of the twenty bars before, where that range was narrow. Pure.

Source: Donchian's four-week rule (the first close beyond the extremes of the twenty bars before), held to a narrow range as Crabel, Day Trading with Short Term
Price Patterns and Opening Range Breakout, 1990, does. A fact rather than a shape: nothing is fitted.
"""

import numpy as np

from marketdata.bars.window import BarWindow, Integers
from patterns.detectors.matches import Geometry, Line, Point, Shape
from patterns.detectors.paths import Paths, paths, quotient
from patterns.detectors.turns import Candidates, shapes_of
from patterns.detectors.verdict import Measure

RANGE_BARS = 20
LOOK_BACK = 60


def find_range_breakout(window: BarWindow, ends: Integers) -> list[Shape]:
    """
    Return the closes above (+1) or below (-1) a narrow range.

    Confidence: how narrow the range is in usual ranges (weight 2), how far the close clears it, the volume at the break (weight 2).
    """
    found = [
        shape
        for side in (1, -1)
        for path in paths(window, ends, look_back=LOOK_BACK, side=side, newest=2)
        for shape in shapes_of([_ranges(path)])
    ]
    return sorted(found, key=lambda shape: shape.end)


def _ranges(path: Paths) -> Candidates:
    begin = path.last - RANGE_BARS
    top, bottom = path.high[:, begin:-1].max(axis=1), path.low[:, begin:-1].min(axis=1)
    earlier = [path.close[:, -1 - back] > path.high[:, begin - back : -1 - back].max(axis=1) for back in (1, 2, 3)]
    measures = [
        Measure("range of 20 bars in usual ranges", quotient(top - bottom, path.usual), "<=", 3.6, weight=2),
        Measure("of the 3 closes before, out of their range", np.sum(earlier, axis=0).astype(np.float64), "<=", 0.0, weight=0),
        Measure("close beyond the range, in usual ranges", quotient(-top, path.usual), ">=", 0.02, scale=25),
        Measure("volume at the break over the mean of 20 bars", path.volume, ">=", 1.0, weight=2, needed=False),
    ]

    def draw(row: int) -> Geometry:
        high, low = begin + int(np.argmax(path.high[row, begin:-1])), begin + int(np.argmin(path.low[row, begin:-1]))
        above, below = path.top(row, high), path.bottom(row, low)
        first, last = path.at_ms(row, begin), path.at_ms(row, path.last)
        kinds = ("upper", "lower") if path.side > 0 else ("lower", "upper")
        names = ("top of the range", "bottom of the range") if path.side > 0 else ("bottom of the range", "top of the range")
        return Geometry(
            points=(Point(path.at_ms(row, high), above, names[0]), Point(path.at_ms(row, low), below, names[1])),
            lines=(Line(first, above, last, above, kinds[0]), Line(first, below, last, below, kinds[1])),
            level=above,
        )

    return path, measures, draw
