"""
Raw bars as they would have been after later splits: prices times old shares over new ones, volume the other way round. Pure.

Dividends are not taken out, as Massive's `adjusted=true` does not either. Exact: only a result without end is rounded, to 12 places.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

from msgspec.structs import replace

from marketdata.bars.interval import Candle, exchange_day

PLACES = Decimal("1e-12")
DIGITS = 60  # of any step: more than price, volume and factor together can need


@dataclass(frozen=True, slots=True)
class SplitRatio:
    """From the day on, `old` shares are `new` ones."""

    day: date
    old: Decimal
    new: Decimal


class Adjustment:
    """The splits of one symbol, as one factor for each day."""

    def __init__(self, splits: Iterable[SplitRatio]) -> None:
        ordered = sorted(splits, key=lambda split: split.day)
        self._days = [split.day for split in ordered]
        self._factors = [Fraction(1)]
        for split in reversed(ordered):
            self._factors.append(self._factors[-1] * Fraction(split.old) / Fraction(split.new))
        self._factors.reverse()

    def factor(self, day: date) -> Fraction:
        """Return what a raw price of that day is multiplied with: the ratios of all splits after it."""
        return self._factors[bisect_right(self._days, day)]

    def apply(self, candle: Candle) -> Candle:
        """Return the bar after the splits that followed it."""
        factor = self.factor(exchange_day(candle.start))
        if factor == 1:
            return candle
        return replace(
            candle,
            open=times(candle.open, factor),
            high=times(candle.high, factor),
            low=times(candle.low, factor),
            close=times(candle.close, factor),
            volume=times(candle.volume, 1 / factor),
            vwap=None if candle.vwap is None else times(candle.vwap, factor),
        )


def times(number: Decimal, factor: Fraction) -> Decimal:
    """Return the product, exact where it has at most 12 places, else rounded to them."""
    with localcontext(prec=DIGITS):
        product = number * factor.numerator / factor.denominator
        return product.quantize(PLACES, ROUND_HALF_EVEN)
