"""The market pages from stored surveys: what they say, what they refuse, what they cost."""

import csv
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dashboards.models import SavedScreen, Watchlist
from dashboards.views.breadth import usual
from dashboards.views.overview import advancing
from marketdata.models import Session, Universe
from tests.conftest import load_first_rows
from tests.dashboards.surveys import AS_OF, CLOSE, breadth, make_survey, placed, ranked, staged
from tests.people import make_user, session_client, token_client

BOARDS = ["/", "/rankings/", "/sectors/", "/rotation/", "/stages/", "/breadth/", "/averages/"]
FRAME = 9
"""Queries of the frame of every page: session, user, and the seven of the day, the status line and the clock."""


@pytest.fixture
def user(db):
    if not Universe.objects.exists():  # a transactional test has flushed them
        load_first_rows()
    return make_user()


@pytest.fixture
def reader(user) -> Client:
    return session_client(user)


def text_of(client: Client, page: str) -> str:
    answer = client.get(page)
    assert answer.status_code == 200, page
    return answer.content.decode()


def symbols_of(client: Client, page: str) -> list[str]:
    return [row["symbol"] for row in client.get(page).context["rows"]]


# ---- Every page -------------------------------------------------------------------------------------------------------------------------


def test_every_page_says_what_is_awaited_before_the_first_survey(reader):
    for page in [*BOARDS, "/watchlists/", "/screens/"]:
        text = text_of(reader, page)
        assert "not been surveyed yet" in text or "You have no" in text


def test_every_page_stands_with_one_survey_and_says_of_when_and_of_how_many(reader):
    make_survey()

    for page in BOARDS:
        text = text_of(reader, page)
        assert "10 of 10 symbols" in text
        assert "11:42" in text
        assert " style=" not in text
        assert "<style" not in text
        assert " onclick=" not in text


def test_every_page_stands_where_nothing_could_be_computed(reader):
    blank = dict.fromkeys(
        ["last", "rs_rating", "rank", "rank_shift_day", "rank_shift_week", "change_day", "change_open", "change_1w", "change_1m", "change_3m", "change_6m",
         "change_1y", "adr", "atr_sma50", "rvol", "rvol_projected", "volume", "stage", "substage", "market_cap", "bar_at"]
    )  # fmt: skip
    row = {**ranked("AAPL"), **blank, "sector": "", "industry": "", "reason": "no price today"}
    sector = {
        "sector": "",
        "fund": None,
        "symbols": 0,
        "of": 1,
        "advancers": 0,
        "decliners": 0,
        "unchanged": 0,
        "new_highs": 0,
        "new_lows": 0,
        "stages": {},
    }
    sector |= dict.fromkeys(
        ["change_day", "change_1w", "change_1m", "change_3m", "change_6m", "change_1y", "above_sma50", "above_sma200", "rs_rating", "rvol"]
    )
    unknown = dict.fromkeys(["since", "days", "weeks", "close", "sma30w", "slope", "distance", "distance_atr", "mansfield", "substage"])
    make_survey(
        rankings=[row], coverage={"symbols": 0, "of": 1, "oldest_bar": None}, sectors=[sector], industries=[{**sector, "industry": ""}],
        rotation=[{**placed("XLK", []), "ratio": None, "momentum": None}], stages=[{**staged("AAPL", None), **unknown, "reason": "needs 30 weeks, has 3"}],
        stage_counts={"1": 0, "2": 0, "3": 0, "4": 0, "unknown": 1}, stage_changes=[],
        breadth={**dict.fromkeys(breadth()), "symbols": 0, "of": 1, "n": {}},
        averages=[{"symbol": "AAPL", "sector": "", "last": None, "atr": None, "ema10": None, "sma20": None, "sma50": None, "sma200": None,
                   "alignment": None, "bucket": None, "stop": None}],
        regime={"score": None, "label": None, "parts": []},
    )  # fmt: skip

    for page in BOARDS:
        text = text_of(reader, page)
        assert "Not enough symbols for a statement: 0 of 1." in text
        assert "None" not in text.partition("<main")[2].partition("</main>")[0].replace("None within", "").replace("None of", "")


def test_below_the_floor_no_sentence_is_built_and_the_numbers_are_hatched(reader):
    make_survey(coverage={"symbols": 7, "of": 10, "oldest_bar": AS_OF.isoformat()})

    text = text_of(reader, "/rankings/")

    assert "Not enough symbols for a statement: 7 of 10." in text
    assert "rank-grid below" in text


def test_a_moment_shows_the_survey_that_stood_then_and_links_keep_it(reader):
    make_survey(as_of=CLOSE, kind="close", breadth=breadth(1, 8))
    make_survey(breadth=breadth(8, 1))

    assert "8 of 10 up" in text_of(reader, "/breadth/")
    then = text_of(reader, "/breadth/?as_of=2026-11-20T16:00Z")
    assert "1 of 10 up, 8 down" in then
    assert "As of 19 Nov close" in then
    assert "/rankings/?as_of=2026-11-20T16%3A00%3A00Z" in then
    assert "1 of 10 up" in text_of(reader, "/breadth/?as_of=2026-11-19")
    assert "No survey stands at" in text_of(reader, "/breadth/?as_of=2020-01-01")


def test_what_is_asked_wrongly_is_refused_in_one_sentence(reader):
    make_survey()

    wrong, unknown = reader.get("/stages/?as_of=yesterday"), reader.get("/sectors/?universe=sp500000")

    assert (wrong.status_code, unknown.status_code) == (400, 404)
    assert "“yesterday” is no moment. Write a date" in wrong.content.decode()
    assert "There is no universe “sp500000”." in unknown.content.decode()
    assert "?universe=combo_test" in unknown.content.decode()


@pytest.mark.parametrize(
    "query",
    ["as_of=9999-12-31", "as_of=0001-01-01", "as_of=1e400", "universe=%00", "universe=:", "page=0", "sort=,,-", "length=x", "sector=%00", "all=%00",
     "as_of=2026-11-20T25:00", "bucket=%F0%9F%92%A9", "rs_min=1e999", "set=%00", "format=xml"],
)  # fmt: skip
def test_no_address_breaks_a_page(reader, query):
    make_survey()

    for page in BOARDS:
        assert reader.get(f"{page}?{query}").status_code in {200, 400, 404}


def test_another_universe_is_shown_by_its_own_survey(reader):
    make_survey()
    make_survey(universe="combo_test", rankings=[ranked("XLK")])

    assert symbols_of(reader, "/rankings/?universe=combo_test") == ["XLK"]
    assert "1 of 1 symbols" in text_of(reader, "/?universe=combo_test")


def test_a_name_cannot_break_out_of_a_page(reader):
    hostile = '</script><img src=x onerror=alert(1)>"><script>alert(1)</script>'
    rows = [ranked("AAPL", name=hostile, sector=hostile, industry=hostile, reason=hostile)]
    make_survey(rankings=rows, stage_changes=[{"symbol": "AAPL", "at": "2026-11-20", "from": 1, "to": 2, "reason": hostile, "final": True}])
    SavedScreen.objects.create(
        user_id=reader.get("/").context["request"].user.pk, name=hostile, query="q=%3Cscript%3Ealert(1)%3C/script%3E"
    )

    for page in [
        *BOARDS,
        "/screens/",
        "/rankings/?q=<script>alert(1)</script>&sector=<img>&stage=<img>",
        "/sectors/?sector=<script>alert(1)",
    ]:
        text = text_of(reader, page)
        assert "<script>alert" not in text
        assert "<img" not in text


@pytest.mark.parametrize(
    ("page", "own"),
    [("/", 8), ("/rankings/", 6), ("/sectors/", 2), ("/rotation/", 2), ("/stages/", 3), ("/breadth/", 8), ("/averages/", 2), ("/screens/", 3)],
)  # fmt: skip
def test_a_page_asks_the_database_this_often_however_large_the_market(reader, page, own):
    def questions() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert reader.get(page).status_code == 200
        return len(asked)

    make_survey(as_of=CLOSE, kind="close")
    make_survey()
    assert questions() - FRAME <= own

    make_survey(as_of=AS_OF + timedelta(minutes=1), rankings=[ranked(f"S{n:04}", n) for n in range(1, 300)])
    assert questions() - FRAME <= own


# ---- What single pages say --------------------------------------------------------------------------------------------------------------


def test_the_overview_leads_with_the_day_and_shows_movers_map_and_state(reader):
    rows = [ranked("AAPL", 1, change_day=3.1), ranked("MSFT", 2, change_day=-2.2), ranked("SPY", 3, type="ETF", sector="", change_day=0.5),
            ranked("NVDA", 4, change_day=0.001, market_cap=None)]  # fmt: skip
    make_survey(as_of=CLOSE, kind="close", regime={"score": 61.0, "label": "constructive", "parts": []})
    make_survey(rankings=rows)

    page = reader.get("/")

    text = page.content.decode()
    assert [row["symbol"] for row in page.context["movers"][0]] == ["AAPL", "SPY"]
    assert [row["symbol"] for row in page.context["movers"][1]] == ["MSFT"]
    assert {tile.key for group in page.context["map"].groups for tile in group.tiles} == {"AAPL", "MSFT"}
    assert "No market value known, so no area: NVDA." in text
    assert "was 61 on Thursday" in text
    assert "66 % above the 50-day average" in text


def test_the_rankings_filter_sort_and_say_so(reader):
    make_survey(
        rankings=[ranked("AAPL", 1), ranked("XOM", 2, sector="Energy", change_day=-1.0), ranked("JPM", 3, sector="Financials", stage=4)]
    )

    assert symbols_of(reader, "/rankings/") == ["AAPL", "XOM", "JPM"]
    assert symbols_of(reader, "/rankings/?sort=change_day") == ["XOM", "AAPL", "JPM"]
    assert symbols_of(reader, "/rankings/?sector=Energy") == ["XOM"]
    text = text_of(reader, "/rankings/?sector=Energy&set=volume")
    assert "1 of 3 symbols: Energy." in text
    assert "Value, $" in text
    assert "No symbol passes this filter" in text_of(reader, "/rankings/?rs_min=99&rs_max=1")
    assert "is no number" in text_of(reader, "/rankings/?rs_min=high")


def test_a_long_list_comes_in_pages_that_keep_filter_and_order(reader):
    make_survey(rankings=[ranked(f"S{n:04}", n) for n in range(1, 1203)])

    third = reader.get("/rankings/?sort=rank&page=3")

    assert [third.context["rows"][0]["symbol"], len(third.context["rows"])] == ["S1001", 202]
    assert "1001 to 1202 of 1202" in third.content.decode()
    assert "?sort=rank&amp;page=2" in third.content.decode()
    assert symbols_of(reader, "/rankings/?page=x")[0] == "S0001"
    assert len(list(csv.reader(StringIO(reader.get("/rankings/?page=3&format=csv").content.decode())))) == 1203


def test_the_csv_holds_the_filtered_rows_and_no_formula(reader):
    make_survey(rankings=[ranked("AAPL", 1, name="=HYPERLINK(1)"), ranked("XOM", 2, sector="Energy")])

    answer = reader.get("/rankings/?sector=Technology&format=csv")

    rows = list(csv.DictReader(StringIO(answer.content.decode())))
    assert [(row["symbol"], row["name"], row["rs_rating"]) for row in rows] == [("AAPL", "'=HYPERLINK(1)", "99")]
    assert "attachment" in answer["Content-Disposition"]


def test_the_rotation_names_quadrants_and_crossings(reader):
    make_survey()

    page = reader.get("/rotation/")

    assert {place: [row["symbol"] for row in rows] for place, rows in page.context["groups"]} == {"leading": ["XLK"], "lagging": ["XLE"]}
    assert [(one["symbol"], one["before"], one["now"], one["steps"]) for one in page.context["crossings"]] == [
        ("XLE", "weakening", "lagging", 1)
    ]
    assert "Energy went from weakening to lagging." in page.content.decode()


def test_the_stages_count_moves_of_this_week_and_keep_the_reason(reader):
    make_survey(as_of=CLOSE - timedelta(days=8), kind="close", stage_counts={"1": 1, "2": 4, "3": 0, "4": 5, "unknown": 0})
    make_survey(as_of=CLOSE, kind="close")
    make_survey()

    page = reader.get("/stages/")

    text = page.content.decode()
    assert "6 of 10 symbols are in stage 2, 2 more than last week." in text
    assert "AAPL left its base." in text
    assert "above a rising average" in text
    matrix = {row["stage"]: dict(row["cells"]) for row in page.context["matrix"]}
    assert matrix["1"] == {"1": 0, "2": 1, "3": 0, "4": 0}
    assert matrix["2"]["2"] == 5
    assert page.context["history"] is not None


def test_breadth_draws_today_cuts_what_is_missing_and_remembers_a_month_ago(reader):
    opened = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    make_survey(as_of=AS_OF - timedelta(days=31), kind="close")
    make_survey(as_of=CLOSE, kind="close")
    for minutes in (1, 2, 3, 40, 41):
        make_survey(as_of=opened + timedelta(minutes=minutes))
    page = reader.get("/breadth/")

    day = page.context["day"]
    chart = day["charts"][0][1]
    assert chart.path.count("M") == 2
    assert [(f"{low:%H:%M}", f"{high:%H:%M}") for _, _, low, high in day["holes"]] == [("09:33", "10:10")]
    assert [row["then"] for row in page.context["sectors"]] == [80.0, 80.0]
    assert [one["chart"] is not None for one in page.context["year"]] == [True] * 5


def test_what_is_usual_at_a_time_of_day_needs_several_sessions():
    session = Session(open=datetime(2026, 11, 20, 14, 30, tzinfo=UTC), close=datetime(2026, 11, 20, 21, tzinfo=UTC))
    at = datetime(2026, 11, 2, 15, tzinfo=UTC)
    rows = [SimpleNamespace(as_of=at + timedelta(days=day), breadth=breadth(day, 10 - day, unchanged=0)) for day in range(11)]
    rows += [SimpleNamespace(as_of=at.replace(hour=16), breadth=breadth())]

    found = usual(rows, advancing, session)

    assert found == [(datetime(2026, 11, 20, 15, tzinfo=UTC).timestamp(), 20.0, 80.0)]


def test_the_averages_group_by_sector_and_sort_by_distance(reader):
    make_survey()

    grouped, by_distance = reader.get("/averages/"), reader.get("/averages/?sort=-sma50&unit=percent")

    assert [sector for sector, _ in grouped.context["groups"]] == ["Technology"]
    assert "10 of 10 symbols stand above their 50-day average." in grouped.content.decode()
    assert by_distance.context["groups"][0][0] == ""
    # a price of 100 that rose by 1 % stood at 99.01: it crossed an average between the two
    assert [cell[3] for cell in grouped.context["groups"][0][1][0]["cells"]] == ["up", "", "", ""]


# ---- Watchlists and screens -------------------------------------------------------------------------------------------------------------


def test_a_list_is_made_filled_ordered_noted_and_deleted_by_its_owner_alone(reader, user):
    make_survey()
    reader.post("/watchlists/new/", {"name": "Chips"})
    chips = Watchlist.objects.get(user=user)
    change = f"/watchlists/{chips.pk}/change/"
    for symbol in ("nvda", "AAPL", "brk-b"):
        reader.post(change, {"do": "add", "symbol": symbol})
    reader.post(change, {"do": "up", "symbol": "AAPL"})
    reader.post(change, {"do": "note", "symbol": "AAPL", "note": "earnings on Thursday"})

    page = reader.get(f"/watchlists/{chips.pk}/")

    assert [row["symbol"] for row in page.context["rows"]] == ["AAPL", "NVDA"]
    assert [entry.symbol_id for entry in page.context["absent"]] == ["BRK.B"]
    assert "earnings on Thursday" in page.content.decode()
    assert "Chips: 2 of 2 up, 0 down." in page.content.decode()
    assert symbols_of(reader, f"/watchlists/{chips.pk}/?sort=-symbol") == ["NVDA", "AAPL"]
    assert reader.post(change, {"do": "remove", "symbol": "A\x00"}).status_code == 302
    assert "There is no symbol “NOSUCH” here." in reader.post(change, {"do": "add", "symbol": "NOSUCH"}, follow=True).content.decode()

    stranger = session_client(make_user("grace"))
    assert stranger.get(f"/watchlists/{chips.pk}/").status_code == 404
    assert stranger.post(change, {"do": "remove", "symbol": "AAPL"}).status_code == 404
    assert "Type “Chips” to delete it." in reader.post(change, {"do": "delete", "typed": "chips"}, follow=True).content.decode()
    reader.post(change, {"do": "delete", "typed": "Chips"})
    assert not Watchlist.objects.exists()


def test_any_filter_becomes_a_screen_that_counts_what_it_finds_now(reader, user):
    make_survey(rankings=[ranked("AAPL", 1), ranked("XOM", 2, sector="Energy")])
    query = "sector=Energy&rs_min=50&as_of=2026-11-20"

    reader.post("/screens/new/", {"name": "Oil", "query": query})

    screen = SavedScreen.objects.get(user=user)
    assert screen.path == "/rankings/?sector=Energy&rs_min=50"
    row = reader.get("/screens/").context["rows"][0]
    assert (row["count"], row["of"], [one["symbol"] for one in row["first"]]) == (1, 2, ["XOM"])
    assert "You have a screen “Oil” already" in reader.post("/screens/new/", {"name": "Oil", "query": ""}, follow=True).content.decode()
    assert "too long to keep" in reader.post("/screens/new/", {"name": "Long", "query": "q=" + "é" * 400}, follow=True).content.decode()
    assert "This view is the screen" in text_of(reader, screen.path)
    session_client(make_user("grace")).post(f"/screens/{screen.pk}/delete/")
    assert SavedScreen.objects.exists()
    reader.post(f"/screens/{screen.pk}/delete/")
    assert not SavedScreen.objects.exists()


def test_programs_read_lists_and_screens_and_only_people_add(reader, user):
    chips = Watchlist.objects.create(user=user, name="Chips")
    SavedScreen.objects.create(user=user, name="All", query="stage=2")
    address = f"/api/watchlists/{chips.pk}/"

    added = reader.post(address, {"symbol": "nvda"}, content_type="application/json")
    again = reader.post(address, {"symbol": "NVDA"}, content_type="application/json")
    unknown = reader.post(address, {"symbol": "NOSUCH"}, content_type="application/json")

    assert (added.status_code, again.status_code, unknown.status_code) == (201, 200, 400)
    assert unknown.json()["errors"][0]["field"] == "symbol"
    program = token_client(user, scopes=["read:market"])
    assert program.get("/api/watchlists/").json()["watchlists"][0]["entries"] == [{"symbol": "NVDA", "note": ""}]
    assert program.get("/api/screens/").json()["screens"][0]["path"] == "/rankings/?stage=2"
    assert program.post(address, {"symbol": "AAPL"}, content_type="application/json").status_code == 403
    assert session_client(make_user("grace")).get(address).status_code == 404
