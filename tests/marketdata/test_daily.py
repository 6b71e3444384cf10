"""Daily bars from minutes: what a day is, who may replace whom, and what differed."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from marketdata.backfill import import_days, newest_days
from marketdata.bars.snapshot import SHARE, DailySnapshot
from marketdata.daily import make_days, reconcile_days
from marketdata.history import RestHistory
from marketdata.intervals import candles
from marketdata.models import DailyBar, FeedSpan, Gap, Reconciliation, Session, Source
from tests.factories import DAY, make_bar, moment
from tests.rest_server import rest_server

TODAY = date.fromisoformat(DAY)
OVER = moment("01:30", "2026-11-21")


@pytest.fixture
def session(market) -> Session:
    hours = {"pre_open": moment("09:00"), "open": moment("14:30"), "close": moment("21:00"), "post_close": moment("01:00", "2026-11-21")}
    return Session.objects.update_or_create(date=TODAY, defaults={"calendar": "XNYS", **hours})[0]


def minutes(symbol: str = "AAPL") -> list:
    """Return pre-market, the first and the last regular minute, and one after the close."""
    return [
        make_bar(99.0, time="13:00", symbol=symbol, volume=5, h=120.0),
        make_bar(10.5, time="14:30", symbol=symbol, volume=100, o=10.0, h=11.0, l=9.5),
        make_bar(12.0, time="20:59", symbol=symbol, volume=200, o=11.0, h=12.5, l=10.5),
        make_bar(13.0, time="21:00", symbol=symbol, volume=50, h=14.0),
    ]


def prove(*symbols: str, until: str = "01:00") -> None:
    """Leave the evidence that the line was up all day: minutes without a bar had no trade."""
    FeedSpan.objects.create(
        line="stream 1/1", began_at=moment("08:59"), alive_until=moment(until, "2026-11-21"), symbols=list(symbols), kinds=["AM"], ended="x"
    )


def stored(symbol: str = "AAPL") -> tuple:
    return DailyBar.objects.values_list("open", "high", "low", "close", "volume", "source").get(symbol=symbol, date=TODAY)


def test_a_day_has_regular_prices_and_the_volume_of_all_hours(session, writer):
    writer.write(minutes())
    prove("AAPL")

    assert make_days(session, ["AAPL"], writer, now=OVER) == 1
    assert stored() == (10, Decimal("12.5"), Decimal("9.5"), 12, 355, Source.MADE_DAY)
    assert make_days(session, ["AAPL"], writer, now=OVER) == 0, "a second time changes nothing"
    (day,) = candles("AAPL", "1d", start=None, end=None, forward=False, limit=1, now=OVER)
    assert (day.close, day.final) == (12, False), "it is not the exchange's own"


def test_a_day_of_which_minutes_are_not_proven_is_not_made(session, writer):
    writer.write(minutes("AAPL") + minutes("MSFT"))
    prove("AAPL", "MSFT")
    Gap.objects.create(symbol_id="MSFT", first_minute=moment("15:00"), last_minute=moment("15:05"), cause="feed_down", opened_at=OVER)

    assert make_days(session, ["AAPL", "MSFT", "IBM"], writer, now=OVER) == 1
    assert list(DailyBar.objects.values_list("symbol", flat=True)) == ["AAPL"]


def test_a_bar_of_the_feed_replaces_one_from_minutes_and_never_the_other_way(session, writer):
    writer.write(minutes())
    prove("AAPL")
    make_days(session, ["AAPL"], writer, now=OVER)
    assert newest_days(["AAPL"]) == {}, "an import must still ask for that day"

    official = DailySnapshot("AAPL", TODAY, 10.0, 12.5, 9.5, 12.01, 400 * SHARE, None, None, 40, 1)
    assert writer.write_days([official]) == 1
    assert make_days(session, ["AAPL"], writer, now=OVER) == 0

    assert stored() == (10, Decimal("12.5"), Decimal("9.5"), Decimal("12.01"), 400, Source.SETTLED)
    for _ in range(2):
        report = reconcile_days(session, now=OVER)
    assert (report.compared, report.matched, report.differing) == (1, 0, 1)
    assert report.fields == {"open": 0, "high": 0, "low": 0, "close": 1, "volume": 1}
    assert Reconciliation.objects.count() == 1


def test_a_bar_of_the_feed_that_agrees_makes_the_day_its_own(session, writer):
    writer.write(minutes())
    prove("AAPL")
    make_days(session, ["AAPL"], writer, now=OVER)
    assert reconcile_days(session, now=OVER) is None

    same = DailySnapshot("AAPL", TODAY, 10.0, 12.5, 9.5, 12.0, 355 * SHARE, None, None, 40, 1)
    assert [writer.write_days([same]) for _ in range(2)] == [1, 0]

    assert stored() == (10, Decimal("12.5"), Decimal("9.5"), 12, 355, Source.SETTLED)
    assert newest_days(["AAPL"]) == {"AAPL": TODAY}
    (day,) = candles(
        "AAPL", "1d", start=None, end=None, forward=False, limit=1, now=OVER + timedelta(hours=4)
    )  # midnight in New York is past
    assert day.final
    report = reconcile_days(session, now=OVER)
    assert (report.compared, report.matched, report.differing) == (1, 1, 0)


def test_the_feeds_day_is_fetched_and_a_day_that_nobody_asked_for_is_not_stored(session, writer):
    class Days(RestHistory):
        def _aggregates(self, symbol, timespan, first, last):
            assert (timespan, first, last) == ("day", DAY, DAY)
            for clock, day in (("05:00", "2026-11-19"), ("05:00", DAY)):
                yield {"t": round(moment(clock, day).timestamp() * 1000), "o": 10, "h": 12, "l": 9, "c": 11, "v": 300}

    with rest_server() as rest:
        history = Days(url=rest.url, key="k")
        report = import_days(history, writer, ["AAPL"], first=TODAY, last=TODAY, now=lambda: OVER.replace(hour=12))

    assert report.read == 1
    assert list(DailyBar.objects.values_list("date", "close", "source")) == [(TODAY, 11, Source.SETTLED)]
