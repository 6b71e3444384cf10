"""Daily bars at the end of a session: made from its minutes until the feed's own replace them, and what differs between both."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from marketdata.gaps import coverage
from marketdata.models import FeedSpan, Reconciliation, Session
from marketdata.writer import Writer

SOURCE = "days"
FIELDS = ("open", "high", "low", "close", "volume")

_DIFFERENCES = """
SELECT count(*), count(*) FILTER (WHERE wrong), count(*) FILTER (WHERE made.open <> day.open), count(*) FILTER (WHERE made.high <> day.high),
       count(*) FILTER (WHERE made.low <> day.low), count(*) FILTER (WHERE made.close <> day.close),
       count(*) FILTER (WHERE made.volume <> day.volume)
FROM ohlcv_daily AS day
JOIN (
    SELECT symbol, (array_agg(open ORDER BY timestamp) FILTER (WHERE regular))[1] AS open, max(high) FILTER (WHERE regular) AS high,
           min(low) FILTER (WHERE regular) AS low, (array_agg(close ORDER BY timestamp DESC) FILTER (WHERE regular))[1] AS close,
           sum(volume) AS volume
    FROM (
        SELECT *, timestamp >= %(open)s AND timestamp < %(close)s AS regular FROM ohlcv_1min
        WHERE timestamp >= %(pre_open)s AND timestamp < %(post_close)s AND (complete OR is_final)
    ) AS minute
    GROUP BY symbol HAVING bool_or(regular)
) AS made USING (symbol)
CROSS JOIN LATERAL (
    SELECT (made.open, made.high, made.low, made.close, made.volume) IS DISTINCT FROM (day.open, day.high, day.low, day.close, day.volume) AS wrong
) AS compared
WHERE day.date = %(date)s AND day.source > 5
"""


def streamed_symbols(session: Session) -> list[str]:
    """Return the symbols that a line carried in some part of this session, by the evidence."""
    spans = FeedSpan.objects.filter(began_at__lt=session.post_close, alive_until__gt=session.pre_open)
    return sorted({symbol for symbols in spans.values_list("symbols", flat=True) for symbol in symbols})


def make_days(session: Session, symbols: Sequence[str], writer: Writer, *, now: datetime) -> int:
    """
    Make one session's daily bars from its minutes; return how many rows are new or changed.

    Only of symbols of which every minute is proven: a day of half its minutes would be a wrong bar.
    """
    whole = [row.symbol for row in coverage(symbols, session, now=now) if row.bars and not row.open and not row.unproven]
    return writer.make_days(session.date, session.hours(), whole, version=round(now.timestamp() * 1000)) if whole else 0


def reconcile_days(session: Session, *, now: datetime) -> Reconciliation | None:
    """Hold the feed's daily bars of a session against what its minutes make of it; keep and return how many differ, None without any."""
    asked = {name: getattr(session, name) for name in ("date", "pre_open", "open", "close", "post_close")}
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENCES, asked)
        compared, differing, *fields = cursor.fetchone() or (0, 0)
    if not compared:
        return None
    report = {
        "started_at": now,
        "finished_at": now,
        "symbols": compared,
        "compared": compared,
        "matched": compared - differing,
        "differing": differing,
        "fields": dict(zip(FIELDS, fields, strict=True)),
    }
    return Reconciliation.objects.update_or_create(date=session.date, source=SOURCE, defaults=report)[0]
