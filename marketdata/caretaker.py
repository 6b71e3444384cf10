"""
Past bars beside the live line, in the stream's own process and under the lock `past`: full windows at a start, gaps as they open, each night's
reconciliation. Workers and the web never write a bar; this thread does what the evidence asks for.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import psycopg
from django.db import DatabaseError, connection

from marketdata.backfill import import_minutes
from marketdata.bars.builder import LATE_MS
from marketdata.bars.session import SessionTable
from marketdata.bars.snapshot import BarChange
from marketdata.corporate import import_actions
from marketdata.daily import fetch_days, make_days, reconcile_days
from marketdata.gaps import SETTLE_MS, due_gaps, find_gaps, repair
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory
from marketdata.listings import import_details, stale_symbols
from marketdata.models import FeedSpan, Reconciliation, Session
from marketdata.rate import Rate
from marketdata.reconciliation import match_percent, reconcile
from marketdata.writer import PAST, Writer, WriterBusyError, WriterDeposedError

log = logging.getLogger(__name__)

TURN_SECONDS = 10.0
SESSIONS_BACK = timedelta(days=60)  # of the calendar, read anew at each turn: a closure that somebody enters counts at once
FILL_MINUTES = 120
SPLIT_DAYS_AHEAD = 14
FETCH_AGAIN_SECONDS = 600.0  # after a REST that could not give the day's bars
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
        self._made: set[date] = set()
        self._fetched: set[date] = set()
        self._fetch_from = float("-inf")
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
                stopped=self._stop.is_set,
            )
        log.info("Filled the windows of %s symbols from REST: %s bars, %s new.", report.symbols, report.read, report.changed)

    def _ask_details(self) -> None:
        """Ask REST what the symbols are of which that is not known, or was asked long ago."""
        stale = stale_symbols(self._symbols, now=self._now())
        if stale:
            report = import_details(self._history(), stale, now=self._now, pause=self._rate.wait, stopped=self._stop.is_set)
            log.info("Asked what %s symbols are: %s rows changed, %s are unknown to REST.", report.asked, report.changed, report.unknown)

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
        self._make_days()
        self._reconcile_last_night()
        self._fetch_days()

    def _make_days(self) -> None:
        """Make the last session's daily bars from its minutes, once its late window is over."""
        session = self._last_session("close")
        if session is None or session.date in self._made or not _was_streamed(session):
            return
        with _Past(self._stop) as writer:
            made = make_days(session, self._symbols, writer, now=self._now())
        self._made = {session.date}
        if made:
            log.info("Made %s daily bars of %s from minutes.", made, session.date)

    def _fetch_days(self) -> None:
        """Ask REST for the daily bars of the last finished session, once; they replace those from minutes, and the difference is kept."""
        session = self._last_session("post_close")
        if session is None or session.date in self._fetched or session.date >= self._now().astimezone(EXCHANGE_ZONE).date():
            return
        if not _was_streamed(session) or time.monotonic() < self._fetch_from:
            return  # the import at a start asks for days on which nothing ran
        self._fetch_from = time.monotonic() + FETCH_AGAIN_SECONDS
        with _Past(self._stop) as writer:
            # What was repaired or reconciled meanwhile counts
            make_days(session, self._symbols, writer, now=self._now())
            got = fetch_days(
                session, self._symbols, self._history(), writer, now=self._now, pause=self._rate.wait, stopped=self._stop.is_set
            )
        self._fetched = {session.date}
        soon = session.date + timedelta(days=SPLIT_DAYS_AHEAD)
        import_actions("splits", self._history().splits(self._symbols, session.date - timedelta(days=SPLIT_DAYS_AHEAD), soon))
        self._ask_details()
        report = reconcile_days(session, now=self._now())
        if report is not None:
            log.info(
                "Daily bars of %s: %s from REST, %s of %s differ from their minutes.", session.date, got, report.differing, report.compared
            )

    def _last_session(self, end: str) -> Session | None:
        """Return the last session whose `end` lies further back than late bars may come."""
        ended = self._now() - timedelta(milliseconds=LATE_MS + SETTLE_MS)
        return Session.objects.filter(**{f"{end}__lte": ended}).order_by(f"-{end}").first()

    def _reconcile_last_night(self) -> None:
        """Hold the last finished session against REST, once, if the line was up in it."""
        now = self._now()
        ended = now - timedelta(milliseconds=LATE_MS + SETTLE_MS)
        session = (
            Session.objects.filter(post_close__lte=ended, date__lt=now.astimezone(EXCHANGE_ZONE).date()).order_by("-post_close").first()
        )
        if session is None or Reconciliation.objects.filter(date=session.date, source="rest", finished_at__isnull=False).exists():
            return
        if not _was_streamed(session):
            return
        with _Past(self._stop) as writer:
            report = reconcile(session.date, self._symbols, self._history(), writer, now=self._now, pause=self._rate.wait)
        log.info("Reconciled %s: %s %% of the minutes agreed, %s repaired.", session.date, match_percent(report), report.repaired)


def _was_streamed(session: Session) -> bool:
    return FeedSpan.objects.filter(began_at__lt=session.post_close, alive_until__gt=session.pre_open).exists()


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
