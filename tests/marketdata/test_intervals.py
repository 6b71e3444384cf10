"""Bars of longer intervals are a function of the minute rows, whatever happened to those."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketdata.bars.interval import INTRADAY, Candle, bucket, ceiling, week_from
from marketdata.bars.snapshot import SHARE, BarSnapshot
from marketdata.intervals import candles
from marketdata.models import Bar, DailyBar, Session, Source
from tests.factories import make_bar

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
names = (f"P{number}" for number in count())

# Days whose clocks change, ordinary ones, and a half day
STARTS = [datetime(2026, 3, 8, 3, tzinfo=UTC), datetime(2026, 11, 1, 2, tzinfo=UTC), datetime(2026, 11, 19, 8, tzinfo=UTC)]


def all_of(symbol: str, interval: str, **more) -> list[Candle]:
    asked = {"start": None, "end": None, "forward": True, "limit": 10_000, "now": NOW, **more}
    return candles(symbol, interval, **asked)


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def clock(start: datetime, interval: str) -> datetime:
    """Where a minute belongs, told in words of the wall clock: not the way of the product."""
    local = start.astimezone(NEW_YORK)
    if interval == "4h":
        return local.replace(hour=local.hour // 4 * 4, minute=0, fold=0).astimezone(UTC)
    length = {"5m": 5, "15m": 15, "30m": 30, "1h": 60}[interval]
    return start.replace(minute=start.minute // length * length)


def fold(minutes: dict[datetime, tuple], interval: str) -> dict[datetime, tuple]:
    """Open, high, low, close, volume of each bar: one minute after the other, with nothing but Python."""
    bars: dict[datetime, tuple] = {}
    for start in sorted(minutes):
        o, h, l, c, v = minutes[start]
        key = clock(start, interval)
        if key in bars:
            first, high, low, _, volume = bars[key]
            bars[key] = (first, max(high, h), min(low, l), c, volume + v)
        else:
            bars[key] = (o, h, l, c, v)
    return bars


cents = st.integers(100, 20_000)
minute = st.tuples(st.integers(0, 26 * 60), cents, cents, cents, cents, st.integers(0, 10**12), st.integers(1, 3))


def stored_minute(name: str, start: datetime, drawn: tuple) -> BarSnapshot:
    offset, a, b, c, d, volume, version = drawn
    low, second, third, high = sorted((a, b, c, d))
    return BarSnapshot(
        name, ms(start + timedelta(minutes=offset)), second / 100, high / 100, low / 100, third / 100, volume, None, None, 30, version, True
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(start=st.sampled_from(STARTS), writes=st.lists(st.lists(minute, min_size=1, max_size=40), min_size=1, max_size=3))
def test_every_interval_is_the_fold_of_the_minutes_after_every_revision(writer, start, writes):
    name = next(names)
    minutes: dict[datetime, tuple] = {}
    versions: dict[datetime, int] = defaultdict(int)
    for write in writes:
        once = {drawn[0]: stored_minute(name, start, drawn) for drawn in write}
        writer.write(list(once.values()))
        for bar in once.values():
            at = EPOCH + timedelta(milliseconds=bar.opened_at_ms)
            if bar.version >= versions[at]:
                versions[at] = bar.version
                prices = tuple(Decimal(repr(price)) for price in (bar.open, bar.high, bar.low, bar.close))
                minutes[at] = (*prices, Decimal(bar.volume) / SHARE)

        for interval in set(INTRADAY) - {"1m"}:
            found = {bar.start: (bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in all_of(name, interval)}
            assert found == fold(minutes, interval), interval


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    offsets=st.sets(st.integers(0, 3_000), min_size=1, max_size=80),
    limit=st.integers(1, 7),
    interval=st.sampled_from(["5m", "1h", "4h"]),
    bounds=st.tuples(st.integers(-60, 3_060), st.integers(-60, 3_060)),
)
def test_pages_of_any_size_and_bounds_hold_whole_bars(writer, offsets, limit, interval, bounds):
    name, start = next(names), STARTS[1]
    writer.write([make_bar(10 + offset / 100, time=ms(start + timedelta(minutes=offset)), symbol=name) for offset in sorted(offsets)])
    begin, end = (start + timedelta(minutes=offset) for offset in bounds)
    every = [bar for bar in all_of(name, interval) if begin <= bar.start < end]

    assert all_of(name, interval, start=begin, end=end) == every
    assert all_of(name, interval, start=begin, end=end, limit=limit) == every[:limit]
    assert all_of(name, interval, start=begin, end=end, limit=limit, forward=False) == every[::-1][:limit]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.sampled_from(list(INTRADAY)))  # noqa: DTZ001 - hypothesis wants them naive
def test_buckets_touch_and_hold_their_minute(naive, interval):
    moment = naive.replace(tzinfo=UTC, second=0, microsecond=0)
    start, end = bucket(moment, interval)

    assert start <= moment < end
    assert bucket(end, interval)[0] == end
    assert ceiling(start, interval) == start
    assert ceiling(start + timedelta(seconds=1), interval) == end


def test_four_hours_begin_at_four_in_new_york_in_summer_and_in_winter():
    for day in (datetime(2026, 7, 1, 9, 30, tzinfo=NEW_YORK), datetime(2026, 12, 1, 9, 30, tzinfo=NEW_YORK)):
        assert bucket(day.astimezone(UTC), "4h")[0].astimezone(NEW_YORK).hour == 8


def test_the_four_hours_in_which_the_clock_goes_back_are_five():
    start, end = bucket(datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "4h")

    assert end - start == timedelta(hours=5)


def test_mean_price_and_trades_are_told_only_where_every_minute_tells_them(writer):
    def tell(name: str, *bars: tuple) -> Candle:
        writer.write(
            [
                BarSnapshot(name, ms(STARTS[2]) + place * 60_000, 10.0, 12.0, 9.0, 11.0, volume * SHARE, vwap, trades, 30, 1, True)
                for place, (volume, vwap, trades) in enumerate(bars)
            ]
        )
        return all_of(name, "5m")[0]

    known, unknown, idle = tell("K", (100, 10.0, 3), (300, 11.0, 4)), tell("U", (100, 10.0, 3), (300, None, None)), tell("I", (0, None, 0))

    assert (known.vwap, known.trades) == (Decimal("10.75"), 7)
    assert (unknown.vwap, unknown.trades) == (None, None)
    assert (idle.vwap, idle.trades) == (None, 0)


def test_a_bar_is_final_when_its_minutes_are_and_no_late_one_may_come(writer):
    start = STARTS[2]
    writer.write([make_bar(time=ms(start), symbol="F", source=Source.SETTLED), make_bar(time=ms(start) + 60_000, symbol="F", source=40)])

    def final(now: datetime) -> bool:
        return all_of("F", "5m", now=now)[0].final

    assert not final(start + timedelta(minutes=19))
    assert final(start + timedelta(minutes=20))
    writer.write([make_bar(time=ms(start) + 120_000, symbol="F", source=Source.VENDOR)])
    assert not final(start + timedelta(minutes=20))


# ---- days and weeks


@pytest.fixture
def thursday(market) -> Session:
    return Session.objects.get(date=date(2026, 11, 19))


def store_day(name: str, day: date, close: str, volume: int = 1000) -> None:
    DailyBar.objects.create(
        symbol_id=name, date=day, open=Decimal(close), high=Decimal(close) + 1, low=Decimal(close) - 1, close=Decimal(close),
        volume=volume, source=Source.SETTLED, source_version=1, updated_at=timezone.now(),
    )  # fmt: skip


def test_a_day_from_minutes_takes_prices_from_the_regular_session_and_volume_from_all_of_it(writer, thursday):
    moments = {"pre": thursday.pre_open, "open": thursday.open, "last": thursday.close - timedelta(minutes=1), "post": thursday.close}
    prices = {"pre": 50.0, "open": 10.0, "last": 11.0, "post": 1.0}
    writer.write([make_bar(prices[name], time=ms(at), symbol="D", volume=100) for name, at in moments.items()])

    (day,) = all_of("D", "1d")

    assert (day.open, day.high, day.low, day.close, day.volume) == (10, 11, 10, 11, 400)
    assert day.start == datetime(2026, 11, 19, 5, tzinfo=UTC)
    assert not day.final


def test_a_day_with_extended_minutes_only_is_no_day_yet(writer, thursday):
    writer.write([make_bar(time=ms(thursday.pre_open), symbol="E")])

    assert all_of("E", "1d") == []


def test_the_exchanges_own_day_stands_before_one_from_minutes(writer, thursday):
    wednesday = Session.objects.get(date=date(2026, 11, 18))
    writer.write([make_bar(10.0, time=ms(session.open), symbol="O") for session in (wednesday, thursday)])
    store_day("O", wednesday.date, "20")
    store_day("O", date(2026, 11, 17), "19")

    days = all_of("O", "1d")

    assert [(day.close, day.final) for day in days] == [(19, True), (20, True), (10, False)]
    assert all_of("O", "1d", forward=False, limit=2) == days[::-1][:2]
    assert all_of("O", "1d", start=days[1].start, end=days[2].start) == days[1:2]


def test_a_week_is_the_fold_of_its_days_from_monday_on(writer, thursday):
    writer.write([make_bar(10.0, time=ms(thursday.open), symbol="W", volume=5)])
    for number, close in ((13, "30"), (16, "20"), (17, "25")):
        store_day("W", date(2026, 11, number), close)

    before, this = all_of("W", "1w")

    assert (before.close, before.final) == (30, True)
    assert (this.open, this.high, this.low, this.close, this.volume, this.final) == (20, 26, 10, 10, 2005, False)
    assert this.start == datetime(2026, 11, 16, 5, tzinfo=UTC)
    assert all_of("W", "1w", forward=False, limit=1) == [this]
    assert all_of("W", "1w", start=this.start - timedelta(days=1)) == [this]
    assert week_from(this.start) == date(2026, 11, 16)


def test_the_minute_interval_is_the_table_itself(writer):
    writer.write([make_bar(10.5, time=ms(STARTS[2]), symbol="M")])

    (bar,) = all_of("M", "1m")

    row = Bar.objects.get(symbol="M")
    assert (bar.start, bar.close, bar.volume, bar.final) == (row.timestamp, row.close, row.volume, row.is_final)


# ---- as_of


def test_as_of_shows_the_table_after_each_write_as_it_stood_then(writer):
    start = ms(STARTS[2])
    writes = [
        [make_bar(10.0, time=start, symbol="Z", version=1)],
        [make_bar(11.0, time=start, symbol="Z", version=2), make_bar(20.0, time=start + 60_000, symbol="Z", version=1)],
        [make_bar(11.0, time=start, symbol="Z", version=3)],  # the same values again: no revision
        [make_bar(9.0, time=start, symbol="Z", source=Source.SETTLED)],
        [make_bar(8.0, time=start, symbol="Z", version=9)],  # of a lower rank: refused
        [make_bar(21.0, time=start + 60_000, symbol="Z", version=2), make_bar(30.0, time=start + 600_000, symbol="Z")],
    ]
    seen = [(timezone.now(), [], [])]
    for write in writes:
        writer.write(write)
        shown = tuple([(bar.start, bar.open, bar.close, bar.volume) for bar in all_of("Z", name)] for name in ("1m", "5m"))
        seen.append((timezone.now(), *shown))

    for moment, minutes, fives in seen:
        for name, expected in (("1m", minutes), ("5m", fives)):
            then = all_of("Z", name, as_of=moment)
            assert [(bar.start, bar.open, bar.close, bar.volume) for bar in then] == expected


def test_as_of_says_final_as_it_was_then(writer):
    now = timezone.now().replace(second=0, microsecond=0)
    writer.write([make_bar(time=ms(now - timedelta(minutes=14)), symbol="Y"), make_bar(time=ms(now - timedelta(minutes=40)), symbol="Y")])

    assert [bar.final for bar in all_of("Y", "1m", as_of=timezone.now())] == [True, False]


def test_a_daily_row_that_came_later_does_not_stand_in_a_day_as_of_before(writer, thursday):
    writer.write([make_bar(10.0, time=ms(thursday.open), symbol="X")])
    before = timezone.now()
    store_day("X", thursday.date, "20")

    assert [day.close for day in all_of("X", "1d", as_of=before)] == [10]
    assert [day.close for day in all_of("X", "1d", as_of=timezone.now())] == [20]
    assert all_of("X", "1d", as_of=before - timedelta(days=1)) == []
