"""A detector and what it returns. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.window import Integers


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
