"""Work that operators ask for: rows with state and progress, over REST, worked off by whoever may, once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection

from marketdata import jobs
from marketdata.gaps import ms
from marketdata.history import RestHistory
from marketdata.jobs import BarJobs, Watch, ask, cancel, claim, work
from marketdata.models import AuditEntry, Bar, DailyBar, FeedSpan, Job, JobKind, JobState, Reconciliation, Session
from marketdata.operations import WRITING_KINDS
from patterns.models import MarketSurvey
from patterns.tasks import work_jobs
from tests.factories import DAY
from tests.patterns.market import random_bars, store
from tests.people import make_user, session_client, token_client
from tests.processes import wait_until
from tests.rest_server import rest_server

FRIDAY = datetime(2026, 11, 20, tzinfo=UTC)


def operator(name: str = "olga"):
    user = make_user(name)
    user.user_permissions.add(Permission.objects.get(codename="add_job"))
    return user


def bar_jobs(url: str, **options) -> BarJobs:
    return BarJobs(lambda: RestHistory(url=url, key="k"), now=lambda: datetime.now(UTC), **options)


# ---- asking


def test_an_operator_asks_for_a_job_over_rest_and_reads_how_far_it_is(db):
    client = session_client(operator())

    made = client.post("/api/jobs/", {"kind": "repair", "options": {"from": "2026-11-20"}}, content_type="application/json")
    listed = client.get("/api/jobs/?state=queued").json()["jobs"]

    assert (made.status_code, made.json()["state"], made.json()["asked_by"]) == (201, "queued", "olga")
    assert [row["id"] for row in listed] == [made.json()["id"]]
    assert AuditEntry.objects.get(action="job asked").actor == "olga"


def test_only_operators_start_and_cancel_and_their_tokens_need_the_scope(db):
    viewer, chief = make_user("viewer"), operator()
    job = ask(JobKind.REPAIR, asked_by="olga")
    asked = {"path": "/api/jobs/", "data": {"kind": "repair"}, "content_type": "application/json"}

    assert session_client(viewer).post(**asked).status_code == 403
    assert token_client(viewer, scopes=["operate"]).post(**asked).status_code == 403
    assert token_client(chief, scopes=["read:bars"]).post(**asked).status_code == 403
    assert token_client(chief, scopes=["operate"]).post(**asked).status_code == 201
    assert session_client(viewer).delete(f"/api/jobs/{job.pk}/").status_code == 403
    assert session_client(chief).delete(f"/api/jobs/{job.pk}/").json()["state"] == "cancelled"
    assert session_client(chief).delete(f"/api/jobs/{job.pk}/").status_code == 409


@pytest.mark.parametrize(
    "options",
    [
        {"form": "2026-11-20"},
        {"from": "20 Nov"},
        {"from": "2026-11-20", "to": "2026-11-19"},
        {"universe": "nowhere"},
        {"symbols": ["A B"]},
    ],
)
def test_a_wrong_option_is_refused_in_words_and_none_is_left_out_in_silence(db, options):
    answer = session_client(operator()).post("/api/jobs/", {"kind": "import", "options": options}, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json()["errors"]
    assert not Job.objects.exists()


def friday() -> Session:
    """The session of the day that these tests are about."""
    hours = {name: FRIDAY.replace(hour=hour) for name, hour in (("pre_open", 9), ("open", 14), ("close", 21), ("post_close", 23))}
    return Session.objects.update_or_create(date=DAY, defaults={"calendar": "XNYS", **hours})[0]


def streamed(*symbols: str) -> None:
    """Leave the evidence of a line that was up all Friday."""
    FeedSpan.objects.create(
        line="stream 1/1",
        began_at=FRIDAY.replace(hour=9),
        alive_until=FRIDAY.replace(hour=23),
        symbols=list(symbols),
        kinds=["T"],
        ended="x",
    )


def test_the_end_of_a_streamed_day_is_asked_for_once_when_its_late_window_is_over(db):
    close = friday().post_close
    assert jobs.ask_for_end_of_day(now=close + timedelta(minutes=20)) is None, "nobody was there"
    streamed("AAPL")

    assert jobs.ask_for_end_of_day(now=close + timedelta(minutes=10)) is None
    asked = jobs.ask_for_end_of_day(now=close + timedelta(minutes=20))
    again = jobs.ask_for_end_of_day(now=close + timedelta(minutes=25))

    assert asked is not None
    assert (asked.options, again, Job.objects.count()) == ({"date": DAY}, asked, 1)


def test_an_end_of_day_that_failed_is_asked_for_again_after_a_while(db):
    after = friday().post_close + timedelta(minutes=20)
    streamed("AAPL")
    job = jobs.ask_for_end_of_day(now=after)
    for minutes, state in ((1, JobState.FAILED), (11, JobState.QUEUED)):
        Job.objects.update(state=JobState.FAILED, attempts=3, finished_at=datetime.now(UTC) - timedelta(minutes=minutes))

        jobs.ask_for_end_of_day(now=after)

        job.refresh_from_db()
        assert job.state == state
    assert (job.attempts, job.finished_at) == (0, None)


# ---- working off


def test_each_job_is_claimed_once_and_a_dead_process_gives_it_back_three_times(market):
    job = ask(JobKind.REPAIR, asked_by="olga")
    got = []
    barrier = threading.Barrier(4)

    def take() -> None:
        barrier.wait()
        got.append(claim(WRITING_KINDS))
        connection.close()

    threads = [threading.Thread(target=take) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [one.pk for one in got if one] == [job.pk]

    for _ in range(2):
        Job.objects.update(alive_at=datetime.now(UTC) - timedelta(minutes=5))
        assert claim(WRITING_KINDS) == job
    Job.objects.update(alive_at=datetime.now(UTC) - timedelta(minutes=5))
    assert claim(WRITING_KINDS) is None
    job.refresh_from_db()
    assert (job.state, job.attempts, "3 times" in job.error) == (JobState.FAILED, 3, True)


def test_an_import_of_minutes_is_worked_off_with_progress_and_report(market):
    start = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
    with rest_server() as rest:
        rest.bars = {name: [(ms(start) + minute * 60_000, 10.0 + minute, 100) for minute in range(20)] for name in ("AAPL", "MSFT")}
        ask(JobKind.IMPORT, {"symbols": ["AAPL", "MSFT"], "from": "2026-11-20", "to": "2026-11-20"}, asked_by="olga")

        state = bar_jobs(rest.url).work_one()

    job = Job.objects.get()
    assert (state, job.state, job.error) == (JobState.DONE, JobState.DONE, "")
    assert (job.report["symbols"], job.report["read"], job.report["changed"]) == (2, 40, 40)
    assert Bar.objects.count() == 40
    assert bar_jobs("http://127.0.0.1:1").work_one() is None


def test_the_end_of_day_brings_daily_bars_reconciles_and_says_what_is_still_wrong(market):
    friday()
    streamed("AAPL", "MSFT")
    with rest_server() as rest:
        rest.bars = {"AAPL": [(ms(FRIDAY.replace(hour=15)), 10.0, 100)]}
        rest.days = {"AAPL": [(ms(FRIDAY.replace(hour=5)), 10.0, 100)]}  # New York's midnight
        ask(JobKind.END_OF_DAY, {"date": DAY}, asked_by="the calendar", key=DAY)

        bar_jobs(rest.url).work_one()

    job = Job.objects.get()
    assert (job.state, job.error) == (JobState.DONE, "")
    assert job.report["valid"] is False
    *wrong, of_rest = job.report["faults"]
    assert wrong == ["1 symbols without minutes: MSFT", "1 symbols without a daily bar: MSFT"]
    assert "refused splits" in of_rest, "told, and the rest of the day is done"
    assert DailyBar.objects.filter(date=DAY).count() == 1
    assert set(Reconciliation.objects.values_list("source", "symbols", "compared", "missing_here")) == {
        ("rest", 2, 0, 1),
        ("days", 1, 1, 0),
    }


def test_reconciliation_of_several_days_goes_through_those_with_a_session(market):
    with rest_server() as rest:
        ask(JobKind.RECONCILE, {"symbols": ["AAPL"], "from": "2026-11-19", "to": "2026-11-22"}, asked_by="olga")
        bar_jobs(rest.url).work_one()

    job = Job.objects.get()
    assert (job.state, job.error, (job.done, job.total)) == (JobState.DONE, "", (2, 2))
    assert set(job.report) == {"2026-11-19", "2026-11-20", "seconds"}


def test_a_rest_that_is_away_fails_the_job_in_one_sentence(market):
    ask(JobKind.RECONCILE, {"date": "1999-01-03", "symbols": ["AAPL"]}, asked_by="olga")

    assert bar_jobs("http://127.0.0.1:1").work_one() is JobState.FAILED
    assert Job.objects.get().error == "1999-01-03 has no session in the calendar; nothing to reconcile."


def test_a_running_job_ends_at_its_next_step_after_it_was_cancelled(market, monkeypatch):
    monkeypatch.setattr(jobs, "ALIVE_SECONDS", 0.1)
    ask(JobKind.REPAIR, asked_by="olga")
    job = claim(WRITING_KINDS)
    begun = threading.Event()

    def endless(job: Job, watch: Watch) -> dict:
        while True:
            watch.step(1, 2, "runs on and on")
            begun.set()
            threading.Event().wait(0.01)

    def run() -> None:
        work(job, endless)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(30)
    wait_until(lambda: Job.objects.get().step == "runs on and on")
    cancel(job, by="olga")
    thread.join(30)

    job.refresh_from_db()
    assert (job.state, job.cancel_asked_by, job.done) == (JobState.CANCELLED, "olga", 1)


def test_a_stream_that_stops_gives_its_job_back_untried(market):
    job = ask(JobKind.REPAIR, asked_by="olga")
    stopping = bar_jobs("http://127.0.0.1:1")
    stopping.stop()

    assert stopping.work_one() is JobState.QUEUED
    job.refresh_from_db()
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_a_worker_scans_what_an_operator_asks_for(writer):
    store(writer, random_bars("AAPL", 40, seed=1))
    ask(JobKind.SCAN, {"symbols": ["AAPL"], "from": DAY, "to": DAY}, asked_by="olga")

    work_jobs()

    job = Job.objects.get()
    assert (job.state, job.error, job.report["bars"]) == (JobState.DONE, "", 40)


def test_a_worker_surveys_what_an_operator_asks_for_and_keeps_it(writer):
    store(writer, random_bars("AAPL", 5, seed=1))
    ask(JobKind.SURVEY, {"universe": "stock_etf_test"}, asked_by="olga")

    work_jobs()

    job, kept = Job.objects.get(), MarketSurvey.objects.get()
    assert (job.state, job.error, job.report["universe"]) == (JobState.DONE, "", "stock_etf_test")
    assert (kept.universe, kept.coverage) == ("stock_etf_test", job.report["coverage"])
