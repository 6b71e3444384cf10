"""The quadrants of rotation: across relative strength, up its momentum, both as z-scores around zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import atan2, degrees

from dashboards.drawing.lines import Rule, Scale, place, rules

SMALLEST_REACH = 1.0
"""The axes reach at least this far from zero, so that a quiet market looks quiet."""


@dataclass(frozen=True)
class Step:
    """One piece of a tail: from one dot to the next, drawn the thicker and the darker the newer it is."""

    x1: str
    y1: str
    x2: str
    y2: str
    width: str
    opacity: str


@dataclass(frozen=True)
class Tail:
    """One symbol's way: its steps, oldest first, its head, on which side its name stands, and whether history is too short."""

    key: str
    side: str
    steps: tuple[Step, ...]
    x: str
    y: str
    label_x: str
    label_y: str
    anchor: str
    dotted: bool


@dataclass(frozen=True)
class Field:
    """The whole chart."""

    width: int
    height: int
    reach_x: float
    reach_y: float
    tails: tuple[Tail, ...]
    columns: tuple[Rule, ...]
    rows: tuple[Rule, ...]


def reach(values: Sequence[float]) -> float:
    """Return how far the axis goes to both sides: the farthest value and a margin, in halves."""
    farthest = max((abs(value) for value in values), default=0.0)
    return max(SMALLEST_REACH, round((farthest * 1.12 + 0.2) * 2) / 2)


def field(tails: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, width: int, height: int, whole: int) -> Field:
    """
    Return the chart of (key, [(ratio, momentum), … oldest first]); a tail shorter than `whole` points is dotted, an empty one left out.
    """
    points = [point for _, tail in tails for point in tail]
    reach_x, reach_y = reach([ratio for ratio, _ in points]), reach([momentum for _, momentum in points])
    across, up = Scale(-reach_x, reach_x, 0, width), Scale(-reach_y, reach_y, height, 0)
    drawn = []
    for key, tail in tails:
        if not tail:
            continue
        places = [(across.at(ratio), up.at(momentum)) for ratio, momentum in tail]
        count = max(1, len(places) - 1)
        steps = tuple(
            Step(place(a[0]), place(a[1]), place(b[0]), place(b[1]), f"{0.8 + 1.6 * n / count:.2f}", f"{0.2 + 0.7 * n / count:.2f}")
            for n, (a, b) in enumerate(pairwise(places), start=1)
        )
        x, y = places[-1]
        left = x > width * 0.86
        drawn.append(
            Tail(key, "up" if tail[-1][0] >= 0 else "down", steps, place(x), place(y), place(x - 9 if left else x + 9), place(y + 4),
                 "end" if left else "start", len(tail) < whole)
        )  # fmt: skip
    marks_x, marks_y = _marks(reach_x), _marks(reach_y)
    return Field(width, height, reach_x, reach_y, tuple(drawn), rules(across, marks_x, strong=0), rules(up, marks_y, strong=0))


def _marks(end: float) -> list[float]:
    step = 1.0 if end <= 3.5 else 2.0
    return [number * step for number in range(-int(end / step), int(end / step) + 1)]


def heading(tail: Sequence[tuple[float, float]]) -> int | None:
    """Return where the last step leads, in degrees clockwise from straight up; None without two points or where it stands still."""
    if len(tail) < 2 or tail[-1] == tail[-2]:
        return None
    return round(degrees(atan2(tail[-1][0] - tail[-2][0], tail[-1][1] - tail[-2][1]))) % 360


def quadrant(ratio: float, momentum: float) -> str:
    """Return the quadrant of a point; what lies on an axis belongs to the stronger side."""
    if ratio >= 0:
        return "leading" if momentum >= 0 else "weakening"
    return "improving" if momentum >= 0 else "lagging"
