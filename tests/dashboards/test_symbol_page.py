"""One symbol's page: its address is its view, and it can speak of a moment that is past."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from dashboards.templatetags import wording
from marketdata.models import Bar, BarRevision, Gap, Halt
from patterns.indicators.averages import exponential_average
from tests.dashboards.test_pages import MINUTE, reader, store_bar, store_detection, this_minute  # noqa: F401 - the fixture


def revise(bar: Bar, close: str, *, at: datetime) -> None:
    """Replace a bar's close at a moment, as the writer does: the old row is kept."""
    BarRevision.objects.create(
        symbol_id=bar.symbol_id, timestamp=bar.timestamp, revision=bar.revision, open=bar.open, high=bar.high, low=bar.low, close=bar.close,
        volume=bar.volume, source=bar.source, source_version=bar.source_version, complete=True, stored_at=bar.valued_at, replaced_at=at,
        cause="late",
    )  # fmt: skip
    price = Decimal(close)
    Bar.objects.filter(symbol_id=bar.symbol_id, timestamp=bar.timestamp).update(
        close=price, high=max(bar.high, price), low=min(bar.low, price), revision=bar.revision + 1, valued_at=at
    )


def test_the_interval_of_the_address_is_the_one_of_the_table(reader):  # noqa: F811
    for back in (1, 2, 3, 4, 5, 6):
        store_bar("AAPL", "100", back=back)

    page = reader.get("/symbols/AAPL/?interval=1h")

    assert page.context["initial"]["interval"] == "1h"
    assert all(row["bar"].end - row["bar"].start == timedelta(hours=1) for row in page.context["bars"])
    assert reader.get("/symbols/AAPL/?interval=nonsense").context["initial"]["interval"] == "1m"


def test_as_of_shows_price_detections_and_gaps_as_they_stood(reader):  # noqa: F811
    now = datetime.now(UTC)
    bar = store_bar("AAPL", "100", back=30)
    revise(bar, "104", at=now - timedelta(minutes=5))
    store_detection("AAPL", back=1)
    Gap.objects.create(
        symbol_id="AAPL", first_minute=bar.timestamp - 5 * MINUTE, last_minute=bar.timestamp - 4 * MINUTE, cause="feed_down", state="repaired",
        opened_at=now - timedelta(minutes=28), closed_at=now - timedelta(minutes=6), bars_found=2,
    )  # fmt: skip

    today = reader.get("/symbols/AAPL/")
    past = reader.get("/symbols/AAPL/", {"as_of": (now - timedelta(minutes=10)).isoformat()})

    assert (today.context["quote"].price, past.context["quote"].price) == (104, 100)
    assert (len(today.context["found"]), len(past.context["found"])) == (1, 0)
    assert ([gap["open"] for gap in today.context["initial"]["gaps"]], [gap["open"] for gap in past.context["initial"]["gaps"]]) == (
        [False],
        [True],
    )
    assert "As it stood" in past.content.decode()


def test_a_moment_without_an_offset_is_meant_in_new_york(reader):  # noqa: F811
    page = reader.get("/symbols/AAPL/?as_of=2026-11-20T10:30")

    assert page.context["asked"].as_of == datetime(2026, 11, 20, 10, 30, tzinfo=wording.NEW_YORK)


@pytest.mark.parametrize("text", ["soon", "2999-01-01T00:00", "2026-13-45"])
def test_a_moment_that_is_none_is_told_and_the_page_shows_now(reader, text):  # noqa: F811
    store_bar("AAPL", "100")

    page = reader.get("/symbols/AAPL/", {"as_of": text})

    assert page.context["asked"].as_of is None
    assert "The page shows now." in page.content.decode()


def test_the_detection_of_the_address_is_there_however_old_it_is(reader):  # noqa: F811
    store_bar("AAPL", "100")
    old = store_detection("AAPL", back=5000)
    for back in range(1, 64):
        store_detection("AAPL", back=back)
    strange = store_detection("MSFT")

    def known(number: int) -> bool:
        return any(row["id"] == number for row in reader.get(f"/symbols/AAPL/?detection={number}").context["found"])

    assert known(old.id)
    assert not known(strange.id)


def test_the_detections_are_those_of_the_interval_that_is_shown(reader):  # noqa: F811
    for back in range(1, 70):
        store_detection("AAPL", back=back)
    daily = store_detection("AAPL", back=90, interval="1d")

    def known(interval: str) -> list[int]:
        return [row["id"] for row in reader.get(f"/symbols/AAPL/?interval={interval}").context["found"]]

    assert known("1d") == [daily.id]
    assert len(known("1m")) == 60
    assert known("30m") == []


def test_a_symbol_that_is_paused_is_shown_as_halted_until_it_trades_again(reader):  # noqa: F811
    store_bar("AAPL", "100", back=4)
    began = this_minute() - 3 * MINUTE + timedelta(seconds=20)
    halt = Halt.objects.create(symbol_id="AAPL", began_at=began)

    def is_halted(**asked: str) -> bool:
        return 'id="halt"' in reader.get("/symbols/AAPL/", asked).content.decode()

    assert is_halted()
    assert not is_halted(as_of=(began - MINUTE).isoformat())
    halt.ended_at = began + MINUTE
    halt.save()
    assert not is_halted()
    Halt.objects.update(ended_at=None)
    store_bar("AAPL", "100", back=1)  # its end was never heard
    assert not is_halted()


def test_revisions_tell_what_a_minute_said_before(reader):  # noqa: F811
    bar = store_bar("AAPL", "100", back=3)
    revise(bar, "101.5", at=this_minute())

    told = reader.get("/api/revisions/", {"symbol": "AAPL"}).json()["revisions"]

    assert [(row["c"], row["revision"], row["cause"]) for row in told] == [(100, 0, "late")]
    assert reader.get("/api/revisions/", {"symbol": "NOSUCH"}).status_code == 404


def test_an_indicator_line_is_what_the_bars_say_and_says_nothing_where_too_few_are_stored(reader):  # noqa: F811
    closes = [100 + (place * 7) % 5 for place in range(40)]
    for back, close in zip(range(40, 0, -1), closes, strict=True):
        store_bar("AAPL", str(close), back=back)

    line = reader.get("/api/indicators/AAPL/lines/", {"name": "ema_20", "limit": 30}).json()["values"]["ema_20"]

    expected = exponential_average(np.array(closes, dtype=float), length=20)
    assert line[:9] == [None] * 9
    assert line[9:] == pytest.approx(expected[19:], abs=1e-6)
