"""A detector and what it returns. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.window import BarWindow, Integers


class Nature(StrEnum):
    """What a pattern says about the move before it."""

    REVERSAL = "reversal"
    CONTINUATION = "continuation"
    INDECISION = "indecision"


@dataclass(frozen=True, slots=True)
class Detector:
    """
    One pattern: its stored and its human name, TA-Lib's function and look-back, how many candles form it, and how to read it.

    It can speak from the bar on that has `look_back` bars before it. `sign` is +1, -1 or 0 where TA-Lib's sign does not tell the direction,
    and None where it does.
    """

    pattern_type: str
    name: str
    function: Callable[..., NDArray[np.int32]]
    look_back: int
    candles: int
    nature: Nature
    sign: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Matches:
    """
    Patterns found, shape (m,), ordered by bar and then by detector.

    `end` is the index of the bar they end on, `detector` the place in the table, `grade` TA-Lib's signed 80, 100 or 200.
    """

    end: Integers
    detector: Integers
    grade: Integers

    def __len__(self) -> int:
        return len(self.end)


@dataclass(frozen=True, slots=True)
class Condition:
    """
    One thing that was measured, and whether it stands in the relation (">=", "<=", "==", ">", "<") to its threshold.

    A condition that is not passed belongs to a shape all the same where it only counts in the confidence: volume at the break, say.
    """

    name: str
    measured: float | None
    relation: str
    threshold: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A turning point: the start of its bar in Unix ms, the price there, and what people call it."""

    at_ms: int
    price: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line to draw from one moment and price to another: "neckline", "upper", "lower", "pole", "level", "curve"."""

    from_at_ms: int
    from_price: float
    to_at_ms: int
    to_price: float
    kind: str


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a chart draws of a shape; `level` is the price whose crossing confirmed it."""

    points: tuple[Point, ...]
    lines: tuple[Line, ...]
    level: float | None


@dataclass(frozen=True, slots=True)
class Shape:
    """
    A chart pattern found: the index in the window of the bar that confirms it, +1, -1 or 0, and why.

    `confidence` in [0, 1] is the quality of the shape by its family's formula; whether it pays is another matter.
    """

    end: int
    direction: int
    confidence: float
    conditions: tuple[Condition, ...]
    geometry: Geometry


@dataclass(frozen=True, slots=True)
class ShapeDetector:
    """
    One chart pattern: its stored and its human name, the intervals it is looked for on, and the function that finds it.

    `find(window, ends)` returns the shapes that the bars `ends` (ascending indices) confirm, ordered by them, at most one a bar. It looks at
    no bar after the confirming one and at no more than `look_back` before it.
    `mirror` names the pattern that it becomes on mirrored prices (itself, where the direction tells), "" where it has none. A `fact` is plain to
    see, like a gap: random walks may be full of it.
    """

    pattern_type: str
    name: str
    nature: Nature
    intervals: tuple[str, ...]
    look_back: int
    find: Callable[[BarWindow, Integers], list[Shape]]
    mirror: str = ""
    fact: bool = False
