"""
Which judged bars stand on splits or daily bars that came, changed or went since they were judged. Reads only, but for what it has noticed.

Their own revision does not tell: a split changes the bars before it, a daily bar the pivots, the change and the usual volume of what follows.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from patterns.windows.missed import MissedBar
from patterns.windows.moments import milliseconds_of
from patterns.windows.reading import AFTER

FOLLOWING = timedelta(days=35)
"""Longer than the 20 sessions take whose mean volume a projection is held against."""

_NOTICE = """
INSERT INTO judged_splits AS known (symbol, execution_date, split_from, split_to, noticed_at, settled)
SELECT coalesce(split.symbol, known.symbol), coalesce(split.execution_date, known.execution_date), split.split_from, split.split_to, %(now)s, false
FROM splits AS split FULL JOIN judged_splits AS known USING (symbol, execution_date)
WHERE (split.split_from, split.split_to) IS DISTINCT FROM (known.split_from, known.split_to)
ON CONFLICT (symbol, execution_date) DO UPDATE SET
    split_from = excluded.split_from, split_to = excluded.split_to, noticed_at = excluded.noticed_at, settled = false
"""

_AFTER_SPLITS = """
SELECT DISTINCT ledger.symbol, ledger.timestamp
FROM (SELECT symbol, execution_date::timestamp AT TIME ZONE 'America/New_York' AS day, noticed_at FROM judged_splits WHERE NOT settled) AS split
CROSS JOIN LATERAL (
    SELECT greatest(day + %(following)s, coalesce((
        SELECT timestamp FROM scanned_bars WHERE symbol = split.symbol AND timeframe = %(timeframe)s AND timestamp >= day
        ORDER BY timestamp OFFSET %(after)s LIMIT 1), 'infinity')) AS until
) AS reach
JOIN scanned_bars AS ledger ON ledger.symbol = split.symbol AND ledger.timeframe = %(timeframe)s AND ledger.timestamp >= split.day
     AND ledger.timestamp < reach.until AND ledger.scanned_at < split.noticed_at
ORDER BY ledger.timestamp, ledger.symbol LIMIT %(limit)s
"""

_AFTER_DAYS = """
SELECT ledger.symbol, ledger.timestamp
FROM (SELECT symbol, min(date)::timestamp AT TIME ZONE 'America/New_York' AS first, max(date)::timestamp AT TIME ZONE 'America/New_York' AS last,
             max(updated_at) AS changed_at
      FROM ohlcv_daily WHERE updated_at >= %(changed_from)s AND updated_at < %(changed_until)s GROUP BY symbol) AS day
JOIN scanned_bars AS ledger ON ledger.symbol = day.symbol AND ledger.timeframe = %(timeframe)s AND ledger.timestamp >= day.first
     AND ledger.timestamp < day.last + %(following)s AND ledger.scanned_at < day.changed_at
ORDER BY ledger.timestamp, ledger.symbol LIMIT %(limit)s
"""


def notice_splits(*, now: datetime) -> None:
    """Note which splits came, changed or went since they were last looked at."""
    with connection.cursor() as cursor:
        cursor.execute(_NOTICE, {"now": now})


def behind_splits(timeframe: str, *, limit: int) -> list[MissedBar]:
    """Return bars of an interval that were judged before a split in their window was noticed, the oldest first, at most `limit`."""
    return _rows(_AFTER_SPLITS, {"timeframe": timeframe, "following": FOLLOWING, "after": AFTER[timeframe], "limit": limit})


def behind_days(timeframe: str, *, changed_from: datetime, changed_until: datetime, limit: int) -> list[MissedBar]:
    """
    Return bars within the day that were judged before a daily bar changed that they look at, the oldest first, at most `limit`.

    Daily bars that changed in [changed_from, changed_until) count. The days themselves need no such look: a changed one is a new revision, and
    those behind it are judged again with it.
    """
    where = {"timeframe": timeframe, "following": FOLLOWING, "changed_from": changed_from, "changed_until": changed_until, "limit": limit}
    return _rows(_AFTER_DAYS, where)


def _rows(statement: str, parameters: dict[str, Any]) -> list[MissedBar]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [(symbol, milliseconds_of(timestamp), 0) for symbol, timestamp in cursor.fetchall()]
