"""
V-tops and V-bottoms: a straight run, a turn without a pause, a straight way back. Pure.

Written for the bottom; the top is the same on mirrored prices. Source: Bulkowski, Encyclopedia of Chart Patterns and thepatternsite.com, "V bottoms"
and "V tops": a steep run against which price turns within a bar or two; confirmed here by the first close that has taken back 62 % of the run,
in about the time that it took.
"""

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.matches import Geometry, Shape
from patterns.detectors.paths import Paths, paths, quotient, row_sums
from patterns.detectors.reversals import Finder
from patterns.detectors.turns import Candidates, Turns, drawn_line, first_beyond, shapes_of, turning_points
from patterns.detectors.verdict import Measure, met

LONGEST_RUN = 15
LONGEST_RETURN = 12
LOOK_BACK = 60
RETURNED = 0.62


def find_spike(side: int) -> Finder:
    """
    Return the finder of V-bottoms (+1) or V-tops (-1).

    Confidence: how straight the run and the return are, how far the run went in usual ranges, how equal the two are in time, the volume at the end.
    """

    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        return shapes_of(_spikes(path) for path in paths(window, ends, look_back=LOOK_BACK, side=side, newest=2))

    return find


def _spikes(path: Paths) -> Candidates:
    begin = path.last - LONGEST_RETURN
    tip = begin + np.argmin(path.low[:, begin : path.last - 1], axis=1)
    near = tip[:, None] + np.arange(-LONGEST_RUN, -2)
    start = np.take_along_axis(near, np.argmax(np.take_along_axis(path.high, near, axis=1), axis=1)[:, None], axis=1)[:, 0].astype(np.int64)
    rows = np.arange(len(path))
    top, bottom = path.high[rows, start], path.low[rows, tip]
    run = top - bottom
    level = bottom + RETURNED * run
    down, back = (tip - start).astype(np.float64), (path.last - tip).astype(np.float64)
    measures = [
        Measure("run in usual ranges", quotient(run, path.usual), ">=", 5.0, weight=1.5),
        Measure("return over run, in bars", back / down, "<=", 1.5, weight=0.5),
        Measure("run over return, in bars", down / back, "<=", 4.0, weight=0.5),
    ]
    keep = met(measures)
    path, start, tip, level = path.take(keep), start[keep], tip[keep], level[keep]
    turns = Turns(np.stack((start, tip), axis=1), np.stack((top[keep], bottom[keep]), axis=1))
    measures = [
        *(measure.take(keep) for measure in measures),
        Measure("run's net move over its closes' way", _straightness(path, start, tip, -1), ">=", 0.6, scale=0.2),
        Measure("return's net move over its closes' way", _straightness(path, tip, np.full(len(path), path.last), 1), ">=", 0.7, scale=0.2),
        Measure("close beyond 62 % of the run, in usual ranges", first_beyond(path, tip, np.zeros(len(path)), level), ">", 0.0, weight=0),
        Measure("volume at the end over the mean of 20 bars", path.volume, ">=", 1.0, needed=False, weight=0.5),
    ]

    def draw(row: int) -> Geometry:
        names = ("start of the run", "bottom") if path.side > 0 else ("start of the run", "top")
        last = (path.last, float(level[row]))
        points = turning_points(path, turns, row, names)
        line = drawn_line(path, row, (int(start[row]), float(level[row])), last, "level")
        return Geometry(points, (line,), path.price(row, float(level[row])))

    return path, measures, draw


def _straightness(path: Paths, first: Integers, last: Integers, direction: int) -> Floats:
    """Return the closes' net move in the direction from column `first` to `last` over the sum of their moves."""
    column = np.arange(1, path.last + 1)
    moves = np.where((column > first[:, None]) & (column <= last[:, None]), np.diff(path.close, axis=1), 0.0)
    return quotient(direction * row_sums(moves), row_sums(np.abs(moves)))
