"""
Bars of any interval, read from the rows of one minute and of one day: always what those rows say now, or said at a moment. Reads only.

Nothing is kept beside the rows, so no revision can be forgotten, and every PostgreSQL gives the same answer, with TimescaleDB or without.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection

from marketdata.bars.adjust import Adjustment, SplitRatio
from marketdata.bars.builder import LATE_MS
from marketdata.bars.interval import (
    INTRADAY,
    LONGEST_BUCKET,
    MINUTE,
    Candle,
    bucket,
    ceiling,
    day_from,
    exchange_day,
    midnight,
    over_by,
    week_from,
    weeks,
)
from marketdata.models import Split

DAYS_A_WEEK = 7
LATE = timedelta(milliseconds=LATE_MS)
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)

_NOW = """
    SELECT timestamp, open, high, low, close, volume, vwap, trades, is_final AS final
    FROM ohlcv_1min WHERE symbol = %(symbol)s AND timestamp >= {start} AND timestamp < {end}
"""

# What stood then is a current row that has its values since, or a row that was replaced only later. A bar was final when its late window was over
_THEN = """
    (SELECT timestamp, open, high, low, close, volume, vwap, trades,
           (complete OR source >= 40) AND timestamp + interval '16 minutes' <= %(as_of)s AS final
    FROM ohlcv_1min WHERE symbol = %(symbol)s AND timestamp >= {start} AND timestamp < {end} AND valued_at <= %(as_of)s {first})
    UNION ALL
    (SELECT timestamp, open, high, low, close, volume, vwap, trades,
           (complete OR source >= 40) AND timestamp + interval '16 minutes' <= %(as_of)s
    FROM bar_revisions WHERE symbol = %(symbol)s AND timestamp >= {start} AND timestamp < {end}
                          AND stored_at <= %(as_of)s AND replaced_at > %(as_of)s {first})
"""

_FIRST = "ORDER BY timestamp {direction} LIMIT %(rows)s"
_MINUTES = "SELECT * FROM ({rows}) AS minute {first}"

_VOLUME = """
    sum(volume) AS volume,
    CASE WHEN bool_and(vwap IS NOT NULL OR volume = 0) AND sum(volume) > 0 THEN round(sum(vwap * volume) / sum(volume), 6) END AS vwap,
    CASE WHEN bool_and(trades IS NOT NULL) THEN sum(trades) END AS trades
"""

_BUCKETS = """
SELECT bucket, (array_agg(open ORDER BY timestamp))[1], max(high), min(low), (array_agg(close ORDER BY timestamp DESC))[1], {volume},
       bool_and(final)
FROM (SELECT *, {bucket} AS bucket FROM ({minutes}) AS newest) AS placed
GROUP BY bucket ORDER BY bucket {direction} LIMIT %(limit)s
"""

_BY_CLOCK = "date_bin(%(length)s, timestamp, timestamptz 'epoch')"
_BY_NEW_YORK = "date_bin(%(length)s, timestamp AT TIME ZONE 'America/New_York', timestamp '2000-01-01') AT TIME ZONE 'America/New_York'"

# A day that a feed gave is the exchange's. One from minutes, stored (rank 5) or made here, takes prices from the regular session and volume
# from all of it, as Massive does
_DAYS = """
WITH official AS (
    SELECT date, open, high, low, close, volume, vwap, trades, source > 5 AS own FROM ohlcv_daily
    WHERE symbol = %(symbol)s AND date >= %(first)s AND date < %(last)s {stored}
    ORDER BY date {direction} LIMIT %(limit)s
), made AS (
    SELECT session.date, day.*, false AS own
    FROM sessions session CROSS JOIN LATERAL (
        SELECT (array_agg(open ORDER BY timestamp) FILTER (WHERE regular))[1] AS open, max(high) FILTER (WHERE regular) AS high,
               min(low) FILTER (WHERE regular) AS low, (array_agg(close ORDER BY timestamp DESC) FILTER (WHERE regular))[1] AS close, {volume}
        FROM (SELECT *, timestamp >= session.open AND timestamp < session.close AS regular FROM ({rows}) AS minute) AS minute
    ) AS day
    WHERE session.date >= %(first)s AND session.date < %(last)s AND day.open IS NOT NULL
      AND session.post_close > (SELECT min(timestamp) FROM ohlcv_1min WHERE symbol = %(symbol)s)
      AND session.pre_open <= (SELECT max(timestamp) FROM ohlcv_1min WHERE symbol = %(symbol)s)
      AND NOT EXISTS (SELECT 1 FROM ohlcv_daily WHERE symbol = %(symbol)s AND date = session.date {stored})
    ORDER BY session.date {direction} LIMIT %(limit)s
)
SELECT * FROM (SELECT * FROM official UNION ALL SELECT * FROM made) AS day ORDER BY date {direction} LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which bars: those that start in [start, end), the first `limit` of them or the last; `now` is the moment that decides what is final."""

    symbol: str
    start: datetime
    end: datetime
    forward: bool
    limit: int
    as_of: datetime | None
    now: datetime

    @property
    def direction(self) -> str:
        return "ASC" if self.forward else "DESC"

    def rows(self, start: str, end: str, *, first: str = "") -> str:
        """Return the statement for the minutes between two expressions, as they stand or stood; `first`: which of them suffice."""
        return (_THEN if self.as_of else _NOW).format(start=start, end=end, first=first)


def candles(
    symbol: str,
    interval: str,
    *,
    start: datetime | None,
    end: datetime | None,
    forward: bool,
    limit: int,
    now: datetime,
    as_of: datetime | None = None,
    adjusted: bool = False,
) -> list[Candle]:
    """
    Return the bars that start in [start, end): the first `limit` of them, or with `forward` false the last, newest first.

    With `as_of` from the rows as they stood then; splits of a later day are not known then either.
    """
    asked = _Asked(symbol, start or EARLIEST, end or LATEST, forward, limit, as_of, as_of or now)
    splits = _splits(symbol, until=exchange_day(asked.now)) if adjusted else []
    adjustment = Adjustment(splits)
    if interval == "1w":
        return _weeks(asked, adjustment)
    found = _days(asked, day_from(asked.start), day_from(asked.end)) if interval == "1d" else _intraday(asked, interval)
    return [adjustment.apply(candle) for candle in found] if splits else found


def _splits(symbol: str, *, until: date) -> list[SplitRatio]:
    rows = Split.objects.filter(symbol=symbol, execution_date__lte=until).values_list("execution_date", "split_from", "split_to")
    return [SplitRatio(*row) for row in rows]


def _rows(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


# ---- within a day ---------------------------------------------------------------------------------------------------------------------


def _intraday(asked: _Asked, interval: str) -> list[Candle]:
    """Read as many minutes as `limit` bars can hold at most, from the asked end on: so none of those bars is cut, and no more are read."""
    first = _FIRST.format(direction=asked.direction)
    minutes = _MINUTES.format(rows=asked.rows("%(start)s", "%(end)s", first=first), first=first)
    parameters = {
        "symbol": asked.symbol,
        "start": ceiling(asked.start, interval),
        "end": ceiling(asked.end, interval),
        "rows": asked.limit * LONGEST_BUCKET[interval],
        "limit": asked.limit,
        "length": INTRADAY[interval] * MINUTE,
        "as_of": asked.as_of,
    }
    if interval == "1m":
        return [Candle(row[0], row[0] + MINUTE, *row[1:]) for row in _rows(minutes, parameters)]
    place = _BY_CLOCK if INTRADAY[interval] <= 60 else _BY_NEW_YORK
    statement = _BUCKETS.format(volume=_VOLUME, bucket=place, minutes=minutes, direction=asked.direction)
    found = (Candle(row[0], bucket(row[0], interval)[1], *row[1:]) for row in _rows(statement, parameters))
    return list(over_by(found, asked.now - LATE))  # until then another minute may come into the bar


# ---- days and weeks ---------------------------------------------------------------------------------------------------------------------


def _days(asked: _Asked, first: date, last: date) -> list[Candle]:
    """Read the days of [first, last). One is final when it is over and has a row of its own; one from minutes waits for the official bar."""
    statement = _DAYS.format(
        direction=asked.direction,
        volume=_VOLUME,
        rows=asked.rows("session.pre_open", "session.post_close"),
        stored="AND updated_at <= %(as_of)s" if asked.as_of else "",
    )
    parameters = {"symbol": asked.symbol, "first": first, "last": last, "limit": asked.limit, "as_of": asked.as_of}
    days = (Candle(midnight(row[0]), midnight(row[0] + timedelta(days=1)), *row[1:]) for row in _rows(statement, parameters))
    return list(over_by(days, asked.now))


def _weeks(asked: _Asked, adjustment: Adjustment) -> list[Candle]:
    """Fold adjusted days: a split may fall into the middle of a week. `limit` weeks hold at most seven days each."""
    whole = replace(asked, limit=asked.limit * DAYS_A_WEEK)
    days = _days(whole, week_from(asked.start), week_from(asked.end))
    ordered = [adjustment.apply(day) for day in (days if asked.forward else reversed(days))]
    found = list(over_by(weeks(ordered), asked.now))
    return found[: asked.limit] if asked.forward else found[::-1][: asked.limit]
