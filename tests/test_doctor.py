"""The doctor finds what is wrong, names the cure, and follows one symbol to where the counts part."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from marketdata.models import Heartbeat, LoggedError, Session
from marketdata.spans import Span
from patterns.scan import scan
from tests.factories import make_bar
from tests.patterns.market import keys_of, store
from tests.rest_server import rest_server
from tickstock import disk, flow

pytestmark = pytest.mark.usefixtures("market")


def examined() -> dict[str, dict]:
    out = StringIO()
    try:
        call_command("doctor", "--json", stdout=out)
    except CommandError:
        pass
    return {finding["name"]: finding for finding in json.loads(out.getvalue())["findings"]}


def followed(symbol: str) -> tuple[dict[str, int], str | None]:
    out = StringIO()
    try:
        call_command("doctor", "--flow", symbol, "--json", stdout=out)
    except CommandError:
        pass
    told = json.loads(out.getvalue())
    return {station["name"]: station["count"] for station in told["stations"]}, told["parts_at"]


def alive(state: str = "live", **detail) -> None:
    now = timezone.now()
    long_ago = now - timedelta(hours=1)
    Heartbeat.objects.update_or_create(
        part="stream 1/1", defaults={"at": now, "started_at": long_ago, "state": state, "detail": {"frames": 9} | detail}
    )
    Heartbeat.objects.update_or_create(part="worker", defaults={"at": now, "started_at": now})


def test_all_is_well_and_the_status_says_so(settings):
    settings.USE_SYNTHETIC_DATA = True
    alive()

    call_command("doctor", stdout=StringIO())

    verdicts = {name: finding["verdict"] for name, finding in examined().items()}
    assert "fail" not in verdicts.values()
    assert set(verdicts) == {
        "database", "redis", "clock", "key", "entitlement", "feed", "worker", "roles", "extension", "calendar", "disk", "e-mail",
    }  # fmt: skip


def test_each_fault_is_found_with_its_cure(settings):
    alive(state="refused")
    Heartbeat.objects.filter(part="worker").delete()
    now = timezone.now()
    LoggedError.objects.create(fingerprint="f", level="ERROR", logger="x", part="web", message="It broke", first_at=now, last_at=now)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.USE_SYNTHETIC_DATA, settings.MASSIVE_API_KEY, settings.MASSIVE_REST_URL = False, "k", "http://127.0.0.1:1"
    Session.objects.filter(date__gt=datetime.now(UTC).date()).delete()
    try:
        with pytest.raises(CommandError, match="wrong: redis, key, feed, worker, calendar"):
            call_command("doctor", stdout=StringIO())
        found = examined()
    finally:
        Session.objects.all().delete()
        from tests.conftest import load_first_rows

        load_first_rows()

    assert all(finding["cure"] for finding in found.values() if finding["verdict"] != "ok")
    assert found["feed"]["words"] == "stream 1/1 is refused"


def test_a_key_that_is_not_accepted_and_a_plan_without_minutes_are_told_apart(settings):
    settings.USE_SYNTHETIC_DATA, settings.MASSIVE_API_KEY = False, "k"
    with rest_server() as rest:
        settings.MASSIVE_REST_URL = rest.url
        rest.fault = lambda number: (401, {}, b"{}")
        assert (examined()["key"]["verdict"], "not accepted" in examined()["key"]["words"]) == ("fail", True)
        rest.fault = lambda number: (200, {}, b"{}") if "marketstatus" in rest.requests[-1] else (403, {}, b"{}")
        found = examined()

    assert (found["key"]["verdict"], found["entitlement"]["verdict"]) == ("ok", "fail")


def test_a_database_that_is_away_is_one_sentence_for_each_question_and_no_traceback(monkeypatch):
    monkeypatch.setitem(connections.databases["default"], "HOST", "/nowhere")
    connections["default"].close()

    try:
        with pytest.raises(CommandError, match="The database does not answer"):
            call_command("doctor", "--flow", "AAPL", stdout=StringIO())
        found = examined()
    finally:
        monkeypatch.undo()
        connections["default"].close()

    assert {found[name]["verdict"] for name in ("database", "feed", "worker", "roles", "extension", "calendar")} == {"fail"}
    assert found["redis"]["verdict"] == "ok"


# ---- one symbol


@pytest.fixture
def minutes(writer):
    """Ten whole minutes of AAPL that the line saw, as the stream would have stored them."""
    last = (datetime.now(UTC) - flow.SETTLED).replace(second=0, microsecond=0)
    begin = last - timedelta(minutes=12)
    start = int(begin.timestamp() * 1000)
    bars = [make_bar(10.0 + minute, symbol="AAPL", time=start + minute * 60_000) for minute in range(10)]
    store(writer, bars)
    span = Span("stream 1/1", began_ms=start, symbols=["AAPL"], kinds=["A"])
    span.grow(start + 12 * 60_000)
    span.store(writer)
    return bars


def test_a_symbol_that_comes_all_the_way_has_no_fault(minutes):
    alive()
    scan(keys_of(minutes), now=datetime.now(UTC))

    stations, parts_at = followed("AAPL")

    assert (stations["bars"], stations["scan"], stations["page"]) == (10, 10, 1)
    assert parts_at is None or parts_at == "live log"  # nobody wrote to the live log of the tests


def test_the_counts_part_where_the_way_ends(minutes, settings):
    assert followed("AAPL")[1] == "socket"
    alive(dropped_frames=3)
    assert followed("AAPL")[1] == "frames"
    alive()
    assert followed("AAPL")[1] == "scan"
    assert followed("NOBODY")[1] == "universe"
    assert followed("MSFT")[1] == "subscription"
    settings.MASSIVE_API_KEY = "k"
    with rest_server() as rest:
        settings.MASSIVE_REST_URL = rest.url
        rest.bars = {"AAPL": [(bar.opened_at_ms, 10.0, 100) for bar in minutes] + [(minutes[-1].opened_at_ms + 60_000, 10.0, 100)]}
        stations, parts_at = followed("AAPL")
    assert (stations["vendor's REST"], stations["bars"], parts_at) == (11, 10, "bars")


# ---- the disk


def test_the_forecast_counts_what_grows_for_ever_and_what_settles(minutes, settings):
    settings.BAR_DAYS, settings.INDICATOR_DAYS = 0, 7
    seen = disk.forecast()
    bars = next(share for share in seen.shares if share.name == "minute bars")
    values = next(share for share in seen.shares if share.name == "indicator values")

    settings.INDICATOR_DAYS = {"1m": 7, "1d": 3650}
    by_interval = next(share for share in disk.forecast().shares if share.name == "indicator values")
    assert by_interval.kept_days == 3650, "nothing came in the last day: the longest bounds them all"
    assert bars.rows >= 10
    assert bars.bytes_a_day > 0
    assert bars.settles_at is None
    assert values.kept_days == 7
    assert disk._days_until_full([disk.Share("a", 0, 1, 100, None)], 1000) == 10
    assert disk._days_until_full([disk.Share("a", 0, 1, 100, None), disk.Share("b", 100, 1, 50, 10)], 1000) == 6
    assert disk._days_until_full([disk.Share("b", 100, 1, 50, 10)], 1000) is None


@pytest.mark.parametrize(
    ("counts", "kept"),
    [({"1m": 999, "1d": 1}, 11), ({"1m": 10}, 7), ({"1d": 3}, 3650), ({}, 3650)],
    ids=["mixed", "minutes", "days", "none"],
)
def test_rows_of_several_intervals_settle_by_their_mean_time(counts, kept):
    assert disk._mean_days({"1m": 7, "1d": 3650}, counts) == kept
    assert disk._mean_days({"1m": 7, "1d": 0}, counts) == 0, "one is kept for ever"
