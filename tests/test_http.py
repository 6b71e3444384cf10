"""Exact JSON, problem details, /health and /ready."""

import json
import socket
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone as clock
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from marketdata.models import Heartbeat
from tests.people import make_user, session_client
from tickstock import health, http

# ---- JSON


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40))
@example(Decimal("188.4200"))
@example(Decimal("1E+3"))
@example(Decimal("-0.00"))
@example(Decimal("1E-30"))
def test_every_finite_decimal_comes_back_exactly_as_it_was(value):
    text = http.json_bytes({"price": value}).decode()

    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == {"price": value}
    assert "e" not in text.lower().removeprefix('{"price"')


def test_a_price_loses_needless_zeros_and_no_digit():
    assert http.exact_number(Decimal("188.4200")) == "188.42"
    assert http.exact_number(Decimal("100")) == "100"
    assert http.exact_number(Decimal("0.000100")) == "0.0001"


def test_a_decimal_that_is_no_number_becomes_null():
    assert http.json_bytes([Decimal("NaN"), Decimal("Infinity"), float("nan")]) == b"[null,null,null]"


def test_a_moment_is_utc_with_z_and_shows_milliseconds_only_where_there_are_some():
    tokyo = timezone(timedelta(hours=9))

    assert http.moment(datetime(2026, 11, 20, 23, 30, tzinfo=tokyo)) == "2026-11-20T14:30:00Z"
    assert http.moment(datetime(2026, 11, 20, 14, 30, 0, 123_000, tzinfo=UTC)) == "2026-11-20T14:30:00.123Z"
    with pytest.raises(ValueError, match="time zone"):
        http.moment(datetime(2026, 11, 20))  # noqa: DTZ001 - the fault that is meant


def test_json_nested_without_end_is_refused_in_words():
    with pytest.raises(ParseError, match="deeply"):
        http.BoundedJSONParser().parse(BytesIO(b"[" * 200_000))


def test_a_body_without_end_is_not_read_to_its_end():
    body = BytesIO(b" " * (http.BODY_LIMIT * 3))

    with pytest.raises(http.BodyTooLarge):
        http.BoundedJSONParser().parse(body)
    assert body.tell() <= http.BODY_LIMIT + 1


# ---- Problem details


def test_nothing_under_api_is_told_in_problem_details():
    answer = Client().get("/api/nothing/")

    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 404


def test_a_forged_host_is_a_problem_too():
    answer = Client(headers={"Host": "evil.example"}).get("/api/symbols/")

    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


def test_an_error_of_ours_says_nothing_about_our_insides(monkeypatch, db):
    def broken(*_):
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("marketdata.api._checked", broken)
    client = session_client(make_user(), raise_request_exception=False)

    answer = client.get("/api/symbols/")

    assert (answer.status_code, answer["Content-Type"]) == (500, "application/problem+json")
    assert b"secret" not in answer.content


@pytest.mark.parametrize("path", ["/accounts/sessions/", "/streaming/"])
def test_a_page_without_the_database_is_503_in_words_and_not_500(path, monkeypatch, db):
    def away(*_):
        raise OperationalError("no route to 10.0.0.7")

    client = session_client(make_user(), raise_request_exception=False)
    with monkeypatch.context() as patch:
        patch.setattr(connections["default"], "cursor", away)
        answer = client.get(path)

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert b"database does not answer" in answer.content
    assert b"10.0.0.7" not in answer.content


def test_a_database_that_is_away_is_told_as_503(monkeypatch, db):
    def away(*_):
        raise OperationalError("connection refused to host db.internal")

    monkeypatch.setattr("marketdata.api._checked", away)
    client = session_client(make_user())

    answer = client.get("/api/symbols/")

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert b"internal" not in answer.content


def test_a_wrong_method_and_a_wrong_type_are_problems(db):
    client = session_client(make_user())

    assert client.put("/api/symbols/").json()["status"] == 405
    assert client.get("/api/symbols/", headers={"Accept": "image/png"}).json()["status"] == 406
    assert Client().post("/api/tokens/", "<a/>", content_type="text/xml").json()["status"] == 415
    assert Client().post("/api/tokens/", "{", content_type="application/json").json()["status"] == 400


def test_the_openapi_description_is_valid_and_complete(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))

    text = (tmp_path / "schema.yaml").read_text()
    assert text.startswith("openapi: 3.1")
    assert "application/problem+json" in text


# ---- Health


def test_health_asks_neither_database_nor_identity(django_assert_num_queries, db):
    with django_assert_num_queries(0):
        answer = Client().get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def beat(part: str, *, ago: float = 0, state: str = "") -> None:
    now = clock.now()
    Heartbeat.objects.create(part=part, at=now - timedelta(seconds=ago), started_at=now, state=state)


def ready() -> tuple[int, dict]:
    answer = Client().get("/ready")
    assert answer.json()["status"] == ("ok" if answer.status_code == 200 else "unready")
    return answer.status_code, answer.json()["parts"]


@pytest.mark.django_db(transaction=True)
def test_ready_when_every_part_is_well():
    beat("stream 1/1", state="live")
    beat("worker")

    assert ready() == (200, {part: {"ok": True} for part in ("database", "redis", "feed", "worker")})


@pytest.mark.django_db(transaction=True)
def test_parts_that_never_ran_make_it_unready_and_say_what_to_start():
    status, parts = ready()

    assert status == 503
    assert parts["database"] == {"ok": True}
    assert "stream_ticks" in parts["feed"]["reason"]
    assert "worker" in parts["worker"]["reason"]


@pytest.mark.django_db(transaction=True)
def test_a_feed_gone_silent_is_told_with_its_age(settings):
    settings.READY_PARTS = ["feed"]
    beat("stream 1/1", state="live", ago=34)

    assert ready() == (503, {"feed": {"ok": False, "reason": "no sign of life for 34 s"}})


@pytest.mark.django_db(transaction=True)
def test_a_feed_that_only_tries_to_connect_is_not_ready(settings):
    settings.READY_PARTS = ["feed"]
    beat("stream 1/1", state="connecting")

    assert ready() == (503, {"feed": {"ok": False, "reason": "stream 1/1 is connecting"}})


@pytest.mark.django_db(transaction=True)
def test_what_a_person_should_know_of_a_feed_that_streams_is_told(settings):
    settings.READY_PARTS = ["feed"]
    beat("stream 1/1", state="delayed")
    Heartbeat.objects.update(detail={"notices": ["The feed is 15 minutes behind: the plan has no real-time data."]})

    assert ready() == (200, {"feed": {"ok": True, "notices": ["The feed is 15 minutes behind: the plan has no real-time data."]}})


@pytest.mark.django_db(transaction=True)
def test_one_of_two_shards_alive_is_not_ready_and_a_former_division_counts_for_nothing(settings):
    settings.READY_PARTS = ["feed"]
    beat("stream 1/1", state="live", ago=4000)
    beat("stream 1/2", state="live")
    beat("stream 2/2", state="live", ago=60)
    assert ready() == (503, {"feed": {"ok": False, "reason": "1 of 2 shards are alive"}})

    Heartbeat.objects.filter(part="stream 2/2").update(at=clock.now())
    assert ready() == (200, {"feed": {"ok": True}})


def test_a_redis_that_refuses_is_told_without_its_address(settings):
    settings.READY_PARTS = ["redis"]
    settings.REDIS_URL = "redis://:a-password@127.0.0.1:1/0"

    assert ready() == (503, {"redis": {"ok": False, "reason": "does not answer"}})


def test_a_database_that_refuses_is_told_without_its_address(settings, monkeypatch, db):
    settings.READY_PARTS = ["database", "feed"]
    monkeypatch.setitem(connections.databases["default"], "HOST", "/nowhere")

    reason = {"ok": False, "reason": "the database does not answer"}
    assert ready() == (503, {"database": reason, "feed": reason})


def test_servers_that_accept_and_then_say_nothing_cannot_hang_the_answer(settings, monkeypatch, tmp_path, db):
    with socket.socket(socket.AF_UNIX) as postgres, socket.socket(socket.AF_UNIX) as redis:
        for listener, name in ((postgres, ".s.PGSQL.5432"), (redis, "redis.sock")):
            listener.bind(str(tmp_path / name))
            listener.listen()
        settings.READY_PARTS = ["database", "redis"]
        settings.REDIS_URL = f"unix://{tmp_path}/redis.sock"
        monkeypatch.setitem(connections.databases["default"], "HOST", str(tmp_path))

        status, parts = ready()

    assert status == 503
    assert parts["redis"] == {"ok": False, "reason": "does not answer"}
    assert parts["database"] == {"ok": False, "reason": f"no answer within {health.ANSWER_SECONDS:.0f} s"}
