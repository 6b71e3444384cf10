"""
Work that somebody asked for: the row is the request, the progress and the record. Whoever works it off claims it, so it may die at any moment.

Kinds that write bars are worked off here, in the stream's process and under the lock `past`; a worker takes the others (patterns/tasks.py).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import get_commands
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F

from marketdata.backfill import import_days, import_minutes
from marketdata.bars.builder import LATE_MS
from marketdata.bars.snapshot import BarChange
from marketdata.corporate import import_actions
from marketdata.daily import make_days, reconcile_days, streamed_symbols
from marketdata.gaps import SETTLE_MS, find_gaps, repair
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory
from marketdata.listings import import_details, stale_symbols
from marketdata.models import Bar, DailyBar, Gap, GapState, Job, JobKind, JobState, Session, Universe, UnknownUniverseError
from marketdata.operations import OPEN_STATES, WRITING_KINDS
from marketdata.reconciliation import NoSessionError, match_percent, reconcile
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
ALIVE_SECONDS = 5.0
GONE_AFTER = timedelta(seconds=60)
LOCK_SECONDS = 120.0  # an import may hold the line `past`
TRIES = 3
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
END_OF_DAY = timedelta(milliseconds=LATE_MS + SETTLE_MS)  # after the last trade: then the late window is over
END_OF_DAY_AGAIN = timedelta(minutes=10)  # after one that failed: REST may be back
END_OF_DAY_NEWS = timedelta(days=4)  # older than that it is no news
SPLIT_DAYS = timedelta(days=14)  # before and after a day, for what is announced or was late

EXPECTED = (HistoryError, NoSessionError, UnknownUniverseError, WriterBusyError, WriterDeposedError, DatabaseError, psycopg.Error)

Report = dict[str, Any]


class JobCancelledError(Exception):
    """Somebody asked this job to end."""


class JobInterruptedError(Exception):
    """The process ends; the job goes on in the next one."""


class JobNotOpenError(ValueError):
    """The job has ended already."""


# ---- asking ----------------------------------------------------------------------------------------------------------------------------


def kinds_here() -> list[str]:
    """Return the kinds that this installation can work off: those whose command is there."""
    return [kind for kind in JobKind.values if kind != JobKind.SURVEY or "survey_market" in get_commands()]


def ask(kind: str, options: Mapping[str, Any] | None = None, *, asked_by: str, key: str = "") -> Job:
    """Ask for a job; return its row. With a `key` the one that is there already, of whoever asked first."""
    if not key:
        return Job.objects.create(kind=kind, options=dict(options or {}), asked_by=asked_by[:150])
    job, _ = Job.objects.get_or_create(kind=kind, key=key, defaults={"options": dict(options or {}), "asked_by": asked_by[:150]})
    return job


def cancel(job: Job, *, by: str) -> Job:
    """End a job that waits, ask one that runs to end. JobNotOpenError where it has ended."""
    with transaction.atomic():
        job = Job.objects.select_for_update().get(pk=job.pk)
        if job.state not in OPEN_STATES:
            raise JobNotOpenError(f"Job {job.pk} has ended already: it is {job.state}.")
        job.cancel_asked_by = by[:150]
        if job.state == JobState.QUEUED:
            job.state, job.finished_at = JobState.CANCELLED, datetime.now(UTC)
        job.save(update_fields=["cancel_asked_by", "state", "finished_at"])
    return job


def ask_for_end_of_day(*, now: datetime) -> Job | None:
    """
    Ask once for the end of the day that closed last, if it was streamed and its late window is over; again a while after it failed.

    None where there is no such day, or it is too long ago to be news.
    """
    session = Session.objects.filter(post_close__lte=now - END_OF_DAY).order_by("-post_close").first()
    if session is None or session.post_close < now - END_OF_DAY_NEWS or not streamed_symbols(session):
        return None
    job = ask(JobKind.END_OF_DAY, {"date": session.date.isoformat()}, asked_by="the calendar", key=session.date.isoformat())
    failed = Job.objects.filter(pk=job.pk, state=JobState.FAILED, finished_at__lte=datetime.now(UTC) - END_OF_DAY_AGAIN)
    failed.update(state=JobState.QUEUED, finished_at=None, attempts=0)
    return job


# ---- working off -----------------------------------------------------------------------------------------------------------------------


def claim(kinds: Sequence[str]) -> Job | None:
    """
    Take the oldest job of these kinds that waits, and count the attempt before the work; None where none waits.

    One whose process is gone waits again; after three such ends it has failed.
    """
    now = datetime.now(UTC)
    with transaction.atomic():
        lost = Job.objects.filter(kind__in=kinds).abandoned(now=now, after=GONE_AFTER).select_for_update(skip_locked=True)
        for job in lost:
            is_over = job.attempts >= TRIES or job.cancel_asked_by
            job.state = (JobState.CANCELLED if job.cancel_asked_by else JobState.FAILED) if is_over else JobState.QUEUED
            job.error = f"The process that worked on it ended {job.attempts} times without a word." if job.attempts >= TRIES else ""
            job.finished_at = now if is_over else None
            job.save(update_fields=["state", "error", "finished_at"])
        job_or_none = Job.objects.filter(kind__in=kinds, state=JobState.QUEUED).order_by("id").select_for_update(skip_locked=True).first()
        if job_or_none is None:
            return None
        job_or_none.state, job_or_none.alive_at, job_or_none.attempts = JobState.RUNNING, now, job_or_none.attempts + 1
        job_or_none.started_at = job_or_none.started_at or now
        job_or_none.save(update_fields=["state", "alive_at", "attempts", "started_at"])
    return job_or_none


class Watch:
    """A running job's sign of life, on a thread of its own, and the ear for its cancelling."""

    def __init__(self, job: Job, *, stopped: Callable[[], bool] = lambda: False) -> None:
        self._job = job
        self._stopped = stopped
        self._end = threading.Event()
        self._cancelled = threading.Event()
        self._progress: tuple[int, int, str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"job {job.pk}", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def step(self, done: int = 0, total: int = 0, what: str = "") -> None:
        """Say how far it is. JobCancelledError, JobInterruptedError: the work ends here, what is stored stays."""
        self._progress = (done, total, what[:100])
        if self._cancelled.is_set():
            raise JobCancelledError
        if self._stopped():
            raise JobInterruptedError

    @property
    def total(self) -> int:
        """Return how many steps there were in all."""
        return self._progress[1] if self._progress is not None else 0

    def _run(self) -> None:
        try:
            while not self._end.wait(1.0 if self._progress is None else ALIVE_SECONDS / 2):
                self._tell()
        finally:
            connection.close()

    def _tell(self) -> None:
        values: Report = {"alive_at": datetime.now(UTC)}
        if self._progress is not None:
            values |= dict(zip(("done", "total", "step"), self._progress, strict=True))
        try:
            Job.objects.filter(pk=self._job.pk, state=JobState.RUNNING).update(**values)
            if Job.objects.filter(pk=self._job.pk).exclude(cancel_asked_by="").exists():
                self._cancelled.set()
        except (DatabaseError, InterfaceError) as error:
            log.warning("The progress of job %s cannot be noted: %s", self._job.pk, error)
            connection.close()


def work(job: Job, run: Callable[[Job, Watch], Report], *, stopped: Callable[[], bool] = lambda: False) -> JobState:
    """Do a claimed job and note how it ended; return that."""
    ended: Report
    try:
        with Watch(job, stopped=stopped) as watch:
            watch.step()
            ended = {"state": JobState.DONE, "report": run(job, watch), "error": "", "step": ""}
            ended |= dict.fromkeys(("done", "total"), watch.total)
    except JobCancelledError:
        ended = {"state": JobState.CANCELLED}
    except JobInterruptedError:
        Job.objects.filter(pk=job.pk).update(state=JobState.QUEUED, attempts=F("attempts") - 1)
        return JobState.QUEUED
    except EXPECTED as error:
        log.error("Job %s (%s) failed: %s", job.pk, job.kind, error)
        ended = {"state": JobState.FAILED, "error": _words(error)}
    except Exception as error:
        log.exception("Job %s (%s) failed", job.pk, job.kind)
        ended = {"state": JobState.FAILED, "error": _words(error)}
    Job.objects.filter(pk=job.pk).update(finished_at=datetime.now(UTC), **ended)
    return JobState(ended["state"])


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


# ---- kinds that write bars -------------------------------------------------------------------------------------------------------------


class BarJobs:
    """A thread of the stream that works off the jobs that write bars, one at a time."""

    def __init__(
        self,
        history: Callable[[], RestHistory],
        *,
        now: Callable[[], datetime],
        announce: Callable[[list[BarChange]], None] = lambda changes: None,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._history = history
        self._now = now
        self._announce = announce
        self._pause = pause
        self._stop = threading.Event()
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end, and do not wait for it: the job goes on at the next start."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.work_one()
                self._complaint = ""
            except (DatabaseError, InterfaceError) as error:
                words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                if words != self._complaint:
                    self._complaint = words
                    log.warning("Jobs have to wait: %s", words)
            finally:
                connection.close()

    def work_one(self) -> JobState | None:
        """Work off the oldest job that waits; None where none does."""
        job = claim(WRITING_KINDS)
        return None if job is None else work(job, self._do, stopped=self._stop.is_set)

    def _do(self, job: Job, watch: Watch) -> Report:
        begun = time.monotonic()
        does = {
            JobKind.IMPORT: self._import,
            JobKind.REPAIR: self._repair,
            JobKind.RECONCILE: self._reconcile,
            JobKind.END_OF_DAY: self._end_of_day,
        }
        writer = Writer(PAST)
        watch.step(what="waits for the line of past bars")
        writer.acquire_within(LOCK_SECONDS, stopped=self._stop.is_set)
        try:
            report = does[JobKind(job.kind)](job.options, watch, writer)
        finally:
            writer.close()
        return report | {"seconds": round(time.monotonic() - begun, 1)}

    def _import(self, options: Report, watch: Watch, writer: Writer) -> Report:
        today = self._now().astimezone(EXCHANGE_ZONE).date()
        days = options.get("timespan", "minute") == "day"
        first = _day(options.get("from")) or today - timedelta(days=730 if days else 5)
        last = _day(options.get("to")) or today

        def progress(done: int, total: int, symbol: str) -> None:
            watch.step(done, total, symbol)
            self._pause()

        symbols = symbols_of(options)
        if days:
            over = Session.objects.filter(date=last, post_close__lte=self._now() - END_OF_DAY).exists()
            found = import_days(
                self._history(), writer, symbols, first=first, last=last, now=self._now, progress=progress, finished=last if over else None
            )
        else:
            found = import_minutes(
                self._history(), writer, symbols, first=_midnight(first), last=_midnight(last + timedelta(days=1)), now=self._now,
                announce=self._announce, progress=progress,
            )  # fmt: skip
        return {"symbols": found.symbols, "read": found.read, "changed": found.changed, "rejected": found.rejected}

    def _repair(self, options: Report, watch: Watch, writer: Writer) -> Report:
        first, last = _day(options.get("from")), _day(options.get("to"))
        begin, end = _midnight(first) if first else None, _midnight(last + timedelta(days=1)) if last else None
        watch.step(what="looks for gaps")
        opened = find_gaps(Session.objects.table(), now=self._now(), first=begin, last=end)
        found = repair(
            self._history(), writer, now=self._now, pause=self._pause, announce=self._announce, eager=True, progress=watch.step,
            within=(begin or EARLIEST, end or self._now()) if begin or end else None, only=options.get("symbols"),
        )  # fmt: skip
        names = ("gaps", "repaired", "empty", "failed", "bars", "still_open")
        return {"opened_minutes": opened} | {name: getattr(found, name) for name in names}

    def _reconcile(self, options: Report, watch: Watch, writer: Writer) -> Report:
        days, symbols = self._days(options), symbols_of(options)
        reports: Report = {}
        for place, day in enumerate(days):

            def of_day(done: int, _of: int, symbol: str, *, before: int = place * len(symbols), day: date = day) -> None:
                watch.step(before + done, len(days) * len(symbols), f"{day} {symbol}")
                self._pause()

            found = reconcile(day, symbols, self._history(), writer, now=self._now, progress=of_day)
            names = ("compared", "matched", "differing", "missing_here", "missing_there", "repaired")
            reports[day.isoformat()] = {"match_percent": match_percent(found)} | {name: getattr(found, name) for name in names}
        return reports

    def _days(self, options: Report) -> list[date]:
        """Return the days with a session that are asked for; the last finished one where none is named. NoSessionError."""
        if "from" not in options and "to" not in options:
            return [_day(options.get("date")) or self._last_day()]
        last = _day(options.get("to")) or self._last_day()
        first = _day(options.get("from")) or last
        days = list(Session.objects.filter(date__range=(first, last)).order_by("date").values_list("date", flat=True))
        if not days:
            raise NoSessionError(f"From {first} to {last} the calendar has no session; nothing to reconcile.")
        return days

    def _end_of_day(self, options: Report, watch: Watch, writer: Writer) -> Report:
        """
        Close the day: repair, reconcile its minutes, bring its daily bars, and say what is still wrong.

        It is about the symbols that were streamed in it, unless others are named.
        """
        day = _day(options.get("date")) or self._last_day()
        session = Session.objects.filter(date=day).first()
        if session is None:
            raise NoSessionError(f"{day} has no session in the calendar; it has no end.")
        streamed = [] if {"symbols", "universe"} & options.keys() else streamed_symbols(session)
        symbols = streamed or symbols_of(options)
        asked = {"symbols": symbols, "from": day.isoformat(), "to": day.isoformat()}
        repaired = self._repair({}, watch, writer)
        held = self._reconcile(asked, watch, writer)[day.isoformat()]
        make_days(session, symbols, writer, now=self._now())
        days = self._import(asked | {"timespan": "day"}, watch, writer)
        compared = reconcile_days(session, now=self._now())
        bars = Bar.objects.filter(timestamp__gte=session.pre_open, timestamp__lt=session.post_close, symbol_id__in=symbols)
        with_minutes = set(bars.values_list("symbol_id", flat=True).distinct())
        with_days = set(DailyBar.objects.filter(date=day, symbol_id__in=symbols).values_list("symbol_id", flat=True))
        open_gaps = Gap.objects.filter(state=GapState.OPEN, first_minute__lt=session.post_close, last_minute__gte=session.pre_open).count()
        faults = [
            f"{len(missing)} symbols without {words}: {', '.join(sorted(missing)[:10])}"
            for words, missing in (("minutes", set(symbols) - with_minutes), ("a daily bar", set(symbols) - with_days))
            if missing
        ]
        faults += [f"{open_gaps} gaps are open"] if open_gaps else []
        faults += [f"{held['differing']} minutes differed from REST and were repaired"] if held["differing"] else []
        faults += self._news(day, symbols, watch)
        return {
            "date": day.isoformat(), "repair": repaired, "days": days, "days_differing": compared.differing if compared else 0,
            "reconciliation": held, "valid": not faults, "faults": faults,
        }  # fmt: skip

    def _news(self, day: date, symbols: Sequence[str], watch: Watch) -> list[str]:
        """Ask for splits around the day and for details that are missing or old; what REST does not give is told, and no failure of the day."""

        def pause() -> None:
            watch.step(what="asks for details")
            self._pause()

        try:
            import_actions("splits", self._history().splits(symbols, day - SPLIT_DAYS, day + SPLIT_DAYS))
            import_details(self._history(), stale_symbols(symbols, now=self._now()), now=self._now, pause=pause)
        except HistoryError as error:
            return [_words(error)]
        return []

    def _last_day(self) -> date:
        session = Session.objects.filter(post_close__lte=self._now()).order_by("-post_close").first()
        if session is None:
            raise NoSessionError("The calendar holds no finished session.")
        return session.date


def symbols_of(options: Mapping[str, Any]) -> list[str]:
    """Return the symbols that a job is about: those named, else those of the universe, else of the streamed one. UnknownUniverseError."""
    return list(options.get("symbols") or Universe.objects.symbols_of(options.get("universe") or settings.SYMBOL_UNIVERSE_KEY))


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_ZONE)
