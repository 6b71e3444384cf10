"""What is said of the running product: figures, errors as rows, who did what, tasks that fail."""

import gzip
import json
import logging
import re
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import kombu
import pytest
import redis
from celery import current_app
from celery.app.task import Context
from celery.exceptions import Ignore, Retry
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from marketdata.models import AuditEntry, DeadTask, Gap, GapCause, Heartbeat, Job, LoggedError, Symbol
from marketdata.tasks import prune_records
from patterns.models import MarketSurvey
from patterns.survey import BLOCKS
from patterns.tasks import scan_bars
from tests.people import PASSWORD, bearer, make_token, make_user, session_client, stranger, token_client
from tests.processes import wait_until
from tickstock import figures, tracing
from tickstock.attempts import CountedTask
from tickstock.celery import Pulse
from tickstock.counters import GAUGES_KEY, KEY, Counters, counters
from tickstock.logs import ErrorTable, JsonLines

# ---- /metrics


@pytest.fixture
def counts():
    """An empty hash of counts in the real Redis, and a look into it."""
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    counters.flush()
    client.delete(KEY, GAUGES_KEY)
    yield client
    client.delete(KEY, GAUGES_KEY)
    client.close()


def scraped() -> dict[str, float]:
    """Return the samples of /metrics by name and labels as they are written."""
    _, text = make_token(make_user("prometheus"), scopes=["metrics"])
    answer = Client().get("/metrics", headers=bearer(text))
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    lines = [line for line in answer.content.decode().splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics_tell_feed_queue_gaps_tasks_sockets_and_http(db, counts):
    now = timezone.now()
    detail = {"frames": 12, "events": 340, "bars": 70, "rejected_events": 2, "delay_seconds": 0.25, "waiting_bars": 0}
    Heartbeat.objects.create(part="stream 1/2", at=now, started_at=now, state="live", detail=detail)
    Heartbeat.objects.create(part="stream 2/2", at=now, started_at=now, state="down", detail={})
    Symbol.objects.get_or_create(symbol="AAPL")
    Gap.objects.create(symbol_id="AAPL", first_minute=now, last_minute=now, cause=GapCause.UNKNOWN, opened_at=now)
    Job.objects.create(kind="repair", asked_by="olga")
    counters.observe("tickstock_task_seconds", 0.3, task="patterns.tasks.scan_bars")
    Client().get("/health")
    counters.flush()

    seen = scraped()

    assert seen['tickstock_feed_events_total{shard="stream 1/2"}'] == 340
    assert seen['tickstock_feed_delay_seconds{shard="stream 1/2"}'] == 0.25
    assert seen['tickstock_part_state{part="stream 2/2",state="down"}'] == 1
    assert seen["tickstock_gaps_open"] == 1
    assert seen['tickstock_jobs{kind="repair",state="queued"}'] == 1
    assert seen['tickstock_http_requests_total{method="GET",route="/health",status="200"}'] >= 1
    assert seen['tickstock_task_seconds_bucket{le="0.25",task="patterns.tasks.scan_bars"}'] == 0
    assert seen['tickstock_task_seconds_bucket{le="+Inf",task="patterns.tasks.scan_bars"}'] == 1
    assert {name: value for name, value in seen.items() if name.startswith("tickstock_scrape_errors") and value} == {}
    assert {"tickstock_queue_length", "tickstock_sockets", "tickstock_disk_free_bytes", "tickstock_dead_tasks"} <= seen.keys()


def test_the_figures_of_several_processes_add_up_and_a_dead_ones_sockets_do_not_count(db, counts):
    first, second = Counters(), Counters()
    for one, sockets in ((first, 3), (second, 4)):
        one.add("tickstock_tasks_total", 2, task="t", state="success")
        one.gauge("tickstock_sockets", lambda sockets=sockets: sockets)
        one.flush()
    counts.hset(GAUGES_KEY, "tickstock_sockets gone:1", json.dumps([50, 0]))

    seen = scraped()

    assert seen['tickstock_tasks_total{state="success",task="t"}'] == 4
    assert seen["tickstock_sockets"] in {3, 4}  # both stand for this process here; the later one counts
    assert not counts.hexists(GAUGES_KEY, "tickstock_sockets gone:1")


def test_answers_from_the_cache_of_surveys_are_counted_over_all_web_processes(db, counts, settings):
    blocks = {name: {} if name in {"coverage", "breadth", "regime", "stage_counts"} else [] for name in BLOCKS}
    now = timezone.now()
    MarketSurvey.objects.create(universe=settings.SYMBOL_UNIVERSE_KEY, as_of=now, kind="intraday", made_at=now, **blocks)
    reader = token_client(make_user("market-reader"), scopes=["read:market"])
    for _ in range(3):
        reader.get("/api/market/breadth/")
    counters.flush()
    another = Counters()
    another.add("tickstock_cache_answers_total", 5, cache="surveys", result="hit")
    another.flush()

    seen = scraped()

    assert seen['tickstock_cache_answers_total{cache="surveys",result="hit"}'] == 7
    assert seen['tickstock_cache_answers_total{cache="surveys",result="miss"}'] == 1


def test_a_redis_that_is_away_leaves_the_other_figures_and_is_told(db, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    seen = scraped()

    assert seen['tickstock_scrape_errors{place="redis"}'] == 1
    assert "tickstock_gaps_open" in seen


def test_what_redis_did_not_take_is_counted_later(settings, counts):
    mine = Counters()
    right, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    mine.add("tickstock_tasks_total", task="late")
    mine.flush()
    settings.REDIS_URL = right
    mine.flush()

    assert any(b"late" in field for field in counts.hkeys(KEY))


# ---- logs


def test_a_log_line_in_json_is_one_line_with_level_part_and_trace():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord(
            "marketdata.writer", logging.ERROR, __file__, 1, "It broke: %s", (error,), (type(error), error, error.__traceback__)
        )

    line = JsonLines(part="stream_ticks").format(record)

    told = json.loads(line)
    assert "\n" not in line
    assert (told["level"], told["part"], told["message"]) == ("ERROR", "stream_ticks", "It broke: two\nlines")
    assert "ValueError" in told["trace"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["at"])


def test_an_unready_stack_is_no_error_of_the_web(db, settings, caplog):
    settings.READY_PARTS = ["feed"]
    with caplog.at_level(logging.ERROR):
        assert Client().get("/ready").status_code == 503

    assert caplog.records == []


def test_repeats_of_an_error_are_one_row_and_nobody_waits_for_the_table(market):
    table = ErrorTable(part="web")
    log = logging.getLogger("tests.errors")
    log.propagate = False
    log.addHandler(table)
    try:
        for number in range(1000):
            log.error("Bar %s could not be stored", number)
        log.critical("Another one")
        table.flush()
    finally:
        log.removeHandler(table)

    wait_until(lambda: sum(LoggedError.objects.values_list("count", flat=True)) == 1001)
    rows = {row.level: row for row in LoggedError.objects.all()}
    assert (rows["ERROR"].count, rows["ERROR"].message, rows["ERROR"].part) == (1000, "Bar 999 could not be stored", "web")
    assert rows["CRITICAL"].count == 1


def test_errors_wait_for_a_database_that_is_away(market, monkeypatch, capsys):
    monkeypatch.setattr("tickstock.logs.SECONDS_AFTER_FAILURE", 0.05)
    table = ErrorTable(part="web")
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")
    table.emit(logging.LogRecord("tests", logging.ERROR, __file__, 1, "Lost?", (), None))
    wait_until(lambda: table._complained)
    monkeypatch.undo()

    wait_until(lambda: LoggedError.objects.filter(message="Lost?").exists())
    assert capsys.readouterr().err.count("cannot be written") == 1


# ---- who did what


def test_sign_ins_refusals_tokens_and_changes_in_the_admin_are_kept(db):
    chief = make_user("chief", is_staff=True, is_superuser=True)
    stranger().post("/accounts/login/", {"username": "chief", "password": "wrong"})
    client = stranger()
    client.post("/accounts/login/", {"username": "chief", "password": PASSWORD})
    token, _ = make_token(chief)
    token.revoke(at=timezone.now())
    client.post(
        "/admin/marketdata/universe/add/",
        {"key": "mine", "name": "Mine", "kind": "theme", "memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0},
    )

    seen = {entry.action: entry for entry in AuditEntry.objects.filter(actor="chief")}  # earlier tests committed entries of their own

    assert {"sign-in refused", "sign-in", "token made", "token revoked", "admin added"} <= seen.keys()
    assert seen["sign-in"].address.startswith("2001:db8:")
    assert seen["admin added"].actor == "chief"
    assert "universe mine" in seen["admin added"].target
    assert "wrong" not in json.dumps(list(AuditEntry.objects.filter(actor="chief").values("actor", "target", "detail")))


def test_a_denial_is_a_line_with_who_and_what_and_a_row_where_something_was_to_be_changed(db, caplog):
    user = make_user("curious")
    token, secret = make_token(user, scopes=["read:bars"])
    Client().get("/api/patterns/", headers=bearer(secret))
    for _ in range(2):
        Client().post("/api/jobs/", {"kind": "repair"}, content_type="application/json", headers=bearer(secret))
    session_client(user).get("/accounts/people/")
    Client(enforce_csrf_checks=True).post("/accounts/login/", {"username": "curious", "password": "a secret"})

    lines = [record.getMessage() for record in caplog.records if record.name == "tickstock.middleware"]
    who = f"user {user.pk}"
    assert lines == [
        f"{who} with token {token.prefix} may not GET /api/patterns/, from 127.0.0.1",
        *[f"{who} with token {token.prefix} may not POST /api/jobs/, from 127.0.0.1"] * 2,
        f"{who} may not GET /accounts/people/, from 127.0.0.1",
        "nobody known may not POST /accounts/login/, from 127.0.0.1",
    ]
    rows = AuditEntry.objects.filter(actor="curious", action="denied").values_list("target", "address")
    assert list(rows) == [(f"POST /api/jobs/ with token {token.prefix}", "127.0.0.1")]
    assert secret not in caplog.text
    assert "a secret" not in caplog.text


def test_the_past_is_not_edited_and_forgotten_when_its_time_is_over(db, settings):
    entry = AuditEntry.objects.create(actor="ada", action="sign-in")
    entry.actor = "eve"
    with pytest.raises(Exception, match="never changed"):
        entry.save()
    AuditEntry.objects.create(actor="old", action="sign-in", at=timezone.now() - timedelta(days=settings.AUDIT_DAYS + 1))

    prune_records()

    left = AuditEntry.objects.filter(actor__in=["ada", "old"])  # earlier tests committed entries of their own
    assert list(left.values_list("actor", flat=True)) == ["ada"]
    assert session_client(make_user("staff", is_staff=True, is_superuser=True)).get("/admin/marketdata/auditentry/").status_code == 200


# ---- another broker than Redis


def test_the_queue_of_another_broker_is_counted_too(settings, monkeypatch):
    settings.CELERY_BROKER_URL = "amqp://broker.example//"
    monkeypatch.setattr(current_app, "connection_for_read", lambda **_: kombu.Connection("memory://"))
    assert [sample.value for sample in figures._of_queue()[0].samples] == [0]

    with kombu.Connection("memory://") as line:
        queue = line.SimpleQueue(current_app.conf.task_default_queue)
        queue.put({})
        queue.put({})
        (length,) = figures._of_queue()
        queue.clear()
        queue.close()

    assert [(sample.name, sample.value) for sample in length.samples] == [("tickstock_queue_length", 2)]


# ---- a worker under systemd


class Consumer:
    """What the step is given: the timer, which runs at once what it is to repeat."""

    class timer:  # noqa: N801
        @staticmethod
        def call_repeatedly(seconds, function, arguments):
            function(*arguments)


@pytest.mark.parametrize("form", ["{folder}/notify", "@{folder}/notify"])
def test_a_worker_tells_systemd_that_it_lives_at_once_and_again_and_again(form, tmp_path, monkeypatch):
    address = form.format(folder=tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        Pulse(Consumer()).start(Consumer())

        assert [systemd.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2


# ---- tasks that fail


class Recorded(CountedTask):
    """A task under the worker's eyes, without one: what a message says is put into its request."""

    name = "tests.recorded"
    runs: list[str]

    def run(self, outcome: str) -> str:
        self.runs.append(outcome)
        if outcome == "raise":
            raise ValueError("no good")
        if outcome == "away":
            raise OperationalError("the server is starting up\nand says more")
        return outcome


def delivered(task: Recorded, outcome: str, *, redelivered: bool = False, retries: int = 0):
    task.request_stack.push(
        Context(
            id="message-1",
            called_directly=False,
            is_eager=False,
            retries=retries,
            delivery_info={"redelivered": redelivered},
            args=[outcome],
            kwargs={},
        )
    )
    try:
        return task(outcome)
    finally:
        task.request_stack.pop()


@pytest.fixture
def task(monkeypatch):
    from celery import current_app

    task = Recorded()
    task.bind(current_app._get_current_object())
    task.runs = []
    monkeypatch.setattr(task, "apply_async", lambda *_, **__: None)
    monkeypatch.setattr("celery.canvas.Signature.apply_async", lambda *_, **__: None)  # the retry is sent to nobody
    return task


def test_every_task_of_ours_is_counted():
    assert isinstance(scan_bars, CountedTask)


def test_a_message_that_kills_its_worker_is_run_three_times_and_then_given_up_aloud(db, task, caplog):
    for redelivered, attempts in ((False, []), (True, [2]), (True, [3])):
        _die(task, redelivered=redelivered)
        assert list(DeadTask.objects.values_list("attempts", flat=True)) == attempts

    with caplog.at_level(logging.ERROR), pytest.raises(Ignore):
        delivered(task, "dies", redelivered=True)

    row = DeadTask.objects.get()
    assert row.dead_at is not None
    assert "given up after 3 attempts" in caplog.text


def _die(task: Recorded, *, redelivered: bool) -> None:
    """Run the message as if its worker were killed in the middle."""

    class Killed(BaseException):
        pass

    def killed(_outcome: str) -> str:
        raise Killed

    task.run, kept = killed, task.run
    try:
        with pytest.raises(Killed):
            delivered(task, "dies", redelivered=redelivered)
    finally:
        task.run = kept


def test_a_periodic_task_waits_for_a_database_that_is_away_and_says_so_in_one_line(task, caplog, monkeypatch):
    monkeypatch.setitem(task.app.conf.beat_schedule, "recorded", {"task": task.name, "schedule": 5.0})

    with pytest.raises(Ignore):
        delivered(task, "away")

    assert [record.getMessage() for record in caplog.records] == [
        "tests.recorded has to wait for its next turn, the database is away: the server is starting up"
    ]


def test_a_task_that_raises_is_tried_three_times_and_one_that_succeeds_leaves_no_row(db, task):
    for retries in range(2):
        with pytest.raises(Retry):
            delivered(task, "raise", retries=retries)
    with pytest.raises(ValueError, match="no good"):
        delivered(task, "raise", retries=2)
    assert (len(task.runs), DeadTask.objects.get().error, DeadTask.objects.get().dead_at is None) == (3, "ValueError: no good", False)

    DeadTask.objects.update(attempts=1, dead_at=None)
    delivered(task, "fine", retries=1)

    assert not DeadTask.objects.exists()


def test_a_task_called_as_a_function_is_just_a_function(db, task):
    assert task("fine") == "fine"
    assert not DeadTask.objects.exists()


# ---- traces


def test_requests_are_traced_only_where_a_collector_is_named(settings, db):
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    tracing.provider.cache_clear()
    assert tracing.begin("nothing") is None
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.OTEL_ENDPOINT = f"http://127.0.0.1:{server.server_port}"
        tracing.provider.cache_clear()
        try:
            Client().get("/health")
            tracing.provider().shutdown()
        finally:
            tracing.provider.cache_clear()
            server.shutdown()

    assert [path for path, _ in received] == ["/v1/traces"]
    assert b"GET /health" in received[0][1]
