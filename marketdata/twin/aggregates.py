"""
Bars for REST: any multiple of minutes, hours, days and weeks, finished ones only, a page at a time. Pure.

Windows of minutes and hours begin with the market's day, windows of days and weeks with its first day, a Sunday. A limit counts base
aggregates, as Massive's does: minutes under minutes and hours, days under days and weeks.
"""

from typing import NamedTuple

import numpy as np

from marketdata.twin.candles import SHARE, Candles
from marketdata.twin.days import DAYS, HOUR_MS, MINUTE_MS, day_at, day_starts
from marketdata.twin.market import Market
from marketdata.twin.noise import Integers
from marketdata.twin.securities import Security

SETTLING_MS = 1_000  # a bar appears this long after its end
TIMESPANS = ("minute", "hour", "day", "week")
_DAYS_OF = {"day": 1, "week": 7}
_BASE_OF = {"minute": 1, "hour": 60, "day": 1, "week": 7}
_SHORTEST_DAY = 23 * 60

Row = dict[str, float | int | str]


class Page(NamedTuple):
    """Bars in the order asked for, and where the next page begins (ascending) or ends (descending), Unix ms, if there is one."""

    rows: list[Row]
    next_ms: int | None


class Range(NamedTuple):
    """What is asked: windows of `multiplier` timespans that touch [first_ms, last_ms]; `limit` base aggregates a page."""

    multiplier: int
    timespan: str
    first_ms: int
    last_ms: int
    limit: int
    descending: bool
    adjusted: bool


def page(market: Market, security: Security, asked: Range, *, now_ms: int) -> Page:
    """Return one page of finished bars as they are known at `now_ms`."""
    first_day, last_day = max(day_at(asked.first_ms), 0), min(day_at(min(asked.last_ms, now_ms)), DAYS - 1)
    if first_day > last_day:
        return Page([], None)
    room = max(1, asked.limit // (asked.multiplier * _BASE_OF[asked.timespan]))
    reach = _days_for(room, asked)
    all_days = (first_day, last_day + 1)
    chunk = (max(first_day, last_day + 1 - reach), last_day + 1) if asked.descending else (first_day, min(last_day + 1, first_day + reach))
    starts, ends, bars, scale = _windows(market, security, asked, *chunk, as_of_day=day_at(now_ms))
    chosen = np.flatnonzero((ends > asked.first_ms) & (starts <= asked.last_ms) & (ends + SETTLING_MS <= now_ms))
    if asked.descending:
        chosen = chosen[::-1]
    more = len(chosen) > room or (chunk != all_days and len(chosen) > 0)
    chosen = chosen[:room]
    next_ms = (int(starts[chosen[-1]]) - 1 if asked.descending else int(ends[chosen[-1]])) if more else None
    return Page(rows(bars.take(chosen), starts[chosen], scale=scale), next_ms)


def rows(bars: Candles, times_ms: Integers, *, scale: int) -> list[Row]:
    """Return bars with Massive's short names; `t` is the time given for each."""
    columns = (
        bars.volume / SHARE,
        np.round(bars.vwap / scale, 4),
        bars.open / scale,
        bars.close / scale,
        bars.high / scale,
        bars.low / scale,
        times_ms,
        bars.trades,
    )
    names = ("v", "vw", "o", "c", "h", "l", "t", "n")
    return [dict(zip(names, values, strict=True)) for values in zip(*(column.tolist() for column in columns), strict=True)]


def _days_for(room: int, asked: Range) -> int:
    """Return how many days certainly hold `room` windows and one that is still forming."""
    if asked.timespan in _DAYS_OF:
        return (room + 2) * asked.multiplier * _DAYS_OF[asked.timespan]
    return room * asked.multiplier * _BASE_OF[asked.timespan] // _SHORTEST_DAY + 3


def _windows(
    market: Market, security: Security, asked: Range, first_day: int, end_day: int, *, as_of_day: int
) -> tuple[Integers, Integers, Candles, int]:
    """Return starts, ends and bars of the windows of the days [first_day, end_day), widened to whole windows, and ticks per dollar."""
    if asked.timespan in _DAYS_OF:
        size = asked.multiplier * _DAYS_OF[asked.timespan]
        numbers = np.arange(first_day // size * size, min(-(-end_day // size) * size, DAYS))
        first = np.arange(0, len(numbers), size)
        ends = day_starts()[np.minimum(numbers[first] + size, DAYS)]
        days = market.days(security, int(numbers[0]), int(numbers[-1]) + 1)
        bars, scale = _priced(market, security, asked, days, numbers, as_of_day)
        return day_starts()[numbers[first]], ends, bars.fold(first), scale
    unit = MINUTE_MS if asked.timespan == "minute" else HOUR_MS
    # Massive makes its hours of minute bars; odd lots of a minute without one are in none of them
    load = market.minutes if unit == MINUTE_MS or market.has_silence else market.hours
    starts, bars = load(security, first_day, end_day)
    traded = np.flatnonzero(bars.trades)
    starts, bars = starts[traded], bars.take(traded)
    midnights = day_starts()[first_day : end_day + 1]
    day = np.searchsorted(midnights, starts, side="right") - 1
    bars, scale = _priced(market, security, asked, bars, first_day + day, as_of_day)
    window = (starts - midnights[day]) // (unit * asked.multiplier)
    first = np.flatnonzero((np.diff(window, prepend=-1) != 0) | (np.diff(day, prepend=-1) != 0))
    begins = midnights[day[first]] + window[first] * unit * asked.multiplier
    return begins, np.minimum(begins + unit * asked.multiplier, midnights[day[first] + 1]), bars.fold(first), scale


def _priced(market: Market, security: Security, asked: Range, bars: Candles, days: Integers, as_of_day: int) -> tuple[Candles, int]:
    """Return the bars of days, adjusted for splits or raw, as is asked, and their ticks per dollar."""
    return market.adjusted(security, bars, days, as_of_day=as_of_day) if asked.adjusted else (bars, security.scale)
