"""Which stored bars there are, and which of them were never scanned in their present revision. Reads only."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q

from marketdata.bars.interval import INTRADAY, day_from, exchange_day, midnight
from marketdata.models import Bar, DailyBar, Source
from patterns.models import GIVE_UP_AFTER, missed_bars
from patterns.windows.moments import milliseconds_of
from patterns.windows.statements import QUIET

MissedBar = tuple[str, int, int]
"""Symbol, start in Unix ms, attempts on this revision."""

_UNJUDGED = """
SELECT bar.symbol, bar.timestamp, coalesce(failure.attempts, 0)
FROM ({bars}) AS bar
LEFT JOIN scan_failures AS failure ON failure.symbol = bar.symbol AND failure.timeframe = %(timeframe)s
     AND failure.timestamp = bar.timestamp AND failure.bar_revision = bar.revision
WHERE bar.is_over AND coalesce(failure.attempts, 0) < %(give_up)s AND NOT EXISTS (
    SELECT 1 FROM scanned_bars AS ledger WHERE ledger.symbol = bar.symbol AND ledger.timeframe = %(timeframe)s
    AND ledger.timestamp = bar.timestamp AND ledger.bar_revision = bar.revision)
ORDER BY bar.timestamp, bar.symbol LIMIT %(limit)s
"""

_BUCKETS = f"""
SELECT touched.symbol, touched.bucket AS timestamp, made.revision,
       made.whole AND (made.newest >= touched.bucket + %(length)s - interval '1 minute'
       OR (touched.bucket + %(length)s <= %(now)s - interval '{QUIET}' AND made.changed <= %(now)s - interval '{QUIET}')
       OR EXISTS (SELECT 1 FROM ohlcv_1min AS later WHERE later.symbol = touched.symbol
                  AND later.timestamp >= touched.bucket + %(length)s)) AS is_over
FROM (SELECT DISTINCT symbol, date_bin(%(length)s, timestamp, timestamptz 'epoch') AS bucket FROM ohlcv_1min
      WHERE updated_at >= %(changed_from)s AND updated_at < %(changed_until)s AND timestamp >= %(opened_from)s
      AND (source <= %(vendor)s OR timestamp >= %(imports_from)s)) AS touched
CROSS JOIN LATERAL (
    SELECT least(sum(revision + 1) - 1, 2147483647)::int AS revision, bool_and(complete OR is_final) AS whole, max(timestamp) AS newest,
           max(updated_at) AS changed
    FROM ohlcv_1min WHERE symbol = touched.symbol AND timestamp >= touched.bucket AND timestamp < touched.bucket + %(length)s
) AS made
"""  # noqa: S608 - constant text

_DAYS = """
SELECT day.symbol, day.date::timestamp AT TIME ZONE 'America/New_York' AS timestamp,
       extract(epoch FROM day.updated_at - timestamptz '2000-01-01')::int AS revision,
       coalesce(session.close, (day.date + 1)::timestamp AT TIME ZONE 'America/New_York') <= %(now)s AS is_over
FROM ohlcv_daily AS day LEFT JOIN sessions AS session USING (date)
WHERE day.updated_at >= %(changed_from)s AND day.updated_at < %(changed_until)s
  AND day.date >= greatest(%(imports_from)s, %(opened_from)s)::date
"""


def missed_of(
    timeframe: str,
    *,
    changed_from: datetime,
    changed_until: datetime,
    opened_from: datetime,
    imports_from: datetime,
    limit: int,
    now: datetime,
) -> list[MissedBar]:
    """
    Return bars of an interval that are over and were never scanned in their present revision, the oldest first, at most `limit`.

    Only those of which something changed in [changed_from, changed_until), and which start at `opened_from` or later. Bars given up are left
    out, imported ones only count from `imports_from` on.
    """
    if timeframe == "1m":
        minutes = missed_bars(imports_from=imports_from).filter(
            updated_at__gte=changed_from, updated_at__lt=changed_until, timestamp__gte=opened_from
        )
        return [(symbol, milliseconds_of(timestamp), attempts) for symbol, timestamp, attempts in minutes[:limit]]
    parameters: dict[str, Any] = {
        "timeframe": timeframe,
        "length": timedelta(minutes=INTRADAY.get(timeframe, 0)),
        "changed_from": changed_from,
        "changed_until": changed_until,
        "opened_from": opened_from,
        "imports_from": imports_from,
        "vendor": Source.VENDOR,
        "give_up": GIVE_UP_AFTER,
        "limit": limit,
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(_UNJUDGED.format(bars=_DAYS if timeframe == "1d" else _BUCKETS), parameters)
        return [(symbol, milliseconds_of(timestamp), attempts) for symbol, timestamp, attempts in cursor.fetchall()]


def stored_bars(timeframe: str, symbol: str, start: datetime | None, end: datetime | None) -> Iterator[int]:
    """Yield the starts (Unix ms) of a symbol's bars that begin in [start, end), oldest first, each once."""
    if timeframe == "1d":
        for day in _days(symbol, start, end):
            yield milliseconds_of(midnight(day))
        return
    length, last = INTRADAY[timeframe] * 60_000, None
    bars = Bar.objects.filter(Q(complete=True) | Q(is_final=True), symbol=symbol)
    bars = bars if start is None else bars.filter(timestamp__gte=start)
    bars = bars if end is None else bars.filter(timestamp__lt=end)
    for minute in bars.order_by("timestamp").values_list("timestamp", flat=True).iterator(chunk_size=5_000):
        milliseconds = milliseconds_of(minute)
        opened = milliseconds - milliseconds % length
        if opened != last and (start is None or opened >= milliseconds_of(start)):
            last = opened
            yield opened


def newest_minutes(symbol: str, start: datetime | None, end: datetime | None, *, limit: int) -> list[int]:
    """Return the starts (Unix ms) of the newest whole or final minutes in [start, end), newest first."""
    bars = Bar.objects.whole().of(symbol).newest_first()
    bars = bars if start is None else bars.filter(timestamp__gte=start)
    bars = bars if end is None else bars.filter(timestamp__lt=end)
    return [milliseconds_of(minute) for minute in bars.values_list("timestamp", flat=True)[:limit]]


def _days(symbol: str, start: datetime | None, end: datetime | None) -> Iterator[date]:
    days = DailyBar.objects.filter(symbol=symbol)
    days = days if start is None else days.filter(date__gte=day_from(start))
    days = days if end is None else days.filter(date__lte=exchange_day(end - timedelta(milliseconds=1)))
    return days.order_by("date").values_list("date", flat=True).iterator(chunk_size=5_000)
