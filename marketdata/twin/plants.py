"""
Chart patterns planted in the market: where, which, and the prices they move. Pure, by seed.

A plant bends the minutes of some hours towards a drawn outline and quiets what they did by themselves; afterwards the price finds back to
its own way before the day ends. The outlines are the textbook's: Edwards and Magee, Technical Analysis of Stock Trends; Bulkowski,
Encyclopedia of Chart Patterns. `drawing` plants one in bars of its own, without a market around it.
"""

from typing import NamedTuple

import numpy as np

from marketdata.bars.window import BarWindow
from marketdata.twin.days import MINUTE_MS, day_starts
from marketdata.twin.noise import Floats, Integers, Streams, normals, streams, uniforms
from marketdata.twin.securities import Security

Knots = tuple[tuple[float, float], ...]

_DOUBLE_TOP: Knots = ((0, 0), (0.25, 1), (0.45, 0.45), (0.67, 0.98), (0.88, 0.3), (1, 0.05))
_HEAD_AND_SHOULDERS: Knots = ((0, 0), (0.15, 0.66), (0.29, 0.36), (0.45, 1), (0.61, 0.37), (0.75, 0.66), (0.9, 0.2), (1, 0))
_FLAG: Knots = ((0, 0), (0.25, 1), (0.35, 0.82), (0.43, 0.89), (0.53, 0.73), (0.61, 0.8), (0.71, 0.64), (0.85, 1.05), (1, 1.3))
_PENNANT: Knots = ((0, 0), (0.27, 1), (0.37, 0.61), (0.46, 0.88), (0.55, 0.67), (0.63, 0.81), (0.69, 0.72), (0.82, 1.1), (1, 1.5))
_ASCENDING: Knots = ((0, 0), (0.14, 1), (0.29, 0.35), (0.43, 1), (0.57, 0.6), (0.69, 1), (0.79, 0.8), (0.9, 1.2), (1, 1.4))
_SYMMETRICAL: Knots = ((0, 0), (0.13, 1), (0.29, 0.1), (0.44, 0.83), (0.58, 0.26), (0.7, 0.68), (0.79, 0.36), (0.93, 1), (1, 1.2))
_RECTANGLE: Knots = ((0, 0), (0.12, 1), (0.26, 0.3), (0.4, 1), (0.54, 0.3), (0.68, 1), (0.81, 0.3), (0.93, 1.3), (1, 1.5))
_BROADENING: Knots = ((0, 0), (0.08, 0.55), (0.18, 0.38), (0.31, 0.75), (0.45, 0.17), (0.6, 0.95), (0.75, -0.03), (0.93, 1.45), (1, 1.6))
_WEDGE: Knots = ((0, 0), (0.12, 0.6), (0.25, 0), (0.38, 0.76), (0.5, 0.32), (0.62, 0.9), (0.73, 0.6), (0.82, 1.02), (0.93, 0.3), (1, 0.1))
_CUP: Knots = (
    (0, 0), (0.14, 1), (0.2, 0.62), (0.26, 0.36), (0.33, 0.16), (0.4, 0.08), (0.47, 0.08), (0.54, 0.16), (0.61, 0.36), (0.67, 0.62),
    (0.73, 1), (0.8, 0.72), (0.86, 0.78), (0.94, 1.15), (1, 1.3),
)  # fmt: skip
_SPIKE: Knots = ((0, 0), (0.5, 1), (1, 0))
_RANGE: Knots = ((0, 0), (0.12, 0.14), (0.24, 0), (0.37, 0.14), (0.5, 0), (0.6, 0.13), (0.7, 0.02), (0.86, 0.8), (1, 1))
_JUMP: Knots = ((0, 0), (0.5, 0), (0.5, 0.4), (1, 0.4))
_LEVEL: Knots = ((0, 0), (1, 0))


class Outline(NamedTuple):
    """
    A pattern: knots of (share of the time, level in heights), its side of the price, and where its trigger breaks.

    `bars` is how many bars it takes, least and most; `volume` what the breaking bar trades, in usual volumes;
    `quieted` the share of the market's own movement that is taken away inside: more where the pattern is finer.
    """

    knots: Knots
    side: int
    breaks_at: float
    bars: tuple[int, int] = (36, 60)
    volume: float = 1.5
    quieted: float = 0.75


OUTLINES = {
    "double_top": Outline(_DOUBLE_TOP, 1, 0.84),
    "double_bottom": Outline(_DOUBLE_TOP, -1, 0.84),
    "head_and_shoulders": Outline(_HEAD_AND_SHOULDERS, 1, 0.85),
    "inverse_head_and_shoulders": Outline(_HEAD_AND_SHOULDERS, -1, 0.85),
    "bull_flag": Outline(_FLAG, 1, 0.75),
    "bear_flag": Outline(_FLAG, -1, 0.75),
    "bull_pennant": Outline(_PENNANT, 1, 0.71, quieted=0.85),
    "bear_pennant": Outline(_PENNANT, -1, 0.71, quieted=0.85),
    "ascending_triangle": Outline(_ASCENDING, 1, 0.84),
    "descending_triangle": Outline(_ASCENDING, -1, 0.84),
    "symmetrical_triangle": Outline(_SYMMETRICAL, 1, 0.84),
    "rectangle": Outline(_RECTANGLE, 1, 0.89),
    "broadening": Outline(_BROADENING, 1, 0.88),
    "rising_wedge": Outline(_WEDGE, 1, 0.86),
    "falling_wedge": Outline(_WEDGE, -1, 0.86),
    "cup_and_handle": Outline(_CUP, 1, 0.91, bars=(56, 84)),
    "inverse_cup_and_handle": Outline(_CUP, -1, 0.91, bars=(56, 84)),
    "v_top": Outline(_SPIKE, 1, 0.8, bars=(14, 24)),
    "v_bottom": Outline(_SPIKE, -1, 0.8, bars=(14, 24)),
    "range_breakout": Outline(_RANGE, 1, 0.74, bars=(32, 50), quieted=0.88),
}
"""What the market draws; what a minute cannot hold (a jump between two bars, one bar's volume) is in SUDDEN."""

SUDDEN = {
    "gap_up": Outline(_JUMP, 1, 0.5, bars=(16, 30)),
    "gap_down": Outline(_JUMP, -1, 0.5, bars=(16, 30)),
    "volume_surge": Outline(_LEVEL, 1, 0.5, bars=(16, 30), volume=9.0),
}
PLANTED_EVERY = 5
_SHARE = 0.6  # of the days
_START_MINUTES = (60, 480)
_BAR_MINUTES = 5
_RELEASE_MINUTES = 480  # all three together stay inside a day of 23 hours
_LEAD = 150  # bars before a drawing's plant: more than any chart pattern looks back
_AFTER = 20
_STEPS = 12  # prices a bar
_MOVEMENT = 0.003  # deviation of a bar's own movement, in log price


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
    outline = OUTLINES[name]
    minutes = _between(outline.bars, length) * _BAR_MINUTES

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
    drawn = _drawn(outline, len(own), height=plant.height)
    logs = np.zeros(len(closes))
    logs[first:end] = drawn - outline.quieted * (own - line)
    logs[end : end + _RELEASE_MINUTES] = drawn[-1] * np.linspace(1, 0, _RELEASE_MINUTES)
    return _moved(closes, logs)


def _moved(closes: Integers, logs: Floats) -> Integers:
    """Return ticks to add; the price stays positive, since the bends are a few percent."""
    return np.rint(closes * np.expm1(logs)).astype(np.int64)


def _between(bounds: tuple[int, int], draw: float) -> int:
    return int(bounds[0] + draw * (bounds[1] - bounds[0]))


class Drawing(NamedTuple):
    """
    A pattern drawn in bars of its own: the window's bars [first, end) are the plant, `breaks` is about the one that confirms it.

    `direction` is the side it breaks out to, 0 where price has no part in it.
    """

    pattern: str
    direction: int
    window: BarWindow
    first: int
    breaks: int
    end: int


def drawing(pattern: str, *, seed: int, number: int) -> Drawing:
    """
    Return the `number`th drawing of a pattern: a random walk, the outline with the noise that a plant has in the market, some bars after it.

    The outline is 12 to 18 deviations of a bar's own movement high; equal arguments give equal bars. KeyError for a pattern without an outline.
    """
    outline = (OUTLINES | SUDDEN)[pattern]
    keys = streams(seed, f"drawing {pattern} {number}", f"steps of {pattern} {number}", f"volume of {pattern} {number}")
    length, height = uniforms(keys[:1], np.arange(2))[0].tolist()
    bars = _between((outline.bars[0], outline.bars[1] + 1), length) // 2 * 2  # a jump in the middle is between two bars
    first, end = _LEAD, _LEAD + bars
    own = _walk(keys[1:2], end + _AFTER)
    part = slice(first * _STEPS, end * _STEPS)
    drawn = _drawn(outline, part.stop - part.start, height=_MOVEMENT * (12 + 6 * height))
    quieted = outline.quieted * (own[part] - own[part.start])
    own[part] += drawn - quieted
    own[part.stop :] += drawn[-1] - quieted[-1]
    breaks = first + int(outline.breaks_at * bars)
    volume = _volumes(keys[2:], end + _AFTER)
    volume[breaks] *= outline.volume
    return Drawing(pattern, _direction(outline), _bars(pattern, own, volume), first, breaks, end)


def random_walk(bars: int, *, seed: int, number: int) -> BarWindow:
    """Return bars of a random walk that moves as drawings do before and after their plant; equal arguments give equal bars."""
    keys = streams(seed, f"walk {number}", f"volume of walk {number}")
    return _bars(f"walk {number}", _walk(keys[:1], bars), _volumes(keys[1:], bars))


def _drawn(outline: Outline, count: int, *, height: float) -> Floats:
    knots = np.array(outline.knots, dtype=np.float64)
    return np.asarray(outline.side * height * np.interp(np.linspace(0, 1, count), knots[:, 0], knots[:, 1]))


def _direction(outline: Outline) -> int:
    shares, levels = zip(*outline.knots, strict=True)
    return int(np.sign(outline.side * (levels[-1] - np.interp(outline.breaks_at - 0.01, shares, levels))))


def _walk(key: Streams, bars: int) -> Floats:
    return np.asarray(np.cumsum(normals(key, np.arange(bars * _STEPS))[0]) * (_MOVEMENT / np.sqrt(_STEPS)))


def _volumes(key: Streams, bars: int) -> Floats:
    return np.asarray(np.rint(20_000 * np.exp(0.4 * normals(key, np.arange(bars))[0])))


def _bars(symbol: str, logs: Floats, volume: Floats) -> BarWindow:
    """Return prices around 100 dollars, in cents, folded into bars of five minutes."""
    prices = (np.rint(10_000 * np.exp(logs)) / 100).reshape(-1, _STEPS)
    return BarWindow(
        symbols=(symbol,),
        starts=np.array([0, len(volume)]),
        opened_at_ms=int(day_starts()[0]) + np.arange(len(volume)) * _BAR_MINUTES * MINUTE_MS,
        open=prices[:, 0].copy(),
        high=prices.max(axis=1),
        low=prices.min(axis=1),
        close=prices[:, -1].copy(),
        volume=volume,
        vwap=np.full(len(volume), np.nan),
    )
