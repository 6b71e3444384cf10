"""
Past bars beside the live line, in the stream's own process and under the lock `past`: full windows at a start, gaps as they open, the day's bars
after the close; and it asks for the job that ends the day (jobs.py). Workers and the web never write a bar.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import psycopg
from django.db import DatabaseError, connection

from marketdata.backfill import import_minutes
from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import BarChange
from marketdata.daily import make_days, streamed_symbols
from marketdata.gaps import due_gaps, find_gaps, repair
from marketdata.history import HistoryError, RestHistory
from marketdata.jobs import END_OF_DAY, LOCK_SECONDS, ask_for_end_of_day
from marketdata.listings import import_details, stale_symbols
from marketdata.models import Session
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

log = logging.getLogger(__name__)

TURN_SECONDS = 10.0
SESSIONS_BACK = timedelta(days=60)  # of the calendar, read anew at each turn: a closure that somebody enters counts at once
FILL_MINUTES = 120


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
        pause: Callable[[], None],
    ) -> None:
        self._history = history
        self._symbols = list(symbols)
        self._calendar = calendar
        self._now = now
        self._announce = announce
        self._pause = pause
        self._stop = threading.Event()
        self._complaint = ""
        self._made: set[date] = set()
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end, and do not wait for it: what is half done is taken up again at the next start."""
        self._stop.set()

    def _run(self) -> None:
        self._guarded(self._fill_windows)
        self._guarded(self._ask_details)
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
                progress=lambda done, of, symbol: self._pause(),
                stopped=self._stop.is_set,
            )
        log.info("Filled the windows of %s symbols from REST: %s bars, %s new.", report.symbols, report.read, report.changed)

    def _ask_details(self) -> None:
        """Ask REST what the symbols are of which that is not known, or was asked long ago."""
        stale = stale_symbols(self._symbols, now=self._now())
        if stale:
            report = import_details(self._history(), stale, now=self._now, pause=self._pause, stopped=self._stop.is_set)
            log.info("Asked what %s symbols are: %s rows changed, %s are unknown to REST.", report.asked, report.changed, report.unknown)

    def _turn(self) -> None:
        sessions = Session.objects.table(since=self._now() - SESSIONS_BACK)
        self._calendar(sessions)
        find_gaps(sessions, now=self._now())
        if due_gaps(self._now()):
            with _Past(self._stop) as writer:
                report = repair(
                    self._history(), writer, now=self._now, pause=self._pause, announce=self._announce, stopped=self._stop.is_set
                )
            log.info(
                "Repaired %s gaps with %s bars; %s had no trade, %s failed, %s are open.",
                report.repaired, report.bars, report.empty, report.failed, report.still_open,
            )  # fmt: skip
        self._make_days()
        ask_for_end_of_day(now=self._now())

    def _make_days(self) -> None:
        """Make the last session's daily bars from its minutes, once its late window is over."""
        session = Session.objects.filter(close__lte=self._now() - END_OF_DAY).order_by("-close").first()
        if session is None or session.date in self._made or not streamed_symbols(session):
            return
        with _Past(self._stop) as writer:
            made = make_days(session, self._symbols, writer, now=self._now())
        self._made = {session.date}
        if made:
            log.info("Made %s daily bars of %s from minutes.", made, session.date)


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
