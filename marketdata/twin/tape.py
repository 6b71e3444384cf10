"""
The trades of one minute, made so that Massive's rules fold them into that minute's bar, and their fold into seconds. Pure.

Prints that set no price (odd lots, fractions of a share, one average-price print) stand only in seconds that also have one that does.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marketdata.twin.candles import SHARE, Candles, apportion, fit
from marketdata.twin.noise import Floats, Integers, Streams, uniforms

REGULAR: tuple[int, ...] = ()
SWEEP = (14,)
EXEMPT_SWEEP = (14, 41)
ODD_LOT = (37,)
SWEPT_ODD_LOT = (14, 37)
AVERAGE_PRICE = (2,)
_KINDS = (REGULAR, SWEEP, EXEMPT_SWEEP, ODD_LOT, SWEPT_ODD_LOT, AVERAGE_PRICE)
DRAWS = ("time", "step", "size", "kind", "venue", "odd price", "odd size", "beside", "latency")  # streams of random numbers, in this order
_PRICE_SETTING = 3  # the first kinds
_ODD, _AVERAGE = 3, 5
_VENUES = np.array([4, 12, 11, 8, 19, 10, 21, 7, 15, 18, 2, 17])  # exchange ids; 4 is off exchange and comes first
_VENUE_SHARE = np.cumsum([0.28, 0.2, 0.12, 0.1, 0.08, 0.07, 0.05, 0.03, 0.03, 0.02, 0.01, 0.01])
FACILITIES = (201, 202, 202, 203)


class Tape(NamedTuple):
    """Trades in the order of (time, sequence), one an index; prices in dollars, sizes in thousandths of a share, times in Unix ms."""

    at_ms: Integers
    sequence: Integers
    price: Floats
    size: Integers
    kind: Integers
    venue: Integers
    latency_ms: Integers

    def conditions(self, index: int) -> tuple[int, ...]:
        """Return the condition ids of one trade."""
        return _KINDS[int(self.kind[index])]

    def first(self, count: int) -> "Tape":
        """Return the first trades."""
        return Tape._make(column[:count] for column in self)

    def only(self, which: npt.NDArray[np.bool_]) -> "Tape":
        """Return some of the trades, in their order."""
        return Tape._make(column[which] for column in self)

    def setting(self) -> npt.NDArray[np.bool_]:
        """Return which trades set prices."""
        return np.asarray(self.kind < _PRICE_SETTING)


class Seconds(NamedTuple):
    """The second bars of a minute, one an index; seconds without a trade are missing. `first` and `end` are places on the tape."""

    opened_at_ms: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Integers
    traded: Floats
    first: Integers
    end: Integers


def print_trades(bar: Candles, vwap: float, *, keys: Streams, minute: int, sequence: int, scale: int) -> Tape:
    """
    Return the trades of the minute `bar` (one bar, in ticks of 1/scale dollars), whose mean price is `vwap` dollars to four decimals.

    `minute` is its number in Unix time, `sequence` lies below all its sequence numbers.
    """
    count, volume = int(bar.trades[0]), int(bar.volume[0])
    draws = uniforms(keys, (minute << 16) + np.arange(count))
    time, step, weight, kind, venue, odd_price, odd_size, beside, latency = draws
    odd = count // 5
    setting = count - odd - 1  # and one average-price print

    ticks = _prices(bar, step[:setting])
    odd_ticks = np.maximum(bar.low[0] - 4 + np.floor(odd_price[:odd] * (bar.high[0] - bar.low[0] + 9)), 1)
    odd_shares = 1 + np.floor(odd_size[:odd] * 99).astype(np.int64)
    odd_sizes = odd_shares * SHARE
    if volume % SHARE:
        odd_sizes[0] = volume % SHARE
    sizes, rest = _round_lots(volume - int(odd_sizes.sum()), weight[:setting])
    prices = np.concatenate((ticks, odd_ticks)) / scale
    sizes = np.concatenate((sizes, odd_sizes))
    balance = (vwap * volume - float((prices * sizes).sum())) / rest

    times = np.sort(np.floor(time[:setting] * 60_000).astype(np.int64))
    second = times[np.floor(beside[setting:] * setting).astype(np.int64)] // 1_000 * 1_000
    times = np.concatenate((times, second + np.floor(time[setting:] * 1_000).astype(np.int64)))
    kinds = np.digitize(kind, (0.55, 0.8))  # regular, sweep, exempt sweep
    kinds[setting:-1] = _ODD + (kind[setting:-1] > 0.7)
    kinds[-1] = _AVERAGE
    venues = _VENUES[np.searchsorted(_VENUE_SHARE[:-1], venue)]
    venues[-1] = _VENUES[0]

    order = np.argsort(times, kind="stable")
    return Tape(
        at_ms=minute * 60_000 + times[order],
        sequence=sequence + 1 + 4 * np.arange(count) + np.floor(4 * latency).astype(np.int64),
        price=np.append(prices, round(balance, 4))[order],
        size=np.append(sizes, rest)[order],
        kind=kinds[order],
        venue=venues[order],
        latency_ms=np.floor(5 + 400 * latency**6).astype(np.int64)[order],
    )


def print_odd_tape(prices: Floats | Integers, sizes: Integers, *, minute: int, sequence: int) -> Tape:
    """Return the trades of a minute that has odd lots alone, ten seconds apart; sizes in thousandths of a share."""
    places = np.arange(len(sizes))
    return Tape(
        at_ms=minute * 60_000 + 10_000 * (places + 1) + 137,
        sequence=sequence + 1 + 4 * places,
        price=prices.astype(np.float64),
        size=sizes,
        kind=np.full(len(sizes), _ODD),
        venue=np.full(len(sizes), _VENUES[1]),
        latency_ms=np.full(len(sizes), 9),
    )


def fold_seconds(tape: Tape) -> Seconds:
    """Return the bars of those seconds of a tape that have a trade that sets prices; the others have none."""
    second = tape.at_ms // 1_000
    setting = np.flatnonzero(tape.setting())
    tape, second, setting = _without_barless(tape, second, setting)
    first = np.flatnonzero(np.diff(second, prepend=-1))
    setting_second = second[setting]
    starts = np.flatnonzero(np.diff(setting_second, prepend=-1))
    ends = np.append(starts[1:], len(setting)) - 1
    prices = tape.price[setting]
    return Seconds(
        opened_at_ms=second[first] * 1_000,
        open=prices[starts],
        high=np.maximum.reduceat(prices, starts),
        low=np.minimum.reduceat(prices, starts),
        close=prices[ends],
        volume=np.add.reduceat(tape.size, first),
        traded=np.add.reduceat(tape.price * tape.size, first) / SHARE,
        first=first,
        end=np.append(first[1:], len(second)),
    )


def _without_barless(tape: Tape, second: Integers, setting: Integers) -> tuple[Tape, Integers, Integers]:
    """Return tape, seconds and places of price-setting trades without the seconds that have no such trade."""
    kept = np.isin(second, second[setting])
    if kept.all():
        return tape, second, setting
    left = tape.only(kept)
    return left, second[kept], np.flatnonzero(left.setting())


def _prices(bar: Candles, draws: Floats) -> Integers:
    """Return the prices, in ticks, of the trades that set the bar: first open, last close, highest high, lowest low."""
    start, end = float(bar.open[0]), float(bar.close[0])
    low, high = float(bar.low[0]), float(bar.high[0])
    walk = np.cumsum(draws - 0.5)
    walk -= walk[0]
    place = np.linspace(0, 1, len(draws))
    deviation = (high - low) / 1.6 / np.sqrt(len(draws) / 12)  # a uniform draw has a variance of a twelfth
    path = start + (end - start) * place + (walk - walk[-1] * place) * deviation
    inside = path[1:-1]
    peak, trough = 1 + int(np.argmax(inside)), 1 + int(np.argmin(inside))
    bottom, top = np.float64(min(start, end)), np.float64(max(start, end))
    reached = (np.minimum(inside.min(), bottom), np.maximum(inside.max(), top))
    ticks = fit(path, inner=(np.asarray(bottom), np.asarray(top)), outer=(np.asarray(low), np.asarray(high)), reached=reached)
    ticks[[0, -1, peak, trough]] = bar.open[0], bar.close[0], bar.high[0], bar.low[0]
    return ticks


def _round_lots(volume: int, weights: Floats) -> tuple[Integers, int]:
    """Return sizes in hundreds of shares, one a weight, and what is left of the volume for the average-price print: a tenth or more."""
    lots = volume * 9 // 10 // (100 * SHARE)
    extra = apportion(np.array(lots - len(weights)), weights**3)
    sizes = (1 + extra) * 100 * SHARE
    return sizes, volume - int(sizes.sum())
