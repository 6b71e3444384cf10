"""
Runs of bars as arrays, and the one idea of the twin's market: a bar is split into the bars of its parts, so that they add up exactly. Pure.

Prices are whole ticks, volumes thousandths of a share, both int64; `vwap` is in ticks and fractional.
"""

from typing import NamedTuple

import numpy as np

from marketdata.twin.noise import Floats, Integers

SHARE = 1_000
MIN_TRADES = 8  # in a minute: enough for open, high, low, close and every kind of ineligible print
MIN_TRADE_SIZE = 120  # shares a trade on average, at least: round lots for all that set prices


class Candles(NamedTuple):
    """Bars, one an index, all arrays of one shape."""

    open: Integers
    high: Integers
    low: Integers
    close: Integers
    vwap: Floats
    volume: Integers
    trades: Integers

    def take(self, index: slice | Integers) -> "Candles":
        """Return some of the bars."""
        return Candles._make(column[index] for column in self)

    def flat(self) -> "Candles":
        """Return the bars in one row, in their order."""
        return Candles._make(column.reshape(-1) for column in self)

    def fold(self, starts: Integers) -> "Candles":
        """Return one bar for each run that begins at an index of `starts`; the last one ends with the bars."""
        ends = np.append(starts[1:], len(self.open)) - 1
        volume = np.add.reduceat(self.volume, starts)
        return Candles(
            open=self.open[starts],
            high=np.maximum.reduceat(self.high, starts),
            low=np.minimum.reduceat(self.low, starts),
            close=self.close[ends],
            vwap=np.add.reduceat(self.vwap * self.volume, starts) / volume,
            volume=volume,
            trades=np.add.reduceat(self.trades, starts),
        )


def join(parts: list[Candles]) -> Candles:
    """Return several rows of bars as one."""
    return Candles._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


class Shape(NamedTuple):
    """What tells the parts of a bar apart, each of shape (bars, parts): weights that need not add up to one, and draws."""

    variance: Floats
    volume: Floats
    steps: Floats  # standard normal
    high: Floats  # uniform, as the three below
    low: Floats
    gap: Floats
    size: Floats


def bridge_reach(start: Floats, end: Floats, *, deviation: Floats, draw: Floats) -> Floats:
    """
    Return how far above its ends a Brownian path from `start` to `end` climbs, as a price.

    Source: the law of the maximum of a Brownian bridge, Karatzas and Shreve, Brownian Motion and Stochastic Calculus, 4.3.40.
    """
    return np.asarray((start + end + np.sqrt((start - end) ** 2 - 2 * deviation**2 * np.log(draw))) / 2)


def fit(path: Floats, *, inner: tuple[Floats, Floats], outer: tuple[Floats, Floats], reached: tuple[Floats, Floats]) -> Integers:
    """
    Return a path bent so that its extremes `reached` (low, high) come to lie on `outer`, in whole ticks.

    What lies between the `inner` prices stays; beyond them distances are stretched. Order is kept.
    """
    (bottom, top), (low, high), (deepest, highest) = inner, outer, reached
    above = (high - top) / np.maximum(highest - top, 1e-9)
    below = (bottom - low) / np.maximum(bottom - deepest, 1e-9)
    bent = np.clip(path, bottom, top) + np.maximum(path - top, 0) * above - np.maximum(bottom - path, 0) * below
    return np.rint(np.clip(bent, low, high)).astype(np.int64)


def apportion(total: Integers, weights: Floats) -> Integers:
    """Return whole numbers of at least 0, proportional to `weights` along the last axis, that add up to `total` exactly."""
    running = np.cumsum(weights, axis=-1)
    edges = np.rint(running / running[..., -1:] * total[..., None]).astype(np.int64)
    edges[..., 1:] -= edges[..., :-1].copy()
    return edges


def split(bars: Candles, shape: Shape, *, min_trades: int) -> Candles:
    """
    Return the parts of each bar, shape (bars, parts).

    The first part opens at the bar's open, the last closes at its close, the highest high and the lowest low are the bar's, volumes and
    trades add up exactly; the mean of the parts' `vwap` by volume is the bar's, save where a range of a tick or two forbids it.
    """
    opens, highs, lows, closes = _prices(bars, shape)
    typical = (opens + highs + lows + closes) / 4
    trades, volume = _activity(bars, shape, typical, min_trades=min_trades)
    return Candles(opens, highs, lows, closes, _vwap(bars, volume, typical, highs, lows), volume, trades)


def _prices(bars: Candles, shape: Shape) -> tuple[Integers, Integers, Integers, Integers]:
    """Return opens, highs, lows and closes of the parts: a Brownian bridge, bent into the bar's range."""
    start, end = (column[:, None].astype(np.float64) for column in (bars.open, bars.close))
    high, low = (column[:, None].astype(np.float64) for column in (bars.high, bars.low))
    variance = shape.variance / shape.variance.sum(axis=1, keepdims=True)
    # The range of a bridge is 1.25 deviations in the mean; a bar that closes where it never traded beyond leaves less room to wander
    way = np.abs(end - start)
    deviation = np.sqrt(variance) * ((high - low - way) / 1.25 + way / 4)
    walk = np.cumsum(shape.steps * deviation, axis=1)
    elapsed = np.cumsum(variance, axis=1)
    closes = start + walk + elapsed * (end - start - walk[:, -1:])
    # A bridge whose mean is known leans by its covariance with that mean, which is t (1 - t) / 2
    weights = shape.volume / shape.volume.sum(axis=1, keepdims=True)
    lean = elapsed * (1 - elapsed)
    closes += lean * (bars.vwap[:, None] - (weights * closes).sum(axis=1, keepdims=True)) / (weights * lean).sum(axis=1, keepdims=True)
    closes[:, -1:] = end
    opens = np.concatenate((start, closes[:, :-1] + (shape.gap[:, 1:] - 0.5) * deviation[:, 1:] * 0.6), axis=1)
    highs = bridge_reach(opens, closes, deviation=deviation, draw=shape.high)
    lows = -bridge_reach(-opens, -closes, deviation=deviation, draw=shape.low)
    inner = (np.minimum(start, end), np.maximum(start, end))
    reached = (lows.min(axis=1, keepdims=True), highs.max(axis=1, keepdims=True))
    bent = [fit(path, inner=inner, outer=(low, high), reached=reached) for path in (opens, highs, lows, closes)]
    return bent[0], bent[1], bent[2], bent[3]


def _activity(bars: Candles, shape: Shape, typical: Floats, *, min_trades: int) -> tuple[Integers, Integers]:
    """Return trades and volume of the parts: the profile with noise, leaning to the prices that give the bar its vwap."""
    weights = shape.volume * np.exp(1.2 * (shape.size - 0.5))
    weights = weights / weights.sum(axis=1, keepdims=True)
    mean = (weights * typical).sum(axis=1, keepdims=True)
    away = typical - mean
    spread = np.maximum((weights * away**2).sum(axis=1, keepdims=True), 1e-9)
    limit = 0.8 / np.maximum(np.abs(away).max(axis=1, keepdims=True), 1e-9)  # no weight falls below a fifth
    weights = weights * (1 + np.clip((bars.vwap[:, None] - mean) / spread, -limit, limit) * away)
    parts = weights.shape[1]
    trades = min_trades + apportion(bars.trades - parts * min_trades, weights)
    shares = MIN_TRADE_SIZE * trades + apportion(bars.volume // SHARE - MIN_TRADE_SIZE * bars.trades, weights)
    return trades, shares * SHARE


def _vwap(bars: Candles, volume: Integers, typical: Floats, highs: Integers, lows: Integers) -> Floats:
    """Return the parts' volume-weighted prices: typical ones, moved within their ranges until they agree with the bar's."""
    total = bars.volume[:, None].astype(np.float64)
    missing = bars.vwap[:, None] - (volume * typical).sum(axis=1, keepdims=True) / total
    toward = np.where(missing > 0, highs, lows) - typical
    room = (volume * toward).sum(axis=1, keepdims=True) / total
    share = np.divide(missing, room, out=np.zeros_like(missing), where=np.abs(room) > 1e-9)
    return np.asarray(typical + np.clip(share, 0, 1) * toward)
