"""
Past bars on their way into the table: history → writer, under the lock `past`.

Not the live line. What both touch is settled by the ranks of PRODUCT A3, whoever comes first.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from marketdata.bars.snapshot import BarChange
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory, exchange_sessions
from marketdata.models import Cause, Closure, DailyBar, ImportedFile, Session, Source
from marketdata.writer import Writer

log = logging.getLogger(__name__)

ROWS_A_WRITE = 5_000
TWIN_CALENDAR_DAYS = 400

Progress = Callable[[int, int, str], None]


class ImportReport(msgspec.Struct):
    """What an import did: rows read, rows that changed the table, rows refused."""

    symbols: int = 0
    read: int = 0
    changed: int = 0
    rejected: int = 0
    seconds: float = 0.0


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(rows, ROWS_A_WRITE)):
        yield chunk


def import_minutes(
    history: RestHistory,
    writer: Writer,
    symbols: Sequence[str],
    *,
    first: datetime,
    last: datetime,
    now: Callable[[], datetime],
    announce: Callable[[list[BarChange]], None] = lambda changes: None,
    progress: Progress = lambda done, of, symbol: None,
    stopped: Callable[[], bool] = lambda: False,
) -> ImportReport:
    """Ask REST for the minutes of [first, last] and store them; `announce` gets what changed after each commit."""
    report = ImportReport()
    for symbol in symbols:
        if stopped():
            break
        for chunk in _chunks(history.minutes(symbol, first, last, asked_at=now())):
            changes, rejections = writer.write(chunk, cause=Cause.BACKFILL)
            writer.reject(rejections)
            report.read += len(chunk)
            report.changed += len(changes)
            report.rejected += len(rejections)
            if changes:
                announce(changes)
        report.symbols += 1
        progress(report.symbols, len(symbols), symbol)
    report.rejected += _keep_rejections(history, writer)
    return report


def import_days(
    history: RestHistory,
    writer: Writer,
    symbols: Sequence[str],
    *,
    first: date,
    last: date,
    now: Callable[[], datetime],
    progress: Progress = lambda done, of, symbol: None,
    only_missing: bool = False,
    finished: date | None = None,
) -> ImportReport:
    """
    Ask REST for the daily bars of [first, last] and store them; `only_missing` begins after each symbol's newest stored day.

    Today's bar still changes and is left out, unless its session is known to be over: `finished`.
    """
    report = ImportReport()
    newest = newest_days(symbols) if only_missing else {}
    for symbol in symbols:
        begin = max(first, newest.get(symbol, first) + timedelta(days=1)) if symbol in newest else first
        if begin <= last:
            days = history.days(symbol, begin, last, asked_at=now(), finished=finished)
            for chunk in _chunks(day for day in days if begin <= day.date <= last):
                report.read += len(chunk)
                report.changed += writer.write_days(chunk)
        report.symbols += 1
        progress(report.symbols, len(symbols), symbol)
    report.rejected += _keep_rejections(history, writer)
    return report


def request_mark(history: RestHistory, timespan: str, symbols: Sequence[str], first: date, last: date) -> ImportedFile:
    """
    Return how far an earlier run of the same request came: `rows_done` counts symbols. A finished one begins anew.

    So a command that was interrupted asks only for the rest when it is run again.
    """
    request = ("massive", history.url, timespan, *symbols, first.isoformat(), last.isoformat())
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    mark = ImportedFile.objects.filter(digest=digest).first() or ImportedFile(digest=digest, name=f"massive {timespan} {first} to {last}")
    if mark.finished_at is not None:
        mark.rows_done, mark.finished_at = 0, None
    return mark


def newest_days(symbols: Sequence[str]) -> dict[str, date]:
    """Return each symbol's newest daily bar that a feed gave; a symbol without one is missing."""
    rows = DailyBar.objects.filter(symbol_id__in=symbols, source__gt=Source.MADE_DAY).order_by("symbol_id", "-date").distinct("symbol_id")
    return dict(rows.values_list("symbol_id", "date"))


def _keep_rejections(history: RestHistory, writer: Writer) -> int:
    kept, history.rejections = history.rejections, []
    writer.reject(kept)
    return len(kept)


def refresh_sessions(feed: str, history: RestHistory | None, *, now: datetime) -> int:
    """
    Bring the session rows up to date for this feed, a year ahead; return how many were written.

    The twin's own hours replace New York's from the twin's first day on; a day edited in the admin (with a note) stays, a
    day closed there has none.
    """
    today = now.astimezone(EXCHANGE_ZONE).date()
    last = today + timedelta(days=TWIN_CALENDAR_DAYS)
    if feed == "twin":
        if history is None:
            raise HistoryError("the twin's sessions are asked from its REST; set MASSIVE_REST_URL")
        days = history.twin_calendar(date(2023, 1, 1), last)
    else:
        days = exchange_sessions(today - timedelta(days=7), last)
    edited = set(Session.objects.exclude(note="").values_list("date", flat=True)) | set(Closure.objects.values_list("date", flat=True))
    calendar = "twin" if feed == "twin" else "XNYS"
    fields = ("pre_open", "open", "close", "post_close")
    rows = [
        Session(
            date=day,
            calendar=calendar,
            **{name: datetime.fromtimestamp(getattr(hours, name) / 1000, UTC) for name in fields},
        )
        for day, hours in days
        if day not in edited
    ]
    Session.objects.bulk_create(rows, update_conflicts=True, unique_fields=["date"], update_fields=["calendar", *fields], batch_size=1_000)
    return len(rows)
