"""The quadrants of rotation: across relative strength, up its momentum, both as z-scores around zero."""

from collections.abc import Mapping, Sequence
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


def field(
    tails: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, names: Mapping[str, str], width: int, height: int, whole: int
) -> Field:
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
        side = "up" if tail[-1][0] >= 0 else "down"
        drawn.append((key, side, steps, x, y, len(tail) < whole))
    labels = place_labels([(names.get(key, key), x, y) for key, _, _, x, y, _ in drawn], width=width, height=height)
    heads = tuple(
        Tail(key, side, steps, place(x), place(y), place(label[0]), place(label[1]), label[2], dotted)
        for (key, side, steps, x, y, dotted), label in zip(drawn, labels, strict=True)
    )
    marks_x, marks_y = _marks(reach_x), _marks(reach_y)
    return Field(width, height, reach_x, reach_y, heads, rules(across, marks_x, strong=0), rules(up, marks_y, strong=0))


LETTER, LINE = 6.7, 13.0
"""The room of a letter and of a line of a head's name, in the units of the chart."""
SPOTS = ((9.0, 4.0, "start"), (-9.0, 4.0, "end"), (0.0, -9.0, "middle"), (0.0, 19.0, "middle"), (9.0, -8.0, "start"), (9.0, 16.0, "start"))


def place_labels(heads: Sequence[tuple[str, float, float]], *, width: int, height: int) -> list[tuple[float, float, str]]:
    """
    Return where the name of each (name, x, y) head stands: x, baseline, anchor.

    Each takes the first spot around its head that is inside the chart and clear of the names before it and of every other head; where
    none is clear, the one that covers least.
    """
    taken: list[tuple[float, float, float, float]] = []
    found = []
    for name, x, y in heads:
        others = [(ox - 5, oy - 5, ox + 5, oy + 5) for _, ox, oy in heads if (ox, oy) != (x, y)]
        choices: list[tuple[float, int, tuple[float, float, str], tuple[float, float, float, float]]] = []
        for dx, dy, anchor in SPOTS:
            length = LETTER * len(name)
            left = x + dx - (length if anchor == "end" else length / 2 if anchor == "middle" else 0)
            box = (left, y + dy - LINE + 3, left + length, y + dy + 3)
            outside = max(0.0, -box[0]) + max(0.0, box[2] - width) + max(0.0, -box[1]) + max(0.0, box[3] - height)
            cost = 50 * outside + sum(_overlap(box, other) for other in (*taken, *others))
            choices.append((cost, len(choices), (x + dx, y + dy, anchor), box))
        _, _, spot, box = min(choices)
        taken.append(box)
        found.append(spot)
    return found


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Return the common area of two (left, top, right, bottom) boxes."""
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(0.0, min(one[3], other[3]) - max(one[1], other[1]))


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
