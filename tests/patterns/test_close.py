"""A day's way to its last word, on the twin: minutes, daily bars made of them, the feed's own in their place, and the surveys of its close."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from marketdata.backfill import import_minutes
from marketdata.daily import make_days
from marketdata.history import RestHistory
from marketdata.jobs import BarJobs, ask
from marketdata.models import DailyBar, FeedSpan, JobKind, Reconciliation, Session, Source
from marketdata.twin.days import NEW_YORK
from marketdata.writer import PAST, Writer
from patterns import survey
from patterns.models import MarketSurvey
from patterns.survey import survey_closes
from tests.marketdata.test_simulator import Twin

SYMBOLS = ("AAPL", "MSFT")
KEY = "stock_etf_test"


@pytest.fixture
def twin() -> Iterator[Twin]:
    running = Twin("--tickers", "70", "--interval", "0.05")
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.fixture
def session(market) -> Iterator[Session]:
    """A day of the twin, which trades around the clock; the exchange's own days around it are put back afterwards."""
    day = datetime.now(NEW_YORK).date() - timedelta(days=2)
    midnights = [datetime.combine(one, time(), NEW_YORK).astimezone(UTC) for one in (day, day + timedelta(days=1))]
    others = list(Session.objects.filter(date__gte=day, date__lte=day + timedelta(days=3)))
    Session.objects.filter(pk__in=[other.pk for other in others]).delete()
    hours = dict(zip(("pre_open", "open", "close", "post_close"), (midnights[0], midnights[0], midnights[1], midnights[1]), strict=True))
    yield Session.objects.create(date=day, calendar="twin", **hours)
    Session.objects.filter(date=day).delete()
    Session.objects.bulk_create(others)


@contextmanager
def line_of_past_bars() -> Iterator[Writer]:
    writer = Writer(PAST)
    writer.acquire_within(10)
    yield writer
    writer.close()


def days(day: date) -> dict[str, tuple[Decimal, int]]:
    """Return close and source of the stored daily bars."""
    return {symbol: (close, source) for symbol, close, source in DailyBar.objects.filter(date=day).values_list("symbol", "close", "source")}


def test_the_feeds_day_takes_the_place_of_the_one_from_minutes_and_its_close_is_surveyed_again(twin, session, reader, monkeypatch):
    monkeypatch.setattr(survey, "held", survey.Held())
    url = f"http://127.0.0.1:{twin.port}"
    own = {symbol: next(iter(twin.rest.list_aggs(symbol, 1, "day", session.date, session.date))) for symbol in SYMBOLS}
    last = session.close - timedelta(minutes=1)
    with line_of_past_bars() as writer:
        import_minutes(RestHistory(url=url, key="k"), writer, SYMBOLS, first=session.open, last=last, now=lambda: session.close)
    FeedSpan.objects.create(
        line="stream 1/1",
        began_at=session.open,
        alive_until=session.close + timedelta(hours=1),
        symbols=list(SYMBOLS),
        kinds=["AM"],
        ended="x",
    )
    with connection.cursor() as cursor:  # the line brought a last minute that was not the feed's last word
        cursor.execute(
            "UPDATE ohlcv_1min SET high = high * 2, close = high * 2 WHERE symbol = 'AAPL' AND timestamp = %s RETURNING close", [last]
        )
        wrong = cursor.fetchone()[0]
    now = session.close + timedelta(minutes=30)
    with line_of_past_bars() as writer:
        make_days(session, SYMBOLS, writer, now=now)

    assert days(session.date) == {
        "AAPL": (wrong, Source.MADE_DAY),
        "MSFT": (Decimal(str(own["MSFT"].close)), Source.MADE_DAY),
    }
    assert survey_closes(now=datetime.now(UTC), seconds=60).moments == 1
    assert survey_closes(now=datetime.now(UTC), seconds=60).moments == 0
    asked = {"path": "/api/market/rankings/", "data": {"universe": KEY, "symbols": "AAPL,MSFT", "as_of": session.close.isoformat()}}
    before = reader.get(**asked)
    assert {row["symbol"]: row["last"] for row in before.json()["rankings"]} == {"AAPL": float(wrong), "MSFT": own["MSFT"].close}
    assert (before.json()["kind"], before.json()["coverage"]["symbols"]) == ("close", 2)

    ask(JobKind.END_OF_DAY, {"date": session.date.isoformat()}, asked_by="the calendar")
    BarJobs(lambda: RestHistory(url=url, key="k"), now=lambda: now).work_one()

    assert days(session.date) == {symbol: (Decimal(str(bar.close)), Source.SETTLED) for symbol, bar in own.items()}
    minutes, by_day = (Reconciliation.objects.get(date=session.date, source=source) for source in ("rest", "days"))
    assert (minutes.differing, minutes.repaired) == (1, 1)
    assert (by_day.compared, by_day.differing) == (2, 0), "of the repaired minutes the feed's day is the fold"
    assert survey_closes(now=datetime.now(UTC), seconds=60).moments == 1
    after = reader.get(**asked, headers={"If-None-Match": before.headers["ETag"]})
    assert {row["symbol"]: row["last"] for row in after.json()["rankings"]} == {symbol: bar.close for symbol, bar in own.items()}
    assert MarketSurvey.objects.filter(universe=KEY).count() == 1, "the same row, made again"
    assert survey_closes(now=datetime.now(UTC), seconds=60).moments == 0
