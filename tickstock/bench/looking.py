"""Windows → candlesticks and indicators, the whole market at once, against TA-Lib called symbol by symbol. One core."""

import time
from collections.abc import Iterator

import numpy as np
import talib

from marketdata.bars.window import BarWindow, Integers
from patterns.detectors.candlesticks import CANDLESTICKS, find_candlesticks
from patterns.detectors.quality import judge
from patterns.indicators.catalogue import STORED, window_values
from tickstock.bench.rows import Place, Row, alternate, growth_row, time_row

BARS = 120


def rows(place: Place) -> Iterator[Row]:
    """Yield the rows of looking at bars."""
    points = []
    for symbols, repeats in ((70, place.repeats), (1_000, place.repeats), (11_000, 1)):
        window = market(symbols)
        ends = window.starts[1:] - 1

        def ours(window: BarWindow = window, ends: Integers = ends) -> None:
            judge(window, find_candlesticks(window, ends), CANDLESTICKS)
            window_values(window, ends, STORED["1m"])

        mine, peer = alternate(repeats, ours, lambda window=window: _one_by_one(window), clock=time.process_time)  # type: ignore[misc]
        yield time_row(
            f"61 candlesticks + indicators of a minute, {symbols:,} symbols", "TA-Lib symbol by symbol", ours=mine, peer=peer, goal=1 / 3,
            note=f"{peer / mine:.1f} times as fast",
        )  # fmt: skip
        points.append((symbols, mine))
    yield growth_row("61 candlesticks + indicators of a minute", points)


def market(symbols: int) -> BarWindow:
    """Return 120 bars of each symbol, a random walk with a fixed seed."""
    chance = np.random.default_rng(7)
    count = symbols * BARS
    close = np.round(50 * np.exp(np.cumsum(chance.normal(0, 0.001, (symbols, BARS)), axis=1)), 2).ravel()
    open_ = np.round(close * (1 + chance.normal(0, 0.0005, count)), 2)
    high = np.round(np.maximum(open_, close) * (1 + np.abs(chance.normal(0, 0.0004, count))), 2)
    low = np.round(np.minimum(open_, close) * (1 - np.abs(chance.normal(0, 0.0004, count))), 2)
    volume = np.round(chance.lognormal(7, 0.5, count))
    starts = np.arange(symbols + 1, dtype=np.int64) * BARS
    at = np.tile(1_795_185_000_000 + 60_000 * np.arange(BARS, dtype=np.int64), symbols)
    return BarWindow(tuple(f"B{index:05d}" for index in range(symbols)), starts, at, open_, high, low, close, volume, close.copy())


def _one_by_one(window: BarWindow) -> None:
    for first, last in zip(window.starts[:-1].tolist(), window.starts[1:].tolist(), strict=True):
        open_, high, low, close = (prices[first:last] for prices in (window.open, window.high, window.low, window.close))
        for detector in CANDLESTICKS:
            detector.function(open_[-40:], high[-40:], low[-40:], close[-40:])
        for length in (5, 10, 20, 50):
            talib.SMA(close, length)
            talib.EMA(close, length)
        talib.RSI(close, 14)
        talib.MACD(close, 12, 26, 9)
        talib.BBANDS(close, 20, 2, 2)
        talib.ATR(high, low, close, 14)
