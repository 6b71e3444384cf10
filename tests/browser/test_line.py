"""What the page says and does while its line is cut, and that it stands like the table when the line is back."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_walk import MINUTE, block_of, close_minute, new_minute, store

pytestmark = pytest.mark.browser
LONG = 40_000  # ms; a loaded machine may take long, an idle one takes a fraction


def expect_line(page: Page, state: str) -> None:
    expect(page.locator("html")).to_have_attribute("data-line", state, timeout=LONG)


def open_stream(reader, newest) -> Page:
    """Sign in and open the stream on a market whose newest minute lies before `newest`, with one told message."""
    store(newest - 2 * MINUTE)
    reader.sign_in()
    close_minute(newest - MINUTE, 100.1)
    reader.go("/streaming/")
    expect(reader.page.locator("#own-line")).to_contain_text("nothing skipped", timeout=LONG)
    return reader.page


def test_a_redis_that_was_restarted_is_told_and_the_page_stands_like_the_table_again(reader, web):
    newest = new_minute()
    page = open_stream(reader, newest)

    web.valkey.stop()
    expect_line(page, "stale")
    expect(page.locator("#line-words")).to_contain_text("stale since")
    store(newest, 100.4)  # nobody can be told of it
    web.valkey.start()

    expect_line(page, "live")
    expect(block_of(page, newest)).to_contain_text("70 bars", timeout=LONG)


def test_a_network_that_drops_is_told_and_the_page_catches_up(reader):
    newest = new_minute()
    store(newest - MINUTE, 100.0)
    reader.sign_in()
    reader.go("/symbols/AAPL/")
    page = reader.page
    expect(page.locator("#price")).to_have_text("100.00", timeout=LONG)
    expect_line(page, "live")

    page.context.set_offline(True)
    expect_line(page, "offline")
    expect(page.locator(".toast.standing")).to_contain_text("Live updates lost", timeout=LONG)
    expect(page.locator("#price")).to_have_class(re.compile(r"\bstale\b"), timeout=LONG)
    close_minute(newest, 103.0)
    page.context.set_offline(False)

    expect_line(page, "live")
    expect(page.locator("#price")).to_have_text("103.00", timeout=LONG)
    expect(page.locator(".toast.standing")).to_have_count(0)
    reader.forgive("ERR_INTERNET_DISCONNECTED", "WebSocket")


def test_a_page_that_slept_ten_minutes_catches_up_by_itself(reader):
    newest = new_minute()
    reader.page.clock.install()
    page = open_stream(reader, newest)
    sleep = page.context.new_cdp_session(page)

    sleep.send("Page.setWebLifecycleState", {"state": "frozen"})
    close_minute(newest, 100.6)
    sleep.send("Page.setWebLifecycleState", {"state": "active"})
    page.clock.fast_forward(timedelta(minutes=10).total_seconds() * 1000)

    expect(block_of(page, newest)).to_contain_text("70 bars", timeout=LONG)
    expect_line(page, "live")


def test_where_no_socket_opens_the_page_asks_and_says_so(reader):
    newest = new_minute()
    store(newest - MINUTE)
    reader.page.route_web_socket("**/ws/live", lambda socket: socket.close(code=1013))
    reader.sign_in(live=False)
    reader.go("/streaming/")
    expect_line(reader.page, "polling")
    expect(reader.page.locator("#line-words")).to_contain_text("asking every 2 s")

    close_minute(newest, 100.8)

    expect(block_of(reader.page, newest)).to_contain_text("70 bars", timeout=LONG)


def test_signing_out_ends_the_line_of_every_open_page(reader):
    reader.sign_in()
    other = reader.page.context.new_page()
    other.goto(reader.address + "/patterns/")

    other.locator("summary[aria-label^=Account]").click()
    other.get_by_role("button", name="Sign out").first.click()

    expect_line(reader.page, "ended")
    expect(reader.page.locator(".toast.standing")).to_contain_text("You are signed out")
    expect(reader.page.get_by_role("link", name="Sign in again")).to_be_visible()
