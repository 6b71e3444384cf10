"""The stream repairs itself: an outage becomes a gap, REST closes it, and what the line saw needs no asking."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from marketdata.models import Bar, FeedSpan, Gap, Job, JobState, Reconciliation, Session
from tests.feed_server import feed_server, trade
from tests.processes import wait_until
from tests.rest_server import rest_server
from tests.streams import MINUTE, streaming


@pytest.fixture
def open_now(market) -> Iterator[Session]:
    """A session around now, whatever day it is."""
    now = datetime.now(UTC)
    begin, end = now - timedelta(hours=6), now + timedelta(hours=6)
    overlapping = list(Session.objects.filter(pre_open__lt=end, post_close__gt=begin - timedelta(hours=6)))
    Session.objects.filter(pk__in=[session.pk for session in overlapping]).delete()
    session = Session.objects.create(
        date=now.date() + timedelta(days=4000), calendar="test", pre_open=begin, open=begin, close=end, post_close=end
    )
    yield session
    session.delete()
    Session.objects.bulk_create(overlapping, ignore_conflicts=True)  # a stream that ran as a process has brought them back already


@pytest.fixture
def quick(monkeypatch):
    """Minutes of waiting pass in seconds."""
    monkeypatch.setattr("marketdata.spans.CLAIM_LAG_MS", 5_000)
    monkeypatch.setattr("marketdata.gaps.SETTLE_MS", 0)
    monkeypatch.setattr("marketdata.caretaker.TURN_SECONDS", 0.3)
    monkeypatch.setattr("marketdata.jobs.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("marketdata.stream.STATUS_SECONDS", 0.2)


def test_an_outage_is_found_and_repaired_by_the_stream_itself(open_now, quick):
    start = int(time.time() * 1000) // MINUTE * MINUTE + 2 * MINUTE  # a market that runs ahead of the clock, as a hurried twin does
    sequence = iter(range(1, 1000))

    def trades(first: int, last: int) -> list[dict]:
        return [trade(10.0, start + minute * MINUTE + 1_000, next(sequence)) for minute in range(first, last + 1)]

    def script(peer, number):
        peer.log_in()
        if number == 1:
            peer.send(*trades(0, 4))
            wait_until(lambda: FeedSpan.objects.exists())
            # only now, after the windows of the start were asked for
            rest.bars = {"AAPL": [(start + minute * MINUTE, 20.0 + minute, 100) for minute in (7, 8, 12)]}
            peer.drop()
        else:
            peer.send(*trades(20, 30))
            peer.stay()

    with feed_server(script) as feed, rest_server() as rest, streaming(feed.url, rest=rest.url):
        wait_until(
            lambda: (
                Gap.objects.exists() and not Gap.objects.filter(state="open", attempts=0, last_minute__lt=at(start + 20 * MINUTE)).exists()
            )
        )
        wait_until(lambda: Bar.objects.filter(source=40).count() == 3)
        wait_until(lambda: FeedSpan.objects.count() == 2)  # a quick repair may be done before the second line vouches for anything
    gaps = {gap.symbol_id: gap for gap in Gap.objects.filter(first_minute__gt=at(start + MINUTE), first_minute__lt=at(start + 10 * MINUTE))}
    assert {symbol: (gap.cause, gap.state) for symbol, gap in gaps.items()} == {
        "AAPL": ("feed_down", "repaired"),
        "MSFT": ("feed_down", "empty"),
    }
    assert gaps["AAPL"].first_minute == at(start + 4 * MINUTE), "its minute 3 has a whole bar"
    assert gaps["MSFT"].first_minute == at(start + 3 * MINUTE)
    first, second = FeedSpan.objects.order_by("began_at")[:2]
    assert first.began_at == at(start + MINUTE)
    assert first.ended
    assert second.began_at == at(start + 21 * MINUTE)
    assert "the stream was stopped" in FeedSpan.objects.order_by("-began_at")[0].ended
    assert Bar.objects.filter(symbol_id="AAPL", timestamp=at(start + MINUTE)).get().complete


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_the_last_finished_session_is_brought_to_its_end(open_now, quick):
    now = datetime.now(UTC)
    yesterday = Session.objects.create(
        date=date(1980, 1, 2), calendar="test", pre_open=now - timedelta(hours=9), open=now - timedelta(hours=9),
        close=now - timedelta(hours=8), post_close=now - timedelta(hours=8),
    )  # fmt: skip
    begin = int(yesterday.pre_open.timestamp() * 1000) // MINUTE * MINUTE + MINUTE
    FeedSpan.objects.create(
        line="stream 1/1", began_at=yesterday.pre_open, alive_until=yesterday.post_close, symbols=["AAPL"], kinds=["T"], ended="x"
    )
    try:
        with feed_server(lambda peer, number: (peer.log_in(), peer.stay())) as feed, rest_server() as rest:
            rest.bars = {"AAPL": [(begin, 20.0, 100)]}
            with streaming(feed.url, rest=rest.url):
                wait_until(lambda: Job.objects.filter(state=JobState.DONE).exists())
        assert Job.objects.get().key == "1980-01-02"
        report = Reconciliation.objects.get(source="rest")
        assert (report.missing_here, report.repaired, report.symbols) == (1, 1, 1)
    finally:
        yesterday.delete()
