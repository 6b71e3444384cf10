"""Averages of whole markets and what a price is to them. Pure: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import Floats
from patterns.market.panel import Panel, Today, tail, with_today

RECURSIVE = 120  # the bars that a recursive average runs over: what lies before weighs nothing any more
ATR_LENGTH = 14
EXTENDED_ATR = 7.0
CHANDELIER_DAYS, CHANDELIER_ATR = 22, 3.0
LENGTHS = {"ema10": 10, "sma20": 20, "sma50": 50, "sma200": 200}


def simple_average(values: Floats, length: int) -> Floats:
    """Return the mean of the last `length` columns, shape (n,); NaN where one of them is missing."""
    return np.asarray(tail(values, length).mean(axis=1))


def recursive_average(values: Floats, length: int, *, weight: float) -> Floats:
    """
    Return the last value of average += weight · (value − average), seeded with the mean of the first `length` values of each row.

    Shape (n,); NaN with fewer values. EMA: weight 2 ÷ (length + 1). Wilder's: 1 ÷ length.
    """
    known = np.isfinite(values)
    seen = np.zeros(len(values), dtype=np.int64)
    total = np.zeros(len(values))
    for column in range(values.shape[1]):
        value, is_known = np.where(known[:, column], values[:, column], 0.0), known[:, column]
        seen += is_known
        gathering = seen <= length
        step = np.where(gathering, value / length, weight * (value - total))
        total += np.where(is_known, step, 0.0)
    newest_is_known = known[:, -1] if values.shape[1] else np.zeros(len(values), dtype=bool)
    return np.where((seen >= length) & newest_is_known, total, np.nan)


def exponential_average(values: Floats, length: int) -> Floats:
    """Return the EMA over the last 120 columns, seeded there as TA-Lib seeds. Shape (n,)."""
    return recursive_average(tail(values, RECURSIVE), length, weight=2 / (length + 1))


def average_true_range(history: Panel, today: Today) -> Floats:
    """
    Return the ATR 14 of complete days with Wilder's smoothing over the last 120 of them, in price units, shape (n,).

    The day surveyed counts when its session is over. Source: Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    high, low, close = history.high, history.low, history.close
    if today.whole:
        high, low, close = (
            with_today(column, value, RECURSIVE + 1) for column, value in ((high, today.high), (low, today.low), (close, today.last))
        )
    high, low, close = (tail(column, RECURSIVE + 1) for column in (high, low, close))
    before = close[:, :-1]
    ranges = np.maximum(high[:, 1:], before) - np.minimum(low[:, 1:], before)
    return recursive_average(ranges, ATR_LENGTH, weight=1 / ATR_LENGTH)


@dataclass(frozen=True, eq=False, slots=True)
class Averages:
    """Averages with today's last price as the newest close, shape (n,) each, and what follows from them."""

    last: Floats
    atr: Floats
    value: dict[str, Floats]
    stop: dict[str, Floats]

    def percent(self, name: str) -> Floats:
        """Return the price's distance from an average in percent of it."""
        return np.asarray((self.last / self.value[name] - 1) * 100)

    def atrs(self, name: str) -> Floats:
        """Return the price's distance from an average in ATRs; NaN where nothing moves."""
        return _ratio(self.last - self.value[name], self.atr)

    def alignment(self) -> list[str | None]:
        """Return for each symbol `up` (price > EMA 10 > SMA 20 > SMA 50 > SMA 200), `down` (the reverse), `mixed`, None without all of them."""
        stack = np.stack([self.last, *(self.value[name] for name in LENGTHS)])
        steps = np.diff(stack, axis=0)
        known = np.atleast_1d(np.isfinite(stack).all(axis=0))
        with np.errstate(invalid="ignore"):
            words = np.where((steps < 0).all(axis=0), "up", np.where((steps > 0).all(axis=0), "down", "mixed"))
        return [str(word) if there else None for word, there in zip(words.tolist(), known.tolist(), strict=True)]

    def bucket(self) -> list[str | None]:
        """
        Return for each symbol `extended` (7 ATRs or more above SMA 50), `hold`, `pullback`, `broken` or `below`, None without all averages.

        Source of the seven: Jeff Sun's “ATR % multiple from the 50-day average”, at which he takes profits.
        """
        ema10, sma20, sma50, sma200 = (self.value[name] for name in LENGTHS)
        known = np.atleast_1d(np.isfinite(np.stack([self.last, ema10, sma20, sma50, sma200])).all(axis=0))
        with np.errstate(invalid="ignore"):
            words = np.select(
                [
                    self.atrs("sma50") >= EXTENDED_ATR,
                    (self.last >= ema10) & (self.last >= sma20) & (self.last >= sma50),
                    self.last >= sma50,
                    self.last >= sma200,
                ],
                ["extended", "hold", "pullback", "broken"],
                "below",
            )
        return [str(word) if there else None for word, there in zip(words.tolist(), known.tolist(), strict=True)]


def averages(history: Panel, today: Today) -> Averages:
    """
    Return the averages of the market, today's last price standing as its close.

    Stops: the next close lies under an SMA of n when it is below the mean of the n − 1 closes before it, under an EMA when below the EMA.
    `chandelier`: the highest high of 22 days less 3 ATRs (Le Beau's exit; Elder, Come Into My Trading Room, 2002), ATR 14 here.
    """
    closes = with_today(history.close, today.last, max(RECURSIVE, LENGTHS["sma200"]))
    value = {"ema10": exponential_average(closes, 10)}
    value |= {name: simple_average(closes, length) for name, length in LENGTHS.items() if name != "ema10"}
    atr = average_true_range(history, today)
    top = with_today(history.high, today.high, CHANDELIER_DAYS).max(axis=1)
    stop = {"ema10": value["ema10"], "sma20": simple_average(closes, 19), "sma50": simple_average(closes, 49)}
    return Averages(today.last, atr, value, stop | {"chandelier": top - CHANDELIER_ATR * atr})


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where the denominator is zero or missing."""
    known = np.isfinite(denominator) & (denominator > 0)
    found: Floats = np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=known)
    return found
