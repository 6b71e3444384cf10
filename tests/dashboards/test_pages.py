from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dashboards.templatetags import wording
from dashboards.views import live
from marketdata.models import Bar, DailyBar, Heartbeat, Membership, Session, Symbol, Universe
from patterns.models import Detection
from tests.conftest import load_first_rows
from tests.dashboards.surveys import make_survey
from tests.people import make_user, session_client

PAGES = ["/", "/streaming/", "/patterns/", "/operations/", "/symbols/", "/symbols/?q=aa", "/symbols/AAPL/"]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def reader(db) -> Client:
    if not Universe.objects.exists():  # a transactional test has flushed them
        load_first_rows()
    return session_client(make_user())


def this_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


def store_bar(symbol: str, close: str, *, back: int = 1, revision: int = 0, opened: str | None = None) -> Bar:
    """Store a bar that began `back` minutes before the present one, as it would have been 0.8 s after its end."""
    at = this_minute() - back * MINUTE
    price, first = Decimal(close), Decimal(opened or close)
    return Bar.objects.create(
        symbol_id=symbol, timestamp=at, open=first, high=max(price, first), low=min(price, first), close=price, volume=1200,
        source=30, source_version=1, revision=revision, complete=True, is_final=False, writer_epoch=1,
        valued_at=at + MINUTE + timedelta(seconds=0.8), updated_at=this_minute(),
    )  # fmt: skip


def store_day(symbol: str, close: str, *, back: int = 1) -> DailyBar:
    price = Decimal(close)
    day = this_minute().astimezone(wording.NEW_YORK).date() - timedelta(days=back)
    return DailyBar.objects.create(
        symbol_id=symbol, date=day, open=price, high=price, low=price, close=price, volume=1, source=40, source_version=1,
        updated_at=this_minute(),
    )  # fmt: skip


def store_detection(
    symbol: str, *, back: int = 1, status: str = "standing", pattern: str = "engulfing", confidence: float = 0.75, interval: str = "1m"
) -> Detection:
    at = this_minute() - back * MINUTE
    return Detection.objects.create(
        symbol_id=symbol, pattern_type=pattern, timeframe=interval, timestamp=at, detection_timestamp=at + MINUTE, confidence=confidence,
        direction="bullish", status=status, status_at=at + MINUTE, bar_revision=0, detail={"trend": "down", "candles": 2},
    )  # fmt: skip


# ---- Who comes in -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, "/symbols/NOSUCH/"])
def test_a_stranger_is_sent_to_the_door_and_learns_nothing(db, page):
    answer = Client().get(page)

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/accounts/login/?next=")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_stands_before_the_first_bar(reader, page):
    assert reader.get(page).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_every_page_stands_with_bars_and_detections(reader, page):
    store_bar("AAPL", "190.25")
    store_detection("AAPL")

    assert reader.get(page).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_an_inline_style_or_an_inline_script(reader, page):
    store_bar("AAPL", "190.25")

    text = reader.get(page).content.decode()

    assert " style=" not in text
    assert "<style" not in text
    assert " onclick=" not in text
    for script in text.split("<script")[1:]:
        head, _, body = script.partition(">")
        assert 'type="application/json"' in head or body.startswith("</script>")


def test_pages_change_nothing(reader):
    assert reader.post("/").status_code == 405


# ---- What a page says -------------------------------------------------------------------------------------------------------------------


def test_an_empty_universe_is_explained(reader):
    Membership.objects.all().delete()

    assert "No symbol belongs to it, so there is nothing to survey." in reader.get("/").content.decode()


def test_a_name_cannot_break_out_of_a_page(reader):
    hostile = '</script><script>alert("x")</script>'
    Symbol.objects.filter(pk="AAPL").update(name=hostile, sector='"><img src=x onerror=alert(1)>')
    store_bar("AAPL", "190.25")
    store_detection("AAPL", pattern="<b>bold</b>")

    for page in (*PAGES, "/symbols/?q=<script>alert(1)</script>", '/patterns/?symbol="><script>alert(1)</script>'):
        text = reader.get(page).content.decode()
        assert "<script>alert" not in text
        assert "<img" not in text
        assert "<b>bold" not in text


def test_an_unknown_symbol_is_a_404_that_names_near_ones(reader):
    answer = reader.get("/symbols/AAPX/")

    assert answer.status_code == 404
    assert "There is no symbol “AAPX” here." in answer.content.decode()
    assert "/symbols/AAPL/" in answer.content.decode()


@pytest.mark.parametrize("asked", ["aapl", "AAPL", " aapl "])
def test_a_ticker_typed_whole_leads_to_its_page(reader, asked):
    assert reader.get("/symbols/", {"q": asked}).headers["Location"] == "/symbols/AAPL/"


@pytest.mark.parametrize("asked", ["BRK.B", "brk-b", "brk b"])
def test_a_share_class_is_found_in_each_spelling(reader, asked):
    assert reader.get("/symbols/", {"q": asked}).headers["Location"] == "/symbols/BRK.B/"


def test_a_retracted_detection_is_struck_through_and_stays(reader):
    store_bar("AAPL", "190.25")
    store_detection("AAPL", status="retracted")

    text = reader.get("/symbols/AAPL/").content.decode()

    assert "struck" in text
    assert "Retracted" in text


def test_the_list_of_detections_filters_and_turns_pages(reader, monkeypatch):
    monkeypatch.setattr(live, "ROWS_A_PAGE", 2)
    for back in range(1, 6):
        store_detection("AAPL", back=back)
    store_detection("MSFT", pattern="doji")

    assert [row.symbol_id for row in reader.get("/patterns/?pattern=doji").context["rows"]] == ["MSFT"]
    assert len(reader.get("/patterns/?symbol=aapl").context["rows"]) == 2
    assert len(reader.get("/patterns/?symbol=aapl&page=2").context["rows"]) == 1
    assert reader.get("/patterns/?symbol=aapl&page=0").context["older"] == "symbol=AAPL&page=1"


def test_a_minute_cut_off_by_a_restart_is_not_the_newest_of_the_status_line(reader):
    for symbol in ("AAPL", "MSFT"):
        store_bar(symbol, "100", back=1)
    half = store_bar("AAPL", "101", back=0)
    Bar.objects.filter(pk=half.pk).update(complete=False)

    page = reader.get("/streaming/")

    assert '<span id="coverage">2 of 70</span>' in page.content.decode()
    assert [(minute.at, minute.count) for minute in page.context["minutes"]] == [(this_minute() - MINUTE, 2)]


def test_the_patterns_page_counts_symbols_of_the_universe_and_says_a_combination_by_its_own_name(reader):
    Symbol.objects.create(symbol="BESIDE")
    for symbol in ("BESIDE", "AAPL"):
        store_detection(symbol, pattern="rs_surge")

    page = reader.get("/patterns/").content.decode()

    assert "2 detections in the last hour, on 1 of 70 symbols." in page
    assert "Relative strength surge</td>" in page
    assert "Rs surge" not in page


@pytest.mark.parametrize("page", ["-1", "x", "9" * 40, "1.5", "²"])
def test_a_page_number_that_is_none_shows_some_page(reader, page):
    assert reader.get("/patterns/", {"page": page}).status_code == 200


def test_the_stream_counts_each_minute_and_tells_how_fast_it_closed(reader):
    store_bar("AAPL", "100", back=2)
    store_bar("AAPL", "100.10", back=1, opened="100")
    store_bar("MSFT", "50", back=1)
    store_detection("AAPL", back=1)

    newest, before = reader.get("/streaming/").context["minutes"]

    assert (newest.count, before.count) == (2, 1)
    assert newest.closed_after == pytest.approx(0.8)
    assert {tick.symbol: round(tick.points, 6) for tick in newest.ticks} == {"AAPL": 10.0, "MSFT": 0.0}
    assert [detection.symbol_id for detection in newest.found] == ["AAPL"]


def test_a_minute_whose_predecessor_is_missing_starts_from_its_own_open(reader):
    store_bar("AAPL", "100", back=5)
    store_bar("AAPL", "90.09", back=1, opened="90")

    newest = reader.get("/streaming/").context["minutes"][0]

    assert round(newest.ticks[0].points, 6) == 10.0


def test_the_best_of_each_symbol_comes_before_the_second_best_of_any(reader):
    store_bar("AAPL", "100")
    store_bar("MSFT", "50")
    for pattern, confidence in (("doji", 0.9), ("highwave", 0.8), ("spinningtop", 0.7)):
        store_detection("AAPL", pattern=pattern, confidence=confidence)
    store_detection("MSFT", confidence=0.4)

    found = reader.get("/streaming/").context["minutes"][0].found

    assert [(row.symbol_id, row.confidence) for row in found] == [("AAPL", 0.9), ("MSFT", 0.4), ("AAPL", 0.8), ("AAPL", 0.7)]


def test_the_stream_lists_the_best_of_a_minute_and_counts_the_rest(reader):
    store_bar("AAPL", "100")
    for number in range(30):
        store_detection("AAPL", pattern=f"p{number}", confidence=number / 30)
    store_detection("AAPL", pattern="struck", status="retracted")
    store_detection("AAPL", back=5, interval="5m")
    store_detection("AAPL", back=6, interval="5m")
    store_detection("MSFT", confidence=0.01)

    minute = reader.get("/streaming/").context["minutes"][0]
    chosen = reader.get("/streaming/?symbols=msft").context["minutes"][0]

    assert (minute.standing, minute.retracted, minute.beyond) == (32, 1, (8, 0))
    assert len(minute.found) == 25
    assert [(row.symbol_id, row.confidence) for row in chosen.found] == [("MSFT", 0.01)]


def test_the_overview_gives_a_bar_one_row_with_its_best_shape(reader):
    store_bar("AAPL", "100")
    for pattern, confidence in (("doji", 0.6), ("engulfing", 0.9), ("spinningtop", 0.7)):
        store_detection("AAPL", pattern=pattern, confidence=confidence)
    store_detection("AAPL", back=2, confidence=1.0)

    make_survey()

    found = reader.get("/").context["found"]

    assert [(row.best.pattern_type, row.more) for row in found] == [("engulfing", 2), ("engulfing", 0)]


def test_the_chosen_ground_and_colours_are_sent_with_the_page(db):
    reader = session_client(make_user("grace", theme="light", palette="classic"))

    assert '<html lang="en" data-theme="light" data-palette="classic">' in reader.get("/").content.decode()


def test_a_synthetic_market_says_so_on_every_page(reader, settings):
    settings.FEED_NAME = "twin"
    assert "Synthetic market" in reader.get("/patterns/").content.decode()
    settings.FEED_NAME = "massive"
    assert "Synthetic market" not in reader.get("/patterns/").content.decode()


def test_a_line_that_gave_no_sign_of_life_is_down_whatever_it_said_last(reader):
    now = datetime.now(UTC)
    Heartbeat.objects.create(part="stream 1/1", at=now - timedelta(minutes=2), started_at=now, state="live", detail={"frames": 3})

    assert wording.feed_state(now)["state"] == "down"
    assert wording.feed_state(now - timedelta(minutes=2))["state"] == "live"


def test_of_several_lines_the_worst_state_speaks(reader):
    now = datetime.now(UTC)
    for number, state in enumerate(["live", "refused", "delayed"]):
        Heartbeat.objects.create(part=f"stream {number}/3", at=now, started_at=now, state=state)

    assert wording.feed_state(now)["state"] == "refused"


# ---- What a page costs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "most"), [("/", 16), ("/streaming/", 16), ("/patterns/", 16), ("/operations/", 34), ("/symbols/AAPL/", 20)]
)
def test_a_page_asks_a_bounded_number_of_questions_however_large_the_market(reader, page, most):
    def questions() -> int:
        with CaptureQueriesContext(connection) as asked:
            reader.get(page)
        return len(asked)

    store_bar("AAPL", "190")
    few = questions()
    for symbol in Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).exclude(pk="AAPL"):
        store_bar(symbol.symbol, "50")
        store_detection(symbol.symbol)

    assert questions() == few
    assert few <= most


# ---- Words ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (0, "0.00"), (0.004, "0.00"), (-0.004, "0.00"), (1.5, "+1.50"), (-1.5, "−1.50"), (Decimal("0.005"), "0.00")],
)
def test_a_change_has_a_sign_unless_it_rounds_to_zero(value, said):
    assert wording.change(value) == said


@pytest.mark.parametrize(("value", "said"), [(None, "–"), (1187.42, "1,187.42"), (0.5, "0.5000"), (Decimal("1"), "1.00")])
def test_a_price_below_a_dollar_has_four_decimals(value, said):
    assert wording.price(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(980_000, "0.98 M"), (412_000, "412 K"), (37, "37"), (None, "–"), (Decimal("9999.5"), "10,000")]
)
def test_a_volume_is_short(value, said):
    assert wording.shares(value) == said


@pytest.mark.parametrize(("value", "step"), [(None, ""), (0.2, "0"), (-0.25, "n1"), (0.75, "p2"), (-2.4, "n3"), (9, "p4")])
def test_heat_has_nine_steps(value, step):
    assert wording.heat(value) == step


def make_session() -> Session:
    def at(clock: str) -> datetime:
        return datetime.fromisoformat(f"2026-11-20T{clock}+00:00")

    return Session(
        date=at("09:00").date(), calendar="XNYS", pre_open=at("09:00"), open=at("14:30"), close=at("21:00"), post_close=at("23:00")
    )


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        ("08:00", "Closed until Friday 04:00"), ("14:00:30", "Pre-market, opens in 30 m"), ("16:42:30", "Regular, closes in 4 h 18 m"),
        ("20:59:30", "Regular, closes in 1 m"), ("22:00", "Post-market, ends in 1 h 0 m"),
    ],
)  # fmt: skip
def test_the_clock_says_what_the_session_does_next(clock, said):
    now = datetime.fromisoformat(f"2026-11-20T{clock}+00:00")

    assert wording.what_next(make_session(), now) == said


def test_the_strip_of_the_day_is_filled_as_far_as_it_is_gone_by():
    strip = wording.day_strip(make_session(), datetime.fromisoformat("2026-11-20T16:00+00:00"))

    pre, regular, post = strip["pieces"]
    assert pre["ahead"] == 0
    assert post["gone"] == 0
    assert regular["gone"] == pytest.approx(100 * 1.5 / 14, abs=0.01)
    assert sum(piece["gone"] + piece["ahead"] for piece in strip["pieces"]) == pytest.approx(100, abs=0.01)
    assert strip["now"] == pytest.approx(50)


def test_without_a_session_the_strip_is_empty():
    assert wording.day_strip(None, datetime.now(UTC)) == {"pieces": [], "now": None}
