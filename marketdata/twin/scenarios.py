"""
What may happen to the twin's market beside an ordinary day: silent minutes, halts, splits, overnight jumps, late prints. Pure, by seed.

Each answer is a function of seed, ticker and time alone, so that a market may ask for any of them in any order. The default scenario
does nothing of it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from marketdata.twin.candles import SHARE, Candles
from marketdata.twin.days import DAYS
from marketdata.twin.noise import Floats, Integers, streams, uniforms
from marketdata.twin.securities import Security

Mask = npt.NDArray[np.bool_]


class Scenario(NamedTuple):
    """One way for the market to be; `about` is for people."""

    name: str
    about: str
    quiet: bool = False
    halts: bool = False
    splits: bool = False
    gaps: bool = False
    plants: bool = False
    late: bool = False


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("default", "every ticker trades every minute"),
        Scenario("quiet", "every third ticker is thin: minutes without a trade, and some with odd lots alone", quiet=True),
        Scenario("halts", "every fourth ticker is paused for five minutes now and then, announced by LULD", halts=True),
        Scenario("splits", "companies split 3:1, thirty days later 1:3, and pay a dividend each quarter", splits=True),
        Scenario("gaps", "some nights a ticker jumps by 3 to 9 percent", gaps=True),
        Scenario("patterns", "every fifth ticker draws a chart pattern on most days; /v1/twin/planted tells which", plants=True),
        Scenario("late", "some minutes have trades that are reported up to 13 minutes later", late=True),
    )
}
HALT_MINUTES = 5
SPLIT_RATIO = 3
_THIN_EVERY, _HALTING_EVERY = 3, 4
_ODD_SHARE = 0.3  # of the silent minutes
_MAX_ODD = 3  # prints in a minute of odd lots alone
_HALT_SHARE = 0.25  # of a ticker's hours
_SPLIT_EVERY = 30  # days: 3:1 and 1:3 in turn, so that no price runs away
_DIVIDEND_EVERY = 91
_JUMP_SHARE = 0.08  # of the nights
_LATE_SHARE = 0.05  # of the minutes
_LATE_PRINTS = 0.2  # of such a minute's trades
_LATE_DELAYS_MS = (20_000, 780_000)  # with the aggregates' own delays still inside Massive's quarter of an hour


def scenario(name: str) -> Scenario:
    """Return a scenario by its name. ValueError, with the known ones, where there is none."""
    if name not in SCENARIOS:
        raise ValueError(f"There is no scenario {name!r}; the scenarios are {', '.join(SCENARIOS)}.")
    return SCENARIOS[name]


def silent_minutes(which: Scenario, seed: int, security: Security, place: int, hours: Integers) -> Mask:
    """Return which minutes of absolute hours have no bar, shape (hours, 60). The last minute of an hour always has one."""
    silent = np.zeros((len(hours), 60), dtype=np.bool_)
    if which.quiet and place % _THIN_EVERY == _THIN_EVERY - 1:
        key = streams(seed, f"silence of {security.symbol}")
        share = 0.3 + 0.5 * uniforms(key, np.array([-1]))[0, 0]
        silent |= uniforms(key, hours[:, None] * 60 + np.arange(60))[0] < share
    if which.halts:
        starts = halt_starts(seed, security, place, hours)[:, None]
        silent |= (starts >= 0) & (np.arange(60) >= starts) & (np.arange(60) < starts + HALT_MINUTES)
    silent[:, -1] = False
    return silent


def halt_starts(seed: int, security: Security, place: int, hours: Integers) -> Integers:
    """Return the minute of each absolute hour at which trading pauses, -1 where it does not."""
    if place % _HALTING_EVERY != 1:
        return np.full(len(hours), -1)
    happens, when = uniforms(streams(seed, f"halt of {security.symbol}", f"halt minute of {security.symbol}"), hours)
    return np.where(happens < _HALT_SHARE, 5 + np.floor(when * 40).astype(np.int64), -1)


def fall_silent(minutes: Candles, silent: Mask) -> Candles:
    """
    Return minutes, one an index, of which the silent ones have no trade: the next minute that is not silent trades for them.

    So the sums and extremes of every hour stay. The last minute must not be silent. What is silent is zero in every column.
    """
    if not silent.any():
        return minutes
    heard = np.flatnonzero(~silent)
    folded = minutes.fold(np.concatenate((np.zeros(1, dtype=np.int64), heard[:-1] + 1)))
    quiet = Candles._make(np.zeros_like(column) for column in minutes)
    for column, values in zip(quiet, folded, strict=True):
        column[heard] = values
    return quiet


class OddLots(NamedTuple):
    """The prints of minutes that have odd lots alone: whole shares, 0 beyond a minute's count, and ticks from the next bar's open."""

    shares: Integers
    ticks: Integers


def odd_lots(seed: int, security: Security, minutes: Integers) -> OddLots:
    """Return the odd lots of minutes by their numbers, each of shape (minutes, 3); all 0 where a silent minute is wholly silent."""
    any_, count, size, away = uniforms(
        streams(seed, *(f"odd lots of {security.symbol}: {name}" for name in ("any", "count", "size", "price"))),
        minutes[:, None] * 4 + np.arange(_MAX_ODD),
    )
    held = (any_[:, :1] < _ODD_SHARE) & (np.arange(_MAX_ODD) <= np.floor(count[:, :1] * _MAX_ODD))
    return OddLots(np.where(held, 1 + np.floor(size * 99).astype(np.int64), 0), np.floor(away * 9).astype(np.int64) - 4)


def print_odd_lots(seed: int, security: Security, bars: Candles, silent: Mask, minutes: Integers) -> Candles:
    """Return the minutes with odd lots in some of the silent ones: volume without trades, taken from the bar that traded for them."""
    places = np.flatnonzero(silent)
    if not len(places):
        return bars
    lots = odd_lots(seed, security, minutes[places])
    heard = np.flatnonzero(~silent)
    payer = heard[np.searchsorted(heard, places)]
    prices = np.maximum(bars.open[payer][:, None] + lots.ticks, 1)
    volume, value = lots.shares.sum(axis=1) * SHARE, (lots.shares * prices).sum(axis=1) * SHARE
    traded, volumes, trades = bars.vwap * bars.volume, bars.volume.copy(), bars.trades.copy()
    np.subtract.at(traded, payer, value)
    np.subtract.at(volumes, payer, volume)
    np.subtract.at(trades, payer, (lots.shares > 0).sum(axis=1))
    traded[places], volumes[places] = value, volume
    vwap = np.divide(traded, volumes, out=np.zeros_like(traded), where=volumes > 0)
    return bars._replace(vwap=vwap, volume=volumes, trades=trades)


def splits(which: Scenario, security: Security) -> bool:
    """Tell whether a ticker ever splits; one below a dollar would leave its tick."""
    return which.splits and security.listing.type == "CS" and security.scale == 100


def split_days(seed: int, security: Security) -> Integers:
    """Return the days at whose open the ticker splits: 3:1 at even places, 1:3 at odd ones."""
    phase = int(uniforms(streams(seed, f"splits of {security.symbol}"), np.arange(1))[0, 0] * _SPLIT_EVERY)
    return np.arange(phase + 1, DAYS, _SPLIT_EVERY)


def price_factor(which: Scenario, seed: int, security: Security, days: Integers) -> Integers:
    """Return what a day's raw price is to the level of the whole life: SPLIT_RATIO before a 3:1 split, 1 after it."""
    if not splits(which, security):
        return np.ones(len(days), dtype=np.int64)
    done = np.searchsorted(split_days(seed, security), days, side="right")
    return np.where(done % 2 == 0, SPLIT_RATIO, 1)


def dividend_days(which: Scenario, seed: int, security: Security) -> Integers:
    """Return the ex-dividend days of a ticker."""
    if not splits(which, security):
        return np.empty(0, dtype=np.int64)
    phase = int(uniforms(streams(seed, f"dividends of {security.symbol}"), np.arange(1))[0, 0] * _DIVIDEND_EVERY)
    return np.arange(phase + 1, DAYS, _DIVIDEND_EVERY)


def jumps(which: Scenario, seed: int, security: Security, days: Integers) -> Floats:
    """Return the overnight jumps of the log price before each day, mostly 0."""
    if not which.gaps:
        return np.zeros(len(days))
    happens, size, side = uniforms(streams(seed, *(f"jump of {security.symbol}: {name}" for name in ("any", "size", "side"))), days)
    return np.where((happens < _JUMP_SHARE) & (days > 0), (0.03 + 0.06 * size) * np.where(side < 0.5, -1, 1), 0.0)


def late_minutes(which: Scenario, seed: int, minute: int, tickers: int) -> Integers:
    """Return, for each ticker of the market, after how many ms the minute's late trades are reported; 0 where it has none."""
    if not which.late:
        return np.zeros(tickers, dtype=np.int64)
    happens, delay = uniforms(streams(seed, "late minutes", "late delays"), minute * 2**20 + np.arange(tickers))
    low, high = _LATE_DELAYS_MS
    return np.where(happens < _LATE_SHARE, np.floor(low + delay * (high - low)).astype(np.int64), 0)


def late_prints(seed: int, security: Security, minute: int, *, setting: Mask) -> Mask:
    """Return which trades of a late minute's tape come late; never the first that sets the price, so that the minute has a bar from the start."""
    late = uniforms(streams(seed, f"late prints of {security.symbol}"), (minute << 16) + np.arange(len(setting)))[0] < _LATE_PRINTS
    late[-1] = True
    late[int(np.argmax(setting))] = False
    return np.asarray(late, dtype=np.bool_)
