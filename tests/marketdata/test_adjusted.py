"""Splits applied on read: exact, and the raw rows untouched."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.bars.adjust import Adjustment, SplitRatio, times
from marketdata.bars.interval import Candle, midnight
from marketdata.models import Bar, DailyBar, Source, Split, Symbol
from tests.people import make_user, session_client

prices = st.integers(1, 10**9).map(lambda number: Decimal(number) / 10_000)
ratios = st.tuples(st.integers(1, 200), st.integers(1, 200))
days = st.dates(date(2000, 1, 1), date(2026, 11, 20))


def candle(day: date, price: Decimal, volume: Decimal = Decimal(100)) -> Candle:
    start = midnight(day)
    return Candle(start, start + timedelta(days=1), price, price, price, price, volume, price, 3, True)


def adjustment(splits: list[tuple[date, tuple[int, int]]]) -> Adjustment:
    return Adjustment(SplitRatio(day, Decimal(old), Decimal(new)) for day, (old, new) in splits)


@given(splits=st.lists(st.tuples(days, ratios), max_size=5, unique_by=lambda split: split[0]), day=days, price=prices, volume=prices)
def test_adjusted_times_the_splits_after_it_is_raw_and_volume_goes_the_other_way(splits, day, price, volume):
    raw = candle(day, price, volume)
    bar = adjustment(splits).apply(raw)
    shares = Fraction(1)  # what one share of that day is today
    for execution, (old, new) in splits:
        if execution > day:
            shares *= Fraction(new, old)

    half = Fraction(1, 2 * 10**12)  # an endless result is rounded to twelve places, nothing else is
    assert abs(Fraction(bar.close) - Fraction(price) / shares) <= half
    assert abs(Fraction(bar.volume) - Fraction(volume) * shares) <= half
    assert (bar.start, bar.end, bar.trades, bar.final) == (raw.start, raw.end, raw.trades, raw.final)


@given(price=prices, power=st.integers(0, 6))
def test_a_split_without_remainder_is_exact_to_the_last_digit(price, power):
    factor = Fraction(1, 2**power)

    assert Fraction(times(price, factor)) == Fraction(price) * factor


def test_a_split_holds_from_its_execution_date_on():
    split = adjustment([(date(2020, 8, 31), (1, 4))])

    assert split.factor(date(2020, 8, 30)) == Fraction(1, 4)
    assert split.factor(date(2020, 8, 31)) == 1


@pytest.fixture
def client(db):
    return session_client(make_user())


def store(day: date, close: str, volume: int = 100) -> None:
    Symbol.objects.get_or_create(symbol="SPL")
    row = {name: Decimal(close) for name in ("open", "high", "low", "close")}
    DailyBar.objects.create(
        symbol_id="SPL",
        date=day,
        **row,
        volume=volume,
        source=Source.SETTLED,
        source_version=1,
        updated_at=datetime(2020, 1, 1, tzinfo=UTC),
    )


def closes(client, query: str) -> list[tuple[float, float]]:
    return [(bar["c"], bar["v"]) for bar in client.get(f"/api/bars/SPL/?{query}").json()["bars"]]


def test_adjusted_bars_are_asked_for_and_raw_ones_stay(client):
    store(date(2020, 8, 28), "499.24")
    store(date(2020, 8, 31), "129.04", 400)
    Split.objects.create(symbol_id="SPL", execution_date=date(2020, 8, 31), split_from=1, split_to=4)

    assert closes(client, "interval=1d&adjusted=true") == [(124.81, 400), (129.04, 400)]
    assert closes(client, "interval=1d") == closes(client, "interval=1d&adjusted=false") == [(499.24, 100), (129.04, 400)]


def test_a_split_in_the_middle_of_a_week_makes_no_cliff_in_it(client):
    store(date(2026, 6, 2), "40")
    store(date(2026, 6, 4), "10", 400)
    Split.objects.create(symbol_id="SPL", execution_date=date(2026, 6, 4), split_from=1, split_to=4)

    (bar,) = client.get("/api/bars/SPL/?interval=1w&adjusted=true").json()["bars"]

    assert (bar["o"], bar["h"], bar["l"], bar["c"], bar["v"]) == (10, 10, 10, 10, 800)


def test_minutes_are_adjusted_by_their_day_in_new_york(client):
    Symbol.objects.get_or_create(symbol="SPL")
    Split.objects.create(symbol_id="SPL", execution_date=date(2026, 6, 4), split_from=2, split_to=1)  # two old shares are one new
    late = datetime(2026, 6, 4, 3, 59, tzinfo=UTC)  # 23:59 of the day before in New York
    for start in (late, late + timedelta(minutes=1)):
        Bar.objects.create(
            symbol_id="SPL", timestamp=start, open=5, high=5, low=5, close=5, volume=10, source=30, source_version=1, complete=True,
            writer_epoch=1, updated_at=start,
        )  # fmt: skip

    assert closes(client, "adjusted=true") == [(10, 5), (5, 10)]


def test_a_split_that_has_not_happened_yet_changes_nothing(client):
    store(date(2020, 1, 2), "100")
    for day in (date(2999, 1, 1), date(2022, 1, 3)):
        Split.objects.create(symbol_id="SPL", execution_date=day, split_from=1, split_to=2)

    assert closes(client, "interval=1d&adjusted=true") == [(50, 200)]
    assert closes(client, "interval=1d&adjusted=true&as_of=2021-01-01") == [(100, 100)]
