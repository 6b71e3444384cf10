"""
Turning points by smoothed extrema. Pure.

Source: Lo, Mamaysky and Wang, Foundations of Technical Analysis, Journal of Finance 55 (2000): closes are smoothed by kernel regression
(Nadaraya and Watson) in a window that ends at the confirming bar, the extrema of the smooth curve are found by the sign of its slope, and the
turning point is the extreme price near each of them. Theirs is a Gaussian kernel with one bandwidth a window, 0.3 of the cross-validated one.
Ours is Epanechnikov's, which ends after its half-width, so that a sum has few terms, each a whole number times a price. The bandwidth rule:
each half-width of HALF_WIDTHS is tried, steps of about 1.4, and the one whose shape has the highest confidence is kept: patterns of some 15
to 120 bars are then smoothed each by its own measure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import Floats, Integers
from patterns.detectors.matches import Geometry, Line, Point, Shape
from patterns.detectors.paths import Flags, Paths, row_sums
from patterns.detectors.verdict import Measure, conditions, confidence, met

HALF_WIDTHS = (2, 3, 4, 6, 8, 12)


@dataclass(frozen=True, eq=False, slots=True)
class Turns:
    """The last turning points of paths, shape (m, k), oldest first: columns and prices; the last is a trough, before it a peak, and so on."""

    column: Integers
    level: Floats

    def take(self, rows: Flags) -> "Turns":
        """Return those of some of the paths."""
        return Turns(self.column[rows], self.level[rows])


def smoothed(close: Floats, half_width: int) -> Floats:
    """
    Return the kernel regression of each row: a bar at distance d weighs half_width² - d².

    At the edges the mean is over the bars that are there, as Nadaraya's and Watson's estimator has it.
    """
    size = close.shape[1]
    total, weight = np.zeros(close.shape), np.zeros(size)
    for offset in range(1 - half_width, half_width):
        share = float(half_width**2 - offset**2)
        here, there = slice(max(0, -offset), min(size, size - offset)), slice(max(0, offset), min(size, size + offset))
        total[:, here] += share * close[:, there]
        weight[here] += share
    return np.asarray(total / weight)


def last_turns(path: Paths, half_width: int, count: int) -> tuple[Integers, Turns]:
    """Return (rows, turns): the rows whose smooth curve turned `count` times or more, last in a trough, and those turns."""
    columns, rows = _curve_turns(smoothed(path.close, half_width), count)
    path = path.take(rows)
    edge = np.full((len(rows), 1), path.last - 1)
    before = np.maximum(columns - half_width + 1, np.concatenate((columns[:, :1] - half_width + 1, _middle(columns)), axis=1))
    after = np.minimum(columns + half_width - 1, np.concatenate((_middle(columns), edge), axis=1))
    column, level = columns.copy(), np.zeros(columns.shape)
    for turn in range(count):
        is_trough = (count - 1 - turn) % 2 == 0
        prices = -path.low if is_trough else path.high
        near = np.clip(
            columns[:, turn, None] + np.arange(1 - half_width, half_width), np.maximum(before[:, turn, None], 0), after[:, turn, None]
        )
        there = np.take_along_axis(prices, near, axis=1)
        best = np.argmax(there, axis=1)[:, None]
        column[:, turn] = np.take_along_axis(near, best, axis=1)[:, 0]
        level[:, turn] = np.take_along_axis(there, best, axis=1)[:, 0] * (-1 if is_trough else 1)
    ordered = (np.diff(column, axis=1) > 0).all(axis=1)
    return rows[ordered], Turns(column[ordered], level[ordered])


def _curve_turns(curve: Floats, count: int) -> tuple[Integers, Integers]:
    """Return (columns, rows): where each row's curve turned, its last `count` turns, of rows that end rising."""
    slope = np.sign(np.diff(curve, axis=1)).astype(np.int8)
    place = np.where(slope != 0, np.arange(slope.shape[1]), 0)
    slope = np.take_along_axis(slope, np.maximum.accumulate(place, axis=1), axis=1)  # a level stretch goes on as before
    turned = slope[:, :-1] * slope[:, 1:] < 0
    of_row = turned.sum(axis=1)
    rows = np.flatnonzero((of_row >= count) & (slope[:, -1] > 0))
    from_right = np.cumsum(turned[rows][:, ::-1], axis=1)[:, ::-1]
    _, column = np.nonzero(turned[rows] & (from_right <= count))
    return column.reshape(len(rows), count).astype(np.int64) + 1, rows.astype(np.int64)


def _middle(columns: Integers) -> Integers:
    return (columns[:, :-1] + columns[:, 1:]) // 2


Candidates = tuple[Paths, Sequence[Measure], Callable[[int], Geometry]]
"""Paths with what was measured of each, and how to draw one of them."""


def shapes_of(candidates: Iterable[Candidates]) -> list[Shape]:
    """Return the shapes whose conditions are met, one an end: the one of the highest confidence, of equal ones the first."""
    best: dict[int, Shape] = {}
    for path, measures, draw in candidates:
        quality = confidence(measures)
        for row in np.flatnonzero(met(measures)).tolist():
            end, worth = int(path.ends[row]), float(quality[row])
            if end not in best or best[end].confidence < worth:
                best[end] = Shape(end, path.side, worth, conditions(measures, row), draw(row))
    return [best[end] for end in sorted(best)]


def at_each_width(path: Paths, count: int) -> Iterator[tuple[Paths, Turns]]:
    """Yield the paths that end after `count` turns, and those, for each half-width."""
    for half_width in HALF_WIDTHS:
        rows, turns = last_turns(path, half_width, count)
        if len(rows):
            yield path.take(rows), turns


def line_at(first: tuple[Floats, Floats], second: tuple[Floats, Floats], column: Floats | Integers) -> Floats:
    """Return the level at a column of the line through two (column, level), each of shape (m,)."""
    (x1, y1), (x2, y2) = first, second
    return np.asarray(y1 + (y2 - y1) * ((column - x1) / (x2 - x1)))


def first_beyond(path: Paths, since: Integers, slope: Floats, level: Floats, *, least: float = 0.0) -> Floats:
    """
    Return by how many usual ranges the end closes above the line that has this slope and this level at the end.

    NaN where a close after the column `since` lay above it already by more than `least` usual ranges.
    """
    column = np.arange(path.last)
    line = (level + least * path.usual)[:, None] + slope[:, None] * (column - path.last)
    fresh = ((path.close[:, :-1] <= line) | (column <= since[:, None])).all(axis=1) & (path.usual > 0)
    return np.divide(-level, path.usual, out=np.full(len(path), np.nan), where=fresh)


def off_legs(path: Paths, turns: Turns) -> Floats:
    """Return the root mean square distance of the closes since the first turn from the straight legs through the turns to the end's close."""
    column = np.arange(path.last)
    columns = np.concatenate((turns.column, np.full((len(path), 1), path.last)), axis=1)
    levels = np.concatenate((turns.level, np.zeros((len(path), 1))), axis=1)
    squares = np.zeros((len(path), path.last))
    for leg in range(columns.shape[1] - 1):
        x1, x2, y1, y2 = columns[:, leg, None], columns[:, leg + 1, None], levels[:, leg, None], levels[:, leg + 1, None]
        away = path.close[:, :-1] - (y1 + (y2 - y1) * ((column - x1) / (x2 - x1)))
        squares = np.where((column >= x1) & (column < x2), away * away, squares)
    return np.asarray(np.sqrt(row_sums(squares) / (path.last - turns.column[:, 0])))


def extreme_between(prices: Floats, first: Integers, last: Integers) -> Floats:
    """Return the highest of each row's prices in the columns [first, last], which holds one column at least."""
    column = np.arange(prices.shape[1])
    inside = (column >= first[:, None]) & (column <= last[:, None])
    return np.asarray(np.where(inside, prices, -np.inf).max(axis=1))


def turning_points(path: Paths, turns: Turns, row: int, labels: Sequence[str]) -> tuple[Point, ...]:
    """Return the turns of a row with their bars' real prices."""
    points = []
    for turn, label in enumerate(labels):
        column = int(turns.column[row, turn])
        is_trough = (len(labels) - 1 - turn) % 2 == 0
        price = path.bottom(row, column) if is_trough else path.top(row, column)
        points.append(Point(path.at_ms(row, column), price, label))
    return tuple(points)


def drawn_line(path: Paths, row: int, first: tuple[int, float], last: tuple[int, float], kind: str) -> Line:
    """Return the line between two (column, level) of a row."""
    return Line(path.at_ms(row, first[0]), path.price(row, first[1]), path.at_ms(row, last[0]), path.price(row, last[1]), kind)
