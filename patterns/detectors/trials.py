"""
What every detector must hold, measured: the answer depends on the bars before it alone, and on price's direction by sign alone; planted patterns
are found, random walks are not full of them. Pure; `manage.py check_detectors` shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from marketdata.bars.window import BarWindow, Integers
from marketdata.twin.plants import OUTLINES, SUDDEN, Drawing, drawing, random_walk
from patterns.detectors.candlesticks import CANDLESTICKS, LOOK_BACK, find_candlesticks
from patterns.detectors.matches import Shape, ShapeDetector

SEED = 1
DRAWINGS = 100
WALKS = 50
WALK_BARS = 2_000
LEAST_RECALL = 0.95
MOST_FALSE = 2.0
"""Detections per 1,000 bars of a random walk that a shape may have; facts have no bound."""
_OTHERS = 400  # ends without a shape that are asked again
_NEAR = 6  # a shape counts when it ends within a sixth of its plant's length around the break
_SAME = 1e-9  # confidence of a mirrored shape: 1 / p is rounded

Tester = Callable[[BarWindow, Integers], Sequence[tuple[int, object]]]


@dataclass(frozen=True, slots=True)
class Trial:
    """
    What was measured of one detector; None where it does not apply.

    `bars` were looked at for `prefix` (answers that the future, or bars before the look-back, changed) and `mirror` (shapes without their like on
    mirrored prices); `parity` counts bars on which TA-Lib alone says something else; `recall` is of planted patterns; `rate` are detections per
    1,000 bars of random walks.
    """

    pattern_type: str
    bars: int
    found: int
    prefix: int
    mirror: int | None
    parity: int | None
    recall: float | None
    rate: float
    fact: bool

    @property
    def faults(self) -> tuple[str, ...]:
        """Return what is wrong, in words."""
        found = []
        if self.prefix:
            found.append(
                f"{self.prefix} answers change with bars that it must not look at: read nothing after the end or before the look-back"
            )
        if self.mirror:
            found.append(f"{self.mirror} shapes have no like on mirrored prices: measure on logarithms, treat both sides alike")
        if self.parity:
            found.append(f"{self.parity} bars are judged otherwise than by TA-Lib alone")
        if self.recall is not None and self.recall < LEAST_RECALL:
            found.append(f"{self.recall:.0%} of the planted patterns are found, {LEAST_RECALL:.0%} must be: loosen a condition")
        if self.rate > MOST_FALSE and not self.fact:
            found.append(f"{self.rate:.2f} detections in 1,000 bars of a random walk, {MOST_FALSE:g} at most: tighten a condition")
        return tuple(found)


@dataclass(frozen=True, eq=False, slots=True)
class Ground:
    """The bars that detectors are tried on: real and synthetic for what must hold anywhere, walks for the base rate, how many drawings."""

    bars: BarWindow
    walks: BarWindow
    drawings: int
    seed: int


def ground(*, seed: int = SEED, drawings: int = DRAWINGS, walks: int = WALKS, real: Sequence[BarWindow] = ()) -> Ground:
    """Return the ground of a seed; the first fifth of the walks is looked at for laws too, together with real bars."""
    made = [random_walk(WALK_BARS, seed=seed, number=number) for number in range(walks)]
    return Ground(joined([*made[: max(1, walks // 5)], *real]), joined(made), drawings, seed)


def try_shape(detector: ShapeDetector, table: dict[str, ShapeDetector], on: Ground) -> Trial:
    """Return the trial of a chart pattern; KeyError if the mirror that it names is not in the table."""
    every = np.arange(len(on.bars), dtype=np.int64)
    shapes = detector.find(on.bars, every)
    return Trial(
        pattern_type=detector.pattern_type,
        bars=len(on.bars),
        found=len(shapes),
        prefix=_prefix_changes(_told_by(detector), on.bars, look_back=detector.look_back),
        mirror=_mirror_differences(table[detector.mirror], on.bars, shapes) if detector.mirror else None,
        parity=None,
        recall=recall(detector, on) if detector.pattern_type in OUTLINES | SUDDEN else None,
        rate=1_000 * len(detector.find(on.walks, np.arange(len(on.walks), dtype=np.int64))) / len(on.walks),
        fact=detector.fact,
    )


def try_candlesticks(on: Ground) -> list[Trial]:
    """Return the trials of all candlesticks, which are found together."""
    every = np.arange(len(on.bars), dtype=np.int64)
    grades = np.zeros((len(on.bars), len(CANDLESTICKS)), dtype=np.int64)
    matches = find_candlesticks(on.bars, every)
    grades[matches.end, matches.detector] = matches.grade
    ends = np.unique(np.concatenate((every[:: max(1, len(every) // _OTHERS)], matches.end[:: max(1, len(matches) // _OTHERS)])))
    part = cut(on.bars, ends, before=LOOK_BACK)
    last = part.starts[1:] - 1
    again = find_candlesticks(part, last)
    alone = np.zeros_like(grades)
    alone[ends[np.searchsorted(last, again.end)], again.detector] = again.grade
    walked = find_candlesticks(on.walks, np.arange(len(on.walks), dtype=np.int64))
    rates = np.bincount(walked.detector, minlength=len(CANDLESTICKS)) * 1_000 / len(on.walks)
    return [
        Trial(
            pattern_type=detector.pattern_type,
            bars=len(on.bars),
            found=int((grades[:, place] != 0).sum()),
            prefix=int((grades[ends, place] != alone[ends, place]).sum()),
            mirror=None,
            parity=int((grades[:, place] != _talib_alone(on.bars, place)).sum()),
            recall=None,
            rate=float(rates[place]),
            fact=True,
        )
        for place, detector in enumerate(CANDLESTICKS)
    ]


def _talib_alone(window: BarWindow, place: int) -> Integers:
    """Return TA-Lib's own word, symbol by symbol over the whole run."""
    grades = np.zeros(len(window), dtype=np.int64)
    for first, end in zip(window.starts[:-1].tolist(), window.starts[1:].tolist(), strict=True):
        prices = [price[first:end].copy() for price in (window.open, window.high, window.low, window.close)]
        grades[first:end] = CANDLESTICKS[place].function(*prices)
    return grades


def recall(detector: ShapeDetector, on: Ground) -> float:
    """Return which share of a pattern's drawings it finds: about where it breaks, in the direction in which it does."""
    drawn = [drawing(detector.pattern_type, seed=on.seed, number=number) for number in range(on.drawings)]
    window = joined([one.window for one in drawn])
    shapes = detector.find(window, np.arange(len(window), dtype=np.int64))
    run, position = window.run, window.position
    hit = {int(run[shape.end]) for shape in shapes if _fits(drawn[run[shape.end]], int(position[shape.end]), shape.direction)}
    return len(hit) / len(drawn)


def _fits(drawn: Drawing, position: int, direction: int) -> bool:
    near = max(3, (drawn.end - drawn.first) // _NEAR)
    return abs(position - drawn.breaks) <= near and drawn.direction in (0, direction)


def _told_by(detector: ShapeDetector) -> Tester:
    def told(window: BarWindow, ends: Integers) -> list[tuple[int, object]]:
        return [(shape.end, replace(shape, end=0)) for shape in detector.find(window, ends)]

    return told


def _prefix_changes(told: Tester, window: BarWindow, *, look_back: int) -> int:
    """Return how many answers differ when a bar is judged with its look-back alone, of all that say something and some that do not."""
    whole = dict(told(window, np.arange(len(window), dtype=np.int64)))
    some = np.linspace(0, len(window) - 1, min(_OTHERS, len(window))).astype(np.int64)
    ends = np.unique(np.concatenate((some, np.array(sorted(whole), dtype=np.int64))))
    part = cut(window, ends, before=look_back)
    last = part.starts[1:] - 1
    again = {int(ends[np.searchsorted(last, end)]): shape for end, shape in told(part, last)}
    return sum(whole.get(end) != again.get(end) for end in ends.tolist())


def _mirror_differences(partner: ShapeDetector, window: BarWindow, shapes: Sequence[Shape]) -> int:
    """Return how many shapes the partner does not find on mirrored prices with the other direction and the same confidence, and it alone finds."""
    there = {shape.end: shape for shape in partner.find(mirrored(window), np.arange(len(window), dtype=np.int64))}
    here = {shape.end: shape for shape in shapes}

    def alike(end: int) -> bool:
        one, other = here.get(end), there.get(end)
        return (
            one is not None and other is not None and one.direction == -other.direction and abs(one.confidence - other.confidence) < _SAME
        )

    return sum(not alike(end) for end in here.keys() | there.keys())


def mirrored(window: BarWindow) -> BarWindow:
    """Return the window with each price turned into its inverse: rises become falls of the same size in logarithms."""
    return replace(window, open=1 / window.open, high=1 / window.low, low=1 / window.high, close=1 / window.close, vwap=1 / window.vwap)


def cut(window: BarWindow, ends: Integers, *, before: int) -> BarWindow:
    """Return each end with at most `before` bars of its symbol before it, as a symbol of its own."""
    start = np.maximum(window.starts[np.searchsorted(window.starts, ends, side="right") - 1], ends - before)
    size = ends - start + 1
    starts = np.concatenate(([0], np.cumsum(size))).astype(np.int64)
    index = np.arange(starts[-1]) - np.repeat(starts[:-1] - start, size)
    columns = {field.name: getattr(window, field.name)[index] for field in fields(BarWindow)[2:]}
    return BarWindow(tuple(f"{end}" for end in ends.tolist()), starts, **columns)


def joined(windows: Sequence[BarWindow]) -> BarWindow:
    """Return several windows as one, the symbols one behind the other."""
    sizes = [int(size) for window in windows for size in np.diff(window.starts)]
    columns = {field.name: np.concatenate([getattr(window, field.name) for window in windows]) for field in fields(BarWindow)[2:]}
    symbols = tuple(symbol for window in windows for symbol in window.symbols)
    return BarWindow(symbols, np.concatenate(([0], np.cumsum(sizes))).astype(np.int64), **columns)
