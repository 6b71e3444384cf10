"""A backup is what comes back: counts and checksums equal in a new database, on plain PostgreSQL and on TimescaleDB. And what is let go."""

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from psycopg import sql

from accounts.models import User
from marketdata.models import Bar
from patterns.scan import scan
from tests.factories import make_bar
from tests.patterns.market import keys_of, random_bars, store
from tests.people import make_user
from tests.processes import database_url
from tickstock import retention
from tickstock.management.commands import migrate

NAME = "test_restored"
ON_TIMESCALE = bool(os.environ.get("EXPECT_TIMESCALE"))


def run(*arguments: str) -> dict:
    out = StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.fixture
def new_database(market):
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME))
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute(drop)
        yield NAME
        session.execute(drop)


def test_a_backup_made_under_load_comes_back_equal_in_a_new_database(writer, new_database, tmp_path):
    bars = random_bars("AAPL", 130, seed=1) + random_bars("MSFT", 60, seed=2, first=1_700_000_000_000 // 60_000 * 60_000)
    store(writer, bars)
    scan(keys_of(bars), now=datetime.now(UTC))
    make_user("keeper")
    stop = threading.Event()

    def load() -> None:
        minute = int(time.time() * 1000) // 60_000 * 60_000
        for number in range(1_000_000):
            if stop.is_set():
                return
            store(writer, [make_bar(10.0 + number % 50, time=minute + number * 60_000, symbol="IBM")])

    busy = threading.Thread(target=load)
    busy.start()
    try:
        made = run("backup", str(tmp_path / "it.dump"))
    finally:
        stop.set()
        busy.join()
        User.objects.filter(username="keeper").delete()

    brought = run("restore", str(tmp_path / "it.dump"), "--into", NAME)

    assert brought["differing"] == []
    assert (brought["rows"], brought["tables"]) == (made["rows"], made["tables"])
    with psycopg.connect(database_url(), dbname=NAME) as session:
        assert session.execute("SELECT count(*) FROM ohlcv_1min WHERE symbol IN ('AAPL', 'MSFT')").fetchone() == (190,)
        assert session.execute("SELECT count(*) FROM accounts_user WHERE username = 'keeper'").fetchone() == (1,)
        if ON_TIMESCALE:
            assert session.execute("SELECT count(*) FROM timescaledb_information.hypertables").fetchone() == (1,)
            assert session.execute("SELECT count(*) >= 2 FROM timescaledb_information.chunks").fetchone() == (True,)
    assert oct((tmp_path / "it.dump").stat().st_mode)[-3:] == "600"


def test_a_full_database_a_missing_file_and_a_lost_manifest_are_one_sentence_each(market, tmp_path):
    run("backup", str(tmp_path / "it.dump"))
    with pytest.raises(CommandError, match=r"is not empty \(\d+ tables\). Restore into a new one"):
        call_command("restore", str(tmp_path / "it.dump"))
    with pytest.raises(CommandError, match="is there already"):
        call_command("backup", str(tmp_path / "it.dump"))
    (tmp_path / "it.dump.json").unlink()
    with pytest.raises(CommandError, match="Copy both files"):
        call_command("restore", str(tmp_path / "it.dump"), "--into", NAME)
    with pytest.raises(CommandError, match="There is no file"):
        call_command("restore", str(tmp_path / "other.dump"), "--into", NAME)


def test_a_dump_that_does_not_hold_what_its_manifest_says_is_found(new_database, tmp_path):
    run("backup", str(tmp_path / "it.dump"))
    manifest = json.loads((tmp_path / "it.dump.json").read_text())
    manifest["tables"]["symbols"]["rows"] += 1
    (tmp_path / "it.dump.json").write_text(json.dumps(manifest))

    with pytest.raises(CommandError, match="1 tables differ from the backup: symbols"):
        run("restore", str(tmp_path / "it.dump"), "--into", NAME)


# ---- what is let go


def test_old_minutes_go_by_chunks_or_rows_and_young_ones_stay(writer, settings):
    now = datetime.now(UTC)
    store(writer, random_bars("AAPL", 10, seed=1, first=int((now - timedelta(days=40)).timestamp()) // 60 * 60_000))
    store(writer, random_bars("AAPL", 10, seed=2, first=int((now - timedelta(days=2)).timestamp()) // 60 * 60_000))
    settings.BAR_DAYS = 30

    would = run("retention", "--dry-run")
    assert Bar.objects.count() == 20
    went = run("retention")

    assert would == went
    assert (went["chunks"] >= 1, went["bars"]) == ((True, 0) if ON_TIMESCALE else (False, 10))
    assert Bar.objects.count() == 10
    assert run("retention") == {"chunks": 0, "bars": 0, "revisions": 0, "compressed": 0}


def test_too_short_a_time_and_a_server_that_cannot_compress_are_refused(db, settings):
    settings.BAR_DAYS = 3
    with pytest.raises(CommandError, match="keep at least 14 days"):
        call_command("retention")
    settings.BAR_DAYS = 0
    with pytest.raises(CommandError, match="cannot compress"):
        call_command("retention", "--compress", "7")
    assert retention.ROWS_A_BITE > 0


# ---- migrations beside a running stream


def test_a_migration_gives_way_to_a_lock_and_goes_on_when_it_is_free(market, monkeypatch, capsys):
    monkeypatch.setattr(migrate, "PAUSE_SECONDS", 0.05)
    tries = []
    plain = migrate.migrate.Command.handle

    def once_locked(self, *args, **options):
        tries.append(1)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '100ms'")
            cursor.execute("LOCK TABLE ohlcv_1min" if len(tries) < 3 else "SELECT 1")
        return plain(self, *args, **options)

    monkeypatch.setattr(migrate.migrate.Command, "handle", once_locked)
    with psycopg.connect(database_url()) as holder:
        holder.execute("LOCK TABLE ohlcv_1min IN ACCESS SHARE MODE")
        call_command("migrate", verbosity=0, skip_checks=True)

    assert len(tries) == 3
    assert capsys.readouterr().err.count("holds a lock") == 2
