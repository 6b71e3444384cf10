"""Each process may do in the database what it must, and nothing else; on plain PostgreSQL and on TimescaleDB."""

import json
import os
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from marketdata.models import Bar, Heartbeat, Universe
from marketdata.writer import PAST, Writer
from patterns.models import Detection
from tests.patterns.market import random_bars
from tests.processes import database_url
from tickstock.roles import make_roles
from tickstock.router import ReadonlyRouter


def audited() -> dict:
    out = StringIO()
    call_command("audit_roles", "--json", stdout=out)
    return json.loads(out.getvalue())


def rights_of_all_tables() -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"
        )
        return cursor.fetchall()


def test_every_forbidden_statement_is_refused_on_every_table_and_on_chunks_made_later(db):
    found = audited()

    assert found["wrong"] == []
    assert found["refused"] > 400
    assert found["chunks"] >= (1 if os.environ.get("EXPECT_TIMESCALE") else 0)
    assert not Bar.objects.exists()  # what was made for the trial is gone


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("GRANT INSERT ON ohlcv_1min TO app_web", "app_web may INSERT ohlcv_1min"),
        ("GRANT SELECT ON accounts_api_token TO app_readonly", "app_readonly may SELECT accounts_api_token"),
        ("REVOKE SELECT ON ohlcv_1min FROM app_worker", "app_worker may not SELECT ohlcv_1min"),
    ],
)
def test_a_right_too_many_or_too_few_is_found_and_setting_up_again_mends_it(db, mistake, words):
    with connection.cursor() as cursor:
        cursor.execute(mistake)
    with pytest.raises(CommandError, match=words):
        audited()

    make_roles()

    assert audited()["wrong"] == []


def test_setting_up_twice_changes_nothing(db):
    before = rights_of_all_tables()

    make_roles()
    make_roles()

    assert rights_of_all_tables() == before


def test_what_print_shows_is_what_an_administrator_can_run(db):
    out = StringIO()
    call_command("setup_roles", "--print", stdout=out)
    before = rights_of_all_tables()

    with connection.cursor() as cursor:
        cursor.execute("REVOKE ALL ON ohlcv_1min FROM app_stream, app_web")
        cursor.execute(out.getvalue().removeprefix("BEGIN;\n").removesuffix("COMMIT;\n"))

    assert rights_of_all_tables() == before


def test_the_writer_works_as_app_stream_and_no_other_role_can_be_a_writer(market, monkeypatch):
    options = connection.settings_dict["OPTIONS"]
    bars = random_bars("AAPL", 5, seed=1)
    for role in ("app_web", "app_worker"):
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", options | {"options": f"-c role={role}"})
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            Writer(PAST).acquire()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options | {"options": "-c timezone=UTC -c role=app_stream"})
    writer = Writer(PAST)
    writer.acquire_within(10)

    changes, refused = writer.write(bars)
    writer.beat("live", {}, started_at=timezone.now())
    writer.analyze()
    writer.close()

    assert (len(changes), refused, Bar.objects.count(), Heartbeat.objects.count()) == (5, [], 5, 1)


@pytest.mark.parametrize("role", ["app_web", "app_worker", "app_readonly"])
def test_a_session_that_begins_as_a_role_cannot_write_bars_and_reset_does_not_help(market, role):
    with psycopg.connect(make_conninfo(database_url(), options=f"-c role={role}"), autocommit=True) as session:
        session.execute("RESET ROLE")
        session.execute("SET default_transaction_read_only = off")
        for statement in ("INSERT INTO ohlcv_1min DEFAULT VALUES", "DELETE FROM ohlcv_1min", "CREATE TABLE mine ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)


def test_only_the_web_reads_the_market_through_the_readonly_address(settings, db):
    router = ReadonlyRouter()
    assert router.db_for_read(Bar) is None
    settings.DATABASE_READONLY_URL = "postgresql://app_readonly@db/tickstock"

    settings.DATABASE_ROLE = "app_worker"
    assert router.db_for_read(Bar) is None
    settings.DATABASE_ROLE = "app_web"
    assert [router.db_for_read(model) for model in (Bar, Detection, Universe)] == ["readonly", "readonly", None]
    assert not router.allow_migrate("readonly", "marketdata")
