"""The database's faults, each by its number in the design's catalogue: what was acknowledged is kept, what waits is not lost."""

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection, connections
from psycopg.conninfo import conninfo_to_dict

from marketdata.announcer import Announcer
from marketdata.flusher import Flusher
from marketdata.models import Bar, BarRevision, Source
from marketdata.writer import Writer, WriterBusyError, WriterDeposedError, line_name
from tests.factories import at, make_bar
from tests.faults.market import market_of, settle, stored, stream_of
from tests.faults.proxy import Proxy, proxy
from tests.faults.test_feed import frames_come
from tests.feed_server import feed_server
from tests.processes import ROOT, command_environment, database_url, run_command, wait_until
from tests.streams import MINUTE, heartbeat
from tickstock.embedded import Postgres, create_database

pytestmark = pytest.mark.faults


def lead_writers(monkeypatch, **where: object) -> None:
    """Let writers connect to another address than Django does."""

    def open_there(writer: Writer) -> psycopg.Connection:
        settings = connections["default"].get_connection_params()
        keep = {key: value for key, value in settings.items() if key not in {"cursor_factory", "context", "prepare_threshold"}}
        return psycopg.connect(**{**keep, **where}, autocommit=True, application_name=f"tickstock {writer.name}")

    monkeypatch.setattr(Writer, "_open", open_there)


def test_q01_no_acknowledged_row_is_missing_after_twenty_immediate_stops(tmp_path, monkeypatch, pytestconfig):
    """Each stop is that of `pg_ctl stop -m immediate`, on a server of the test's own."""
    dice = random.Random(pytestconfig.getoption("seed"))
    server = Postgres(tmp_path)
    url = create_database(server.start(), "crashes")
    run_command("migrate", "--verbosity", "0", DATABASE_URL=url, DATABASE_ROLES="0")
    lead_writers(monkeypatch, **conninfo_to_dict(url))
    writer = Writer(line_name(1, 1))
    writer.acquire()
    acknowledged: set[tuple[str, int]] = set()
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            minute = at("09:00") + number // 20 * MINUTE
            batch = [make_bar(10 + number % 7, symbol=f"S{number % 20}-{place}", time=minute) for place in range(50)]
            number += 1
            while not over.is_set():
                try:
                    writer.write(batch)
                except psycopg.OperationalError:
                    with contextlib.suppress(psycopg.OperationalError):
                        writer.reconnect()
                    time.sleep(0.05)
                else:
                    acknowledged.update((bar.symbol, bar.opened_at_ms) for bar in batch)
                    break

    thread = threading.Thread(target=write)
    thread.start()
    slowest = 0.0
    for _ in range(20):
        before = len(acknowledged)
        wait_until(lambda before=before: len(acknowledged) > before, 60)
        time.sleep(dice.random() * 0.5)
        server.process.send_signal(signal.SIGQUIT)
        server.process.wait(30)
        server.start()
        back, before = time.monotonic(), len(acknowledged)
        wait_until(lambda before=before: len(acknowledged) > before, 60)
        slowest = max(slowest, time.monotonic() - back)
    over.set()
    thread.join(30)
    with psycopg.connect(url) as after:
        kept = set(after.execute("SELECT symbol, (extract(epoch FROM timestamp) * 1000)::bigint FROM ohlcv_1min").fetchall())
    writer.close()
    server.stop()
    missing = acknowledged - kept
    print(
        f"Q1: {len(acknowledged):,} rows acknowledged over 20 immediate stops, {len(missing)} missing, writing again after {slowest:.1f} s"
    )
    assert not missing


def test_q01_nothing_that_was_shown_is_missing_or_other_after_twenty_kills_of_the_streamer(hurried, pytestconfig):
    dice = random.Random(pytestconfig.getoption("seed"))
    shown: dict = {}
    with market_of("AAPL", "MSFT") as market:
        environment = command_environment(
            MASSIVE_API_KEY="k", MASSIVE_WS_URL=market.feed.url, MASSIVE_REST_URL=market.rest.url, USE_SYNTHETIC_DATA="0"
        )
        command = [sys.executable, "manage.py", "stream_ticks", "--symbols", "AAPL,MSFT", "--events", "T"]
        since = None
        for number in range(20):
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                known = len(stored())
                wait_until(lambda known=known: len(stored()) > known, 90)
                since = since or min(start for _, start in stored())
                time.sleep(dice.random())
                shown |= stored()
            finally:
                process.kill()
                process.wait()
            have = stored()
            lost = [key for key in shown if key not in have]
            assert not lost, f"kill {number + 1}: {lost}"
        with stream_of(market, market.feed.url):
            settle(market, since=since)
            truth = market.truth()
            assert {key: values for key, values in stored().items() if key in truth} == {
                key: truth[key] for key in stored() if key in truth
            }
    print(f"Q1: {len(shown)} rows were shown over 20 kills, none missing or other than the truth")


@pytest.fixture
def far_database(monkeypatch) -> Iterator[Proxy]:
    """The writer's way to the database leads over a network that may break."""
    values = connection.settings_dict
    with proxy(int(values["PORT"]), host=values["HOST"]) as net:
        lead_writers(monkeypatch, host="127.0.0.1", port=net.port)
        yield net


def test_q02_a_database_that_is_away_for_a_while_costs_no_bar(hurried, far_database):
    with market_of("AAPL", "MSFT", "IBM") as market, stream_of(market, market.feed.url):
        wait_until(frames_come)
        wait_until(lambda: Bar.objects.filter(source=Source.TRADES).exists())
        since = market.now
        far_database.down = True
        far_database.reset_peer()
        time.sleep(6)  # five minutes of this market
        far_database.heal()
        settle(market, since=since)
        assert heartbeat()["reconnects"] == 0, "the line was read all the while"


def test_q02_a_database_that_is_away_too_long_ends_the_stream_with_a_sentence_and_rest_fills_the_hole(hurried, far_database, monkeypatch):
    monkeypatch.setattr("marketdata.flusher.MOST_WAITING_BARS", 12)
    with market_of("AAPL", "MSFT", "IBM") as market:
        with pytest.raises(AssertionError, match="bars wait for a database that is away"), stream_of(market, market.feed.url) as stream:  # noqa: PT012
            wait_until(lambda: Bar.objects.filter(source=Source.TRADES).exists())
            since = market.now
            far_database.down = True
            far_database.reset_peer()
            wait_until(lambda: stream._flusher.failure is not None)
        far_database.heal()
        monkeypatch.setattr("marketdata.flusher.MOST_WAITING_BARS", 500_000)
        with stream_of(market, market.feed.url):
            settle(market, since=since)


def test_q03_a_lock_that_somebody_holds_delays_a_batch_and_it_is_committed_once(writer):
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET lock_timeout = '300ms'")
    flusher = Flusher(writer, Announcer(), batch_size=100, flush_seconds=5.0)
    try:
        writer.close()
        writer.acquire_within(10)  # knows the timeout
        flusher.add([make_bar(10, symbol=f"S{number}") for number in range(50)], [])
        assert flusher.drain(20)
        first = writer.epoch
        with psycopg.connect(database_url()) as other:
            other.execute("SELECT 1 FROM ohlcv_1min WHERE symbol = 'S7' FOR UPDATE")
            flusher.add([make_bar(11, symbol=f"S{number}", version=2) for number in range(50)], [])
            time.sleep(1.5)
            assert Bar.objects.filter(close=11).count() == 0, "all or nothing"
            other.rollback()
        assert flusher.drain(30)
        assert (Bar.objects.filter(close=11, revision=1).count(), BarRevision.objects.count()) == (50, 50)
        assert writer.epoch - first <= 5, "calmly"
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET lock_timeout")
        flusher.stop()


def test_q04_a_full_disk_makes_the_writer_wait_and_it_goes_on_when_there_is_room(writer, tmp_path):
    """The table lies in a tablespace on a tiny disk (a tmpfs, which root alone may mount) that a file fills up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=True)
    folder = disk / "space"
    folder.mkdir(mode=0o700)
    announcer = Announcer()
    flusher = Flusher(writer, announcer, batch_size=100, flush_seconds=5.0)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
            cursor.execute("ALTER TABLE ohlcv_1min SET TABLESPACE tiny")
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"\0" * 65_536)
                file.flush()
        bars = [make_bar(10, symbol=f"S{number % 100}", time=at("09:00") + number // 100 * MINUTE) for number in range(20_000)]
        flusher.add(bars, [])
        wait_until(lambda: flusher.away_seconds > 2, 60)
        assert flusher.failure is None
        assert flusher.waiting == 20_000
        ballast.unlink()
        assert flusher.drain(90)
        assert Bar.objects.count() == 20_000
    finally:
        flusher.stop()
        announcer.stop()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE ohlcv_1min")
            cursor.execute("ALTER TABLE ohlcv_1min SET TABLESPACE pg_default")
            cursor.execute("DROP TABLESPACE IF EXISTS tiny")
        subprocess.run(["umount", "-l", str(disk)], check=True)


# -- one writer (F8) -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamers", [2, 5])
def test_f08_of_several_streamers_at_once_exactly_one_writes(market, streamers):
    """Ten contests of processes, six of two and four of five: one holds the line, the others leave with a sentence."""

    def script(peer, number):
        peer.log_in()
        peer.stay()

    with feed_server(script) as server:
        environment = command_environment(
            MASSIVE_API_KEY="k", MASSIVE_WS_URL=server.url, MASSIVE_REST_URL="http://127.0.0.1:9", USE_SYNTHETIC_DATA="0"
        )
        command = [sys.executable, "manage.py", "stream_ticks", "--symbols", "AAPL", "--events", "T"]
        for _ in range(6 if streamers == 2 else 4):
            processes = [
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for _ in range(streamers)
            ]
            try:
                wait_until(lambda processes=processes: sum(process.poll() is not None for process in processes) >= streamers - 1, 120)
                losers = [process for process in processes if process.poll() is not None]
                assert len(losers) == streamers - 1, "exactly one writes"
                assert all(process.returncode == 1 and "already written by" in process.stderr.read() for process in losers)
            finally:
                for process in processes:
                    process.kill()
                    process.communicate()


def test_f08_two_hundred_contests_in_which_the_holder_loses_its_lock_have_one_writer_each(market, monkeypatch, pytestconfig):
    monkeypatch.setattr("marketdata.writer.LOCK_RETRY_SECONDS", 0.01)
    dice = random.Random(pytestconfig.getoption("seed"))
    refused = 0
    for contest in range(200):
        contestants = [Writer(line_name(1, 1)) for _ in range(dice.choice((2, 5)))]
        won: list[Writer] = []
        start = threading.Barrier(len(contestants))

        def compete(writer: Writer, *, start: threading.Barrier = start, won: list[Writer] = won) -> None:
            start.wait()
            with contextlib.suppress(WriterBusyError):
                writer.acquire()
                won.append(writer)

        threads = [threading.Thread(target=compete, args=(one,)) for one in contestants]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) <= 1, f"contest {contest}: {len(won)} writers"
        if not won:
            contestants[0].acquire_within(10)
            won.append(contestants[0])
        [holder] = won
        minute = at("09:00") + contest * MINUTE
        holder.write([make_bar(1, time=minute)])
        with connection.cursor() as cursor:  # its lock goes; it does not know
            cursor.execute("SELECT pg_terminate_backend(%s)", (holder.connection.info.backend_pid,))
        rival = next(one for one in contestants if one is not holder)
        rival.acquire_within(10)
        rival.write([make_bar(2, time=minute, version=2)])
        with pytest.raises(psycopg.OperationalError):
            holder.write([make_bar(3, time=minute, version=3)])
        with pytest.raises(WriterDeposedError):
            holder.reconnect()
        refused += 1
        rival.close()
    assert refused == 200
    assert Bar.objects.filter(close=2).count() == 200
    print("F8: 200 contests, one writer each; the deposed one was refused every time")
