"""
Gaps and volume surges: facts of one bar against the bars before it, not shapes. Pure.

Sources: gap, Bulkowski, Encyclopedia of Chart Patterns, 2nd ed. 2005, "Gaps": a low above the high of the bar before (or the mirror), here at
least a quarter of the usual range so that a tick is none. Volume surge: at least three times the mean of the 20 bars before.
"""

from collections.abc import Callable

import numpy as np

from marketdata.bars.window import BarWindow, Integers
from patterns.detectors.matches import Geometry, Line, Point, Shape
from patterns.detectors.paths import Paths, paths
from patterns.detectors.verdict import Measure, conditions, confidence, met

LOOK_BACK = 20
_GAP = 0.25
_SURGE = 3.0


def find_gap(side: int) -> Callable[[BarWindow, Integers], list[Shape]]:
    """
    Return the finder of gaps up (+1) or down (-1).

    Confidence: size of the gap in usual ranges (weight 2, one half at twice the threshold), volume against its mean, and how much of the
    bar's range its body fills in the gap's direction.
    """

    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        return [shape for path in paths(window, ends, look_back=LOOK_BACK, side=side) for shape in _gaps(path)]

    return find


def _gaps(path: Paths) -> list[Shape]:
    path = path.take((path.low[:, -1] > path.high[:, -2]) & (path.usual > 0))
    height = path.high[:, -1] - path.low[:, -1]
    body = np.divide(path.close[:, -1] - path.open[:, -1], height, out=np.zeros(len(path)), where=height > 0)
    measures = [
        Measure("gap in usual ranges", (path.low[:, -1] - path.high[:, -2]) / path.usual, ">=", _GAP, weight=2, scale=2),
        Measure("volume over the mean of 20 bars", path.volume, ">=", 1.0, needed=False),
        Measure("body in the gap's direction, of the range", body, ">=", 0.25, needed=False, scale=1),
    ]
    quality = confidence(measures)
    shapes = []
    for row in np.flatnonzero(met(measures)).tolist():
        edge, far = path.top(row, path.last - 1), path.bottom(row, path.last)
        before, now = path.at_ms(row, path.last - 1), path.at_ms(row, path.last)
        geometry = Geometry(
            points=(Point(before, edge, "before the gap"), Point(now, far, "after the gap")),
            lines=(Line(before, edge, now, edge, "level"), Line(before, far, now, far, "level")),
            level=edge,
        )
        shapes.append(Shape(int(path.ends[row]), path.side, float(quality[row]), conditions(measures, row), geometry))
    return shapes


def find_volume_surge(window: BarWindow, ends: Integers) -> list[Shape]:
    """
    Return the volume surges; the direction is that of the candle's body.

    Confidence: the ratio of volumes (weight 2, one half at twice the threshold), and the bar's range in usual ranges.
    """
    return [shape for path in paths(window, ends, look_back=LOOK_BACK, side=1) for shape in _surges(path)]


def _surges(path: Paths) -> list[Shape]:
    path = path.take((path.volume >= _SURGE) & (path.usual > 0))
    measures = [
        Measure("volume over the mean of 20 bars", path.volume, ">=", _SURGE, weight=2),
        Measure("range in usual ranges", (path.high[:, -1] - path.low[:, -1]) / path.usual, ">=", 1.0, needed=False),
    ]
    quality = confidence(measures)
    direction = np.sign(path.close[:, -1] - path.open[:, -1]).astype(np.int64)
    return [
        Shape(
            int(path.ends[row]),
            int(direction[row]),
            float(quality[row]),
            conditions(measures, row),
            Geometry((Point(path.at_ms(row, path.last), float(path.window.close[path.ends[row]]), "surge"),), (), None),
        )
        for row in np.flatnonzero(met(measures)).tolist()
    ]
