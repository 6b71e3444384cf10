"""How good the shape of a match is, and the trend it stands in. Pure; evidence whether it pays is another matter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.matches import Condition, Detector, Matches, Nature

TREND_BARS = 10
VOLUME_BARS = 20
CONTEXT_BARS = 5 + TREND_BARS + VOLUME_BARS
"""More bars before a match than this are never looked at."""

WEIGHTS = {"size": 0.25, "body": 0.25, "trend": 0.25, "volume": 0.15, "grade": 0.10}
_TRENDING = 0.5  # drifts inside ±0.5 are called flat
_USUAL_SIZE, _HALF_BODY, _USUAL_VOLUME = 1.0, 0.5, 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Quality:
    """
    Measures of matches, shape (m,); NaN where too few bars are stored to measure.

    `sign` is +1 bullish, -1 bearish, 0 neutral. `size` is the pattern's whole span over the usual range of a bar and the root of its
    candles; `body` the share of the span that is movement from open to close (of an indecision: that is not); `drift` the closes' move over
    the (up to) 10 bars before the pattern, in usual ranges over the root of the bars; `volume` the last bar's over the mean of the (up to)
    20 before. `usual_range` is the mean high - low of those 10 bars, in price units.
    """

    sign: Integers
    size: Floats
    body: Floats
    drift: Floats
    volume: Floats
    usual_range: Floats
    confidence: Floats

    def trend(self, index: int) -> str:
        """Return up, down, flat or unknown: the direction of the bars before the pattern."""
        drift = self.drift[index]
        if np.isnan(drift):
            return "unknown"
        return "flat" if abs(drift) < _TRENDING else ("up" if drift > 0 else "down")

    def conditions(self, index: int, detector: Detector) -> tuple[Condition, ...]:
        """
        Return what a good example of the pattern fulfils: none decides whether it is one, all count in the confidence.

        A size of one usual range, half of it body (of an indecision: no body), a trend for a reversal to turn, for a continuation to go on
        with and for an indecision to halt, and usual volume.
        """
        sign = int(self.sign[index])
        drift = float(self.drift[index])
        if sign == 0:
            trend = _condition("trend before, either way", abs(drift), ">=", _TRENDING)
        else:
            wanted = -sign if detector.nature is Nature.REVERSAL else sign
            trend = _condition("trend before", drift, ">=" if wanted > 0 else "<=", wanted * _TRENDING)
        body = "share without body" if detector.nature is Nature.INDECISION else "share of body"
        return (
            _condition("size in usual ranges", float(self.size[index]), ">=", _USUAL_SIZE),
            _condition(body, float(self.body[index]), ">=", _HALF_BODY),
            trend,
            _condition("volume over its mean", float(self.volume[index]), ">=", _USUAL_VOLUME),
        )


def _condition(name: str, measured: float, relation: str, threshold: float) -> Condition:
    if np.isnan(measured):
        return Condition(name, None, relation, threshold, passed=False)
    return Condition(name, measured, relation, threshold, passed=measured >= threshold if relation == ">=" else measured <= threshold)


def judge(window: BarWindow, matches: Matches, detectors: tuple[Detector, ...]) -> Quality:
    """
    Return the measures of each match and its confidence in [0, 1]: the weighted mean (WEIGHTS) of the scores that can be measured.

    size: s / (1 + s), one half where the pattern spans one usual range. body: as measured. trend: (1 + tanh a) / 2, where a is the drift
    against the pattern's direction for a reversal, with it for a continuation, and tanh |drift| for an indecision, which matters after a
    move. volume: v / (1 + v), one half at usual volume. grade: TA-Lib's 80, 100 or 200 over 200. The formula is ours; the trend is a part
    of it and never a filter.
    """
    end = matches.end
    start = window.starts[np.searchsorted(window.starts, end, side="right") - 1]
    candles = np.array([detector.candles for detector in detectors], dtype=np.int64)[matches.detector]
    indecision = np.array([detector.nature is Nature.INDECISION for detector in detectors], dtype=bool)[matches.detector]
    against = np.array([detector.nature is Nature.REVERSAL for detector in detectors], dtype=bool)[matches.detector]
    sign = _signs(matches, detectors)
    first = np.maximum(end - candles + 1, start)
    usual_range, drift = _context(window, first, np.minimum(first - start, TREND_BARS))
    span = _span(window, first, end)
    size = _quotient(span, usual_range * np.sqrt(candles))
    body = _body(window, first, end, span, indecision)
    volume = _quotient(window.volume[end], _mean_before(window.volume, end, np.minimum(end - start, VOLUME_BARS)))
    lean = np.where(against, -sign * drift, sign * drift)
    scores = {
        "size": size / (1 + size),
        "body": body,
        "trend": np.where(indecision, np.tanh(np.abs(drift)), (1 + np.tanh(lean)) / 2),
        "volume": volume / (1 + volume),
        "grade": np.abs(matches.grade) / 200,
    }
    return Quality(sign, size, body, drift, volume, usual_range, _weighted_mean(scores))


def _signs(matches: Matches, detectors: tuple[Detector, ...]) -> Integers:
    told = np.array([9 if detector.sign is None else detector.sign for detector in detectors], dtype=np.int64)[matches.detector]
    return np.where(told == 9, np.sign(matches.grade), told)


def _weighted_mean(scores: dict[str, Floats]) -> Floats:
    total = np.zeros(len(scores["grade"]))
    weight = np.zeros(len(scores["grade"]))
    for name, score in scores.items():
        known = ~np.isnan(score)
        total += np.where(known, WEIGHTS[name] * score, 0)
        weight += np.where(known, WEIGHTS[name], 0)
    return np.clip(total / weight, 0, 1)


def _quotient(above: Floats, below: Floats) -> Floats:
    """Return above / below, NaN where below is not positive."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=np.greater(below, 0))
    return result


def _mean_before(values: Floats, index: Integers, count: Integers) -> Floats:
    """Return the mean of the `count` values before each index, NaN where there is none; summed in a fixed order."""
    total = np.zeros(len(index))
    for back in range(1, int(count.max(initial=0)) + 1):
        inside: NDArray[np.bool_] = back <= count
        total += np.where(inside, values[np.where(inside, index - back, 0)], 0)
    return _quotient(total, count.astype(np.float64))


def _context(window: BarWindow, first: Integers, count: Integers) -> tuple[Floats, Floats]:
    """Return (usual range, drift) of the `count` bars before each pattern; the drift needs three of them."""
    usual = _mean_before(window.high - window.low, first, count)
    enough = count >= 3
    newest, oldest = np.where(enough, first - 1, 0), np.where(enough, first - count, 0)
    drift = _quotient(window.close[newest] - window.close[oldest], usual * np.sqrt(np.maximum(count - 1, 1)))
    return usual, np.where(enough, drift, np.nan)


def _span(window: BarWindow, first: Integers, end: Integers) -> Floats:
    high, low = window.high[end].copy(), window.low[end].copy()
    for back in range(1, int((end - first).max(initial=0)) + 1):
        index = np.maximum(end - back, first)
        high = np.maximum(high, window.high[index])
        low = np.minimum(low, window.low[index])
    return high - low


def _body(window: BarWindow, first: Integers, end: Integers, span: Floats, indecision: NDArray[np.bool_]) -> Floats:
    """Return the part of the span between the first open and the last close; of an indecision the rest. A bar of one price: 0."""
    moved = np.abs(window.close[end] - window.open[first])
    share = np.divide(moved, span, out=np.zeros(len(span)), where=span > 0)
    return np.where(indecision, np.where(span > 0, 1 - share, 0), share)
