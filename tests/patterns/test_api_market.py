"""/api/market/*: one query an answer, filters and order, 304, and what is said where there is nothing."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator

from accounts.models import Scope
from patterns import market_api
from patterns.models import MarketSurvey
from patterns.survey import BLOCKS
from tests.factories import moment
from tests.people import make_user, token_client

DOORS = ("rankings", "sectors", "rotation", "stages", "breadth", "regime", "averages")
KEY = "combo_test"


@pytest.fixture
def api(market, monkeypatch):
    monkeypatch.setattr(market_api, "held", market_api.HeldBlocks())
    user = make_user("market-reader")
    yield token_client(user, scopes=[Scope.READ_MARKET])
    user.delete()


def ranked(symbol: str, rating: int | None, sector: str, stage: int) -> dict:
    return {"symbol": symbol, "rs_rating": rating, "sector": sector, "stage": stage, "change_day": -1.0 if rating is None else rating / 10}


RANKINGS = [ranked("KRE", 99, "Financials", 2), ranked("XLE", 50, "Energy", 4), ranked("XOP", 1, "Energy", 4), ranked("GLD", None, "", 1)]


def keep(at: str = "15:00", *, kind: str = "intraday", days: int = 0, **blocks) -> MarketSurvey:
    values = {name: [] for name in BLOCKS} | {
        "coverage": {"symbols": 3, "of": 4, "oldest_bar": None},
        "breadth": {},
        "regime": {},
        "stage_counts": {},
    }
    as_of = moment(at) - timedelta(days=days)
    return MarketSurvey.objects.create(
        universe=KEY, as_of=as_of, kind=kind, made_at=moment("15:00"), **values | {"rankings": RANKINGS} | blocks
    )


def get(api, door: str, **parameters):
    response = api.get(f"/api/market/{door}/", {"universe": KEY} | parameters)
    return response.status_code, response.json()


def symbols(answer: tuple[int, dict]) -> list[str]:
    status, body = answer
    assert status == 200, body
    return [row["symbol"] for row in body["rankings"]]


def test_every_door_answers_with_head_and_block(api):
    keep()
    for door in DOORS:
        status, body = get(api, door)
        assert status == 200
        assert (body["universe"], body["as_of"], body["kind"]) == (KEY, "2026-11-20T15:00:00Z", "intraday")
        assert body["coverage"] == {"symbols": 3, "of": 4, "oldest_bar": None}
        assert door in body


def test_rankings_are_chosen_ordered_and_cut(api):
    keep()

    assert symbols(get(api, "rankings")) == ["KRE", "XLE", "XOP", "GLD"]
    assert symbols(get(api, "rankings", sector="Energy")) == ["XLE", "XOP"]
    assert symbols(get(api, "rankings", sector="unknown")) == ["GLD"]
    assert symbols(get(api, "rankings", stage=4, min_rs_rating=2)) == ["XLE"]
    assert symbols(get(api, "rankings", symbols="GLD,KRE")) == ["KRE", "GLD"]
    assert symbols(get(api, "rankings", sort="rs_rating")) == ["XOP", "XLE", "KRE", "GLD"], "null comes last"
    assert symbols(get(api, "rankings", sort="-symbol", limit=2)) == ["XOP", "XLE"]


def test_the_survey_of_a_moment_is_the_one_that_stood_then(api):
    keep("14:45")
    keep("15:00")

    assert get(api, "breadth", as_of="2026-11-20T14:59:59Z")[1]["as_of"] == "2026-11-20T14:45:00Z"
    assert get(api, "breadth", as_of="2026-11-20T15:00:00Z")[1]["as_of"] == "2026-11-20T15:00:00Z"
    status, body = get(api, "breadth", as_of="2026-11-20T14:00:00Z")
    assert (status, body["detail"]) == (404, f"No survey of {KEY} is as old as 2026-11-20T14:00:00+00:00.")


def test_history_shows_the_closes_until_then(api):
    for days in (2, 1, 0):
        keep("21:00", kind="close", days=days, breadth={"advancers": days})

    _, body = get(api, "breadth", history=2)
    assert [(row["as_of"], row["breadth"]["advancers"]) for row in body["history"]] == [
        ("2026-11-19T21:00:00Z", 1),
        ("2026-11-20T21:00:00Z", 0),
    ]
    _, body = get(api, "breadth", history=9, as_of="2026-11-20T12:00:00Z")
    assert [row["breadth"]["advancers"] for row in body["history"]] == [2, 1]


def test_an_answer_takes_one_query_and_a_survey_is_read_once(api):
    keep()
    held = market_api.held
    counts = []
    for _ in range(3):
        with CaptureQueriesContext(connection) as queries:
            get(api, "rankings")
        counts.append([len(query["sql"]) > 0 for query in queries if "market_surveys" in query["sql"]])

    assert counts == [[True]] * 3
    assert (held.hits, held.misses) == (2, 1)

    made_again = moment("15:01")
    MarketSurvey.objects.filter(universe=KEY).update(made_at=made_again)
    get(api, "rankings")
    assert held.misses == 2, "a survey that was made again is another one"


def test_who_has_the_survey_is_told_nothing_more(api):
    keep()
    first = api.get("/api/market/rankings/", {"universe": KEY})
    again = api.get("/api/market/rankings/", {"universe": KEY}, headers={"If-None-Match": first.headers["ETag"]})
    other = api.get("/api/market/rankings/", {"universe": KEY, "limit": 1}, headers={"If-None-Match": first.headers["ETag"]})
    keep("15:01")
    newer = api.get("/api/market/rankings/", {"universe": KEY}, headers={"If-None-Match": first.headers["ETag"]})

    assert [response.status_code for response in (first, again, other, newer)] == [200, 304, 200, 200]
    assert again.content == b""
    assert "private" in first.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("parameters", "status", "words"),
    [
        ({"universe": "nobody"}, 400, "No universe 'nobody' is known. Known: combo_test, stock_etf_test"),
        ({"universe": "combo_test:combo_test"}, 400, "Surveys are kept of each universe"),
        ({"as_of": "2999-01-01"}, 400, "This moment has not come yet"),
        ({"sort": "beauty"}, 400, "There is no column 'beauty' to sort by; there are symbol, rs_rating"),
        ({"limit": "0"}, 400, "greater than or equal to 1"),
        ({"universe": "stock_etf_test"}, 404, "No survey of stock_etf_test has been made yet"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(api, parameters, status, words):
    keep()
    answer, body = get(api, "rankings", **parameters)

    assert answer == status
    assert body["status"] == status
    assert words in str(body)


def test_the_schema_describes_every_door():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]

    for door in DOORS:
        described = paths[f"/api/market/{door}/"]["get"]
        assert {parameter["name"] for parameter in described["parameters"]} >= {"universe", "as_of"}
        assert "200" in described["responses"]
