"""
Past bars beside the live line, in the stream's own process and under the lock `past`: full windows at a start, gaps as they open, each night's
reconciliation. Workers and the web never write a bar; this thread does what the evidence asks for.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import psycopg
from django.db import DatabaseError, connection

from marketdata.backfill import import_minutes
from marketdata.bars.builder import LATE_MS
from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import BarChange
from marketdata.gaps import SETTLE_MS, due_gaps, find_gaps, repair
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory
from marketdata.models import FeedSpan, Reconciliation, Session
from marketdata.rate import Rate
from marketdata.reconciliation import match_percent, reconcile
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

log = logging.getLogger(__name__)

TURN_SECONDS = 10.0
SESSIONS_BACK = timedelta(days=60)  # of the calendar, read anew at each turn: a closure that somebody enters counts at once
FILL_MINUTES = 120
LOCK_SECONDS = 120.0  # an import may hold the line `past`


class Caretaker:
    """A thread that begins with the stream and ends with it."""

    def __init__(
        self,
        history: Callable[[], RestHistory],
        *,
        symbols: Sequence[str],
        now: Callable[[], datetime],
        announce: Callable[[list[BarChange]], None],
        calendar: Callable[[SessionTable], None] = lambda table: None,
        requests_per_second: float,
    ) -> None:
        self._history = history
        self._symbols = list(symbols)
        self._calendar = calendar
        self._now = now
        self._announce = announce
        self._rate = Rate(requests_per_second)
        self._stop = threading.Event()
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end, and do not wait for it: what is half done is taken up again at the next start."""
        self._stop.set()

    def _run(self) -> None:
        self._guarded(self._fill_windows)
        while not self._stop.wait(TURN_SECONDS):
            self._guarded(self._turn)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do one piece; a server that is away is no reason to end, and the same complaint is said once."""
        try:
            work()
            self._complaint = ""
        except (HistoryError, WriterBusyError, WriterDeposedError, DatabaseError, psycopg.Error) as error:
            words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if words != self._complaint:
                self._complaint = words
                log.warning("Past bars have to wait: %s", words)
        finally:
            connection.close()

    def _fill_windows(self) -> None:
        """Ask REST for the last two hours, so that the first live bars are scanned on full windows."""
        with _Past(self._stop) as writer:
            now = self._now()
            report = import_minutes(
                self._history(),
                writer,
                self._symbols,
                first=now - timedelta(minutes=FILL_MINUTES),
                last=now,
                now=self._now,
                announce=self._announce,
                stopped=self._stop.is_set,
            )
        log.info("Filled the windows of %s symbols from REST: %s bars, %s new.", report.symbols, report.read, report.changed)

    def _turn(self) -> None:
        sessions = Session.objects.table(since=self._now() - SESSIONS_BACK)
        self._calendar(sessions)
        find_gaps(sessions, now=self._now())
        if due_gaps(self._now()):
            with _Past(self._stop) as writer:
                report = repair(
                    self._history(), writer, now=self._now, pause=self._rate.wait, announce=self._announce, stopped=self._stop.is_set
                )
            log.info(
                "Repaired %s gaps with %s bars; %s had no trade, %s failed, %s are open.",
                report.repaired, report.bars, report.empty, report.failed, report.still_open,
            )  # fmt: skip
        self._reconcile_last_night()

    def _reconcile_last_night(self) -> None:
        """Hold the last finished session against REST, once, if the line was up in it."""
        now = self._now()
        ended = now - timedelta(milliseconds=LATE_MS + SETTLE_MS)
        session = (
            Session.objects.filter(post_close__lte=ended, date__lt=now.astimezone(EXCHANGE_ZONE).date()).order_by("-post_close").first()
        )
        if session is None or Reconciliation.objects.filter(date=session.date, finished_at__isnull=False).exists():
            return
        if not FeedSpan.objects.filter(began_at__lt=session.post_close, alive_until__gt=session.pre_open).exists():
            return
        with _Past(self._stop) as writer:
            report = reconcile(session.date, self._symbols, self._history(), writer, now=self._now, pause=self._rate.wait)
        log.info("Reconciled %s: %s %% of the minutes agreed, %s repaired.", session.date, match_percent(report), report.repaired)


class _Past:
    """The lock `past` for as long as something is written, so that a command can have it in between."""

    def __init__(self, stop: threading.Event) -> None:
        self._writer = Writer(PAST)
        self._stop = stop

    def __enter__(self) -> Writer:
        self._writer.acquire_within(LOCK_SECONDS, stopped=self._stop.is_set)
        return self._writer

    def __exit__(self, *_: object) -> None:
        self._writer.close()
