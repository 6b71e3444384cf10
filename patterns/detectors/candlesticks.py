"""
TA-Lib's 61 candlesticks, the whole market in one pass. Pure.

The symbols' windows stand behind one another in one array, so that each function is called once. TA-Lib keeps running sums over that array,
and a rounding error of one symbol would decide ties of the next; hence prices are scaled by powers of two (which changes no comparison)
to a range in which all those sums are exact. A result then depends on the look-back of its bar and on nothing else, and equals
TA-Lib's own on the symbol alone. Windows too wild for that are asked for one by one.
"""

from collections.abc import Callable

import numpy as np
import talib
from numpy.typing import NDArray

from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors.matches import Detector, Matches, Nature

REVERSAL, CONTINUATION, INDECISION = Nature.REVERSAL, Nature.CONTINUATION, Nature.INDECISION

# The source of direction is TA-Lib's sign. Its own notes except those that carry a `sign` here: they are "neither bullish nor bearish
# when considered alone" (0), or always positive although read by their shape (Nison, Japanese Candlestick Charting Techniques, 1991).
CANDLESTICKS: tuple[Detector, ...] = (
    Detector("2crows", "Two crows", talib.CDL2CROWS, 12, 3, REVERSAL),
    Detector("3blackcrows", "Three black crows", talib.CDL3BLACKCROWS, 13, 3, REVERSAL),
    Detector("3inside", "Three inside", talib.CDL3INSIDE, 12, 3, REVERSAL),
    Detector("3linestrike", "Three-line strike", talib.CDL3LINESTRIKE, 8, 4, CONTINUATION),
    Detector("3outside", "Three outside", talib.CDL3OUTSIDE, 3, 3, REVERSAL),
    Detector("3starsinsouth", "Three stars in the south", talib.CDL3STARSINSOUTH, 12, 3, REVERSAL),
    Detector("3whitesoldiers", "Three white soldiers", talib.CDL3WHITESOLDIERS, 12, 3, REVERSAL),
    Detector("abandonedbaby", "Abandoned baby", talib.CDLABANDONEDBABY, 12, 3, REVERSAL),
    Detector("advanceblock", "Advance block", talib.CDLADVANCEBLOCK, 12, 3, REVERSAL),
    Detector("belthold", "Belt hold", talib.CDLBELTHOLD, 10, 1, REVERSAL),
    Detector("breakaway", "Breakaway", talib.CDLBREAKAWAY, 14, 5, REVERSAL),
    Detector("closingmarubozu", "Closing marubozu", talib.CDLCLOSINGMARUBOZU, 10, 1, CONTINUATION),
    Detector("concealbabyswall", "Concealing baby swallow", talib.CDLCONCEALBABYSWALL, 13, 4, REVERSAL),
    Detector("counterattack", "Counterattack", talib.CDLCOUNTERATTACK, 11, 2, REVERSAL),
    Detector("darkcloudcover", "Dark cloud cover", talib.CDLDARKCLOUDCOVER, 11, 2, REVERSAL),
    Detector("doji", "Doji", talib.CDLDOJI, 10, 1, INDECISION, sign=0),
    Detector("dojistar", "Doji star", talib.CDLDOJISTAR, 11, 2, REVERSAL),
    Detector("dragonflydoji", "Dragonfly doji", talib.CDLDRAGONFLYDOJI, 10, 1, REVERSAL, sign=1),
    Detector("engulfing", "Engulfing", talib.CDLENGULFING, 2, 2, REVERSAL),
    Detector("eveningdojistar", "Evening doji star", talib.CDLEVENINGDOJISTAR, 12, 3, REVERSAL),
    Detector("eveningstar", "Evening star", talib.CDLEVENINGSTAR, 12, 3, REVERSAL),
    Detector("gapsidesidewhite", "Gap side-by-side white lines", talib.CDLGAPSIDESIDEWHITE, 7, 3, CONTINUATION),
    Detector("gravestonedoji", "Gravestone doji", talib.CDLGRAVESTONEDOJI, 10, 1, REVERSAL, sign=-1),
    Detector("hammer", "Hammer", talib.CDLHAMMER, 11, 1, REVERSAL),
    Detector("hangingman", "Hanging man", talib.CDLHANGINGMAN, 11, 1, REVERSAL),
    Detector("harami", "Harami", talib.CDLHARAMI, 11, 2, REVERSAL),
    Detector("haramicross", "Harami cross", talib.CDLHARAMICROSS, 11, 2, REVERSAL),
    Detector("highwave", "High wave", talib.CDLHIGHWAVE, 10, 1, INDECISION, sign=0),
    Detector("hikkake", "Hikkake", talib.CDLHIKKAKE, 5, 3, CONTINUATION),
    Detector("hikkakemod", "Modified hikkake", talib.CDLHIKKAKEMOD, 10, 4, REVERSAL),
    Detector("homingpigeon", "Homing pigeon", talib.CDLHOMINGPIGEON, 11, 2, REVERSAL),
    Detector("identical3crows", "Identical three crows", talib.CDLIDENTICAL3CROWS, 12, 3, REVERSAL),
    Detector("inneck", "In-neck", talib.CDLINNECK, 11, 2, CONTINUATION),
    Detector("invertedhammer", "Inverted hammer", talib.CDLINVERTEDHAMMER, 11, 1, REVERSAL),
    Detector("kicking", "Kicking", talib.CDLKICKING, 11, 2, REVERSAL),
    Detector("kickingbylength", "Kicking, by the longer marubozu", talib.CDLKICKINGBYLENGTH, 11, 2, REVERSAL),
    Detector("ladderbottom", "Ladder bottom", talib.CDLLADDERBOTTOM, 14, 5, REVERSAL),
    Detector("longleggeddoji", "Long-legged doji", talib.CDLLONGLEGGEDDOJI, 10, 1, INDECISION, sign=0),
    Detector("longline", "Long line", talib.CDLLONGLINE, 10, 1, CONTINUATION),
    Detector("marubozu", "Marubozu", talib.CDLMARUBOZU, 10, 1, CONTINUATION),
    Detector("matchinglow", "Matching low", talib.CDLMATCHINGLOW, 6, 2, REVERSAL),
    Detector("mathold", "Mat hold", talib.CDLMATHOLD, 14, 5, CONTINUATION),
    Detector("morningdojistar", "Morning doji star", talib.CDLMORNINGDOJISTAR, 12, 3, REVERSAL),
    Detector("morningstar", "Morning star", talib.CDLMORNINGSTAR, 12, 3, REVERSAL),
    Detector("onneck", "On-neck", talib.CDLONNECK, 11, 2, CONTINUATION),
    Detector("piercing", "Piercing", talib.CDLPIERCING, 11, 2, REVERSAL),
    Detector("rickshawman", "Rickshaw man", talib.CDLRICKSHAWMAN, 10, 1, INDECISION, sign=0),
    Detector("risefall3methods", "Rising or falling three methods", talib.CDLRISEFALL3METHODS, 14, 5, CONTINUATION),
    Detector("separatinglines", "Separating lines", talib.CDLSEPARATINGLINES, 11, 2, CONTINUATION),
    Detector("shootingstar", "Shooting star", talib.CDLSHOOTINGSTAR, 11, 1, REVERSAL),
    Detector("shortline", "Short line", talib.CDLSHORTLINE, 10, 1, INDECISION, sign=0),
    Detector("spinningtop", "Spinning top", talib.CDLSPINNINGTOP, 10, 1, INDECISION, sign=0),
    Detector("stalledpattern", "Stalled pattern", talib.CDLSTALLEDPATTERN, 12, 3, REVERSAL),
    Detector("sticksandwich", "Stick sandwich", talib.CDLSTICKSANDWICH, 7, 3, REVERSAL),
    Detector("takuri", "Takuri line", talib.CDLTAKURI, 10, 1, REVERSAL, sign=1),
    Detector("tasukigap", "Tasuki gap", talib.CDLTASUKIGAP, 7, 3, CONTINUATION),
    Detector("thrusting", "Thrusting", talib.CDLTHRUSTING, 11, 2, CONTINUATION),
    Detector("tristar", "Tristar", talib.CDLTRISTAR, 12, 3, REVERSAL),
    Detector("unique3river", "Unique three river", talib.CDLUNIQUE3RIVER, 12, 3, REVERSAL),
    Detector("upsidegap2crows", "Upside gap two crows", talib.CDLUPSIDEGAP2CROWS, 12, 3, REVERSAL),
    Detector("xsidegap3methods", "Gap three methods", talib.CDLXSIDEGAP3METHODS, 2, 3, CONTINUATION),
)  # fmt: skip
LOOK_BACK = max(detector.look_back for detector in CANDLESTICKS)

Prices = tuple[Floats, Floats, Floats, Floats]

_PIECE = 64  # bars judged in one piece; each piece repeats the look-back before it
# With the highest price of a piece scaled into [0.5, 1) and none under 0.25, every number is a whole multiple of 2^-54; the longest sum
# TA-Lib keeps spans 10 ranges (5 of them in other places), so ranges up to 2^-5 keep it under 0.5: 53 bits hold it exactly.
_LOWEST = 0.25
_WIDEST = 2.0**-5


def find_candlesticks(window: BarWindow, ends: Integers) -> Matches:
    """Return the candlesticks that end on the bars `ends` (ascending indices of the window), each from its own look-back on."""
    if not len(ends):
        return Matches(ends, ends.copy(), ends.copy())
    grades = _grades(window, ends)
    position = ends - window.starts[np.searchsorted(window.starts, ends, side="right") - 1]
    look_back = np.array([detector.look_back for detector in CANDLESTICKS])
    found = (grades != 0) & (position[:, None] >= look_back)
    bar, detector = np.nonzero(found)
    return Matches(ends[bar], detector.astype(np.int64), grades[bar, detector].astype(np.int64))


def _grades(window: BarWindow, ends: Integers) -> NDArray[np.int32]:
    """Return TA-Lib's word on each bar of `ends` by each detector, shape (m, 61); meaningless before the detector's look-back."""
    first, size, piece = _pieces(window, ends)
    offset = np.concatenate(([0], np.cumsum(size))).astype(np.int64)
    index = np.arange(offset[-1]) - np.repeat(offset[:-1] - first, size)
    prices: Prices = (window.open[index], window.high[index], window.low[index], window.close[index])
    scaled, calm = _scaled(prices, offset[:-1], size)
    place = offset[piece] + ends - first[piece]  # of each end among the joined pieces
    grades = np.zeros((len(ends), len(CANDLESTICKS)), dtype=np.int32)
    together = calm[piece]
    grades[together] = _together(scaled, np.repeat(calm, size), place[together])
    for row in np.flatnonzero(~together).tolist():
        grades[row] = _alone(prices, int(offset[piece[row]]), int(place[row]))
    return grades


def _together(prices: Prices, keep: NDArray[np.bool_], place: Integers) -> NDArray[np.int32]:
    """Return the grades at `place`, shape (m, 61), from the bars to keep: each function is called once."""
    kept: list[Floats] = [price[keep] for price in prices]
    at: Integers = (np.cumsum(keep) - 1)[place]
    grades = np.zeros((len(place), len(CANDLESTICKS)), dtype=np.int32)
    if len(place):
        for column, detector in enumerate(CANDLESTICKS):
            grades[:, column] = detector.function(*kept)[at]
    return grades


def _pieces(window: BarWindow, ends: Integers) -> tuple[Integers, Integers, Integers]:
    """Return (first bar, size) of the stretches that hold `ends` with their look-back, and for each end the stretch it lies in."""
    run = np.searchsorted(window.starts, ends, side="right") - 1
    block = (ends - window.starts[run]) // _PIECE
    is_new = np.concatenate(([True], (np.diff(run) != 0) | (np.diff(block) != 0)))
    head = np.flatnonzero(is_new)
    tail = np.concatenate((head[1:], [len(ends)])) - 1
    first = np.maximum(ends[head] - LOOK_BACK, window.starts[run[head]])
    return first, ends[tail] - first + 1, np.cumsum(is_new) - 1


def _scaled(prices: Prices, offset: Integers, size: Integers) -> tuple[Prices, NDArray[np.bool_]]:
    """Return the prices with each piece's highest brought into [0.5, 1) by a power of two, and which pieces may be joined."""
    _, exponent = np.frexp(np.maximum.reduceat(prices[1], offset))
    shift = -np.repeat(exponent, size)
    open_, high, low, close = (np.ldexp(price, shift) for price in prices)
    widest = np.maximum.reduceat(high - low, offset)
    return (open_, high, low, close), (np.minimum.reduceat(low, offset) >= _LOWEST) & (widest <= _WIDEST)


def _alone(prices: Prices, begin: int, end: int) -> list[int]:
    """Return the 61 grades of one bar from its own look-back alone."""
    first = max(begin, end - LOOK_BACK)
    window = [price[first : end + 1] for price in prices]
    return [_last(detector.function, window) for detector in CANDLESTICKS]


def _last(function: Callable[..., NDArray[np.int32]], window: list[Floats]) -> int:
    return int(function(*window)[-1])
