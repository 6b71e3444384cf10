"""
The intervals that bars are read in, and the fold of days into weeks. Pure: no clock, no I/O, no Django.

Up to an hour a bar begins on the clock of UTC and of New York alike, which differ by whole hours. Bars of 4h begin at 0, 4, 8, 12, 16 and 20
o'clock in New York; the one in which its clocks change is 3 or 5 hours long. A day is an exchange day, a week an ISO week of days.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import groupby
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

NEW_YORK = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)
INTRADAY = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}
INTERVALS = (*INTRADAY, "1d", "1w")
LONGEST_BUCKET = {name: minutes if minutes <= 60 else minutes + 60 for name, minutes in INTRADAY.items()}
PRICE = Decimal("0.000001")  # to which a mean price is rounded


class Candle(msgspec.Struct, frozen=True):
    """
    One bar of any interval as it is read: it covers [start, end).

    `vwap` and `trades` are None where one of its minutes does not say.
    """

    start: datetime
    end: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None
    trades: int | None
    final: bool


def midnight(day: date) -> datetime:
    """Return the start of the exchange's day, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)


def day_from(moment: datetime) -> date:
    """Return the first day of the exchange whose midnight is not before the moment."""
    day = moment.astimezone(NEW_YORK).date()
    return day if midnight(day) >= moment else day + timedelta(days=1)


def week_from(moment: datetime) -> date:
    """Return the first Monday whose midnight in New York is not before the moment."""
    day = day_from(moment)
    return day + timedelta(days=-day.weekday() % 7)


def exchange_day(moment: datetime) -> date:
    """Return the day in New York."""
    return moment.astimezone(NEW_YORK).date()


def ceiling(moment: datetime, interval: str) -> datetime:
    """Return the start of the first intraday bar that does not start before the moment."""
    begin, end = bucket(moment, interval)
    return begin if begin == moment else end


def bucket(start: datetime, interval: str) -> tuple[datetime, datetime]:
    """Return [start, end) of the intraday bar that a minute belongs to."""
    minutes = INTRADAY[interval]
    if minutes <= 60:
        length = minutes * MINUTE
        begin = start - (start - datetime(1970, 1, 1, tzinfo=UTC)) % length
        return begin, begin + length
    local = start.astimezone(NEW_YORK)
    first = local.replace(hour=local.hour * 60 // minutes * minutes // 60, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    last = first + minutes * MINUTE
    return first.replace(tzinfo=NEW_YORK).astimezone(UTC), last.replace(tzinfo=NEW_YORK).astimezone(UTC)


def weeks(days: Iterable[Candle]) -> Iterator[Candle]:
    """Fold days, oldest first, into weeks from Monday to Monday; a week is final when it is over for each of its days."""
    for monday, group in groupby(days, key=lambda day: exchange_day(day.start) - timedelta(days=exchange_day(day.start).weekday())):
        members = list(group)
        yield Candle(
            start=midnight(monday),
            end=midnight(monday + timedelta(days=7)),
            open=members[0].open,
            high=max(day.high for day in members),
            low=min(day.low for day in members),
            close=members[-1].close,
            volume=sum((day.volume for day in members), Decimal(0)),
            vwap=mean_price([(day.vwap, day.volume) for day in members]),
            trades=_sum_known(day.trades for day in members),
            final=all(day.final for day in members),
        )


def over_by(candles: Iterable[Candle], moment: datetime) -> Iterator[Candle]:
    """Take back `final` where the bar's end has not come yet."""
    for candle in candles:
        yield candle if candle.end <= moment or not candle.final else replace(candle, final=False)


def mean_price(parts: list[tuple[Decimal | None, Decimal]]) -> Decimal | None:
    """Return the mean price by volume, to six places, or None where a part with volume has none, or there is no volume."""
    traded = [(price, volume) for price, volume in parts if volume]
    if not traded or any(price is None for price, _ in traded):
        return None
    with localcontext(prec=60):
        value = sum((price * volume for price, volume in traded if price is not None), Decimal(0))
        return (value / sum(volume for _, volume in traded)).quantize(PRICE, ROUND_HALF_UP)


def _sum_known(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
