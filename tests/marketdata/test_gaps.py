"""The gap ledger: what nothing proves is open until REST was asked."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from marketdata.announcer import Announcer
from marketdata.bars.builder import BarBuilder
from marketdata.flusher import Flusher, hand_over
from marketdata.gaps import coverage, find_gaps, repair, retry_seconds
from marketdata.history import RestHistory
from marketdata.intake import Intake
from marketdata.models import Bar, BarRevision, FeedSpan, Gap, Halt, Reconciliation, RejectedEvent, Session
from marketdata.reconciliation import NoSessionError, match_percent, reconcile
from marketdata.writer import PAST, Writer
from tests.factories import at, make_bar, make_sessions, moment
from tests.rest_server import RestServer, rest_server

SESSIONS = make_sessions()
NOW = moment("16:00")


def span(began: str, until: str, *symbols: str, ended: str = "") -> None:
    FeedSpan.objects.create(
        line="stream 1/1",
        began_at=moment(began),
        alive_until=moment(until),
        symbols=list(symbols or ("AAPL", "MSFT")),
        kinds=["AM"],
        ended=ended,
    )


def gaps(symbol="AAPL"):
    rows = Gap.objects.filter(symbol_id=symbol).order_by("first_minute")
    return [(f"{gap.first_minute:%H:%M}", f"{gap.last_minute:%H:%M}", gap.cause, gap.state) for gap in rows]


@pytest.fixture
def rest(monkeypatch) -> Iterator[RestServer]:
    monkeypatch.setattr("marketdata.history.FIRST_WAIT_SECONDS", 0.05)
    with rest_server() as server:
        yield server


@pytest.fixture
def past(market) -> Iterator[Writer]:
    writer = Writer(PAST)
    writer.acquire()
    yield writer
    writer.close()


def ask(rest: RestServer, past: Writer, **options):
    return repair(RestHistory(url=rest.url, key="k"), past, now=lambda: NOW, **options)


def test_minutes_under_a_live_line_are_no_gaps_and_an_outage_is_one_for_each_symbol(market):
    span("15:00:20", "15:20:10", ended="the connection broke")
    span("15:30:40", "15:59:59")

    assert find_gaps(SESSIONS, now=NOW) == 2 * 12
    assert gaps("AAPL") == gaps("MSFT") == [("15:00", "15:00", "partial", "open"), ("15:20", "15:30", "feed_down", "open")]
    assert find_gaps(SESSIONS, now=NOW) == 0, "finding again finds nothing new"


def test_a_whole_bar_inside_an_outage_needs_no_repair_and_a_partial_one_does(writer):
    span("15:00", "15:10", "AAPL", ended="dropped")
    span("15:14", "15:59:59", "AAPL")
    writer.write([make_bar(10, time="15:11"), make_bar(10, time="15:12", source=10, complete=False)])

    find_gaps(SESSIONS, now=NOW)

    assert gaps() == [("15:10", "15:10", "feed_down", "open"), ("15:12", "15:13", "feed_down", "open")]


def test_a_line_that_ended_without_a_word_leaves_an_unknown_gap_that_grows_until_it_is_back(market):
    span("15:00", "15:20", "AAPL")
    find_gaps(SESSIONS, now=moment("15:31:30"))
    assert gaps() == [("15:20", "15:29", "unknown", "open")]
    find_gaps(SESSIONS, now=moment("15:41:30"))
    assert gaps() == [("15:20", "15:39", "unknown", "open")]


def test_nothing_is_expected_outside_the_sessions_nor_before_the_first_live_minute(market):
    span("20:50", "20:59", "AAPL", ended="stopped")
    late = datetime(2026, 11, 21, 12, tzinfo=UTC)

    find_gaps(SESSIONS, now=late)

    assert gaps() == [("20:59", "00:59", "feed_down", "open")]
    find_gaps(SESSIONS, now=late, first=moment("20:00"))
    assert gaps()[0][:2] == ("20:00", "20:49")


def test_repair_stores_what_rest_has_and_closes_what_it_has_not(past, rest):
    span("15:00", "15:10", ended="dropped")
    span("15:13", "15:59:59")
    rest.bars = {"AAPL": [(at("15:10"), 20.0, 100), (at("15:12"), 21.0, 50.5)]}
    find_gaps(SESSIONS, now=NOW)

    report = ask(rest, past)

    assert (report.gaps, report.repaired, report.empty, report.failed, report.bars, report.still_open) == (2, 1, 1, 0, 2, 0)
    assert gaps("AAPL") == [("15:10", "15:12", "feed_down", "repaired")]
    assert gaps("MSFT") == [("15:10", "15:12", "feed_down", "empty")]
    bars = Bar.objects.order_by("timestamp")
    assert [(float(bar.close), bar.source, bar.is_final) for bar in bars] == [(20.0, 40, True), (21.0, 40, True)]
    assert ask(rest, past).gaps == 0


def test_a_partial_bar_is_replaced_and_its_old_values_are_kept(past, writer, rest):
    span("15:00", "15:10:30", "AAPL", ended="killed")
    span("15:11", "15:59:59", "AAPL")
    writer.write([make_bar(10, time="15:10", volume=5, source=10, complete=False)])
    rest.bars = {"AAPL": [(at("15:10"), 12.0, 900)]}
    find_gaps(SESSIONS, now=NOW)

    ask(rest, past)

    bar = Bar.objects.get()
    assert (float(bar.close), bar.complete, bar.revision, bar.source) == (12.0, True, 1, 40)
    assert (float(BarRevision.objects.get().close), BarRevision.objects.get().cause) == (10.0, "backfill")


def test_a_minute_seen_in_part_after_rest_said_that_it_was_empty_is_asked_for_again_but_not_for_ever(past, writer, rest):
    span("15:00", "15:10", "AAPL", ended="killed")
    span("15:12", "15:59:59", "AAPL")
    find_gaps(SESSIONS, now=NOW)
    assert ask(rest, past).empty == 1
    writer.write([make_bar(10, time="15:11", source=10, complete=False)])  # a late trade, the first of its minute

    assert find_gaps(SESSIONS, now=NOW) == 1
    assert ask(rest, past).gaps == 0, "not at once"
    for _ in range(12):
        ask(rest, past, eager=True)
        find_gaps(SESSIONS, now=NOW)
    assert (gaps(), Gap.objects.get().attempts) == ([("15:10", "15:11", "feed_down", "empty")], 9)


def test_a_bar_asked_for_inside_its_late_window_is_provisional(past, rest):
    span("15:00", "15:50", "AAPL", ended="dropped")
    rest.bars = {"AAPL": [(at("15:55"), 12.0, 900)]}
    find_gaps(SESSIONS, now=NOW)
    ask(rest, past)
    assert (Bar.objects.get().source, Bar.objects.get().is_final) == (30, False)


@pytest.mark.parametrize("status", [500, 401, 429])
def test_a_failing_rest_leaves_the_gap_open_with_the_reason_and_waits_longer_each_time(past, rest, status):
    span("15:00", "15:10", "AAPL", ended="dropped")
    span("15:13", "15:59:59", "AAPL")
    rest.fault = lambda number: (status, {"Retry-After": "0"}, b'{"status":"ERROR","error":"no"}')
    find_gaps(SESSIONS, now=NOW)

    report = ask(rest, past)

    assert (report.failed, report.still_open) == (1, 1)
    gap = Gap.objects.get()
    assert gap.attempts == 1
    assert rest.url in gap.last_error
    assert ask(rest, past).gaps == 0, "not before its time"
    rest.fault = lambda number: None
    assert ask(rest, past, eager=True).empty == 1
    assert [retry_seconds(attempts) for attempts in (1, 2, 5, 50)] == [5, 10, 80, 600]


def test_an_outage_of_37_minutes_with_429s_and_500s_closes_within_the_allowed_rate(past, rest):
    symbols = [f"S{number}" for number in range(60)]
    span("15:00", "15:10", *symbols, ended="dropped")
    span("15:47", "15:59:59", *symbols)
    writer_bars = {symbol: [(at("15:10") + minute * 60_000, 10.0 + minute, 100) for minute in range(37)] for symbol in symbols}
    past.write([make_bar(1, symbol=symbol, time="15:05") for symbol in symbols])
    rest.bars = writer_bars
    rest.fault = lambda number: (429, {"Retry-After": "0"}, b"{}") if number % 7 == 3 else (500, {}, b"{}") if number % 11 == 5 else None
    find_gaps(SESSIONS, now=NOW)
    waits = []

    for _ in range(5):
        if ask(rest, past, eager=True, pause=lambda: waits.append(1)).still_open == 0:
            break

    assert not Gap.objects.filter(state="open").exists()
    assert Bar.objects.count() == 60 * 37 + 60
    assert len(waits) >= 60, "each request asks the rate first"


def test_pages_and_their_edges_lose_nothing(past, rest):
    span("15:00", "15:10", "AAPL", ended="dropped")
    span("15:47", "15:59:59", "AAPL")
    rest.page = 7
    rest.bars = {"AAPL": [(at("15:10") + minute * 60_000, 10.0, 100) for minute in range(37)]}
    find_gaps(SESSIONS, now=NOW)
    assert ask(rest, past).bars == Bar.objects.count() == 37


def test_a_next_page_on_another_host_never_gets_the_key(past, rest):
    with rest_server() as foreign:
        span("15:00", "15:10", "AAPL", ended="dropped")
        find_gaps(SESSIONS, now=NOW)
        body = b'{"status":"OK","results":[{"t":%d,"o":1,"h":1,"l":1,"c":1,"v":1}],"next_url":"%s/v2/aggs/ticker/AAPL/range/1/minute/1/2"}'
        rest.fault = lambda number: (200, {}, body % (at("15:20"), foreign.url.encode())) if number == 1 else None
        ask(rest, past)
        assert foreign.requests == []


def test_rubbish_from_rest_is_rejected_and_kept(past, rest):
    span("15:00", "15:10", "AAPL", ended="dropped")
    find_gaps(SESSIONS, now=NOW)
    rows = b'[{"t":%d,"o":1,"h":1,"l":2,"c":1,"v":1},{"t":%d,"o":-1,"h":1,"l":1,"c":1,"v":1},{"t":%d,"o":1,"h":1,"l":1,"c":1,"v":1}]' % (
        at("15:20"),
        at("15:21"),
        at("15:22"),
    )
    rest.fault = lambda number: (200, {}, b'{"status":"OK","results":' + rows + b"}")
    ask(rest, past)
    assert Bar.objects.count() == 1
    assert RejectedEvent.objects.count() == 2


# -- coverage and reconciliation -----------------------------------------------------------------------------------------------------------


def session() -> Session:
    hours = [moment("09:00"), moment("14:30"), moment("21:00"), moment("21:00") + timedelta(hours=4)]
    return Session(date=NOW.date(), calendar="XNYS", pre_open=hours[0], open=hours[1], close=hours[2], post_close=hours[3])


def test_coverage_adds_up_for_every_symbol(past, rest):
    span("15:00", "15:10", ended="dropped")
    span("15:13", "15:58")
    rest.bars = {"AAPL": [(at("15:10"), 20.0, 100)]}
    past.write([make_bar(10, time="15:01"), make_bar(10, time="15:02")])
    find_gaps(SESSIONS, now=NOW)
    before = {row.symbol: row for row in coverage(["AAPL", "MSFT", "IBM"], session(), now=NOW)}
    ask(rest, past)
    after = {row.symbol: row for row in coverage(["AAPL", "MSFT", "IBM"], session(), now=NOW)}

    for row in [*before.values(), *after.values()]:
        assert row.expected == 7 * 60 == row.bars + row.no_trade + row.open + row.unproven
    assert (before["AAPL"].bars, before["AAPL"].open, after["AAPL"].bars, after["AAPL"].open, after["AAPL"].repaired) == (2, 3, 3, 0, 1)
    assert after["MSFT"].no_trade == 45 + 3 + 10
    assert after["IBM"].unproven == 420


def test_a_trading_pause_is_kept_once_and_its_minutes_are_without_trade(past):
    span("15:00", "15:59")
    past.write([make_bar(10, time="15:05")])
    builder = BarBuilder(SESSIONS, unbroken=True)
    intake = Intake(builder, symbols=frozenset({"AAPL"}), kinds=None)
    flusher = Flusher(past, Announcer(), batch_size=100, flush_seconds=1.0)

    def band(clock: str, *indicators: int, symbol: str = "AAPL", unit: int = 1) -> None:
        intake.take(json.dumps([{"ev": "LULD", "T": symbol, "i": indicators, "t": at(clock) * unit}]).encode())
        hand_over(intake, flusher)
        assert flusher.drain(10)

    band("15:00:10", 21)
    band("15:10:00.123", 17, unit=1_000_000)
    band("15:10:30", 17)
    band("15:10:30", 17, symbol="MSFT")  # nobody streams it
    band("15:15:00.500", 21, unit=1_000)
    band("15:15:30", 21)
    past.keep_pause("AAPL", moment("15:12"), paused=True)  # said again by a second line
    past.keep_pause("AAPL", moment("15:55"), paused=True)
    flusher.drain(10)

    assert list(Halt.objects.order_by("began_at").values_list("symbol_id", "began_at", "ended_at")) == [
        ("AAPL", moment("15:10:00.123"), moment("15:15:00.500")),
        ("AAPL", moment("15:55"), None),
    ]
    [row] = coverage(["AAPL"], session(), now=NOW)
    assert (row.bars, row.no_trade, row.halted) == (1, 58, 6 + 4)
    flusher.stop()


@pytest.fixture
def friday(market) -> Session:
    return Session.objects.get(date=datetime(2026, 11, 20).date())  # noqa: DTZ001 - a plain calendar day


def test_reconciliation_counts_what_differs_and_mends_it_once(past, rest, friday):
    past.write([make_bar(10, time="15:00"), make_bar(10, time="15:01"), make_bar(10, time="15:02")])
    rest.bars = {"AAPL": [(at("15:00"), 10.0, 100), (at("15:01"), 10.5, 100), (at("15:03"), 11.0, 100)]}
    history = RestHistory(url=rest.url, key="k")

    report = reconcile(friday.date, ["AAPL"], history, past, now=lambda: NOW + timedelta(days=1))

    assert (report.compared, report.matched, report.differing, report.missing_here, report.missing_there, report.repaired) == (
        2,
        1,
        1,
        1,
        1,
        2,
    )
    assert report.fields == {"open": 1, "high": 1, "low": 1, "close": 1, "volume": 0}
    assert match_percent(report) == 25.0
    assert BarRevision.objects.get().cause == "reconcile"
    again = reconcile(friday.date, ["AAPL"], history, past, now=lambda: NOW + timedelta(days=1))
    assert (again.differing, again.missing_here, again.repaired) == (0, 0, 0)
    assert Reconciliation.objects.count() == 2


def test_a_day_without_a_session_cannot_be_reconciled(past, rest):
    with pytest.raises(NoSessionError, match="2026-11-22 has no session"):
        reconcile(datetime(2026, 11, 22).date(), ["AAPL"], RestHistory(url=rest.url, key="k"), past, now=lambda: NOW)  # noqa: DTZ001
