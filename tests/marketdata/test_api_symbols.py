"""REST of symbols and universes."""

import pytest

from marketdata.models import Membership, Symbol, Universe
from tests.people import make_user, session_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def client():
    return session_client(make_user())


@pytest.fixture
def market():
    """Three symbols that no default universe has, two of them in a universe of their own, in an order of its own."""
    for symbol, sector, active in (("ZZA", "Zinc", True), ("ZZB", "Zinc", False), ("ZZC", "Zircon", True)):
        Symbol.objects.create(symbol=symbol, name=f"{symbol} Incorporated", type="CS", exchange="XZZZ", sector=sector, active=active)
    universe = Universe.objects.create(key="zz_test", name="Two of Z", description="for a test")
    for position, symbol in enumerate(("ZZC", "ZZA")):
        Membership.objects.create(universe=universe, symbol_id=symbol, position=position)


def found(answer) -> list[str]:
    return [row["symbol"] for row in answer.json()["symbols"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("exchange=XZZZ", ["ZZA", "ZZB", "ZZC"]),
        ("q=zz", ["ZZA", "ZZB", "ZZC"]),
        ("q=ZZB Inc", ["ZZB"]),
        ("exchange=XZZZ&active=true", ["ZZA", "ZZC"]),
        ("exchange=XZZZ&active=false", ["ZZB"]),
        ("sector=Zircon&type=CS", ["ZZC"]),
        ("universe=zz_test", ["ZZA", "ZZC"]),
        ("universe=zz_test&sector=Zinc", ["ZZA"]),
        ("q=zz&sector=Nothing", []),
        ("exchange=XZZZ&limit=2", ["ZZA", "ZZB"]),
        ("exchange=XZZZ&cursor=ZZA", ["ZZB", "ZZC"]),
    ],
)
def test_symbols_are_found_by_filters_joined_by_and(client, market, query, expected):
    assert found(client.get(f"/api/symbols/?{query}")) == expected


def test_following_the_cursor_meets_every_symbol_once(client, market):
    first = client.get("/api/symbols/?exchange=XZZZ&limit=2")
    second = client.get("/api/symbols/", {"exchange": "XZZZ", "limit": 2, "cursor": first.json()["next"]})

    assert found(first) + found(second) == ["ZZA", "ZZB", "ZZC"]
    assert second.json()["next"] is None
    assert first["Link"] == '</api/symbols/?exchange=XZZZ&limit=2&cursor=ZZB>; rel="next"'


def test_an_unknown_universe_is_refused_with_the_known_ones(client, market):
    answer = client.get("/api/symbols/?universe=zz_test:nothing")

    assert answer.status_code == 400
    assert "'nothing'" in answer.json()["detail"]
    assert "zz_test" in answer.json()["detail"]


@pytest.mark.parametrize("query", ["active=maybe", "limit=0", "limit=1001", "cursor=%00", "universe=a%20b", "q=%00", f"sector={'x' * 61}"])
def test_a_bad_filter_is_named(client, query):
    answer = client.get(f"/api/symbols/?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


def test_one_symbol_says_which_universes_it_stands_in(client, market):
    assert client.get("/api/symbols/ZZC/").json() == {
        "symbol": "ZZC", "name": "ZZC Incorporated", "type": "CS", "exchange": "XZZZ", "sector": "Zircon", "industry": "", "active": True,
        "universes": ["zz_test"],
    }  # fmt: skip
    assert client.get("/api/symbols/ZZB/").json()["universes"] == []
    assert client.get("/api/symbols/zzc/").status_code == 404


def test_a_universe_lists_its_symbols_in_its_own_order(client, market):
    assert client.get("/api/universes/zz_test/").json() == {
        "key": "zz_test", "name": "Two of Z", "description": "for a test", "count": 2, "symbols": ["ZZC", "ZZA"],
    }  # fmt: skip
    assert client.get("/api/universes/nothing/").status_code == 404


def test_universes_are_listed_with_their_size(client, market):
    Universe.objects.create(key="zz_none", name="None of Z")

    rows = client.get("/api/universes/?q=of Z").json()["universes"]

    assert [(row["key"], row["count"]) for row in rows] == [("zz_none", 0), ("zz_test", 2)]
    assert client.get("/api/universes/?q=of Z&limit=1").json()["next"] == "zz_none"
