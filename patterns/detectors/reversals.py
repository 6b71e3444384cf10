"""
Head and shoulders, double top and double bottom. Pure.

Both are written for the bottom, which a close above confirms; the top is the same on mirrored prices. Source of the extrema and their order: Lo,
Mamaysky and Wang 2000 (definitions 1 and 5). Their "within 1.5 percent" is a share of the pattern's height here, so that a quiet and a wild
stock are held to the same shape; the neckline's break, which they leave out, is Bulkowski's confirmation (Encyclopedia of Chart Patterns).
"""

from collections.abc import Callable

import numpy as np

from marketdata.bars.window import BarWindow, Integers
from patterns.detectors.matches import Geometry, Shape
from patterns.detectors.paths import Paths, paths, quotient
from patterns.detectors.turns import (
    Candidates,
    Turns,
    at_each_width,
    drawn_line,
    extreme_between,
    first_beyond,
    line_at,
    off_legs,
    shapes_of,
    turning_points,
)
from patterns.detectors.verdict import Measure, met

LOOK_BACK = 120
NEWEST = 2  # closes before the break that it must pass

Finder = Callable[[BarWindow, Integers], list[Shape]]


def find_head_and_shoulders(side: int) -> Finder:
    """
    Return the finder of the inverse head and shoulders (+1) or of head and shoulders (-1).

    Five turns: left shoulder, neck, head, neck, right shoulder. Confidence: how equal shoulders and necks are and how even in time, how far the
    head stands out, the height in usual ranges, the move that led in, the volume at the break.
    """

    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        found = paths(window, ends, look_back=LOOK_BACK, side=side, newest=NEWEST)
        return shapes_of(_head_and_shoulders(part, turns) for path in found for part, turns in at_each_width(path, 5))

    return find


def _head_and_shoulders(path: Paths, turns: Turns) -> Candidates:
    (t1, t2, t3, t4, t5), (left, neck1, head, neck2, right) = turns.column.T, turns.level.T
    level = line_at((t2, neck1), (t4, neck2), path.last)
    height = line_at((t2, neck1), (t4, neck2), t3) - head
    unit = np.where(height > 0, height, np.inf)
    span = t5 - t1
    before = extreme_between(path.high, np.maximum(t1 - span, 0), t1)
    measures = [
        Measure("shoulders differ, in heights", np.abs(left - right) / unit, "<=", 0.4, weight=2),
        Measure("necks differ, in heights", np.abs(neck2 - neck1) / unit, "<=", 0.4),
        Measure("head beyond the nearer shoulder, in heights", (np.minimum(left, right) - head) / unit, ">=", 0.2, scale=1),
        Measure("shoulder to neckline, in heights", (np.minimum(neck1, neck2) - np.maximum(left, right)) / unit, ">=", 0.1, weight=0),
        Measure("halves differ in time, of the whole", np.abs((t3 - t1) - (t5 - t3)) / span, "<=", 0.5),
        Measure("height in usual ranges", quotient(height, path.usual), ">=", 3.0, scale=1),
        Measure("move into it beyond the neckline, in heights", (before - np.maximum(neck1, neck2)) / unit, ">=", 0.2, scale=2),
        Measure("bars from shoulder to break, of the whole", (path.last - t5) / span, "<=", 0.5),
    ]
    keep = met(measures)
    path, turns, level, unit = path.take(keep), turns.take(keep), level[keep], unit[keep]
    t2, t4, t5 = turns.column[:, 1], turns.column[:, 3], turns.column[:, 4]
    neck1, neck2 = turns.level[:, 1], turns.level[:, 3]
    measures = [
        *(measure.take(keep) for measure in measures),
        Measure("closes off the straight legs, in heights", off_legs(path, turns) / unit, "<=", 0.15, weight=2),
        Measure(
            "close beyond the neckline, in usual ranges", first_beyond(path, t5, (neck2 - neck1) / (t4 - t2), level), ">", 0.0, weight=0
        ),
        Measure("volume at the break over the mean of 20 bars", path.volume, ">=", 1.0, needed=False),
    ]

    def draw(row: int) -> Geometry:
        names = ("left shoulder", "neck", "head", "neck", "right shoulder")
        line = drawn_line(path, row, (int(t2[row]), float(neck1[row])), (path.last, float(level[row])), "neckline")
        return Geometry(turning_points(path, turns, row, names), (line,), path.price(row, float(level[row])))

    return path, measures, draw


def find_double(side: int) -> Finder:
    """
    Return the finder of double bottoms (+1) or double tops (-1).

    Three turns: bottom, the peak between, bottom. Confidence: how equal the bottoms are, the height in usual ranges, the move that led in, how
    long the pattern took, the volume at the break.
    """

    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        found = paths(window, ends, look_back=LOOK_BACK, side=side, newest=NEWEST)
        return shapes_of(_double(part, turns) for path in found for part, turns in at_each_width(path, 3))

    return find


def _double(path: Paths, turns: Turns) -> Candidates:
    (t1, t2, t3), (first, peak, second) = turns.column.T, turns.level.T
    height = peak - (first + second) / 2
    unit = np.where(height > 0, height, np.inf)
    span = t3 - t1
    before = extreme_between(path.high, np.maximum(t1 - span, 0), t1)
    lowest = -extreme_between(-path.low, np.maximum(t1 - span, 0), np.full(len(path), path.last))
    measures = [
        Measure(
            "bottoms differ, in heights" if path.side > 0 else "tops differ, in heights", np.abs(first - second) / unit, "<=", 0.4, weight=2
        ),
        Measure("price beyond them, in heights", (np.minimum(first, second) - lowest) / unit, "<=", 0.05, weight=0),
        Measure("halves differ in time, of the whole", np.abs((t2 - t1) - (t3 - t2)) / span, "<=", 0.6),
        Measure("height in usual ranges", quotient(height, path.usual), ">=", 3.0, scale=1),
        Measure("move into it beyond the level, in heights", (before - peak) / unit, ">=", 0.25, scale=2),
        Measure("bars between the two", span.astype(np.float64), ">=", 8.0, scale=2),
        Measure("bars from the second to the break, of the whole", (path.last - t3) / span, "<=", 0.8, weight=0.5),
    ]
    keep = met(measures)
    path, turns, unit = path.take(keep), turns.take(keep), unit[keep]
    t2, peak = turns.column[:, 1], turns.level[:, 1]
    measures = [
        *(measure.take(keep) for measure in measures),
        Measure("closes off the straight legs, in heights", off_legs(path, turns) / unit, "<=", 0.18, weight=2),
        Measure("close beyond the level, in usual ranges", first_beyond(path, t2, np.zeros(len(path)), peak), ">", 0.0, weight=0),
        Measure("volume at the break over the mean of 20 bars", path.volume, ">=", 1.0, needed=False),
    ]

    def draw(row: int) -> Geometry:
        names = ("first bottom", "peak", "second bottom") if path.side > 0 else ("first top", "trough", "second top")
        points = turning_points(path, turns, row, names)
        line = drawn_line(path, row, (int(t2[row]), float(peak[row])), (path.last, float(peak[row])), "neckline")
        return Geometry(points, (line,), points[1].price)

    return path, measures, draw
