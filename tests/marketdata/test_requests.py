"""Wishes about past bars: left as rows by those who may not write bars, worked off by the one who may."""

import threading
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from marketdata.caretaker import Caretaker
from marketdata.history import RestHistory
from marketdata.models import Bar, BarRequest, DailyBar, FeedSpan, Reconciliation
from marketdata.requests import Work, next_request, work_off
from marketdata.writer import PAST, Writer
from tests.factories import at, make_bar, moment
from tests.rest_server import RestServer, rest_server

FRIDAY = date(2026, 11, 20)
NOW = moment("16:00", "2026-11-21")


@pytest.fixture
def rest() -> Iterator[RestServer]:
    with rest_server() as server:
        server.bars = {"AAPL": [(at("15:10"), 20.0, 100), (at("15:11"), 21.0, 100)], "MSFT": [(at("15:10"), 30.0, 100)]}
        yield server


@pytest.fixture
def past(market) -> Iterator[Writer]:
    writer = Writer(PAST)
    writer.acquire()
    yield writer
    writer.close()


def ask(kind: str, *symbols: str, first=FRIDAY, last=FRIDAY) -> BarRequest:
    return BarRequest.objects.create(kind=kind, first=first, last=last, symbols=list(symbols))


def do(request: BarRequest, rest: RestServer, past: Writer, **options) -> BarRequest:
    work_off(request, Work(RestHistory(url=rest.url, key="k", retries=0), past, now=lambda: NOW, **options))
    request.refresh_from_db()
    return request


def test_each_kind_of_request_does_what_its_command_does(past, rest):
    past.write([make_bar(10, time="15:10", version=0)])
    FeedSpan.objects.create(line="stream 1/1", began_at=moment("15:00"), alive_until=moment("15:05"), symbols=["MSFT"], kinds=["T"])

    reconciled = do(ask("reconcile", "AAPL"), rest, past)
    repaired = do(ask("repair", "MSFT"), rest, past)
    imported = do(ask("import_minutes", "AAPL", "MSFT"), rest, past)

    assert [request.state for request in (reconciled, repaired, imported)] == ["done"] * 3
    assert reconciled.report["2026-11-20"] == {"match_percent": 0.0, "differing": 1, "repaired": 2}
    assert (repaired.report["bars"], repaired.report["failed"]) == (1, 0)
    assert (imported.report["symbols"], imported.report["read"], imported.report["changed"]) == (2, 3, 0)
    assert (imported.done, imported.of) == (2, 2)
    assert Reconciliation.objects.count() == 1
    assert Bar.objects.count() == 3


def test_daily_bars_are_imported_on_request(past, rest):
    rest.answer = lambda path: (200, {}, b'{"status":"OK","results":[{"t":%d,"o":1,"h":1,"l":1,"c":1,"v":1}]}' % at("05:00"))
    assert do(ask("import_days", "AAPL"), rest, past).report["changed"] == 1
    assert DailyBar.objects.get().date == FRIDAY


def test_a_request_that_fails_says_why_and_one_that_is_cancelled_says_how_far_it_came(past, rest):
    rest.fault = lambda number: (500, {}, b"{}")
    failed = do(ask("reconcile", "AAPL"), rest, past)
    assert (failed.state, rest.url in failed.note) == ("failed", True)
    nothing = do(ask("reconcile", "AAPL", first=FRIDAY + timedelta(days=1), last=FRIDAY + timedelta(days=1)), rest, past)
    assert (nothing.state, "no session" in nothing.note) == ("failed", True)

    rest.fault = lambda number: BarRequest.objects.filter(state="running").update(cancel=True) and None
    cancelled = do(ask("import_minutes", "AAPL", "MSFT"), rest, past)
    assert (cancelled.state, cancelled.note) == ("cancelled", "cancelled after 1 of 2")
    assert next_request() is None


def test_what_an_ending_or_dying_process_leaves_is_begun_again(past, rest):
    request = ask("import_minutes", "AAPL", "MSFT")
    stop = threading.Event()
    rest.fault = lambda number: stop.set()
    assert do(request, rest, past, stopped=stop.is_set).state == "waiting"
    BarRequest.objects.update(state="running")  # as a killed process leaves it
    rest.fault = lambda number: None

    assert do(next_request(), rest, past).state == "done"


def test_the_streams_caretaker_works_requests_off_one_by_one_oldest_first(market, rest):
    ask("import_minutes", "AAPL")
    ask("reconcile", "MSFT")
    caretaker = Caretaker(
        lambda: RestHistory(url=rest.url, key="k"),
        symbols=["AAPL"],
        now=lambda: NOW,
        announce=lambda changes: None,
        requests_per_second=1000,
    )

    caretaker._work_off_requests()

    assert list(BarRequest.objects.order_by("finished_at").values_list("kind", "state")) == [
        ("import_minutes", "done"),
        ("reconcile", "done"),
    ]
