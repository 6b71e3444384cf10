"""`/api/gaps/` and `/api/coverage/`."""

from datetime import UTC, datetime, timedelta

import pytest

from marketdata.models import FeedSpan, Gap
from tests.people import make_user, token_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader():
    return token_client(make_user(), scopes=["read:bars"])


@pytest.fixture
def gaps():
    begin = datetime(2026, 11, 20, 15, tzinfo=UTC)
    return [
        Gap.objects.create(
            symbol_id=symbol,
            first_minute=begin + timedelta(hours=number),
            last_minute=begin + timedelta(hours=number, minutes=4),
            cause="feed_down",
            state=state,
            opened_at=begin,
        )
        for number, (symbol, state) in enumerate([("AAPL", "open"), ("AAPL", "repaired"), ("MSFT", "open")])
    ]


def test_gaps_come_newest_first_and_page_by_page(reader, gaps):
    first = reader.get("/api/gaps/?limit=2").json()
    second = reader.get(f"/api/gaps/?limit=2&cursor={first['next']}").json()
    assert [row["id"] for row in first["gaps"] + second["gaps"]] == [gap.pk for gap in reversed(gaps)]
    assert second["next"] is None
    assert first["gaps"][0]["first_minute"] == "2026-11-20T17:00:00Z"


def test_gaps_are_filtered(reader, gaps):
    assert {row["symbol"] for row in reader.get("/api/gaps/?state=open").json()["gaps"]} == {"AAPL", "MSFT"}
    assert [row["state"] for row in reader.get("/api/gaps/?symbol=AAPL&since=2026-11-20T15:30:00Z").json()["gaps"]] == ["repaired"]


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "cursor=x", "symbol=A%20B", "since=never"])
def test_a_bad_filter_names_its_field(reader, query):
    answer = reader.get(f"/api/gaps/?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == query.split("=")[0]


def test_coverage_of_a_day_adds_up(reader, gaps):
    FeedSpan.objects.create(
        line="stream 1/1",
        began_at=datetime(2026, 11, 19, 14, 30, tzinfo=UTC),
        alive_until=datetime(2026, 11, 19, 15, tzinfo=UTC),
        symbols=["AAPL"],
        kinds=["AM"],
    )
    answer = reader.get("/api/coverage/?date=2026-11-19&symbol=AAPL").json()
    [row] = answer["symbols"]
    assert (answer["date"], row["expected"], row["no_trade"], row["unproven"], row["bars"]) == ("2026-11-19", 960, 30, 930, 0)
    assert len(reader.get("/api/coverage/?date=2026-11-19").json()["symbols"]) == 70


@pytest.mark.parametrize(("query", "status"), [("date=2026-11-22", 400), ("date=x", 400), ("universe=none", 400), ("symbol=NONE", 404)])
def test_what_cannot_be_covered_is_said(reader, query, status):
    assert reader.get(f"/api/coverage/?{query}").status_code == status
