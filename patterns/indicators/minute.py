"""Which indicators are kept for each one-minute bar, under which names. Pure: a window in, values by name out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers, last_bars
from patterns.indicators.averages import exponential_average, macd, trailing_mean
from patterns.indicators.momentum import relative_strength_index
from patterns.indicators.volatility import average_true_range, bollinger_bands
from patterns.indicators.volume import relative_volume

RECURSIVE = 120
"""Bars that a recursive indicator runs over, seeded at the first of them: a value depends on these and on nothing older."""

BatchOfRows = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Indicator:
    """Names of the values, the window they are a function of, and the function: columns of shape (length, m) to as many arrays as names."""

    names: tuple[str, ...]
    length: int
    compute: Callable[[BatchOfRows], tuple[Floats, ...]]


def _simple(length: int) -> Indicator:
    return Indicator((f"sma_{length}",), length, lambda rows: (trailing_mean(rows["close"], length=length),))


def _exponential(length: int) -> Indicator:
    return Indicator((f"ema_{length}",), RECURSIVE, lambda rows: (exponential_average(rows["close"], length=length),))


INDICATORS: tuple[Indicator, ...] = (
    *(_simple(length) for length in (5, 10, 20, 50)),
    *(_exponential(length) for length in (5, 10, 20, 50)),
    Indicator(("rsi_14",), RECURSIVE, lambda rows: (relative_strength_index(rows["close"], length=14),)),
    Indicator(("macd", "macd_signal", "macd_hist"), RECURSIVE, lambda rows: macd(rows["close"], fast=12, slow=26, signal=9)),
    Indicator(("bb_upper", "bb_middle", "bb_lower"), 20, lambda rows: bollinger_bands(rows["close"], length=20, deviations=2)),
    Indicator(("atr_14",), RECURSIVE, lambda rows: (average_true_range(rows["high"], rows["low"], rows["close"], length=14),)),
    Indicator(("rvol_20",), 21, lambda rows: (relative_volume(rows["volume"], length=20),)),
)
VWAP = "vwap"  # a function of the whole session: see session_sums
NAMES: tuple[str, ...] = (*(name for indicator in INDICATORS for name in indicator.names), VWAP)


def minute_values(window: BarWindow, ends: Integers) -> dict[str, Floats]:
    """Return for each name but VWAP the values at the bars `ends`, shape (m,); NaN where too few bars are stored."""
    values: dict[str, Floats] = {}
    picked: dict[int, tuple[BatchOfRows, Integers]] = {}
    for indicator in INDICATORS:
        if indicator.length not in picked:
            index, count = last_bars(window, ends, length=indicator.length)
            picked[indicator.length] = {name: getattr(window, name)[index] for name in ("high", "low", "close", "volume")}, count
        rows, count = picked[indicator.length]
        for name, result in zip(indicator.names, indicator.compute(rows), strict=True):
            values[name] = result[count - 1, np.arange(len(ends))]
    return values
