"""Hold a day's stored minutes against REST, say how well they agree, and mend what differs through ordinary revisions."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime

from django.utils import timezone

from marketdata.bars.snapshot import SHARE, BarSnapshot
from marketdata.history import RestHistory
from marketdata.models import Bar, Cause, Reconciliation, Session
from marketdata.writer import Writer

FIELDS = ("open", "high", "low", "close", "volume")


class NoSessionError(ValueError):
    """The day has no session; the message says so."""


def reconcile(
    day: date,
    symbols: Sequence[str],
    history: RestHistory,
    writer: Writer,
    *,
    now: Callable[[], datetime],
    pause: Callable[[], None] = lambda: None,
    progress: Callable[[int, int, str], None] = lambda done, of, symbol: None,
) -> Reconciliation:
    """
    Compare and mend one exchange day; return the stored report. NoSessionError for a day without a session, HistoryError where REST fails.

    A stored bar that REST does not know is counted and left: REST has no way to say that a bar is wrong by being absent.
    """
    session = Session.objects.filter(date=day).first()
    if session is None:
        raise NoSessionError(f"{day} has no session in the calendar; nothing to reconcile.")
    report = Reconciliation(date=day, source="rest", started_at=timezone.now(), fields=dict.fromkeys(FIELDS, 0))
    differing: Counter[str] = Counter()
    for done, symbol in enumerate(symbols, start=1):
        pause()
        theirs = {
            bar.opened_at_ms: bar
            for bar in history.minutes(symbol, session.pre_open, session.post_close, asked_at=now())
            if _ms(session.pre_open) <= bar.opened_at_ms < _ms(session.post_close)
        }
        ours = _stored(symbol, session)
        _compare(report, differing, ours, theirs)
        changes, rejections = writer.write(list(theirs.values()), cause=Cause.RECONCILE)
        writer.reject(rejections)
        report.repaired += sum(
            1 for change in changes if change.inserted or change.revision > ours.get(change.bar.opened_at_ms, (0, ()))[0]
        )
        progress(done, len(symbols), symbol)
    report.symbols = len(symbols)
    report.fields = {field: differing[field] for field in FIELDS}
    report.finished_at = timezone.now()
    report.save()
    return report


def match_percent(report: Reconciliation) -> float | None:
    """Return how many of all minutes that either side has agree in every field, in percent; None for a day without any."""
    total = report.compared + report.missing_here + report.missing_there
    return round(100 * report.matched / total, 4) if total else None


def _stored(symbol: str, session: Session) -> dict[int, tuple[int, tuple[float, float, float, float, int]]]:
    rows = Bar.objects.filter(symbol_id=symbol, timestamp__gte=session.pre_open, timestamp__lt=session.post_close)
    values = rows.values_list("timestamp", "revision", *FIELDS)
    return {
        _ms(timestamp): (revision, (float(open_), float(high), float(low), float(close), int(volume * SHARE)))
        for timestamp, revision, open_, high, low, close, volume in values
    }


def _compare(
    report: Reconciliation,
    differing: Counter[str],
    ours: dict[int, tuple[int, tuple[float, float, float, float, int]]],
    theirs: dict[int, BarSnapshot],
) -> None:
    report.missing_here += len(theirs.keys() - ours.keys())
    report.missing_there += len(ours.keys() - theirs.keys())
    for minute in ours.keys() & theirs.keys():
        bar = theirs[minute]
        report.compared += 1
        wrong = [
            field
            for field, mine, other in zip(FIELDS, ours[minute][1], (bar.open, bar.high, bar.low, bar.close, bar.volume), strict=True)
            if mine != other
        ]
        differing.update(wrong)
        if wrong:
            report.differing += 1
        else:
            report.matched += 1


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
