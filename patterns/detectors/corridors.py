"""
Two lines through the turning points: triangles, rectangle, broadening, wedges. Pure.

All are written for the break upwards, out of the upper line; the break downwards is the same on mirrored prices. Sources: five consecutive extrema
and their order, Lo, Mamaysky and Wang 2000 (definitions 2 to 4, broadening, triangle, rectangle); level and slanting lines, Edwards and Magee,
Technical Analysis of Stock Trends; wedges and the break as confirmation, Bulkowski, Encyclopedia of Chart Patterns. The lines are told apart by how
far each moves from its first turn to its last, as a share of the corridor's greater width: free of scale and of the pattern's length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.matches import Geometry, Shape
from patterns.detectors.paths import Paths, paths, quotient
from patterns.detectors.reversals import LOOK_BACK, NEWEST, Finder
from patterns.detectors.turns import (
    Candidates,
    Turns,
    at_each_width,
    drawn_line,
    first_beyond,
    off_legs,
    shapes_of,
    turning_points,
)
from patterns.detectors.verdict import Measure, met

Range = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What makes a corridor: how far its lines move in widths, (least, most), and how its end compares with its beginning.

    `off_line`, `off_legs` (in widths) and `even` (shortest leg over the longest) are how closely lines and legs must be kept to.
    """

    upper: Range
    lower: Range
    narrowing: Range = (None, None)
    off_line: float = 0.15
    off_legs: float = 0.15
    even: float = 0.4


_BREAK = 0.2  # usual ranges that the close must clear the line by: a touch is none (Edwards and Magee ask for 3 % of a daily price)
FLAT_LID = Kind(upper=(-0.25, 0.25), lower=(0.3, None), narrowing=(None, 0.7))
"""Ascending triangle, broken upwards; mirrored: descending triangle, broken downwards."""
CLOSING = Kind(upper=(None, -0.03), lower=(0.08, None), narrowing=(None, 0.65))
"""Symmetrical triangle."""
PARALLEL = Kind(upper=(-0.25, 0.25), lower=(-0.3, 0.3))
"""Rectangle."""
OPENING = Kind(upper=(0.06, None), lower=(None, -0.1), off_line=0.3, off_legs=0.2, even=0.2)
"""
Broadening: Lo, Mamaysky and Wang ask for higher peaks and lower troughs alone, and found half as many as head and shoulders. Each leg is longer than
the one before it, so that they cannot be even.
"""
FALLING = Kind(upper=(None, -0.2), lower=(None, -0.1), narrowing=(None, 0.8))
"""Falling wedge, broken upwards; mirrored: rising wedge, broken downwards."""


def find_corridor(kind: Kind, sides: Sequence[int]) -> Finder:
    """
    Return the finder of corridors of a kind that break out of the upper line (+1 in `sides`), of the lower (-1), or of either.

    Five turns, the last on the side away from the break: the broken line goes through two of them, the other is fitted to three. Confidence: how
    close the turns lie to their lines and the closes to the legs between them, the width in usual ranges, how evenly the turns follow one another,
    how soon the break comes, the volume at it.
    """

    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        found: dict[int, Shape] = {}
        for side in sides:
            paths_of_side = paths(window, ends, look_back=LOOK_BACK, side=side, newest=NEWEST)
            shapes = shapes_of(_corridors(part, turns, kind) for path in paths_of_side for part, turns in at_each_width(path, 5))
            found.update({shape.end: shape for shape in shapes})
        return [found[end] for end in sorted(found)]

    return find


def _corridors(path: Paths, turns: Turns, kind: Kind) -> Candidates:
    slope, level = _line_through(turns, (1, 3))
    under, floor = _line_through(turns, (0, 2, 4))
    begin, end = turns.column[:, 0], turns.column[:, 4]
    width_1, width_5 = (level + slope * at - floor - under * at for at in (begin, end))
    width = np.maximum(width_1, width_5)
    unit = np.where((width > 0) & (np.minimum(width_1, width_5) > 0), width, np.inf)
    span = (end - begin).astype(np.float64)
    gaps = np.diff(turns.column, axis=1)
    measures = [
        *_moves("broken line moves between its turns, in widths", slope * (turns.column[:, 3] - turns.column[:, 1]) / unit, kind.upper),
        *_moves("other line moves between its turns, in widths", under * span / unit, kind.lower),
        *_moves("width at the end over width at the begin", quotient(width_5, width_1), kind.narrowing),
        Measure("turns off the fitted line, in widths", _off_line(turns, under, floor) / unit, "<=", kind.off_line, weight=2),
        Measure("width in usual ranges", np.where(np.isfinite(unit), quotient(width, path.usual), np.nan), ">=", 4.0, scale=1),
        Measure("shortest leg over the longest", gaps.min(axis=1) / gaps.max(axis=1), ">=", kind.even, scale=1),
        Measure("bars from the last turn to the break, of the whole", (path.last - end) / span, "<=", 0.5),
        Measure("width at the break, in widths", (level + slope * path.last - floor - under * path.last) / unit, ">", 0.0, weight=0),
    ]
    keep = met(measures)
    path, turns, unit = path.take(keep), turns.take(keep), unit[keep]
    slope, level, under, floor = slope[keep], level[keep], under[keep], floor[keep]
    beyond = first_beyond(path, turns.column[:, 4], slope, level + slope * path.last, least=_BREAK)
    measures = [
        *(measure.take(keep) for measure in measures),
        Measure("closes off the straight legs, in widths", off_legs(path, turns) / unit, "<=", kind.off_legs, weight=2),
        Measure("close beyond the line, in usual ranges", beyond, ">=", _BREAK, weight=0),
        Measure("volume at the break over the mean of 20 bars", path.volume, ">=", 1.0, needed=False),
    ]

    def draw(row: int) -> Geometry:
        names = ("trough", "peak", "trough", "peak", "trough") if path.side > 0 else ("peak", "trough", "peak", "trough", "peak")
        first = int(turns.column[row, 0])
        above, below = ("upper", "lower") if path.side > 0 else ("lower", "upper")
        ends = [(float(a[row] + b[row] * first), float(a[row] + b[row] * path.last)) for a, b in ((level, slope), (floor, under))]
        lines = tuple(
            drawn_line(path, row, (first, left), (path.last, right), kind) for (left, right), kind in zip(ends, (above, below), strict=True)
        )
        return Geometry(turning_points(path, turns, row, names), lines, lines[0].to_price)

    return path, measures, draw


def _moves(name: str, values: Floats, allowed: Range) -> list[Measure]:
    """Return the condition that a movement lies in a range; one bound is never weighed, of two (around zero) the nearer is."""
    least, most = allowed
    found = []
    if least is not None:
        found.append(Measure(name, values, ">=", least, weight=0))
    if most is not None:
        found.append(Measure(name, values, "<=", most, weight=0))
    return found


def _line_through(turns: Turns, chosen: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return (slope, level at column 0) of the least squares line through some of the turns."""
    x, y = turns.column[:, chosen].astype(np.float64), turns.level[:, chosen]
    if len(chosen) == 2:
        slope = (y[:, 1] - y[:, 0]) / (x[:, 1] - x[:, 0])
        return slope, y[:, 0] - slope * x[:, 0]
    middle, height = (x[:, 0] + x[:, 1] + x[:, 2]) / 3, (y[:, 0] + y[:, 1] + y[:, 2]) / 3
    dx, dy = x - middle[:, None], y - height[:, None]
    slope = (dx[:, 0] * dy[:, 0] + dx[:, 1] * dy[:, 1] + dx[:, 2] * dy[:, 2]) / (dx[:, 0] ** 2 + dx[:, 1] ** 2 + dx[:, 2] ** 2)
    return slope, height - slope * middle


def _off_line(turns: Turns, slope: Floats, level: Floats) -> Floats:
    """Return the largest distance of the outer three turns from their line."""
    away = [np.abs(turns.level[:, turn] - (level + slope * turns.column[:, turn])) for turn in (0, 2, 4)]
    return np.maximum(np.maximum(away[0], away[1]), away[2])
