"""
`GET /metrics`: the figures of all running parts as Prometheus text, for a token with the scope `metrics`.

Whichever web process is asked, the answer is the same, for each number lives in one place:
HTTP and tasks in a hash in Redis to which every process adds (`counters.py`); sockets there too, a field a process;
the feed (lag, frames, events, bars, rejected, waiting) in the heartbeats that each shard writes every two seconds;
queue length in the broker; gaps, jobs, errors and given-up tasks in their tables.
A part that cannot be asked leaves its figures out and makes `tickstock_scrape_errors` rise; the answer stays 200.
"""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from celery import current_app
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from kombu.exceptions import ChannelError
from kombu.exceptions import OperationalError as BrokerError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from marketdata.models import DeadTask, Gap, GapState, Heartbeat, Job, LoggedError, WriterLease
from patterns.models import GIVE_UP_AFTER, ScanFailure
from tickstock.counters import BOUNDS, GAUGE_SECONDS, GAUGES_KEY, KEY

STREAM_COUNTERS = {
    "frames": "frames read from the socket",
    "events": "events decoded",
    "bars": "bars closed",
    "late_events": "events beyond the late window",
    "rejected_events": "events refused",
    "reconnects": "connections made anew",
    "dropped_frames": "frames dropped because the queue was full",
}
STREAM_GAUGES = {
    "delay_seconds": "median age of an event as it arrives",
    "waiting_bars": "bars that wait for the database",
    "waiting_frames": "frames that wait to be folded",
    "database_away_seconds": "for how long the database has been away",
    "symbols": "symbols subscribed",
}
HELP = {
    "tickstock_http_requests": "requests answered, by route, method and status",
    "tickstock_http_seconds": "time until the answer, by route",
    "tickstock_cache_answers": "answers from a cache, by cache and result: `surveys` hit (the survey was held already) or miss (read from the table)",
    "tickstock_tasks": "tasks ended, by name and state",
    "tickstock_task_seconds": "run time of tasks, by name: scans, sweeps, surveys",
}


QUEUE_WORDS = "tasks that wait for a worker"
BROKER_SECONDS = 2.0


class TextRenderer(BaseRenderer):
    """Prometheus' text; only names the media type for DRF's negotiation."""

    media_type = "text/plain"
    format = "txt"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> str:  # noqa: ARG002 - DRF's
        """Return errors as text."""
        return str(data)


class Metrics(APIView):
    """The figures."""

    required_scope = "metrics"
    renderer_classes = [TextRenderer]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002 - DRF's signature
        """Return them all."""
        registry = CollectorRegistry()
        registry.register(Figures())
        return HttpResponse(generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8")


class Figures(Collector):
    """Asks each place once a scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield every family; a place that does not answer is counted and left out."""
        errors = GaugeMetricFamily("tickstock_scrape_errors", "places that did not answer this scrape", labels=["place"])
        places: dict[str, Callable[[], list[Metric]]] = {
            "database": _of_tables, "redis": _of_counters, "broker": _of_queue, "disk": _of_disk,
        }  # fmt: skip
        for place, ask in places.items():
            try:
                families, failed = ask(), 0
            except (DatabaseError, InterfaceError, redis.RedisError, BrokerError, OSError):
                families, failed = [], 1
            errors.add_metric([place], failed)
            yield from families
        yield errors


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _of_tables() -> list[Metric]:
    now = datetime.now(UTC)
    beats = list(Heartbeat.objects.all())
    age = GaugeMetricFamily("tickstock_part_age_seconds", "since the last sign of life", labels=["part"])
    state = GaugeMetricFamily("tickstock_part_state", "1 for the state that the part says it is in", labels=["part", "state"])
    for beat in beats:
        age.add_metric([beat.part], max(0.0, (now - beat.at).total_seconds()))
        state.add_metric([beat.part, beat.state or "none"], 1)
    jobs = GaugeMetricFamily("tickstock_jobs", "jobs that wait or run", labels=["kind", "state"])
    for kind, job_state in Job.objects.open().values_list("kind", "state"):
        jobs.add_metric([kind, job_state], 1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        size = float(cursor.fetchone()[0])
    hour = now - timedelta(hours=1)
    return [
        age, state, _summed(jobs), *_of_streams([beat for beat in beats if beat.part.startswith("stream ")]),
        _gauge("tickstock_gaps_open", "gaps that REST was not asked for yet", Gap.objects.filter(state=GapState.OPEN).count()),
        _gauge("tickstock_writer_epoch", "sum of the fencing numbers: rises when a line changes its writer",
               sum(WriterLease.objects.values_list("epoch", flat=True))),
        _gauge("tickstock_dead_tasks", "tasks given up", DeadTask.objects.filter(dead_at__isnull=False).count()),
        _gauge("tickstock_bars_given_up", "bars that no scan survives", ScanFailure.objects.filter(attempts__gte=GIVE_UP_AFTER).count()),
        _gauge("tickstock_errors_last_hour", "different errors seen in the last hour", LoggedError.objects.filter(last_at__gte=hour).count()),
        _gauge("tickstock_database_bytes", "size of the database", size),
    ]  # fmt: skip


def _summed(family: Metric) -> Metric:
    """Return the family with equal label sets added up."""
    totals: dict[tuple[tuple[str, str], ...], float] = defaultdict(float)
    for sample in family.samples:
        totals[tuple(sorted(sample.labels.items()))] += sample.value
    result = GaugeMetricFamily(family.name, family.documentation, labels=["kind", "state"])
    for labels, total in totals.items():
        result.add_metric([dict(labels)["kind"], dict(labels)["state"]], total)
    return result


def _of_streams(beats: list[Heartbeat]) -> list[Metric]:
    families: list[Metric] = []
    for name, words in STREAM_COUNTERS.items():
        counter = CounterMetricFamily(f"tickstock_feed_{name}", f"{words} since the stream started", labels=["shard"])
        for beat in beats:
            counter.add_metric([beat.part], float(beat.detail.get(name) or 0), created=beat.started_at.timestamp())
        families.append(counter)
    for name, words in STREAM_GAUGES.items():
        gauge = GaugeMetricFamily(f"tickstock_feed_{name}", words, labels=["shard"])
        for beat in beats:
            if beat.detail.get(name) is not None:
                gauge.add_metric([beat.part], float(beat.detail[name]))
        families.append(gauge)
    return families


def _client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def _of_counters() -> list[Metric]:
    client = _client(settings.REDIS_URL)
    try:
        counts: Any = client.hgetall(KEY)
        gauges: Any = client.hgetall(GAUGES_KEY)
        fresh = {field: json.loads(raw) for field, raw in gauges.items()}
        old = [field for field, (_, at) in fresh.items() if time.time() - at > GAUGE_SECONDS]
        if old:
            client.hdel(GAUGES_KEY, *old)
    finally:
        client.close()
    sockets = sum(value for field, (value, _) in fresh.items() if field not in old and field.startswith(b"tickstock_sockets "))
    return [_gauge("tickstock_sockets", "open WebSockets of all web processes", sockets), *_families(counts)]


def _families(counts: dict[bytes, bytes]) -> Iterator[Metric]:
    """Yield counters and histograms from the hash of all processes."""
    plain: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    buckets: dict[str, dict[tuple[tuple[str, str], ...], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for field, value in counts.items():
        name, pairs = json.loads(field)
        labels = dict(pairs)
        base, _, kind = name.partition(":")
        if kind == "bucket":
            bound = labels.pop("le")
            buckets[base][tuple(sorted(labels.items()))][bound] = float(value)
        elif kind == "sum":
            sums[base, tuple(sorted(labels.items()))] = float(value)
        else:
            plain[base.removesuffix("_total")][tuple(sorted(labels.items()))] = float(value)
    for name, series in sorted(plain.items()):
        counter = CounterMetricFamily(name, HELP.get(name, name), labels=[key for key, _ in next(iter(series))])
        for key, amount in sorted(series.items()):
            counter.add_metric([text for _, text in key], amount)
        yield counter
    for name, by_labels in sorted(buckets.items()):
        histogram = HistogramMetricFamily(name, HELP.get(name, name), labels=[key for key, _ in next(iter(by_labels))])
        for key, found in sorted(by_labels.items()):
            total, rising = 0.0, []
            for bound in [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]:
                total += found.get(bound, 0.0)
                rising.append((bound, total))
            histogram.add_metric([text for _, text in key], buckets=rising, sum_value=sums.get((name, key), 0.0))
        yield histogram


def _of_queue() -> list[Metric]:
    """Return how much waits in the broker, and of Redis how much is taken; another broker tells that by its own figures."""
    if not settings.CELERY_BROKER_URL.startswith(("redis", "unix")):
        return [_gauge("tickstock_queue_length", QUEUE_WORDS, _waiting_elsewhere())]
    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://").replace("?virtual_host=", "?db=")
    client = _client(url)
    try:
        # Kombu keeps a list for each priority; longer bars wait behind the minutes
        waiting: Any = sum(int(client.llen(name)) for name in ("celery:celery", *(f"celery:celery\x06\x16{step}" for step in (3, 6, 9))))
        taken: Any = client.hlen("celery:unacked")
    finally:
        client.close()
    return [
        _gauge("tickstock_queue_length", QUEUE_WORDS, waiting),
        _gauge("tickstock_queue_taken", "tasks that a worker has taken and not finished", taken),
    ]


def _waiting_elsewhere() -> int:
    with current_app.connection_for_read(connect_timeout=BROKER_SECONDS) as line:
        try:
            channel: Any = line.default_channel
            return int(channel.queue_declare(queue=current_app.conf.task_default_queue, passive=True).message_count)
        except ChannelError:
            return 0  # no task was ever sent


def _of_disk() -> list[Metric]:
    return [_gauge("tickstock_disk_free_bytes", "free space where the data folder lies", shutil.disk_usage(_existing()).free)]


def _existing() -> str:
    folder = settings.DATA_DIR
    while not folder.exists():
        folder = folder.parent
    return str(folder)
