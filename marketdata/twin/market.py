"""
The synthetic market: any day, hour or minute of any ticker, by seed, without working out what came before. Pure.

Days are drawn first; hours are split from days and minutes from hours, so that every level adds up exactly to the one above.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np

from marketdata.twin.candles import MIN_TRADE_SIZE, MIN_TRADES, SHARE, Candles, Shape, bridge_reach, join, split
from marketdata.twin.days import DAYS, HOUR_MS, MINUTE_MS, VARIANCE_PROFILE, VOLUME_PROFILE, day_at, day_starts, local_hours
from marketdata.twin.noise import Floats, Integers, Streams, normals, streams, uniforms
from marketdata.twin.plants import Plant, bend, planted
from marketdata.twin.scenarios import fall_silent, jumps, odd_lots, price_factor, print_odd_lots, scenario, silent_minutes, splits
from marketdata.twin.securities import Security, references, roster
from marketdata.twin.tape import DRAWS, Tape, print_odd_tape, print_trades

_Amounts = TypeVar("_Amounts", Integers, Floats)
_MIN_DAY_TRADES = 15_000  # 25 hours of sixty minutes of MIN_TRADES, and some to spare
_MAX_DAY_TRADES = 110_000
_HOUR_TRADES = 60 * MIN_TRADES
_BLOCK = 1_024  # days; a path is drawn from the first day to the end of a block


class Keys(NamedTuple):
    """One ticker's streams of random numbers, by level."""

    cycles: Streams
    day_steps: Streams
    days: Streams
    hour_steps: Streams
    hours: Streams
    minute_steps: Streams
    minutes: Streams
    tape: Streams


ADJUSTED_SCALE = 10_000  # prices divided by a split's ratio are given to a hundredth of a cent


class Minute(NamedTuple):
    """
    One minute in its day: prices in dollars, volumes in thousandths of a share, `traded` the dollars traded before it today.

    Without trades it has no bar and its prices mean nothing; its volume, if it has one, is of odd lots alone.
    """

    opened_at_ms: int
    open: float
    high: float
    low: float
    close: float
    vwap: float
    volume: int
    trades: int
    day_open: float
    volume_before: int
    traded_before: float


class _Day(NamedTuple):
    """One ticker's day by hours, with what was traded before each of them."""

    first_hour: int
    open: int
    hours: Candles
    volume_before: Integers
    value_before: Floats


class _Hour(NamedTuple):
    """One ticker's hour by minutes, with what was traded before each of them in the day."""

    day: _Day
    minutes: Candles
    volume_before: Integers
    value_before: Floats


class Market:
    """All securities of a seed. Not thread-safe: its memories are bounded dictionaries without a lock."""

    def __init__(self, *, seed: int, tickers: int, scenario_name: str = "default") -> None:
        self.seed = seed
        self.scenario = scenario(scenario_name)
        self.securities = roster(tickers)
        self.everyone = (*self.securities, *references(tickers))  # the last ones answer only to their names
        self.by_symbol = {security.symbol: security for security in self.everyone}
        self.place_of = {security.symbol: place for place, security in enumerate(self.everyone)}
        self._keys = lru_cache(maxsize=4_096)(self._make_keys)
        self._closes = lru_cache(maxsize=256)(self._make_closes)
        self._day = lru_cache(maxsize=2 * tickers + 256)(self._make_day)
        self._hour = lru_cache(maxsize=2 * tickers + 256)(self._make_hour)
        self.tape = lru_cache(maxsize=2 * tickers + 256)(self._make_tape)
        self._bends = lru_cache(maxsize=2 * tickers + 256)(self._make_bends)
        self._bent_day = lru_cache(maxsize=32_768)(self._make_bent_day)

    def days(self, security: Security, first: int, end: int) -> Candles:
        """Return the daily bars of the days [first, end), as far as the market exists."""
        first, end = max(first, 0), min(end, DAYS)
        bars = self._drawn_days(security, first, end)
        bent = [day for day in range(first, end) if self.plant(security, day)]
        if not bent:
            return bars
        whole = join([self._bent_day(security, day) for day in bent])
        for column, values in zip(bars, whole, strict=True):
            column[np.array(bent) - first] = values  # arrays just drawn, nobody else's
        return bars

    def hours(self, security: Security, first_day: int, end_day: int) -> tuple[Integers, Candles]:
        """Return the hourly bars of the days [first_day, end_day) and each one's start in Unix ms."""
        first_day, end_day = max(first_day, 0), min(end_day, DAYS)
        if not any(self.plant(security, day) for day in range(first_day, end_day)):
            return self._drawn_hours(security, first_day, end_day)
        starts, minutes = self.minutes(security, first_day, end_day)
        first = np.arange(0, len(starts), 60)
        return starts[first], minutes.fold(first)

    def plant(self, security: Security, day: int) -> Plant | None:
        """Return the chart pattern that is planted in a day, if there is one."""
        return planted(self.seed, security, self.place_of[security.symbol], day) if self.scenario.plants else None

    @property
    def has_silence(self) -> bool:
        """Whether some minutes may have no bar."""
        return self.scenario.quiet or self.scenario.halts

    def adjusted(self, security: Security, bars: Candles, days: Integers, *, as_of_day: int) -> tuple[Candles, int]:
        """
        Return bars of days as the splits until `as_of_day` leave them, and their ticks per dollar.

        Prices are divided and volumes multiplied by each later split, as Massive's `adjusted=true` does; dividends play no part.
        """
        if not splits(self.scenario, security):
            return bars, security.scale
        then, now = (price_factor(self.scenario, self.seed, security, moment) for moment in (days, np.array([as_of_day])))
        factor, fine = then / now[0], ADJUSTED_SCALE // security.scale
        prices = [np.rint(column * fine / factor).astype(np.int64) for column in (bars.open, bars.high, bars.low, bars.close)]
        volume = np.rint(bars.volume * factor).astype(np.int64)
        return Candles(prices[0], prices[1], prices[2], prices[3], bars.vwap * fine / factor, volume, bars.trades), ADJUSTED_SCALE

    def _drawn_days(self, security: Security, first: int, end: int) -> Candles:
        """Return the daily bars of the days [first, end) as they are drawn, before any pattern bends them."""
        if first >= end:
            return _NOTHING
        keys, number = self._keys(security), np.arange(first, end)
        path = self._closes(security, -(-end // _BLOCK) * _BLOCK)
        previous, closes = path[first:end], path[first + 1 : end + 1]
        deviation = np.full(len(number), security.volatility)
        gap, high, low, size, count = uniforms(keys.days, number)
        opens = previous + (gap - 0.5) * 0.5 * deviation + jumps(self.scenario, self.seed, security, number)
        highs = bridge_reach(opens, closes, deviation=deviation, draw=high)
        lows = -bridge_reach(-opens, -closes, deviation=deviation, draw=low)
        factor = price_factor(self.scenario, self.seed, security, number)
        ticks = [np.rint(np.exp(logs) * factor * security.scale).astype(np.int64) for logs in (opens, highs, lows, closes)]
        vwap = (ticks[0] + ticks[1] + ticks[2] + ticks[3]) / 4
        excitement = np.minimum(np.abs(closes - opens) / security.volatility, 3) - 0.8
        shares = np.rint(security.volume / factor * np.exp(0.6 * (size - 0.5) + 0.3 * excitement)).astype(np.int64)
        trades = np.clip(shares // (250 + np.rint(200 * count).astype(np.int64)), _MIN_DAY_TRADES, _MAX_DAY_TRADES)
        volume = SHARE * np.maximum(shares, MIN_TRADE_SIZE * trades * 5 // 4)
        return Candles(ticks[0], ticks[1], ticks[2], ticks[3], vwap, volume, trades)

    def _drawn_hours(self, security: Security, first_day: int, end_day: int) -> tuple[Integers, Candles]:
        """Return the hours of days as they are drawn."""
        if first_day >= end_day:
            return np.empty(0, dtype=np.int64), _NOTHING
        starts = np.arange(day_starts()[first_day], day_starts()[end_day], HOUR_MS)
        days = self._drawn_days(security, first_day, end_day)
        runs = groupby(range(first_day, end_day), key=lambda day: len(local_hours(day)))  # 23, 24 and 25 hours cannot share an array
        return starts, join([self._split_days(security, days, first_day, list(run)) for _, run in runs])

    def minutes(self, security: Security, first_day: int, end_day: int) -> tuple[Integers, Candles]:
        """Return the minutes of the days [first_day, end_day) and each one's start in Unix ms; those without trades have no bar."""
        first_day, end_day = max(first_day, 0), min(end_day, DAYS)
        starts, hours = self._drawn_hours(security, first_day, end_day)
        if not len(starts):
            return starts, hours
        clock = [hour for day in range(first_day, end_day) for hour in local_hours(day)]
        return np.arange(starts[0], starts[-1] + HOUR_MS, MINUTE_MS), self._split_hours(security, hours, starts // HOUR_MS, clock)

    def minute(self, security: Security, minute: int) -> Minute:
        """Return one minute by its number, Unix ms // 60,000, with the day's totals before it. IndexError where no market exists."""
        hour, index = self._hour(security, minute // 60), minute % 60
        bars, scale = hour.minutes, security.scale
        return Minute(
            opened_at_ms=minute * MINUTE_MS,
            open=int(bars.open[index]) / scale,
            high=int(bars.high[index]) / scale,
            low=int(bars.low[index]) / scale,
            close=int(bars.close[index]) / scale,
            vwap=round(float(bars.vwap[index]) / scale, 4),
            volume=int(bars.volume[index]),
            trades=int(bars.trades[index]),
            day_open=hour.day.open / scale,
            volume_before=int(hour.volume_before[index]),
            traded_before=float(hour.value_before[index]) / scale / SHARE,
        )

    def _make_keys(self, security: Security) -> Keys:
        """Return the ticker's streams; those of the market and of its sector are shared, which is what correlates."""
        symbol, sector = security.symbol, security.listing.sector

        def steps(level: str) -> Streams:
            return streams(self.seed, f"{level} of the market", f"{level} of {sector}", f"{level} of {symbol}")

        def draws(level: str, *names: str) -> Streams:
            return streams(self.seed, *(f"{level} of {symbol}: {name}" for name in names))

        parts = ("high", "low", "gap", "size")
        return Keys(
            cycles=streams(self.seed, f"cycle of sector {sector}", f"cycle of {symbol}"),
            day_steps=steps("day"),
            days=draws("day", "gap", "high", "low", "size", "count"),
            hour_steps=steps("hour"),
            hours=draws("hour", *parts),
            minute_steps=steps("minute"),
            minutes=draws("minute", *parts),
            tape=draws("tape", *DRAWS),
        )

    def _make_closes(self, security: Security, days: int) -> Floats:
        """
        Return the logarithms of the first `days` daily closes, preceded by the level before the first day, shape (days + 1,).

        A random walk with market, sector and own steps on slow cycles of sector and ticker, which give the market its stages; bounded
        smoothly, so that no price ever leaves plausible levels.
        """
        keys, number = self._keys(security), np.arange(days + 1)
        steps = _weighted(security, normals(keys.day_steps, number))
        steps[0] = 0
        steps[1:] += jumps(self.scenario, self.seed, security, number[:-1])
        phases, periods = uniforms(keys.cycles, np.arange(2)).T
        waves = np.sin(2 * np.pi * (number / (250 + 350 * periods[:, None]) + phases[:, None]))
        reach = min(1.0, security.volatility / 0.012)
        walk = np.cumsum(steps) + reach * (0.10 * waves[0] + 0.20 * waves[1])
        return np.asarray(np.log(security.price) + security.band * np.tanh(walk / security.band))

    def _shape(self, security: Security, positions: Integers, *, steps: Streams, draws: Streams, profiles: tuple[Floats, Floats]) -> Shape:
        """Return the shape of parts that stand at `positions`, shape (bars, parts)."""
        high, low, gap, size = uniforms(draws, positions)
        moves = _weighted(security, normals(steps, positions)) / security.volatility
        return Shape(variance=profiles[0], volume=profiles[1], steps=moves, high=high, low=low, gap=gap, size=size)

    def _split_days(self, security: Security, days: Candles, first_day: int, run: list[int]) -> Candles:
        """Return the hours of consecutive days of equal length."""
        keys = self._keys(security)
        clock = np.array([local_hours(day) for day in run])
        positions = day_starts()[run][:, None] // HOUR_MS + np.arange(clock.shape[1])
        profiles = (VARIANCE_PROFILE.sum(axis=1)[clock], VOLUME_PROFILE.sum(axis=1)[clock])
        shape = self._shape(security, positions, steps=keys.hour_steps, draws=keys.hours, profiles=profiles)
        return split(days.take(np.array(run) - first_day), shape, min_trades=_HOUR_TRADES).flat()

    def _split_hours(self, security: Security, hours: Candles, numbers: Integers, clock: Iterable[int]) -> Candles:
        """Return the minutes of hours in one row, as the scenario leaves them."""
        minutes = self._drawn_minutes(security, hours, numbers, clock).flat()
        return self._bent(security, self._silenced(security, minutes, numbers), numbers)

    def _drawn_minutes(self, security: Security, hours: Candles, numbers: Integers, clock: Iterable[int]) -> Candles:
        """Return the minutes of hours, shape (hours, 60); some trade fractions of shares, which leaves the hour's volume whole."""
        keys, local = self._keys(security), np.array(list(clock))
        positions = numbers[:, None] * 60 + np.arange(60)
        profiles = (VARIANCE_PROFILE[local], VOLUME_PROFILE[local])
        shape = self._shape(security, positions, steps=keys.minute_steps, draws=keys.minutes, profiles=profiles)
        minutes = split(hours, shape, min_trades=MIN_TRADES)
        fractions = np.floor(np.maximum(shape.gap[:, 0::2] - 0.7, 0) / 0.3 * SHARE).astype(np.int64)
        minutes.volume[:, 0::2] += fractions
        minutes.volume[:, 1::2] -= fractions
        return minutes

    def _silenced(self, security: Security, minutes: Candles, numbers: Integers) -> Candles:
        """Return the minutes of hours by their numbers, some of them without trades where the scenario says so."""
        if not self.has_silence:
            return minutes
        silent = silent_minutes(self.scenario, self.seed, security, self.place_of[security.symbol], numbers).reshape(-1)
        quiet = fall_silent(minutes, silent)
        return print_odd_lots(self.seed, security, quiet, silent, _minutes_of(numbers)) if self.scenario.quiet else quiet

    def _bent(self, security: Security, minutes: Candles, numbers: Integers) -> Candles:
        """Return the minutes of hours by their numbers, moved where a chart pattern is planted."""
        if not self.scenario.plants:
            return minutes
        moves = np.zeros(len(minutes.open), dtype=np.int64)
        days = np.searchsorted(day_starts(), numbers * HOUR_MS, side="right") - 1
        for day in np.unique(days).tolist():
            if self.plant(security, day):
                inside = np.flatnonzero(np.repeat(days == day, 60))
                first = (int(numbers[days == day][0]) * HOUR_MS - int(day_starts()[day])) // MINUTE_MS
                moves[inside] = self._bends(security, day)[first : first + len(inside)]
        moved = [column + moves for column in (minutes.open, minutes.high, minutes.low, minutes.close)]
        return Candles(moved[0], moved[1], moved[2], moved[3], minutes.vwap + moves, minutes.volume, minutes.trades)

    def _make_bends(self, security: Security, day: int) -> Integers:
        """Return by how many ticks each minute of a planted day moves."""
        plant = self.plant(security, day)
        if plant is None:
            raise LookupError(f"Nothing is planted in day {day} of {security.symbol}.")
        starts, hours = self._drawn_hours(security, day, day + 1)
        closes = self._drawn_minutes(security, hours, starts // HOUR_MS, local_hours(day)).flat().close
        return bend(plant, closes, opened_at_ms=np.arange(starts[0], starts[-1] + HOUR_MS, MINUTE_MS))

    def _make_bent_day(self, security: Security, day: int) -> Candles:
        """Return a planted day's bar: the fold of its minutes."""
        return self.minutes(security, day, day + 1)[1].fold(np.zeros(1, dtype=np.int64))

    def _make_day(self, security: Security, number: int) -> _Day:
        """Return one day by hours."""
        if not 0 <= number < DAYS:
            raise IndexError(f"The twin's market has no day {number}.")
        starts, drawn = self._drawn_hours(security, number, number + 1)
        hours = self.hours(security, number, number + 1)[1]
        return _Day(int(starts[0]) // HOUR_MS, int(hours.open[0]), drawn, _before(hours.volume), _before(hours.vwap * hours.volume))

    def _make_hour(self, security: Security, number: int) -> _Hour:
        """Return one hour by minutes."""
        day_number = day_at(number * HOUR_MS)
        day = self._day(security, day_number)
        index = number - day.first_hour
        clock = local_hours(day_number)[index]
        minutes = self._split_hours(security, day.hours.take(slice(index, index + 1)), np.array([number]), [clock])
        volume_before = day.volume_before[index] + _before(minutes.volume)
        return _Hour(day, minutes, volume_before, day.value_before[index] + _before(minutes.vwap * minutes.volume))

    def _make_tape(self, security: Security, minute: int) -> Tape:
        """Return the trades of one minute, in the order of the tape."""
        hour, index = self._hour(security, minute // 60), minute % 60
        bar = hour.minutes.take(slice(index, index + 1))
        sequence = (minute - hour.day.first_hour * 60) * 2**16
        if not bar.trades[0]:
            return self._make_odd_tape(security, hour, index, minute=minute, sequence=sequence)
        vwap, keys = self.minute(security, minute).vwap, self._keys(security).tape
        return print_trades(bar, vwap, keys=keys, minute=minute, sequence=sequence, scale=security.scale)

    def _make_odd_tape(self, security: Security, hour: _Hour, index: int, *, minute: int, sequence: int) -> Tape:
        """Return the trades of a minute without a bar: odd lots alone, or none."""
        if not hour.minutes.volume[index]:
            return print_odd_tape(_NO_ODDS, _NO_ODDS, minute=minute, sequence=sequence)
        lots = odd_lots(self.seed, security, np.array([minute]))
        held = lots.shares[0] > 0
        payer = index + int(np.argmax(hour.minutes.trades[index:] > 0))
        prices = np.maximum(hour.minutes.open[payer] + lots.ticks[0][held], 1) / security.scale
        return print_odd_tape(prices, lots.shares[0][held] * SHARE, minute=minute, sequence=sequence)


def _minutes_of(hours: Integers) -> Integers:
    """Return the numbers of all minutes of absolute hours."""
    return np.asarray((hours[:, None] * 60 + np.arange(60)).reshape(-1))


def _weighted(security: Security, steps: Floats) -> Floats:
    """Return the sum of the steps of market, sector and ticker, each times its volatility. Term by term: no library may reorder it."""
    return np.asarray(security.market * steps[0] + security.sector * steps[1] + security.own * steps[2])


def _before(amounts: _Amounts) -> _Amounts:
    """Return the sum of all earlier amounts at each place."""
    return np.asarray(np.cumsum(amounts) - amounts)


_NO_ODDS = np.empty(0, dtype=np.int64)
_NOTHING = Candles._make(np.empty(0, dtype=np.float64 if name == "vwap" else np.int64) for name in Candles._fields)
