"""Workers, brokers and beats that die: nothing is scanned twice, nothing is left out, and poison is contained."""

import random
import time
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

import pytest
from django.db import connection

from marketdata.models import AuditEntry, DeadTask, Heartbeat, Job, LoggedError
from patterns.models import ScanFailure, ScannedBar
from patterns.scan import scan
from patterns.tasks import scan_bars, scan_missed, sweep
from tests.faults.poison import kill_the_worker
from tests.faults.servers import beat, killable_redis, settled, worker
from tests.patterns.market import keys_of, random_bars, store, what_stands
from tests.processes import wait_until

pytestmark = pytest.mark.usefixtures("market")
SOON = timedelta(seconds=30)


def test_poison_runs_three_times_is_given_up_aloud_and_the_others_pass(writer, tmp_path):
    bars = random_bars("AAPL", 30, seed=1)
    store(writer, bars)
    notes = tmp_path / "runs"
    with killable_redis(tmp_path) as server:
        hand = worker(server, tmp_path / "worker.log", name="one", include="tests.faults.poison")
        try:
            server.send(kill_the_worker, [(str(notes),)])
            server.send(scan_bars, [([key],) for key in keys_of(bars)])
            wait_until(lambda: ScannedBar.objects.count() == 30 and DeadTask.objects.filter(dead_at__isnull=False).exists(), 120)
            wait_until(lambda: LoggedError.objects.filter(message__contains="given up").exists(), 30)
            assert server.waiting == 0
        finally:
            hand.kill()

    row = DeadTask.objects.get()
    assert (row.name, len(notes.read_text().split())) == ("tests.poison.kill", 3)


@pytest.mark.faults
def test_scans_beside_poison_wait_less_than_two_seconds(writer, tmp_path):
    bars = random_bars("AAPL", 200, seed=1)
    store(writer, bars)
    notes = tmp_path / "runs"
    sent: list[datetime] = []
    with killable_redis(tmp_path) as server:
        hand = worker(server, tmp_path / "worker.log", name="one", hands=2, include="tests.faults.poison")
        try:
            first, *others = keys_of(bars)
            server.send(scan_bars, [([first],)])
            wait_until(lambda: ScannedBar.objects.count() == 1, 90)
            for number, key in enumerate(others):
                if number % 50 == 0:
                    server.send(kill_the_worker, [(str(notes),)])
                sent.append(datetime.now(UTC))
                server.send(scan_bars, [([key],)])
                time.sleep(0.2)
            wait_until(lambda: ScannedBar.objects.count() == 200 and DeadTask.objects.filter(dead_at__isnull=False).count() == 4, 120)
        finally:
            hand.kill()

    scanned = dict(ScannedBar.objects.values_list("timestamp", "scanned_at"))
    delays = [(scanned[datetime.fromtimestamp(key[1] / 1000, UTC)] - at).total_seconds() for key, at in zip(others, sent, strict=True)]
    p50, p95 = median(delays), quantiles(delays, n=20)[-1]
    print(f"4 poisoned tasks, 12 killed hands, 199 scans beside them: delay p50 {p50:.2f} s, p95 {p95:.2f} s, longest {max(delays):.2f} s")
    assert len(notes.read_text().split()) == 12
    assert p95 < 2


@pytest.mark.faults
def test_24_killed_workers_and_a_killed_redis_leave_none_of_6000_scans_undone_or_done_twice(writer, tmp_path):
    chance = random.Random(20261124)
    bars = [bar for number in range(60) for bar in random_bars(f"S{number}", 100, seed=number)]
    for start in range(0, len(bars), 1_000):
        store(writer, bars[start : start + 1_000])
    keys = keys_of(bars)
    chance.shuffle(keys)
    with killable_redis(tmp_path) as server:
        server.send(scan_bars, [([key],) for key in keys])
        hands = [worker(server, tmp_path / f"{name}.log", name=name) for name in ("one", "two")]
        try:
            for number in range(24):
                before = ScannedBar.objects.count()
                wait_until(lambda before=before: ScannedBar.objects.count() > before + 20 or server.waiting == 0, 120)
                hand = hands[number % 2]
                hand.kill()
                hand.start()
                if number == 11:
                    server.kill()
                    server.start()
            settled(ScannedBar.objects.count, seconds=150, quiet=40)  # the rest is the sweep's
            by_tasks = ScannedBar.objects.count()
        finally:
            for hand in hands:
                hand.kill()

    report = sweep(now=datetime.now(UTC) + SOON)
    while report.bars:
        report = sweep(now=datetime.now(UTC) + SOON)
    stood = what_stands()
    print(f"{by_tasks} of 6,000 scanned by tasks, {6000 - by_tasks} by the sweep")
    assert ScannedBar.objects.count() == 6_000
    assert not ScanFailure.objects.exists()

    with connection.cursor() as cursor:  # what an undisturbed run says
        cursor.execute("TRUNCATE intraday_patterns, intraday_indicators, scanned_bars")
    for symbol in sorted({bar.symbol for bar in bars}):
        scan([key for key in sorted(keys) if key[0] == symbol], now=datetime.now(UTC))
    assert what_stands() == stood


@pytest.mark.faults
def test_two_beats_do_nothing_twice_and_a_beat_that_died_is_seen(writer, tmp_path):
    bars = random_bars("AAPL", 50, seed=1)
    store(writer, bars)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ohlcv_1min SET updated_at = now() - interval '1 minute'")
    with killable_redis(tmp_path) as server:
        hand = worker(server, tmp_path / "worker.log", name="one", pool="threads", hands=4)
        beats = [beat(server, tmp_path, name=name) for name in ("first", "second")]
        try:
            server.send(scan_missed, [()] * 6)
            wait_until(lambda: ScannedBar.objects.count() == 50, 90)
            wait_until(lambda: Heartbeat.objects.filter(part="worker").exists(), 60)
            stood = what_stands()
            server.send(scan_missed, [()] * 6)
            settled(lambda: server.waiting, quiet=5)
            assert what_stands() == stood
            assert (DeadTask.objects.count(), Job.objects.count(), AuditEntry.objects.count()) == (0, 0, 0)
            for one in beats:
                one.kill()
            last = Heartbeat.objects.get(part="worker").at
            wait_until(lambda: datetime.now(UTC) - Heartbeat.objects.get(part="worker").at > timedelta(seconds=31), 120)
            assert Heartbeat.objects.get(part="worker").at - last < timedelta(seconds=15)
        finally:
            for one in (*beats, hand):
                one.kill()


@pytest.mark.faults
def test_workers_take_up_work_by_themselves_after_their_broker_was_away(writer, tmp_path):
    bars = random_bars("AAPL", 40, seed=1)
    store(writer, bars)
    keys = keys_of(bars)
    with killable_redis(tmp_path) as server:
        hand = worker(server, tmp_path / "worker.log", name="one")
        try:
            server.send(scan_bars, [(keys[:20],)])
            wait_until(lambda: ScannedBar.objects.count() == 20, 90)
            for _ in range(3):
                server.kill()
                server.start()
            server.send(scan_bars, [(keys[20:],)])
            wait_until(lambda: ScannedBar.objects.count() == 40, 90)
        finally:
            hand.kill()
