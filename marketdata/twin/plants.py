"""
Chart patterns planted in the market: where, which, and the prices they move. Pure, by seed.

A plant bends the minutes of some hours towards a drawn outline and quiets what they did by themselves; afterwards the price finds back to
its own way before the day ends. The outlines are the textbook's: Edwards and Magee, Technical Analysis of Stock Trends.
"""

from typing import NamedTuple

import numpy as np

from marketdata.twin.days import MINUTE_MS, day_starts
from marketdata.twin.noise import Floats, Integers, streams, uniforms
from marketdata.twin.securities import Security

Knots = tuple[tuple[float, float], ...]

_DOUBLE_TOP: Knots = ((0, 0), (0.25, 1), (0.45, 0.45), (0.67, 0.98), (0.88, 0.3), (1, 0.05))
_HEAD_AND_SHOULDERS: Knots = ((0, 0), (0.15, 0.66), (0.29, 0.36), (0.45, 1), (0.61, 0.37), (0.75, 0.66), (0.9, 0.2), (1, 0))
_FLAG: Knots = ((0, 0), (0.25, 1), (0.35, 0.84), (0.43, 0.93), (0.53, 0.77), (0.61, 0.86), (0.71, 0.7), (0.85, 1.05), (1, 1.3))
_ASCENDING: Knots = ((0, 0), (0.14, 1), (0.29, 0.35), (0.43, 1), (0.57, 0.6), (0.69, 1), (0.79, 0.8), (0.9, 1.2), (1, 1.4))
_SYMMETRICAL: Knots = ((0, 0), (0.13, 1), (0.29, 0.15), (0.44, 0.84), (0.58, 0.34), (0.7, 0.7), (0.79, 0.5), (0.9, 1), (1, 1.2))


class Outline(NamedTuple):
    """A pattern: knots of (share of the time, level in heights), its side of the price, and where its trigger breaks."""

    knots: Knots
    side: int
    breaks_at: float


OUTLINES = {
    "double_top": Outline(_DOUBLE_TOP, 1, 0.84),
    "double_bottom": Outline(_DOUBLE_TOP, -1, 0.84),
    "head_and_shoulders": Outline(_HEAD_AND_SHOULDERS, 1, 0.85),
    "inverse_head_and_shoulders": Outline(_HEAD_AND_SHOULDERS, -1, 0.85),
    "bull_flag": Outline(_FLAG, 1, 0.77),
    "bear_flag": Outline(_FLAG, -1, 0.77),
    "ascending_triangle": Outline(_ASCENDING, 1, 0.84),
    "descending_triangle": Outline(_ASCENDING, -1, 0.84),
    "symmetrical_triangle": Outline(_SYMMETRICAL, 1, 0.82),
}
PLANTED_EVERY = 5
_SHARE = 0.6  # of the days
_QUIETED = 0.75  # of the market's own movement inside a plant
_START_MINUTES = (60, 480)
_LENGTH_MINUTES = (180, 300)
_RELEASE_MINUTES = 480  # all three together stay inside a day of 23 hours


class Plant(NamedTuple):
    """One planted pattern: Unix ms of its first and last minute's start, of its break, and its turning points; `height` is in log price."""

    symbol: str
    pattern: str
    first_ms: int
    last_ms: int
    breaks_ms: int
    turns_ms: tuple[int, ...]
    height: float


def planted(seed: int, security: Security, place: int, day: int) -> Plant | None:
    """Return the ticker's plant of a day, if it has one."""
    if place % PLANTED_EVERY:
        return None
    happens, which, start, length, height = uniforms(streams(seed, f"plants of {security.symbol}"), day * 8 + np.arange(5))[0].tolist()
    if happens >= _SHARE:
        return None
    name = list(OUTLINES)[int(which * len(OUTLINES))]
    first_ms = int(day_starts()[day]) + _between(_START_MINUTES, start) // 5 * 5 * MINUTE_MS
    minutes = _between(_LENGTH_MINUTES, length) // 5 * 5
    outline = OUTLINES[name]

    def moment(share: float) -> int:
        return first_ms + round(share * minutes) * MINUTE_MS

    return Plant(
        symbol=security.symbol,
        pattern=name,
        first_ms=first_ms,
        last_ms=moment(1) - MINUTE_MS,
        breaks_ms=moment(outline.breaks_at),
        turns_ms=tuple(moment(share) for share, _ in outline.knots[1:-1]),
        height=0.02 + 0.02 * height,
    )


def bend(plant: Plant, closes: Integers, *, opened_at_ms: Integers) -> Integers:
    """Return by how many ticks each minute of the plant's day moves; `closes` are the closes without it, in ticks."""
    first = int(np.searchsorted(opened_at_ms, plant.first_ms))
    end = int(np.searchsorted(opened_at_ms, plant.last_ms)) + 1
    outline = OUTLINES[plant.pattern]
    own = np.log(closes[first:end].astype(np.float64))
    line = np.linspace(own[0], own[-1], len(own))
    knots = np.array(outline.knots, dtype=np.float64)
    drawn = outline.side * plant.height * np.interp(np.linspace(0, 1, len(own)), knots[:, 0], knots[:, 1])
    logs = np.zeros(len(closes))
    logs[first:end] = drawn - _QUIETED * (own - line)
    logs[end : end + _RELEASE_MINUTES] = drawn[-1] * np.linspace(1, 0, _RELEASE_MINUTES)
    return _moved(closes, logs)


def _moved(closes: Integers, logs: Floats) -> Integers:
    """Return ticks to add; the price stays positive, since the bends are a few percent."""
    return np.rint(closes * np.expm1(logs)).astype(np.int64)


def _between(bounds: tuple[int, int], draw: float) -> int:
    return int(bounds[0] + draw * (bounds[1] - bounds[0]))
