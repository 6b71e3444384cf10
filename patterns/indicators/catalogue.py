"""Which indicators there are for the bars of each interval, under which names. Pure: a window in, values by name out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import BarWindow, Floats, Integers, last_bars
from patterns.indicators.averages import exponential_average, macd, trailing_mean
from patterns.indicators.momentum import directional_index, relative_strength_index, stochastic
from patterns.indicators.pivots import CLASSIC, FIBONACCI, classic_pivots, fibonacci_pivots
from patterns.indicators.volatility import average_true_range, bollinger_bands
from patterns.indicators.volume import SessionSums, on_balance_volume, relative_volume

INTERVALS = ("1m", "5m", "15m", "1h", "1d")
"""The intervals whose bars are scanned."""

RECURSIVE, RECURSIVE_DAYS = 120, 500
"""Bars that a recursive indicator runs over, seeded at the first of them: a value depends on these and on nothing older."""

SEEDED = 20
"""Bars that an exponential average runs at least after its seed: one of 200 bars runs over 220."""

LENGTHS, LONG = (5, 10, 20, 50), (100, 200)
CHANGE_DAYS = 20
"""Sessions over which the relative strength of a day is taken; that of a bar within the day is taken from the session's close before."""

BatchOfRows = dict[str, Floats]
_COLUMNS = ("high", "low", "close", "volume")
_ELEMENTS = 1_500_000  # of one array at a time: what a processor keeps near


@dataclass(frozen=True, slots=True)
class Indicator:
    """Names of the values, the window they are a function of, and the function: columns of shape (length, m) to as many arrays as names."""

    names: tuple[str, ...]
    length: int
    compute: Callable[[BatchOfRows], tuple[Floats, ...]]


def _simple(length: int) -> Indicator:
    return Indicator((f"sma_{length}",), length, lambda rows: (trailing_mean(rows["close"], length=length),))


def _exponential(length: int, recursive: int) -> Indicator:
    return Indicator((f"ema_{length}",), max(recursive, length + SEEDED), lambda rows: (exponential_average(rows["close"], length=length),))


def _of_windows(recursive: int) -> tuple[Indicator, ...]:
    """Return what every interval has; `recursive` bars for those that remember."""
    return (
        *(_simple(length) for length in LENGTHS),
        *(_exponential(length, recursive) for length in LENGTHS),
        Indicator(("rsi_14",), recursive, lambda rows: (relative_strength_index(rows["close"], length=14),)),
        Indicator(("macd", "macd_signal", "macd_hist"), recursive, lambda rows: macd(rows["close"], fast=12, slow=26, signal=9)),
        Indicator(("bb_upper", "bb_middle", "bb_lower"), 20, lambda rows: bollinger_bands(rows["close"], length=20, deviations=2)),
        Indicator(("stoch_k", "stoch_d"), 16, lambda rows: stochastic(rows["high"], rows["low"], rows["close"], length=14, smooth=3)),
        Indicator(("atr_14",), recursive, lambda rows: (average_true_range(rows["high"], rows["low"], rows["close"], length=14),)),
        Indicator(("adx_14",), recursive, lambda rows: (directional_index(rows["high"], rows["low"], rows["close"], length=14),)),
        Indicator(("rvol_20",), 21, lambda rows: (relative_volume(rows["volume"], length=20),)),
    )


def _long(recursive: int) -> tuple[Indicator, ...]:
    return tuple(indicator for length in LONG for indicator in (_simple(length), _exponential(length, recursive)))


_OBV_OF_DAYS = Indicator(("obv",), RECURSIVE_DAYS, lambda rows: (on_balance_volume(rows["close"], rows["volume"]),))

STORED: dict[str, tuple[Indicator, ...]] = {
    "1m": _of_windows(RECURSIVE),
    "5m": (*_of_windows(RECURSIVE), *_long(RECURSIVE)),
    "15m": (*_of_windows(RECURSIVE), *_long(RECURSIVE)),
    "1h": (*_of_windows(RECURSIVE), *_long(RECURSIVE)),
    "1d": (*_of_windows(RECURSIVE_DAYS), *_long(RECURSIVE_DAYS), _OBV_OF_DAYS),
}
"""What is kept for each bar, as far as it is a function of the bars before it."""

ON_DEMAND: dict[str, tuple[Indicator, ...]] = {"1m": _long(RECURSIVE)}
"""What is computed when somebody asks for it: of the minutes, the long averages."""

SESSION_NAMES = ("vwap", "vwap_upper_1", "vwap_lower_1", "vwap_upper_2", "vwap_lower_2", "obv", "rvol_projected")
"""Functions of the session up to the bar: see `session_sums`. Days have none of them."""

PIVOT_NAMES = (*CLASSIC, *FIBONACCI)
STRENGTH = "rs_spy"
BENCHMARK = "SPY"


def names_of(indicators: Sequence[Indicator]) -> tuple[str, ...]:
    """Return the names of the values."""
    return tuple(name for indicator in indicators for name in indicator.names)


NAMES: dict[str, tuple[str, ...]] = {
    interval: (*names_of(STORED[interval]), *(() if interval == "1d" else SESSION_NAMES), *PIVOT_NAMES, STRENGTH) for interval in INTERVALS
}
"""All that is stored for a bar of each interval."""

ALL_NAMES: tuple[str, ...] = tuple(dict.fromkeys(name for names in NAMES.values() for name in names))
LONGEST: dict[str, int] = {interval: max(indicator.length for indicator in STORED[interval]) for interval in INTERVALS}
"""Bars up to and with a bar that its values are a function of."""


def window_values(window: BarWindow, ends: Integers, indicators: Sequence[Indicator]) -> dict[str, Floats]:
    """Return for each name the values at the bars `ends`, shape (m,); NaN where too few bars are stored."""
    longest = max((indicator.length for indicator in indicators), default=1)
    step = max(_ELEMENTS // longest, 1)
    pieces = [_values(window, ends[first : first + step], indicators) for first in range(0, max(len(ends), 1), step)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _values(window: BarWindow, ends: Integers, indicators: Sequence[Indicator]) -> dict[str, Floats]:
    values: dict[str, Floats] = {}
    picked: dict[int, tuple[BatchOfRows, Integers]] = {}
    for indicator in indicators:
        if indicator.length not in picked:
            index, count = last_bars(window, ends, length=indicator.length)
            picked[indicator.length] = {name: getattr(window, name)[index] for name in _COLUMNS}, count
        rows, count = picked[indicator.length]
        for name, result in zip(indicator.names, indicator.compute(rows), strict=True):
            values[name] = result[count - 1, np.arange(len(ends))]
    return values


@dataclass(frozen=True, eq=False, slots=True)
class SessionBefore:
    """
    For each bar the last finished session before its own, shape (m,): prices in dollars, NaN where it is not stored.

    `usual_volume` is the mean volume of the last 20 such sessions, NaN with fewer. `elapsed` is the share of the bar's own regular session
    that is over with the bar, NaN outside of one.
    """

    high: Floats
    low: Floats
    close: Floats
    usual_volume: Floats
    elapsed: Floats


def session_values(sums: SessionSums, before: SessionBefore) -> dict[str, Floats]:
    """
    Return the values of SESSION_NAMES: VWAP, its bands at one and two standard deviations by volume, on-balance volume, projected RVOL.

    The projection takes the rest of the session to trade as the part that is over: volume ÷ elapsed share ÷ usual volume of a session.
    """
    average, deviation = sums.average(), sums.deviation()
    expected = before.usual_volume * before.elapsed
    projected = np.divide(sums.volume, expected, out=np.full(len(expected), np.nan), where=np.greater(expected, 0))
    bands = (average + deviation, average - deviation, average + 2 * deviation, average - 2 * deviation)
    return dict(zip(SESSION_NAMES, (average, *bands, sums.balance, projected), strict=True))


def pivot_values(before: SessionBefore) -> dict[str, Floats]:
    """Return the levels of PIVOT_NAMES."""
    prices = before.high, before.low, before.close
    return dict(zip(PIVOT_NAMES, (*classic_pivots(*prices), *fibonacci_pivots(*prices)), strict=True))
