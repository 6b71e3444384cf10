"""What a person does on the first day: come in, watch a minute arrive, open a symbol, see what was found."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from playwright.sync_api import Locator, Page, expect

from marketdata.bars.snapshot import SHARE, BarChange, BarSnapshot
from marketdata.feed.events import Quote
from marketdata.models import Bar, Symbol
from marketdata.signals import bars_closed, bars_moving, feed_changed, quotes_moving
from patterns.models import Detection
from patterns.signals import patterns_detected, patterns_retracted

pytestmark = pytest.mark.browser
MINUTE = timedelta(minutes=1)


def this_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


_told: list[datetime] = []


def new_minute() -> datetime:
    """Return a minute that no test has told the web process of: it lives for the whole session, and on its pages the newest minute wins."""
    earliest = this_minute() + MINUTE
    _told.append(max(earliest, _told[-1] + 3 * MINUTE) if _told else earliest)
    return _told[-1]


def make_snapshot(symbol: str, at: datetime, close: float) -> BarSnapshot:
    return BarSnapshot(
        symbol=symbol, opened_at_ms=int(at.timestamp() * 1000), open=100.0, high=max(100.0, close), low=min(100.0, close), close=close,
        volume=1200 * SHARE, vwap=None, trades=4, source=30, version=1, complete=True,
    )  # fmt: skip


def store(at: datetime, close: float = 100.0, *symbols: str) -> list[str]:
    """Store one minute of these symbols, of the whole universe where none is named."""
    names = list(symbols) or list(Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).values_list("symbol", flat=True))
    price = Decimal(str(close))
    Bar.objects.bulk_create(
        Bar(
            symbol_id=name, timestamp=at, open=100, high=max(100, price), low=min(100, price), close=price, volume=1200, source=30,
            source_version=1, revision=0, complete=True, is_final=False, writer_epoch=1, updated_at=at + MINUTE,
        )
        for name in names
    )  # fmt: skip
    return names


def close_minute(at: datetime, close: float, *symbols: str) -> None:
    """Store one minute and announce it, as the stream does after its commit."""
    names = store(at, close, *symbols)
    bars_closed.send(
        None, bars=[BarChange(bar=make_snapshot(name, at, close), revision=0, is_final=False, inserted=True) for name in names]
    )


def find(symbol: str, at: datetime, pattern: str = "engulfing", name: str = "Engulfing") -> dict:
    """Store one detection and return what is announced of it."""
    now = datetime.now(UTC)
    row = Detection.objects.create(
        symbol_id=symbol, pattern_type=pattern, timeframe="1m", timestamp=at, detection_timestamp=now, confidence=0.82, direction="bullish",
        status_at=now, bar_revision=0, detail={"trend": "down", "measures": {"size": 1.31}, "grade": 100, "bars": 3, "candles": 2},
    )  # fmt: skip
    return {
        "id": row.id, "symbol": symbol, "pattern_type": pattern, "name": name, "timeframe": "1m", "timestamp": at,
        "detection_timestamp": now, "confidence": 0.82, "direction": "bullish", "status": "standing",
    }  # fmt: skip


def block_of(page: Page, at: datetime) -> Locator:
    return page.locator(f'.minute[data-at^="{at:%Y-%m-%dT%H:%M}"]')


def test_a_person_signs_in_watches_a_bar_arrive_opens_a_symbol_and_sees_a_detection(reader):
    newest = new_minute()
    for back in range(1, 40):
        store(newest - back * MINUTE, 100 + back / 50, "AAPL", "MSFT")
    reader.go("/")
    page = reader.page
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "not this one")
    page.click("button")
    expect(page.get_by_role("alert")).to_contain_text("do not open the door")

    reader.sign_in()
    expect(page.get_by_role("heading", level=1)).to_contain_text("The newest minute is")
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 70 symbols")
    page.get_by_role("link", name="Stream").first.click()
    expect(page.locator("#own-line")).to_contain_text("nothing skipped")

    close_minute(newest, 100.5)
    block = block_of(page, newest)
    expect(block).to_contain_text("70 bars")
    assert page.evaluate("performance.getEntriesByName('bars-painted').length") > 0

    told = find("AAPL", newest)
    patterns_detected.send(None, detections=[told])
    expect(block.locator(".found")).to_contain_text("Engulfing")
    expect(page.locator("#lede-second")).to_contain_text("closed with 70 of 70 bars and 1 detection.")

    block.get_by_role("link", name="AAPL").click()
    expect(page.locator("#price")).to_have_text("100.50")
    expect(page.locator("#chart canvas").first).to_be_visible()
    expect(page.locator("#found tbody tr").first).to_contain_text("Engulfing")
    expect(page.locator("#chosen")).to_contain_text("0.82")
    expect(page.locator("#measured")).to_contain_text("1.3×")

    bars_moving.send(None, bars=[make_snapshot("AAPL", newest + MINUTE, 101.25)])
    expect(page.locator("#price")).to_have_text("101.25")
    expect(page.locator("#price-age")).to_contain_text("forming")

    expect(page.locator("#bid-ask")).to_be_hidden()
    at_ms = int(datetime.now(UTC).timestamp() * 1000)
    quotes_moving.send(None, quotes=[Quote(sym="AAPL", t=at_ms, bp=101.2, bs=3, ap=101.3, ask_size=5)])
    expect(page.locator("#bid-ask")).to_contain_text(re.compile(r"101\.20 3 × ask 101\.30 5 spread 0\.10, 9\.9 bp"))
    quotes_moving.send(None, quotes=[Quote(sym="AAPL", t=at_ms + 1, ap=101.4, ask_size=5)])
    expect(page.locator("#bid-ask")).to_contain_text(re.compile(r"Bid –\s+× ask 101\.40 5 spread one side only"))

    patterns_retracted.send(None, detections=[{**told, "status": "retracted"}])
    expect(page.locator("#found tbody tr").first).to_contain_text("Retracted")


def test_a_paused_stream_holds_still_counts_what_waits_and_catches_up(reader):
    newest = new_minute()
    store(newest - MINUTE)
    reader.sign_in()
    reader.go("/streaming/")
    page = reader.page
    # One snapshot a topic: what earlier tests have told this web process is in, and does not count as waiting
    expect(page.locator("#own-line")).to_contain_text(re.compile(r"message [3-9]"))
    page.keyboard.press("Space")

    close_minute(newest, 100.2)

    expect(page.locator("#waiting")).to_contain_text("70 bars and 0 detections wait")
    expect(block_of(page, newest)).to_have_count(0)
    page.keyboard.press("Space")
    expect(block_of(page, newest)).to_contain_text("70 bars")
    expect(page.locator("#waiting")).to_have_text("")


def test_a_minute_that_was_half_stored_when_the_page_was_made_is_completed(reader):
    newest = new_minute()
    store(newest - MINUTE)
    store(newest, 100.1, "AAPL", "MSFT")
    reader.sign_in()
    reader.go("/streaming/")
    block = block_of(reader.page, newest)
    expect(block).to_contain_text("2 bars")
    expect(reader.page.locator("#own-line")).to_contain_text("nothing skipped")

    close_minute(newest, 100.3, "NVDA", "TSLA", "INTC")

    expect(block).to_contain_text("5 bars")
    expect(block.locator('.tick[data-symbol="NVDA"]')).to_have_count(1)


def test_the_feeds_state_stands_in_the_status_line(reader):
    reader.sign_in()
    page = reader.page
    expect(page.locator("#line-words")).to_contain_text("live")

    feed_changed.send(None, status={"shard": "stream 1/1", "state": "refused", "since": "2026-11-20T15:04:00Z", "rejected_events": 1234})

    expect(page.locator("#feed-words")).to_have_text("refused")
    expect(page.locator("#feed-since")).to_have_text("since 10:04")
    expect(page.locator("#rejected")).to_have_text("1,234")


def test_the_keys_find_a_symbol_and_change_the_ground_for_good(reader):
    reader.sign_in()
    page = reader.page
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")

    page.keyboard.press("/")
    page.keyboard.type("nvd")
    expect(page.locator("#find-list [role=option]").first).to_contain_text("NVDA")
    page.keyboard.press("Enter")

    expect(page).to_have_url(f"{reader.address}/symbols/NVDA/")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("path", ["/", "/streaming/", "/symbols/AAPL/", "/patterns/", "/symbols/?q=x"])
def test_no_page_scrolls_sideways_on_a_phone(reader, path):
    newest = this_minute() - MINUTE
    store(newest - MINUTE)
    store(newest, 104.0)
    find("AAPL", newest)
    reader.sign_in()
    reader.page.set_viewport_size({"width": 390, "height": 844})

    reader.go(path)

    reader.page.wait_for_selector(".tabs")
    assert reader.page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_minute_of_many_detections_lists_the_best_and_finds_the_others_by_their_symbol(reader):
    newest = new_minute()
    store(newest - MINUTE)
    reader.sign_in()
    reader.go("/streaming/")
    page = reader.page
    expect(page.locator("#own-line")).to_contain_text("nothing skipped")
    close_minute(newest, 100.2)
    others = Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).exclude(pk="MSFT").order_by("symbol")[:30]
    told = [find(name, newest) for name in [*others.values_list("symbol", flat=True), "MSFT"]]
    patterns_detected.send(None, detections=told)

    block = block_of(page, newest)
    expect(block.locator(".found")).to_have_count(24)
    expect(block.locator(".more")).to_have_text("and 28 more")
    expect(page.locator("#lede-second")).to_contain_text("and 31 detections.")

    page.fill("#filter-symbols", "msft")
    expect(block.locator(".found:not(.other)")).to_have_count(1)
    expect(block.locator(".found:not(.other)")).to_contain_text("MSFT")
    assert page.url.endswith("?symbols=MSFT")
