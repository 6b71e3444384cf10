"""
Wishes about past bars, worked off: the web and Celery leave a row, `stream_ticks` does it under the lock `past`, one at a time, oldest first.

A request that was running when its process died is found running by the next holder of the lock, and begun again: all of them are safe to repeat.
"""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from django.conf import settings

from marketdata.backfill import import_days, import_minutes
from marketdata.bars.snapshot import BarChange
from marketdata.gaps import find_gaps, repair
from marketdata.history import EXCHANGE_ZONE, HistoryError, RestHistory
from marketdata.models import BarRequest, RequestKind, RequestState, Session, Universe, UnknownUniverseError
from marketdata.reconciliation import NoSessionError, match_percent, reconcile
from marketdata.writer import Writer

log = logging.getLogger(__name__)


class _CancelledError(Exception):
    """Somebody does not want it any more, or the process ends."""


class Work:
    """What a request needs to be done: the history, the writer that holds `past`, the clock, the rate, whom to tell, whether to stop."""

    def __init__(
        self,
        history: RestHistory,
        writer: Writer,
        *,
        now: Callable[[], datetime],
        pause: Callable[[], None] = lambda: None,
        announce: Callable[[list[BarChange]], None] = lambda changes: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.history = history
        self.writer = writer
        self.now = now
        self.pause = pause
        self.announce = announce
        self.stopped = stopped


def next_request() -> BarRequest | None:
    """Return the request to be done next. Only the holder of the lock `past` asks: what it finds running was left by one that died."""
    wanted = BarRequest.objects.filter(state__in=(RequestState.RUNNING, RequestState.WAITING))
    return wanted.order_by("requested_at", "pk").first()


def work_off(request: BarRequest, work: Work) -> None:
    """Do one request and keep in its row how far it is, and how it ended. A server that is away ends it as failed; the database's errors pass."""
    request.state, request.started_at, request.note = RequestState.RUNNING, work.now(), ""
    request.save(update_fields=["state", "started_at", "note"])

    def progress(done: int, of: int, note: str) -> None:
        request.done, request.of, request.note = done, of, note[:300]
        request.save(update_fields=["done", "of", "note"])
        if work.stopped():
            raise _CancelledError
        if BarRequest.objects.filter(pk=request.pk, cancel=True).exists():
            request.state = RequestState.CANCELLED
            raise _CancelledError
        work.pause()

    try:
        progress(0, 0, "begun")
        request.report = _WAYS[RequestKind(request.kind)](request, work, progress)
        request.state, request.note = RequestState.DONE, ""
    except _CancelledError:
        if request.state != RequestState.CANCELLED:  # the process ends; the next one begins it again
            BarRequest.objects.filter(pk=request.pk).update(state=RequestState.WAITING, note="interrupted")
            return
        request.note = f"cancelled after {request.done} of {request.of}"
    except (HistoryError, NoSessionError, UnknownUniverseError) as error:
        request.state, request.note = RequestState.FAILED, str(error)[:300]
    request.finished_at = work.now()
    request.save(update_fields=["state", "note", "report", "finished_at"])
    log.info("Request %s (%s %s to %s): %s. %s", request.pk, request.kind, request.first, request.last, request.state, request.note)


Progress = Callable[[int, int, str], None]


def _symbols(request: BarRequest) -> list[str]:
    return list(request.symbols) or Universe.objects.symbols_of(settings.SYMBOL_UNIVERSE_KEY)


def _repair(request: BarRequest, work: Work, progress: Progress) -> dict[str, Any]:
    first, last = _midnight(request.first), _midnight(request.last + timedelta(days=1))
    opened = find_gaps(Session.objects.table(), now=work.now(), first=first, last=last)
    report = repair(
        work.history,
        work.writer,
        now=work.now,
        announce=work.announce,
        eager=True,
        within=(first, last),
        only=request.symbols or None,
        progress=progress,
    )
    report.opened_minutes = opened
    return _plain(report)


def _reconcile(request: BarRequest, work: Work, progress: Progress) -> dict[str, Any]:
    symbols = _symbols(request)
    days = list(Session.objects.filter(date__range=(request.first, request.last)).order_by("date").values_list("date", flat=True))
    if not days:
        raise NoSessionError(f"From {request.first} to {request.last} the calendar has no session; nothing to reconcile.")
    total, reports = len(days) * len(symbols), {}
    for place, day in enumerate(days):

        def of_day(done: int, _of: int, symbol: str, *, before: int = place * len(symbols), day: date = day) -> None:
            progress(before + done, total, f"{day} {symbol}")

        found = reconcile(day, symbols, work.history, work.writer, now=work.now, progress=of_day)
        reports[day.isoformat()] = {"match_percent": match_percent(found), "differing": found.differing, "repaired": found.repaired}
    return reports


def _import_minutes(request: BarRequest, work: Work, progress: Progress) -> dict[str, Any]:
    return _plain(
        import_minutes(
            work.history,
            work.writer,
            _symbols(request),
            first=_midnight(request.first),
            last=_midnight(request.last + timedelta(days=1)),
            now=work.now,
            announce=work.announce,
            progress=progress,
        )
    )


def _import_days(request: BarRequest, work: Work, progress: Progress) -> dict[str, Any]:
    return _plain(
        import_days(work.history, work.writer, _symbols(request), first=request.first, last=request.last, now=work.now, progress=progress)
    )


_WAYS: dict[RequestKind, Callable[[BarRequest, Work, Progress], dict[str, Any]]] = {
    RequestKind.REPAIR: _repair,
    RequestKind.RECONCILE: _reconcile,
    RequestKind.IMPORT_MINUTES: _import_minutes,
    RequestKind.IMPORT_DAYS: _import_days,
}


def _plain(report: msgspec.Struct) -> dict[str, Any]:
    return dict(msgspec.to_builtins(report))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_ZONE).astimezone(UTC)
