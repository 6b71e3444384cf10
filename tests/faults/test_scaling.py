"""Two stream shards, two workers, two web processes on one database: each does its part, the figures are one, and the loss of any is made good."""

import json
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connection
from websockets.sync.client import connect

from marketdata.models import Bar, Heartbeat, Universe
from patterns.models import ScannedBar
from tests.faults.servers import KillableRedis, Part, beat, environment, killable_redis, worker
from tests.people import bearer, make_token, make_user
from tests.processes import wait_until
from tests.test_up import free_port, status_of

pytestmark = [pytest.mark.usefixtures("market"), pytest.mark.faults]
SHARDS = ("1/2", "2/2")


class Fleet:
    """Everything of a stack that runs on several machines, as processes of one."""

    def __init__(self, server: KillableRedis, folder: Path) -> None:
        twin, self.ports = free_port(), (free_port(), free_port())
        base = environment(server) | {
            "MASSIVE_API_KEY": "twin",
            "USE_SYNTHETIC_DATA": "1",
            "MASSIVE_WS_URL": f"ws://127.0.0.1:{twin}/stocks",
            "MASSIVE_REST_URL": f"http://127.0.0.1:{twin}",
        }
        self.twin = Part(["manage.py", "simulate_massive", "--port", str(twin)], base, folder / "twin.log")
        wait_until(lambda: "listening on" in self.twin.log.read_text(), 60)
        self.streams = [
            Part(["manage.py", "stream_ticks", "--shard", shard], base, folder / f"stream{number}.log")
            for number, shard in enumerate(SHARDS)
        ]
        self.workers = [worker(server, folder / f"worker{number}.log", name=f"w{number}") for number in (1, 2)]
        self.beat = beat(server, folder, name="beat")
        self.webs = [
            Part(["-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "tickstock.asgi:application"], base, folder / f"web{port}.log")
            for port in self.ports
        ]

    def stop(self) -> None:
        for part in (*self.streams, self.beat, *self.workers, *self.webs, self.twin):
            part.kill()


def count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def symbols_with_whole_bars(since) -> set[str]:
    return set(Bar.objects.since(since).filter(complete=True, source__lt=40).values_list("symbol_id", flat=True))


def test_a_fleet_shares_the_work_and_survives_the_loss_of_one_of_each(tmp_path):
    everybody = set(Universe.objects.symbols_of("stock_etf_test:combo_test"))
    _, token = make_token(make_user("fleet"), scopes=["read:bars", "read:patterns", "metrics"])
    with killable_redis(tmp_path) as server, ExitStack() as ends:
        fleet = Fleet(server, tmp_path)
        ends.callback(fleet.stop)
        for port in fleet.ports:
            wait_until(lambda port=port: status_of(f"http://127.0.0.1:{port}/ready") == 200, 120)

        live = {beat.part: beat.state for beat in Heartbeat.objects.filter(part__startswith="stream ")}
        assert live == {"stream 1/2": "live", "stream 2/2": "live"}
        began = time.time()
        first = Bar.objects.newest_minute()
        wait_until(lambda: symbols_with_whole_bars(first) >= everybody, 180)
        assert [heard(port, token) >= everybody for port in fleet.ports] == [True, True]

        for group in (fleet.streams, fleet.workers, fleet.webs):
            group[1].kill()
        assert status_of(f"http://127.0.0.1:{fleet.ports[0]}/health") == 200
        for group in (fleet.streams, fleet.workers, fleet.webs):
            group[1].start()
        wait_until(lambda: [status_of(f"http://127.0.0.1:{port}/ready") for port in fleet.ports] == [200, 200], 120)
        again = Bar.objects.newest_minute()
        wait_until(lambda: symbols_with_whole_bars(again) >= everybody, 180)

        wait_until(lambda: not missed(), 120)
        seen = [metrics(port, token) for port in fleet.ports]
        seconds = time.time() - began

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM (SELECT FROM ohlcv_1min GROUP BY symbol, timestamp HAVING count(*) > 1) AS doubles")
        assert cursor.fetchone() == (0,)
    shards = {name for name in seen[0] if name.startswith("tickstock_feed_events_total")}
    assert shards == {'tickstock_feed_events_total{shard="stream 1/2"}', 'tickstock_feed_events_total{shard="stream 2/2"}'}
    scans = 'tickstock_tasks_total{state="success",task="patterns.tasks.scan_bars"}'
    assert seen[0][scans] > 0
    assert seen[1][scans] >= seen[0][scans]  # the second was asked a moment later: it is one count, whoever is asked
    print(
        f"{len(everybody)} symbols, {count('ohlcv_1min'):,} bars, {count('scanned_bars'):,} scanned, "
        f"{count('intraday_indicators'):,} values in {seconds:.0f} s"
    )


def missed() -> int:
    """Return how many whole bars older than a sweep nobody looked at."""
    return Bar.objects.whole().count() - ScannedBar.objects.filter(timeframe="1m").count()  # longer bars are scanned as well


def heard(port: int, token: str) -> set[str]:
    """Return the symbols that a socket of this web process shows, of both shards."""
    symbols: set[str] = set()
    with connect(f"ws://127.0.0.1:{port}/ws/live", additional_headers=bearer(token)) as page:
        page.send(json.dumps({"action": "watch", "topics": ["bars"]}))
        end = time.monotonic() + 60
        while time.monotonic() < end and len(symbols) < 70:
            message = json.loads(page.recv(timeout=60))
            symbols |= {bar["s"] for bar in (message.get("data") or {}).get("bars", [])}
    return symbols


def metrics(port: int, token: str) -> dict[str, float]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=bearer(token))
    with urllib.request.urlopen(request, timeout=20) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_second_holder_of_a_shard_is_refused_and_so_is_another_division(tmp_path):
    with killable_redis(tmp_path) as server, ExitStack() as ends:
        fleet = Fleet(server, tmp_path)
        ends.callback(fleet.stop)
        wait_until(lambda: Heartbeat.objects.filter(part__startswith="stream ", state="live").count() == 2, 120)
        base = fleet.streams[0]._environment
        for shard, words in (("1/2", "is already written by"), ("1/1", "would share symbols"), ("3/3", "would share symbols")):
            log = tmp_path / f"refused{shard.replace('/', 'of')}.log"
            late = Part(["manage.py", "stream_ticks", "--shard", shard], base, log)
            assert late.process.wait(60) == 1
            assert words in log.read_text()
