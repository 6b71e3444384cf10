"""The market pages before a browser: each page's main use, the round trip of the address, what a survey changes in place."""

import re
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import expect

from marketdata.models import LoggedError
from patterns.signals import market_surveyed
from tests.browser.test_walk import close_minute, this_minute
from tests.dashboards.surveys import make_survey, ranked

pytestmark = pytest.mark.browser
SYMBOLS = ["AAPL", "MSFT", "NVDA", "XOM", "JPM", "LLY", "AMZN", "META", "WMT", "SPY"]


def survey(as_of: datetime, *, order: list[str] | None = None, last: float = 100.0, change: float = 1.0, tell: bool = True) -> None:
    """Store a survey with its members ranked in this order, and announce it as the task does after its commit."""
    rows = [
        ranked(symbol, rank, last=last, change_day=change - rank / 10, sector="Technology" if rank < 6 else "Energy")
        for rank, symbol in enumerate(order or SYMBOLS, start=1)
    ]
    made = make_survey(as_of=as_of, rankings=rows)
    if tell:
        told = {"universe": made.universe, "as_of": made.as_of, "kind": made.kind, "coverage": made.coverage}
        market_surveyed.send(None, surveys=[told])


def test_the_rankings_follow_survey_and_price_in_place_and_hold_their_order_while_they_are_read(reader):
    newest = this_minute()
    survey(newest - timedelta(minutes=1), tell=False)
    reader.sign_in()
    reader.go("/rankings/")
    page = reader.page
    rows = page.locator("#grid tbody tr")
    expect(rows).to_have_count(10)
    apple = page.locator('#grid tr[data-symbol="AAPL"]')
    apple.hover()

    survey(newest, order=["XOM", *[symbol for symbol in SYMBOLS if symbol != "XOM"]], last=101.5, change=2.5)

    expect(apple.locator("[data-last]")).to_have_text("101.50", timeout=15_000)
    expect(page.locator("#held")).to_contain_text("4 rows would move; XOM would stand at 1.")
    expect(rows.first).to_contain_text("AAPL")
    page.keyboard.press("r")
    expect(rows.first).to_contain_text("XOM")

    close_minute(newest, 103.25, "AAPL")
    expect(apple.locator("[data-last]")).to_have_text("103.25")


def test_a_filter_is_an_address_that_survives_reload_and_back_and_becomes_a_screen(reader):
    survey(this_minute(), tell=False)
    reader.sign_in()
    reader.go("/rankings/")
    page = reader.page

    page.get_by_label("Sector", exact=True).select_option("Energy")
    expect(page).to_have_url(f"{reader.address}/rankings/?sector=Energy")
    expect(page.locator("#grid tbody tr")).to_have_count(5)
    page.get_by_role("link", name="Day, %").click()
    expect(page).to_have_url(f"{reader.address}/rankings/?sector=Energy&sort=-change_day")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("5 of 10 symbols: Energy.")
    page.go_back()
    expect(page).to_have_url(f"{reader.address}/rankings/?sector=Energy")

    page.get_by_label("Name of the screen").fill("Oil")
    page.get_by_role("button", name="Save as screen").click()
    expect(page.locator("#screens tbody tr")).to_contain_text("5 of 10")
    page.get_by_role("link", name="Oil").click()
    expect(page).to_have_url(f"{reader.address}/rankings/?sector=Energy")


def test_a_list_is_made_filled_from_the_rankings_by_key_and_ordered(reader):
    survey(this_minute(), tell=False)
    reader.sign_in()
    reader.go("/watchlists/")
    page = reader.page
    page.get_by_label("Name of the new list").fill("Chips")
    page.get_by_role("button", name="Make").click()
    page.get_by_label("Symbol to add").fill("nvda")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#grid tbody tr")).to_have_count(1)

    reader.go("/rankings/")
    page.keyboard.press("j")
    page.keyboard.press("w")
    expect(page.locator("#toasts")).to_contain_text("AAPL is watched")
    reader.go("/watchlists/")
    page.get_by_role("button", name="Move AAPL up").click()

    expect(page.locator("#grid tbody tr").first).to_contain_text("AAPL")


def test_the_rotation_plays_through_its_moments_and_keeps_one_tail_under_the_pointer(reader):
    survey(this_minute(), tell=False)
    reader.sign_in()
    reader.go("/rotation/")
    page = reader.page
    expect(page.locator("#moment")).to_have_value("2")

    page.keyboard.press("Space")
    expect(page.locator("#play")).to_contain_text("Pause")
    expect(page.locator("#moment")).to_have_value("0")
    expect(page.locator("#play")).to_contain_text("Play")
    expect(page.locator("#moment")).to_have_value("2")
    page.locator('[data-choose="XLK"]').hover()
    expect(page.locator('[data-tail="XLE"]')).to_have_class(re.compile("dim"))


def test_the_other_boards_take_a_new_survey_in_place(reader):
    newest = this_minute()
    survey(newest - timedelta(minutes=2), tell=False)
    reader.sign_in()
    page = reader.page
    for back, path in ((1, "/"), (0, "/stages/")):
        reader.go(path)
        expect(page.locator(".lede [data-provenance]")).to_contain_text("10 of 10")
        before = page.locator("[data-survey]").get_attribute("data-survey")
        page.evaluate("document.body.dataset.same = 'yes'")

        survey(newest - timedelta(minutes=back))

        expect(page.locator("[data-survey]")).not_to_have_attribute("data-survey", before, timeout=15_000)
        assert page.evaluate("document.body.dataset.same") == "yes"


@pytest.mark.parametrize("width", [390, 1440])
def test_no_board_scrolls_sideways(reader, width):
    survey(this_minute(), tell=False)
    LoggedError.objects.create(
        fingerprint="long",
        level="ERROR",
        logger="worker",
        part="worker",
        message=f"Task {'x' * 90} raised",
        first_at=this_minute(),
        last_at=this_minute(),
    )
    reader.sign_in()
    reader.page.set_viewport_size({"width": width, "height": 844})
    for path in [
        "/",
        "/rankings/",
        "/sectors/",
        "/rotation/",
        "/stages/",
        "/breadth/",
        "/averages/",
        "/watchlists/",
        "/screens/",
        "/operations/",
    ]:
        reader.go(path)
        reader.page.wait_for_selector("html[data-line=live]")  # a page left while its socket opens complains
        assert (path, reader.page.evaluate("document.documentElement.scrollWidth")) == (path, width)
