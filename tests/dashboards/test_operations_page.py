"""Operations: what needs somebody stands in the first sentence, everything else in its panel."""

from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.test import RequestFactory
from django.urls import resolve

from dashboards.templatetags.places import places
from marketdata.models import Gap, Heartbeat, Job, Reconciliation, RejectedEvent
from tests.dashboards.test_pages import MINUTE, reader, store_bar, this_minute  # noqa: F401 - the fixture
from tests.people import make_user, session_client
from tickstock.disk import forecast
from tickstock.tasks import measure_disk


def beat(part: str, *, ago: float = 1.0, state: str = "live") -> None:
    now = datetime.now(UTC)
    Heartbeat.objects.create(
        part=part, at=now - timedelta(seconds=ago), started_at=now - timedelta(hours=2), state=state, detail={"lines": [{}]}
    )


def test_the_disk_stands_as_the_worker_measured_it_and_what_is_unknown_says_so(reader):  # noqa: F811
    cache.delete("disk")
    unknown = reader.get("/operations/").content.decode()

    measure_disk.apply()
    known = reader.get("/operations/")

    assert "Nothing was measured in the last three hours." in unknown
    shown, seen = known.context["disk"], forecast()
    assert {share["name"] for share in shown["shares"]} == {share.name for share in seen.shares}
    assert [share["bytes"] for share in shown["shares"]] == sorted((share["bytes"] for share in shown["shares"]), reverse=True)
    assert (shown["total"], shown["at"] > datetime.now(UTC) - timedelta(minutes=1)) == (seen.total, True)
    assert "minute bars" in known.content.decode()


def test_what_is_silent_stands_in_the_first_sentence(reader):  # noqa: F811
    beat("stream 1/1")
    beat("worker", ago=300)

    first, second = reader.get("/operations/").context["lede"]

    assert first.startswith("Not all runs: worker silent")
    assert "worker" in second


def test_gaps_stand_by_span_with_how_many_symbols_share_it(reader):  # noqa: F811
    first = this_minute() - 30 * MINUTE
    for symbol in ("AAPL", "MSFT", "NVDA"):
        Gap.objects.create(symbol_id=symbol, first_minute=first, last_minute=first + 4 * MINUTE, cause="feed_down", opened_at=first)

    page = reader.get("/operations/")

    assert [(gap["symbols"], gap["minutes"], gap["cause"], gap["state"]) for gap in page.context["gaps"]] == [(3, 15, "feed down", "open")]
    assert "1 gap is being repaired." in page.context["lede"][0]


def test_refused_events_are_counted_by_reason_and_nights_by_what_differed(reader):  # noqa: F811
    now = datetime.now(UTC)
    for count in (3, 4):
        RejectedEvent.objects.create(received_at=now, reason="no price", symbol="AAPL", count=count, raw="{}")
    Reconciliation.objects.create(date=now.date(), source="rest", started_at=now, finished_at=now, compared=1000, matched=999)

    page = reader.get("/operations/")

    assert [(row["reason"], row["events"]) for row in page.context["refused"]] == [("no price", 7)]
    assert "99.90%" in page.content.decode()


def test_the_last_hour_counts_bars_and_how_late_they_were_stored(reader):  # noqa: F811
    store_bar("AAPL", "100", back=2)
    store_bar("MSFT", "100", back=2)

    minutes = reader.get("/operations/").context["minutes"]

    assert sum(row["bars"] for row in minutes["rows"]) == 2
    assert round(minutes["median"], 3) == 0.8


def test_only_who_may_run_jobs_is_offered_to_start_and_cancel_them(reader):  # noqa: F811
    Job.objects.create(kind="repair", asked_by="ada")
    operator = make_user("olga")
    operator.user_permissions.add(Permission.objects.get(codename="add_job"))

    assert "data-cancel" not in reader.get("/operations/").content.decode()
    assert "data-cancel" in session_client(operator).get("/operations/").content.decode()


def test_every_place_that_is_offered_is_a_page(db):
    request = RequestFactory().get("/operations/")
    request.user = make_user("root", is_staff=True)

    offered = places(request)["all"]

    assert [place["name"] for place in offered if place["here"]] == ["Operations"]
    assert len({place["key"] for place in offered}) == len(offered)
    for place in offered:
        assert resolve(place["address"])
