"""/api/market/*: one query an answer, filters and order, 304, and what is said where there is nothing."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator

from patterns import market_api
from patterns.models import MarketSurvey
from patterns.survey import BLOCKS
from tests.factories import moment

DOORS = ("rankings", "sectors", "rotation", "stages", "breadth", "regime", "averages")
KEY = "combo_test"


@pytest.fixture
def api(market, reader, monkeypatch):
    monkeypatch.setattr(market_api, "held", market_api.Held())
    return reader


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


def asked_of_surveys(api, headers: dict[str, str] | None = None, **parameters) -> tuple[str, list[str]]:
    """Return what the answer says of its cache, and the statements about surveys that it took."""
    with CaptureQueriesContext(connection) as queries:
        response = api.get("/api/market/rankings/", {"universe": KEY} | parameters, headers=headers)
    return response.headers["Cache-Status"], [query["sql"] for query in queries if "market_surveys" in query["sql"]]


def test_an_answer_takes_one_query_and_a_survey_is_read_once(api):
    keep()
    told = [asked_of_surveys(api, **parameters) for parameters in ({}, {}, {"sector": "Energy"}, {"sector": "Energy"})]

    assert [len(statements) for _, statements in told] == [1] * 4
    assert [status for status, _ in told] == ["surveys; fwd=miss"] + ["surveys; hit"] * 3

    MarketSurvey.objects.filter(universe=KEY).update(made_at=moment("15:01"), rankings=RANKINGS[:1])
    assert asked_of_surveys(api)[0] == "surveys; fwd=miss", "a survey that was made again is another one"
    assert symbols(get(api, "rankings", sector="Financials")) == ["KRE"]
    assert symbols(get(api, "rankings", sector="Energy")) == []


def test_what_is_held_has_its_room_and_the_least_used_goes_first():
    held = market_api.Held(room=10)
    versions = [(number, moment("15:00")) for number in range(4)]
    for version in versions[:2]:
        held.keep(version, "rankings", b"12345")
    assert held.find(versions[0], "rankings") == b"12345"

    held.keep(versions[2], "rankings", b"123")
    held.keep(versions[2], "rankings", b"1234")  # again, not besides
    assert [held.find(version, "rankings") for version in versions] == [b"12345", None, b"1234", None]
    held.keep(versions[3], "rankings", b"12345678901")
    assert held.of(["rankings"]) == {}, "what is larger than the room is not held, nor anything beside it"


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


def test_a_process_that_holds_nothing_reads_nothing_for_who_has_the_survey(api, monkeypatch):
    keep()
    tag = api.get("/api/market/rankings/", {"universe": KEY}).headers["ETag"]
    monkeypatch.setattr(market_api, "held", market_api.Held())

    for header in (tag, f"W/{tag}", f'"other", {tag}'):
        response = api.get("/api/market/rankings/", {"universe": KEY}, headers={"If-None-Match": header})
        assert (response.status_code, response.headers["Cache-Status"]) == (304, "surveys; hit")
    assert market_api.held.of(["rankings"]) == {}
    status, statements = asked_of_surveys(api, headers={"If-None-Match": "nonsense " + tag})
    assert (status, len(statements)) == ("surveys; fwd=miss", 1)


def test_closes_that_come_later_change_the_tag_of_a_history(api):
    keep("21:00", kind="close", breadth={"advancers": 1})

    def tagged() -> tuple[str, int]:
        response = api.get("/api/market/breadth/", {"universe": KEY, "history": 9})
        return response.headers["ETag"], len(response.json()["history"])

    first, same = tagged(), tagged()
    keep("21:00", kind="close", days=1, breadth={"advancers": 2})
    assert first == same
    assert tagged() == (tagged()[0], 2)
    assert tagged()[0] != first[0]


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
