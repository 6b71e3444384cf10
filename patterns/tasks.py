"""What workers and beat do here. A task is a hint that may be lost or come twice; the sweep finds what no task did."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from itertools import islice
from typing import Any

from celery import Task, shared_task
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from marketdata.history import EXCHANGE_ZONE
from marketdata.jobs import GONE_AFTER, Watch, claim, symbols_of, work
from marketdata.models import Bar, Job, JobKind, JobState
from patterns.indicators.catalogue import INTERVALS
from patterns.models import Detection, IndicatorValue, JudgedSplit, ScanFailure, ScannedBar, SweepMark
from patterns.scan import ScanReport, detect, scan_apart
from patterns.survey import survey_closes, survey_minute, thin
from patterns.windows import LENGTH_MS, Key, milliseconds_of, moment_of
from patterns.windows.missed import MissedBar, missed_of
from patterns.windows.outdated import behind_days, behind_splits, notice_splits
from patterns.writer import count_attempts

log = logging.getLogger(__name__)

SETTLED = timedelta(seconds=10)  # younger changes belong to the live hints
OVERLAP = timedelta(minutes=10)  # longer than a commit may take: what became visible late is still found
SWEEP_BARS = 20_000
SWEEP_SECONDS = 15.0  # less than beat's interval
HOLD = timedelta(seconds=60)
BATCH_BARS = {"1m": 2_000, "5m": 1_000, "15m": 500, "1h": 200, "1d": 2_000}  # each may be of another symbol, with its whole window
PRUNE_ROWS = 20_000
PRUNE_SECONDS = 60.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
SPARE_HAND = 0x5EA7C4  # key of the lock in PostgreSQL under which what can wait is done


@contextlib.contextmanager
def spare_hand() -> Iterator[bool]:
    """
    Yield whether this is the only task at work on what can wait; one that is not leaves it to its next turn.

    Otherwise a start, with years of days and closes to look at, would take every hand of the workers from the minutes that are live.
    The sweep of minutes asks nobody: it is their net.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [SPARE_HAND])
        (is_ours,) = cursor.fetchone()
    try:
        yield is_ours
    finally:
        if is_ours:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [SPARE_HAND])


@shared_task(bind=True, ignore_result=True)
def scan_bars(self: "Task[Any, None]", keys: list[tuple[str, int]], timeframe: str = "1m") -> None:
    """
    Scan bars of an interval (symbol, start in Unix ms).

    A message that comes back after its worker died is not tried again: the sweep scans those bars, one symbol at a time.
    """
    asked = [(symbol, opened_at_ms) for symbol, opened_at_ms in keys]
    if (self.request.delivery_info or {}).get("redelivered"):
        log.warning("A scan of %d bars did not survive its worker; the sweep takes them over.", len(keys))
        count_attempts(asked, now=datetime.now(UTC), timeframe=timeframe)
        return
    scan_apart(asked, now=datetime.now(UTC), timeframe=timeframe)


@shared_task(ignore_result=True)
def detect_bars(keys: list[tuple[str, int]]) -> None:
    """Store what patterns stand on minutes (symbol, start in Unix ms), ahead of the scan of all of them that is queued behind."""
    detect([(symbol, opened_at_ms) for symbol, opened_at_ms in keys], now=datetime.now(UTC))


# ---- The sweep --------------------------------------------------------------------------------------------------------------------------


@shared_task(ignore_result=True)
def scan_missed() -> None:
    """
    Scan what changed in the table of minutes and was never scanned: lost hints, killed workers, a Redis that restarted.

    Looks at bars by the time they were written, from where the last complete sweep ended, so that an outage of any length and a replay of
    any year are found, and a quiet minute costs one look into the index. Bounded per run; the mark moves only when nothing is left.
    """
    sweep(now=datetime.now(UTC))


@shared_task(ignore_result=True)
def scan_missed_intervals() -> None:
    """Do the same for the longer intervals, of which days have no other hint than this."""
    for timeframe in INTERVALS[1:]:
        with spare_hand() as is_ours:
            if is_ours:
                sweep(timeframe, now=datetime.now(UTC))


@shared_task(ignore_result=True)
def scan_missed_day() -> None:
    """Scan the bars of the last day that were never scanned, whenever they were written: the second net, for what the mark passed by."""
    for timeframe in INTERVALS:
        _scan_missed_day(timeframe)


def _scan_missed_day(timeframe: str) -> None:
    with spare_hand() as is_ours:
        if not is_ours:
            return
        now = datetime.now(UTC)
        since = now - timedelta(days=1) - timedelta(milliseconds=LENGTH_MS[timeframe])
        _scan_some(timeframe, _missed(timeframe, changed_from=LONG_AGO, changed_until=now - SETTLED, opened_from=since, now=now), now=now)


@shared_task(ignore_result=True)
def scan_outdated() -> None:
    """
    Judge bars again that stand on a split or a daily bar that came, changed or went since: what the revision of a bar does not tell.

    Bounded per run. What an overlooked commit brings is still found for OVERLAP; a bar that was looked at again is not outdated any more.
    """
    with spare_hand() as is_ours:
        if is_ours:
            sweep_outdated(now=datetime.now(UTC))


def sweep(timeframe: str = "1m", *, now: datetime) -> ScanReport:
    """Do one bounded run of `scan_missed` for an interval; nothing where another one is at work."""
    with _marked(timeframe, now=now) as through:
        if through is None:
            return ScanReport()
        until = now - SETTLED
        back = _minus(through, OVERLAP + timedelta(milliseconds=LENGTH_MS[timeframe]))  # a bar may not have been over when last looked at
        bars = _missed(timeframe, changed_from=back, changed_until=until, opened_from=LONG_AGO, now=now)
        report, is_complete = _scan_some(timeframe, bars, now=now)
        if is_complete:
            SweepMark.objects.filter(timeframe=timeframe, through__lt=until).update(through=until)
    return report


@contextlib.contextmanager
def _marked(name: str, *, now: datetime) -> Iterator[datetime | None]:
    """Hold a mark and yield up to where everything was looked at; None where another sweep holds it."""
    SweepMark.objects.get_or_create(timeframe=name, defaults={"through": LONG_AGO, "busy_until": now})
    mine = SweepMark.objects.filter(timeframe=name)
    if not mine.filter(busy_until__lte=now).update(busy_until=now + HOLD):
        yield None
        return
    try:
        yield mine.get().through
    finally:
        mine.filter(busy_until=now + HOLD).update(busy_until=now)


DAYS = "days"
"""The mark of the sweep that looks at changed daily bars and splits."""


def sweep_outdated(*, now: datetime) -> ScanReport:
    """Do one bounded run of `scan_outdated`; nothing where another one is at work."""
    report, is_complete = ScanReport(), True
    with _marked(DAYS, now=now) as through:
        if through is None:
            return report
        notice_splits(now=now)
        back, deadline = _minus(through, OVERLAP), time.monotonic() + SWEEP_SECONDS
        for timeframe in INTERVALS:
            bars = behind_splits(timeframe, limit=SWEEP_BARS + 1)
            if timeframe != "1d":
                bars += behind_days(timeframe, changed_from=back, changed_until=now, limit=SWEEP_BARS + 1)
            keys = sorted({(symbol, opened_at_ms) for symbol, opened_at_ms, _ in bars})
            is_complete &= len(keys) <= SWEEP_BARS
            keys = keys[:SWEEP_BARS]
            for start in range(0, len(keys), BATCH_BARS[timeframe]):
                if time.monotonic() > deadline:
                    is_complete = False
                    break
                report += _judge_again(timeframe, keys[start : start + BATCH_BARS[timeframe]])
        if is_complete:
            SweepMark.objects.filter(timeframe=DAYS, through__lt=now).update(through=now)
            JudgedSplit.objects.filter(settled=False, noticed_at__lt=now - OVERLAP).update(settled=True)
    if report.bars:
        log.info("The sweep judged %d bars again whose splits or days before had changed.", report.bars)
    return report


def _judge_again(timeframe: str, keys: list[Key]) -> ScanReport:
    """Judge these bars again and note when, so that they are not found out of date once more; where one cannot be judged its failure says so."""
    began = datetime.now(UTC)
    report = scan_apart(keys, now=began, timeframe=timeframe, again=True)
    symbols: dict[str, list[datetime]] = {}
    for symbol, opened_at_ms in keys:
        symbols.setdefault(symbol, []).append(moment_of(opened_at_ms))
    for symbol, opened in symbols.items():
        ScannedBar.objects.filter(symbol=symbol, timeframe=timeframe, timestamp__in=opened, scanned_at__lt=began).update(scanned_at=began)
    return report


def _minus(moment: datetime, span: timedelta) -> datetime:
    return moment - span if moment > LONG_AGO else LONG_AGO


def _missed(timeframe: str, *, changed_from: datetime, changed_until: datetime, opened_from: datetime, now: datetime) -> list[MissedBar]:
    days = settings.SCAN_IMPORTED_DAILY_DAYS if timeframe == "1d" else settings.SCAN_IMPORTS_DAYS
    return missed_of(
        timeframe, changed_from=changed_from, changed_until=changed_until, opened_from=opened_from,
        imports_from=now - timedelta(days=days), limit=SWEEP_BARS + 1, now=now,
    )  # fmt: skip


def _scan_some(timeframe: str, rows: Sequence[MissedBar], *, now: datetime) -> tuple[ScanReport, bool]:
    """
    Scan these bars, all but one more than a sweep takes; return the report and whether none is left.

    Each attempt is counted before the work. Bars that an earlier attempt did not survive come last and each symbol alone, so that a bar
    that kills its worker takes no other bar with it, and is given up after a few attempts.
    """
    is_complete = len(rows) <= SWEEP_BARS
    report = ScanReport()
    deadline = time.monotonic() + SWEEP_SECONDS
    for batch in _batches(rows[:SWEEP_BARS], BATCH_BARS[timeframe]):
        if time.monotonic() > deadline:
            return report, False
        with transaction.atomic():
            count_attempts(batch, now=now, timeframe=timeframe)
        report += scan_apart(batch, now=max(now, datetime.now(UTC)), timeframe=timeframe)
    if report.bars:
        log.info("The sweep scanned %d bars of %s that no task had scanned.", report.bars, timeframe)
    return report, is_complete and not report.failed


def _batches(rows: Sequence[MissedBar], size: int) -> Iterator[list[Key]]:
    """Yield the fresh bars in batches of a size, symbol by symbol, then each suspected symbol alone, the least suspected first."""
    fresh = sorted((symbol, opened_at_ms) for symbol, opened_at_ms, attempts in rows if not attempts)
    for start in range(0, len(fresh), size):
        yield fresh[start : start + size]
    suspects: dict[tuple[int, str], list[Key]] = {}
    for symbol, opened_at_ms, attempts in rows:
        if attempts:
            suspects.setdefault((attempts, symbol), []).append((symbol, opened_at_ms))
    for _, keys in sorted(suspects.items()):
        yield keys


# ---- Retention --------------------------------------------------------------------------------------------------------------------------


@shared_task(ignore_result=True)
def prune() -> None:
    """
    Delete values, detections and ledger rows that are older than the settings keep those of their interval, by the time they were made.

    The ledger outlives both, and the sweep looks back minutes beyond its mark, so what is pruned is not scanned again.
    """
    deadline = time.monotonic() + PRUNE_SECONDS
    for timeframe in INTERVALS:
        deleted = _prune(timeframe, now=datetime.now(UTC), deadline=deadline)
        if any(deleted):
            log.info("Pruned %d values, %d detections, %d ledger rows, %d failures of %s.", *deleted, timeframe)


def _prune(timeframe: str, *, now: datetime, deadline: float) -> list[int]:
    values_days, detections_days = settings.INDICATOR_DAYS[timeframe], settings.DETECTION_DAYS[timeframe]
    imports_days = settings.SCAN_IMPORTED_DAILY_DAYS if timeframe == "1d" else settings.SCAN_IMPORTS_DAYS
    ledger_days = max(values_days, detections_days, imports_days) + 1
    values_until, detections_until, ledger_until = (now - timedelta(days=days) for days in (values_days, detections_days, ledger_days))
    old = Q(timeframe=timeframe)
    return [
        _delete(IndicatorValue.objects.filter(old, calculation_timestamp__lt=values_until), deadline),
        _delete(Detection.objects.filter(old, detection_timestamp__lt=detections_until, status_at__lt=detections_until), deadline),
        _delete(ScannedBar.objects.filter(old, scanned_at__lt=ledger_until), deadline),
        _delete(ScanFailure.objects.filter(old, last_at__lt=ledger_until), deadline),
    ]


def _delete(rows: "QuerySet[Any]", deadline: float) -> int:
    """Delete in bites, so that no lock is held for long; stop at the deadline, the next run goes on."""
    total = 0
    while time.monotonic() < deadline:
        bite = list(rows.values_list("id", flat=True)[:PRUNE_ROWS])
        if not bite:
            break
        total += rows.model.objects.filter(id__in=bite).delete()[0]
    return total


# ---- Surveys of the market ----------------------------------------------------------------------------------------------------------------

CLOSES_SECONDS = 15.0  # less than beat's interval


@shared_task(ignore_result=True)
def survey_market() -> None:
    """Survey the newest minute: what a stored bar hints at. Which minute that is says the table."""
    survey_minute(now=datetime.now(UTC), only_missing=False)


@shared_task(ignore_result=True)
def survey_missed() -> None:
    """Survey the newest minute where no hint did."""
    survey_minute(now=datetime.now(UTC), only_missing=True)


@shared_task(ignore_result=True)
def survey_missed_closes() -> None:
    """Survey the closes of the last year that are missing, or whose daily bars came or changed since."""
    with spare_hand() as is_ours:
        if is_ours:
            survey_closes(now=datetime.now(UTC), seconds=CLOSES_SECONDS)


@shared_task(ignore_result=True)
def thin_surveys() -> None:
    """Delete the surveys of single minutes that are older than five days."""
    if gone := thin(now=datetime.now(UTC)):
        log.info("Thinned out %d surveys of single minutes.", gone)


# ---- Jobs -------------------------------------------------------------------------------------------------------------------------------

WORKER_KINDS = (JobKind.SCAN, JobKind.SURVEY)
JOB_SECONDS = 6 * 3600


@shared_task(ignore_result=True, soft_time_limit=JOB_SECONDS, time_limit=JOB_SECONDS + 60)
def work_jobs() -> None:
    """
    Work off one job that a worker may do, if one waits and none runs: the other hands of the pool stay free for scans.

    A job is longer than the broker waits for an answer; the message that it sends again finds the job claimed and does nothing.
    """
    alive = Job.objects.filter(kind__in=WORKER_KINDS, state=JobState.RUNNING, alive_at__gte=datetime.now(UTC) - GONE_AFTER)
    if not alive.exists() and (job := claim(WORKER_KINDS)) is not None:
        work(job, _scan_job if job.kind == JobKind.SCAN else _survey_job)


def _scan_job(job: Job, watch: Watch) -> dict[str, Any]:
    """Judge the stored minutes of the asked days and symbols again."""
    first, last = (date.fromisoformat(job.options[name]) if name in job.options else None for name in ("from", "to"))
    bars = Bar.objects.whole()
    if first:
        bars = bars.since(datetime(first.year, first.month, first.day, tzinfo=EXCHANGE_ZONE))
    if last:
        after = last + timedelta(days=1)
        bars = bars.filter(timestamp__lt=datetime(after.year, after.month, after.day, tzinfo=EXCHANGE_ZONE))
    symbols, report = symbols_of(job.options), ScanReport()
    for done, symbol in enumerate(symbols):
        minutes = bars.of(symbol).order_by("timestamp").values_list("timestamp", flat=True).iterator(chunk_size=BATCH_BARS["1m"])
        while batch := [(symbol, milliseconds_of(minute)) for minute in islice(minutes, BATCH_BARS["1m"])]:
            watch.step(done, len(symbols), symbol)
            report += scan_apart(batch, now=datetime.now(UTC), again=True)
    watch.step(len(symbols), len(symbols), "")
    return {"bars": report.bars, "detections": report.detections, "indicators": report.indicators, "failed": report.failed}


def _survey_job(job: Job, watch: Watch) -> dict[str, Any]:
    """Survey the market with the command's own code and store what it says; report what it was measured on."""
    watch.step(0, 1, "surveys")
    out = StringIO()
    chosen = ["--universe", job.options["universe"]] if "universe" in job.options else []
    call_command("survey_market", *chosen, "--store", "--json", stdout=out)
    survey = json.loads(out.getvalue().strip().splitlines()[-1])
    return {name: survey[name] for name in ("as_of", "universe", "coverage") if name in survey}
