import base64
import json
import logging
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings
from django.db import connection

from marketdata.bars.snapshot import BarChange
from marketdata.models import Bar
from marketdata.signals import bars_closed
from patterns import receivers, tasks
from patterns.models import Detection, IndicatorValue, ScanFailure, ScannedBar, SweepMark
from patterns.receivers import ScanQueue
from patterns.scan import detect, scan
from patterns.tasks import detect_bars, prune, scan_bars, scan_missed, scan_missed_day, sweep
from patterns.writer import count_attempts
from tests.factories import at
from tests.patterns.market import everything, keys_of, random_bars, store, what_stands
from tests.processes import database_url

pytestmark = pytest.mark.usefixtures("market")
SOON = timedelta(seconds=30)


def after_the_hints() -> datetime:
    """A moment when no stored change is young any more."""
    return datetime.now(UTC) + SOON


# ---- The sweep ------------------------------------------------------------------------------------------------------------------------


def test_the_sweep_scans_what_no_task_did_and_then_nothing_more(writer):
    bars = random_bars("AAPL", 50, seed=1) + random_bars("MSFT", 50, seed=2)
    store(writer, bars)
    scan(keys_of(bars[:20]), now=datetime.now(UTC))  # the rest of the hints was lost

    first = sweep(now=after_the_hints())
    stored = everything()
    second = sweep(now=after_the_hints())

    assert first.bars >= 80
    assert ScannedBar.objects.count() == 100
    assert second.bars == 0
    assert everything() == stored


def test_the_sweep_leaves_young_bars_to_their_hints(writer):
    store(writer, random_bars("AAPL", 5, seed=1))

    assert sweep(now=datetime.now(UTC)).bars == 0
    assert sweep(now=after_the_hints()).bars == 5


def test_the_sweep_finds_a_replay_of_an_old_day_after_its_mark_has_passed_today(writer):
    store(writer, random_bars("AAPL", 5, seed=1))
    sweep(now=after_the_hints())
    store(writer, random_bars("AIG", 5, seed=2, first=at("14:30", "2013-10-08")))

    sweep(now=after_the_hints())

    assert ScannedBar.objects.filter(symbol="AIG").count() == 5


def test_the_sweep_finds_a_revision(writer):
    bars = random_bars("AAPL", 40, seed=1)
    store(writer, bars)
    sweep(now=after_the_hints())
    store(writer, [msgspec.structs.replace(bars[30], close=bars[30].high, version=2, volume=bars[30].volume + 10**9)])

    report = sweep(now=after_the_hints())

    assert report.bars == 10  # the bar and the nine after it
    assert ScannedBar.objects.get(timestamp__minute=0, symbol="AAPL").bar_revision == 1


def test_imported_history_is_scanned_only_where_it_is_recent(writer, settings):
    settings.SCAN_IMPORTS_DAYS = (datetime.now(UTC).date() - datetime(2026, 11, 20, tzinfo=UTC).date()).days + 1
    recent = [msgspec.structs.replace(bar, source=40) for bar in random_bars("AAPL", 5, seed=1)]
    old = [msgspec.structs.replace(bar, source=50) for bar in random_bars("AIG", 5, seed=2, first=at("14:30", "2013-10-08"))]
    store(writer, recent + old)

    sweep(now=after_the_hints())

    assert set(ScannedBar.objects.values_list("symbol", flat=True)) == {"AAPL"}


def test_a_bounded_sweep_goes_on_where_it_stopped(writer, monkeypatch):
    monkeypatch.setattr(tasks, "SWEEP_BARS", 30)
    store(writer, random_bars("AAPL", 70, seed=1))

    counts = []
    while (before := ScannedBar.objects.count()) < 70:
        sweep(now=after_the_hints())
        counts.append(ScannedBar.objects.count() - before)

    assert counts == [30, 30, 10]


def test_two_sweeps_do_not_work_at_the_same_time(writer):
    store(writer, random_bars("AAPL", 5, seed=1))
    now = after_the_hints()
    SweepMark.objects.create(timeframe="1m", through=now - timedelta(days=1), busy_until=now + timedelta(seconds=20))

    busy = sweep(now=now)
    afterwards = sweep(now=now + timedelta(seconds=21))

    assert (busy.bars, afterwards.bars) == (0, 5)


def test_the_second_net_finds_what_the_mark_passed_by(writer):
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    store(writer, random_bars("AAPL", 5, seed=1, first=round(minute.timestamp() * 1000)))
    SweepMark.objects.create(timeframe="1m", through=datetime.now(UTC) + timedelta(days=1), busy_until=datetime.now(UTC))
    Bar.objects.update(updated_at=datetime.now(UTC) - timedelta(hours=2))  # became visible long after it was written

    scan_missed()
    missed = ScannedBar.objects.count()
    scan_missed_day()

    assert (missed, ScannedBar.objects.filter(timeframe="1m").count()) == (0, 5)


def test_what_can_wait_takes_one_hand_and_the_sweep_of_minutes_waits_for_none(writer):
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    store(writer, random_bars("AAPL", 5, seed=1, first=round(minute.timestamp() * 1000)))
    Bar.objects.update(updated_at=datetime.now(UTC) - timedelta(hours=2))

    with psycopg.connect(database_url(), autocommit=True) as another:
        another.execute("SELECT pg_advisory_lock(%s)", [tasks.SPARE_HAND])
        scan_missed_day()
        while_busy = ScannedBar.objects.count()
        scan_missed()
        minutes = ScannedBar.objects.filter(timeframe="1m").count()
    ScannedBar.objects.all().delete()
    scan_missed_day()

    assert (while_busy, minutes, ScannedBar.objects.filter(timeframe="1m").count()) == (0, 5, 5)


def test_a_bar_that_kills_its_workers_is_given_up_and_takes_no_other_with_it(writer):
    """Three workers died on a batch: the sweep tries its symbols one by one, and only the one that was tried each time is given up."""
    killer, bystander = random_bars("KILLER", 5, seed=1), random_bars("AAPL", 5, seed=2)
    store(writer, killer + bystander)
    count_attempts(keys_of(killer + bystander), now=datetime.now(UTC))
    for _ in range(2):
        count_attempts(keys_of(killer), now=datetime.now(UTC))

    sweep(now=after_the_hints())

    assert set(ScannedBar.objects.values_list("symbol", flat=True)) == {"AAPL"}
    assert {(row.symbol_id, row.attempts) for row in ScanFailure.objects.all()} == {("KILLER", 3)}
    store(writer, [msgspec.structs.replace(bar, volume=bar.volume + 10**9, version=2) for bar in killer])
    sweep(now=after_the_hints())
    assert ScannedBar.objects.filter(symbol="KILLER").count() == 5  # a revision is a new chance
    assert not ScanFailure.objects.exists()


def test_suspects_come_last_each_symbol_alone_and_the_most_suspected_at_the_end():
    rows = [("B", 1, 0), ("A", 2, 2), ("C", 3, 1), ("A", 4, 0), ("C", 5, 1)]

    assert list(tasks._batches(rows, 2_000)) == [[("A", 4), ("B", 1)], [("C", 3), ("C", 5)], [("A", 2)]]


# ---- Tasks and hints ------------------------------------------------------------------------------------------------------------------


def test_a_task_that_comes_back_after_its_worker_died_leaves_its_bars_to_the_sweep(writer):
    bars = random_bars("AAPL", 5, seed=1)
    store(writer, bars)

    scan_bars.push_request(delivery_info={"redelivered": True})
    scan_bars.run(keys_of(bars))
    scan_bars.pop_request()
    untouched = ScannedBar.objects.count()
    sweep(now=after_the_hints())

    assert untouched == 0
    assert ScannedBar.objects.count() == 5
    assert not ScanFailure.objects.exists()


def test_a_task_that_comes_back_after_the_sweep_was_there_changes_nothing(writer):
    bars = random_bars("AAPL", 5, seed=1)
    store(writer, bars)
    sweep(now=after_the_hints())
    stored = everything()

    scan_bars.push_request(delivery_info={"redelivered": True})
    scan_bars.run(keys_of(bars))
    scan_bars.pop_request()

    assert everything() == stored
    assert not ScanFailure.objects.exists()


@pytest.fixture
def broker(monkeypatch):
    """The real broker with a queue of our own; its messages about minutes as the worker would read them."""
    name = "test-scans"
    monkeypatch.setattr(scan_bars, "queue", name, raising=False)
    monkeypatch.setattr(scan_bars, "_exec_options", None)  # Celery remembers the queue of the first call
    monkeypatch.setattr(receivers, "PAST_PRIORITY", 0)  # another priority is another list
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    key = f"celery:{name}"
    client.delete(key)

    def messages():
        bodies = [json.loads(message)["body"] for message in client.lrange(key, 0, -1)]
        asked = [json.loads(base64.b64decode(body))[0] for body in reversed(bodies)]
        return [keys for keys, timeframe in asked if timeframe == "1m"]

    yield messages
    client.delete(key)
    client.close()


def changes(bars, **marks):
    return [BarChange(bar=bar, revision=0, **({"is_final": False, "inserted": True} | marks)) for bar in bars]


def test_stored_bars_are_queued_in_tasks_of_some_hundred(broker):
    bars = random_bars("MSFT", 400, seed=1) + random_bars("AAPL", 350, seed=2)

    answers = bars_closed.send_robust(sender=None, bars=changes(bars))

    assert [answer for _, answer in answers if isinstance(answer, Exception)] == []
    batches = broker()
    assert [len(batch) for batch in batches] == [300, 300, 150]
    assert [tuple(key) for batch in batches for key in batch] == sorted(keys_of(bars))


def test_longer_bars_are_queued_behind_the_minutes_when_one_ends_them_or_changes_them_later_and_the_past_behind_all(monkeypatch):
    sent = []
    monkeypatch.setattr(scan_bars, "apply_async", lambda args, priority, **_: sent.append((priority, *args)))
    minute = int(datetime.now(UTC).timestamp()) // 3600 * 3_600_000 + 86_400_000  # an hour of tomorrow: nothing of it is over
    forming, ending = random_bars("AAPL", 5, seed=1, first=minute)[3:]
    (late,) = random_bars("MSFT", 1, seed=2, first=at("14:33"))

    receivers.queue_scans(changes([forming]))
    receivers.queue_scans(changes([ending]))
    receivers.queue_scans(changes([late]))

    hour, quarter = at("14:00"), at("14:30")
    assert sent == [
        (0, [("AAPL", forming.opened_at_ms)], "1m"),
        (0, [("AAPL", ending.opened_at_ms)], "1m"), (3, [("AAPL", minute)], "5m"),
        (9, [("MSFT", late.opened_at_ms)], "1m"), (9, [("MSFT", quarter)], "5m"), (9, [("MSFT", quarter)], "15m"), (9, [("MSFT", hour)], "1h"),
    ]  # fmt: skip


def test_of_a_whole_markets_minute_the_patterns_are_sought_before_its_values_are_counted(monkeypatch):
    sent = []
    for task in (scan_bars, detect_bars):
        monkeypatch.setattr(task, "apply_async", lambda args, task=task, **_: sent.append((task.name.rpartition(".")[2], len(args[0]))))
    (bar,) = random_bars("AAPL", 1, seed=1, first=int(datetime.now(UTC).timestamp()) // 60 * 60_000)
    market = [msgspec.structs.replace(bar, symbol=f"S{number:04d}") for number in range(1_200)]

    receivers.queue_scans(changes(market))

    assert sent[:6] == [("detect_bars", 1_000), ("detect_bars", 200), *[("scan_bars", 300)] * 4]


def test_what_is_detected_ahead_of_the_scan_is_what_the_scan_finds(writer):
    bars = random_bars("AAPL", 60, seed=1) + random_bars("MSFT", 60, seed=2)
    store(writer, bars)
    scan(keys_of(bars), now=datetime.now(UTC))
    whole = what_stands()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE intraday_patterns, intraday_indicators, scanned_bars")

    detect(keys_of(bars), now=datetime.now(UTC))
    ahead = list(Detection.objects.order_by("pk").values())
    assert not ScannedBar.objects.exists()
    scan(keys_of(bars), now=datetime.now(UTC))

    assert ahead
    assert list(Detection.objects.order_by("pk").values()) == ahead
    assert what_stands() == whole


def test_what_was_detected_ahead_and_a_revision_made_untrue_is_retracted_by_the_scan(writer):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    detect(keys_of(bars), now=datetime.now(UTC))
    flat = [msgspec.structs.replace(bar, open=bar.close, high=bar.close, low=bar.close, version=bar.version + 1) for bar in bars]
    store(writer, flat)

    scan(keys_of(bars), now=datetime.now(UTC))

    assert Detection.objects.filter(status="retracted").exists()
    standing = what_stands()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE intraday_patterns, intraday_indicators, scanned_bars")
    scan(keys_of(bars), now=datetime.now(UTC))
    assert what_stands() == standing


def test_a_task_that_did_not_survive_counts_on_its_own_interval(writer):
    store(writer, random_bars("AAPL", 5, seed=1, first=at("14:30")))

    scan_bars.push_request(delivery_info={"redelivered": True})
    scan_bars.run([("AAPL", at("14:30"))], "5m")
    scan_bars.pop_request()
    (failure,) = ScanFailure.objects.all()
    scanned = sweep("5m", now=after_the_hints())

    assert (failure.timeframe, failure.bar_revision, failure.attempts) == ("5m", 4, 1)
    assert scanned.bars == 1
    assert not ScanFailure.objects.exists()


def test_only_bars_that_may_be_judged_are_queued(broker):
    whole, partial, final = random_bars("AAPL", 3, seed=1)
    (imported,) = random_bars("AIG", 1, seed=2, first=at("14:30", "2013-10-08"))
    replayed = msgspec.structs.replace(imported, symbol="IBM", source=25)
    partial, final = (msgspec.structs.replace(bar, complete=False, source=10) for bar in (partial, final))

    receivers.queue_scans(
        changes([whole, partial, msgspec.structs.replace(imported, source=50), replayed]) + changes([final], is_final=True)
    )

    assert [tuple(key) for key in broker()[0]] == sorted(keys_of([whole, final, replayed]))


def test_a_broker_that_refuses_neither_raises_nor_is_asked_for_every_batch(caplog, monkeypatch):
    asked = []
    send = scan_bars.apply_async
    nowhere = current_app.connection_for_write("redis://127.0.0.1:1/0", connect_timeout=1, transport_options={"max_retries": 0})
    monkeypatch.setattr(scan_bars, "apply_async", lambda **options: asked.append(1) or send(**options, connection=nowhere))
    refused = ScanQueue()

    with caplog.at_level(logging.WARNING):
        refused.put(keys_of(random_bars("AAPL", 900, seed=1)))
        refused.put(keys_of(random_bars("AAPL", 900, seed=1)))

    assert len(asked) == 1
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "patterns.receivers"] == [
        "The broker takes no scans (300 bars so far), the sweep will find them"
    ]


# ---- Retention ------------------------------------------------------------------------------------------------------------------------


def test_pruning_keeps_what_is_young_and_the_sweep_does_not_bring_back_what_is_old(writer):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ohlcv_1min SET updated_at = now() - interval '20 days'")
    scan(keys_of(bars[:40]), now=datetime.now(UTC) - timedelta(days=20))
    scan(keys_of(bars[40:]), now=datetime.now(UTC))
    young = set(
        IndicatorValue.objects.filter(timestamp__gte=ScannedBar.objects.order_by("timestamp")[40].timestamp).values_list("id", flat=True)
    )
    detections = Detection.objects.count()

    prune()
    sweep(now=after_the_hints())

    assert set(IndicatorValue.objects.values_list("id", flat=True)) == young
    assert Detection.objects.count() == detections
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE intraday_patterns SET detection_timestamp = now() - interval '31 days', status_at = now() - interval '31 days'"
        )
    prune()
    assert not Detection.objects.exists()
    assert ScannedBar.objects.count() == 60


def test_a_sweep_and_a_direct_scan_write_the_same(writer):
    bars = random_bars("AAPL", 130, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=datetime.now(UTC))
    direct = what_stands()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE intraday_patterns, intraday_indicators, scanned_bars")

    sweep(now=after_the_hints())

    assert what_stands() == direct
