"""
What a scan found → rows: upserts that are safe to repeat, and change nothing where nothing is new, not even a time.

The caller holds `lock_symbols` since before it read the bars, so that what is written here is never older than what stands there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection

from marketdata.bars.interval import INTRADAY
from marketdata.bars.window import Floats, Integers
from patterns.indicators.catalogue import BENCHMARK, INTERVALS, STRENGTH
from patterns.indicators.volume import SessionSums
from patterns.models import Combination, Direction

LOCK_CLASS = 0x7363616E  # "scan": our half of PostgreSQL's two-number advisory locks
BENCHMARK_LOCK_CLASS = 0x73636162  # "scab": whoever judges the benchmark writes values of all symbols


@dataclass(frozen=True, eq=False, slots=True)
class JudgedBars:
    """Keys of bars of one interval, shape (m,), each with the revision that was judged and whether it had been judged before."""

    timeframe: str
    symbols: list[str]
    opened_at_ms: Integers
    revision: Integers
    again: np.ndarray[Any, np.dtype[np.bool_]]

    def columns(self, chosen: Any = slice(None)) -> dict[str, Any]:
        """Return the keys as parameters of a statement."""
        symbols = np.array(self.symbols, dtype=object)[chosen].tolist()
        return {
            "timeframe": self.timeframe,
            "symbols": symbols,
            "opened": self.opened_at_ms[chosen].tolist(),
            "revisions": self.revision[chosen].tolist(),
        }


@dataclass(frozen=True, slots=True)
class FoundPattern:
    """One detection, before it is a row; `bar` is the place of its bar among the judged ones, `detail` is JSON text."""

    bar: int
    pattern_type: str
    confidence: float
    direction: Direction
    detail: str


def lock_symbols(timeframe: str, symbols: Sequence[str], *, strength: bool = True) -> None:
    """
    Wait until no other scan of these symbols runs, and keep it so until the transaction ends.

    A scan of the benchmark also waits for all others of the interval: relative strength needs what both have written. One that writes no
    `strength` need not.
    """
    kind = "" if BENCHMARK in symbols else "_shared"
    with connection.cursor() as cursor:
        if strength:
            cursor.execute(f"SELECT pg_advisory_xact_lock{kind}(%s, %s)", [BENCHMARK_LOCK_CLASS, INTERVALS.index(timeframe)])
        cursor.execute(
            "SELECT count(pg_advisory_xact_lock(%s, number)) FROM (SELECT hashtext(symbol) AS number FROM unnest(%s::text[]) AS symbol "
            "ORDER BY number) AS symbols",
            [LOCK_CLASS, list(symbols)],
        )


# ---- Detections -----------------------------------------------------------------------------------------------------------------------

_FOUND_COLUMNS = "id, symbol, pattern_type, timeframe, timestamp, detection_timestamp, confidence, direction, status"

_STORE_FOUND = f"""
INSERT INTO intraday_patterns AS kept (symbol, pattern_type, timeframe, timestamp, detection_timestamp, confidence, direction,
                                       status, status_at, bar_revision, detail)
SELECT symbol, pattern_type, %(timeframe)s, timestamptz 'epoch' + opened * interval '1 millisecond', %(now)s, confidence, direction,
       'standing', %(now)s, revision, detail
FROM ROWS FROM (
    unnest(%(symbols)s::text[], %(opened)s::bigint[], %(revisions)s::int[], %(patterns)s::text[], %(confidences)s::float8[],
           %(directions)s::text[]),
    jsonb_array_elements(%(details)s::jsonb)
) AS found(symbol, opened, revision, pattern_type, confidence, direction, detail)
ORDER BY opened, symbol, pattern_type
ON CONFLICT (symbol, timeframe, timestamp, pattern_type) DO UPDATE SET
    confidence = excluded.confidence, direction = excluded.direction, detail = excluded.detail, bar_revision = excluded.bar_revision,
    status = 'standing', status_at = CASE kept.status WHEN 'standing' THEN kept.status_at ELSE excluded.status_at END
WHERE (kept.confidence, kept.direction, kept.detail, kept.bar_revision, kept.status)
      IS DISTINCT FROM (excluded.confidence, excluded.direction, excluded.detail, excluded.bar_revision, 'standing')
RETURNING {_FOUND_COLUMNS},
          CASE WHEN xmax = 0 THEN 'found' WHEN status_at = %(now)s THEN 'returned' ELSE 'confirmed' END AS news
"""  # noqa: S608 - constant text; xmax is 0 only in a row that was inserted

_STANDING = """
SELECT kept.id, judged.place - 1, kept.pattern_type
FROM unnest(%(symbols)s::text[], %(opened)s::bigint[]) WITH ORDINALITY AS judged(symbol, opened, place)
JOIN intraday_patterns AS kept ON kept.symbol = judged.symbol AND kept.timeframe = %(timeframe)s
     AND kept.timestamp = timestamptz 'epoch' + judged.opened * interval '1 millisecond'
WHERE kept.status = 'standing' AND kept.pattern_type = ANY(%(judgeable)s)
"""

_RETRACT = f"""
UPDATE intraday_patterns AS kept SET status = 'retracted', status_at = %(now)s, bar_revision = gone.revision
FROM unnest(%(ids)s::bigint[], %(revisions)s::int[]) AS gone(id, revision) WHERE kept.id = gone.id
RETURNING {", ".join(f"kept.{name}" for name in _FOUND_COLUMNS.split(", "))}, 'retracted' AS news
"""  # noqa: S608 - constant text

Announcement = dict[str, Any]


def store_detections(
    bars: JudgedBars, found: Sequence[FoundPattern], *, judgeable: Iterable[str], now: datetime
) -> tuple[list[Announcement], list[Announcement]]:
    """
    Store what stands on the judged bars; return (detected, retracted) as the signals announce them.

    `judgeable` are the patterns that were looked for. One of them that was stored and is not found any more is retracted, never deleted; one
    that is found again returns. A row that would stay as it is, is not touched and not announced.
    """
    place = [one.bar for one in found]
    parameters = bars.columns(place) | {
        "patterns": [one.pattern_type for one in found],
        "confidences": [one.confidence for one in found],
        "directions": [one.direction.value for one in found],
        "details": f"[{','.join(one.detail for one in found)}]",  # an array of texts would have each quotation mark escaped
        "now": now,
    }
    retracted = _retract(bars, found, judgeable=judgeable, now=now)
    return _announced(_STORE_FOUND, parameters) if found else [], retracted


def _retract(bars: JudgedBars, found: Sequence[FoundPattern], *, judgeable: Iterable[str], now: datetime) -> list[Announcement]:
    """Retract what stands on the judged bars and was not found; a bar that is new to the ledger may have been told of before."""
    with connection.cursor() as cursor:
        cursor.execute(_STANDING, bars.columns() | {"judgeable": list(judgeable)})
        standing = cursor.fetchall()
    stays = {(one.bar, one.pattern_type) for one in found}
    gone = [(number, int(bars.revision[place])) for number, place, pattern_type in standing if (place, pattern_type) not in stays]
    if not gone:
        return []
    return _announced(_RETRACT, {"ids": [one[0] for one in gone], "revisions": [one[1] for one in gone], "now": now})


def _announced(statement: str, parameters: dict[str, Any]) -> list[Announcement]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    known = Combination.objects.names_of({row["pattern_type"] for row in rows})
    return [row | {"name": known[row["pattern_type"]]} for row in rows]


# ---- Indicator values -------------------------------------------------------------------------------------------------------------------

_STORE_VALUES = """
INSERT INTO intraday_indicators AS kept (symbol, indicator_name, timeframe, timestamp, calculation_timestamp, value, bar_revision)
SELECT bar.symbol, known.name, %(timeframe)s, timestamptz 'epoch' + bar.opened * interval '1 millisecond', %(now)s,
       counted.value::numeric, bar.revision
FROM unnest(%(symbols)s::text[], %(opened)s::bigint[], %(revisions)s::int[]) WITH ORDINALITY AS bar(symbol, opened, revision, row)
CROSS JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS known(name, place)
JOIN unnest(%(values)s::float8[]) WITH ORDINALITY AS counted(value, place)
     ON counted.place = (bar.row - 1) * cardinality(%(names)s::text[]) + known.place
WHERE counted.value <> 'NaN'
ORDER BY bar.row, known.place
ON CONFLICT (symbol, timeframe, timestamp, indicator_name) DO UPDATE SET
    value = excluded.value, calculation_timestamp = excluded.calculation_timestamp, bar_revision = excluded.bar_revision
WHERE (kept.value, kept.bar_revision) IS DISTINCT FROM (excluded.value, excluded.bar_revision)
"""

_DROP_VALUES = """
DELETE FROM intraday_indicators AS kept
USING unnest(%(symbols)s::text[], %(opened)s::bigint[], %(names)s::text[]) AS gone(symbol, opened, name)
WHERE kept.symbol = gone.symbol AND kept.timeframe = %(timeframe)s AND kept.indicator_name = gone.name
  AND kept.timestamp = timestamptz 'epoch' + gone.opened * interval '1 millisecond'
"""


def store_values(bars: JudgedBars, values: dict[str, Floats], *, now: datetime) -> int:
    """
    Store the values of the judged bars, shape (m,) by name; return how many there are. NaN is no value.

    PostgreSQL keeps 15 significant digits of them. What was stored and is no value any more is deleted.
    """
    names = list(values)
    table = np.stack([np.where(np.isfinite(values[name]), values[name], np.nan) for name in names], axis=1)
    with connection.cursor() as cursor:
        cursor.execute(_STORE_VALUES, bars.columns() | {"names": names, "values": table.ravel().tolist(), "now": now})
        row, column = np.nonzero(np.isnan(table) & bars.again[:, None])
        if len(row):
            cursor.execute(_DROP_VALUES, bars.columns(row) | {"names": [names[place] for place in column.tolist()]})
    return int((~np.isnan(table)).sum())


# ---- The ledger -------------------------------------------------------------------------------------------------------------------------

_STORE_LEDGER = """
INSERT INTO scanned_bars AS kept (symbol, timeframe, timestamp, bar_revision, scanned_at, session_turnover, session_volume,
                                  session_spread, session_balance, close, change)
SELECT symbol, %(timeframe)s, timestamptz 'epoch' + opened * interval '1 millisecond', revision, %(now)s,
       nullif(turnover, 'NaN'), nullif(volume, 'NaN'), nullif(spread, 'NaN'), nullif(balance, 'NaN'), close, nullif(change, 'NaN')
FROM unnest(%(symbols)s::text[], %(opened)s::bigint[], %(revisions)s::int[], %(turnover)s::float8[], %(volume)s::float8[],
            %(spread)s::float8[], %(balance)s::float8[], %(close)s::float8[], %(change)s::float8[])
     AS bar(symbol, opened, revision, turnover, volume, spread, balance, close, change)
ON CONFLICT (symbol, timeframe, timestamp) DO UPDATE SET
    bar_revision = excluded.bar_revision, scanned_at = excluded.scanned_at,
    session_turnover = excluded.session_turnover, session_volume = excluded.session_volume,
    session_spread = excluded.session_spread, session_balance = excluded.session_balance, close = excluded.close, change = excluded.change
WHERE (kept.bar_revision, kept.session_turnover, kept.session_volume, kept.session_spread, kept.session_balance, kept.close, kept.change)
      IS DISTINCT FROM (excluded.bar_revision, excluded.session_turnover, excluded.session_volume, excluded.session_spread,
                        excluded.session_balance, excluded.close, excluded.change)
"""

_FORGET_FAILURES = """
DELETE FROM scan_failures AS failure USING unnest(%(symbols)s::text[], %(opened)s::bigint[]) AS bar(symbol, opened)
WHERE failure.symbol = bar.symbol AND failure.timeframe = %(timeframe)s
  AND failure.timestamp = timestamptz 'epoch' + bar.opened * interval '1 millisecond'
"""


def store_ledger(bars: JudgedBars, *, sums: SessionSums, close: Floats, change: Floats, now: datetime) -> None:
    """Note that these bars were scanned, with the sums of their session (NaN outside of one), their close and its change."""
    parameters = bars.columns() | {
        "turnover": sums.turnover.tolist(),
        "volume": sums.volume.tolist(),
        "spread": sums.spread.tolist(),
        "balance": sums.balance.tolist(),
        "close": close.tolist(),
        "change": change.tolist(),
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(_STORE_LEDGER, parameters)
        cursor.execute(_FORGET_FAILURES, bars.columns())


# ---- Relative strength: a quotient of two ledger rows, so that it does not matter which of the two came first --------------------------------

_STORE_STRENGTH = f"""
WITH wanted AS (
SELECT mine.symbol, mine.timestamp, (mine.change / benchmark.change)::numeric AS value, mine.bar_revision
FROM scanned_bars AS mine JOIN scanned_bars AS benchmark USING (timeframe, timestamp)
WHERE benchmark.symbol = '{BENCHMARK}' AND mine.timeframe = %(timeframe)s AND mine.change > 0 AND benchmark.change > 0 AND {{which}}
), stored AS (
INSERT INTO intraday_indicators AS kept (symbol, indicator_name, timeframe, timestamp, calculation_timestamp, value, bar_revision)
SELECT symbol, '{STRENGTH}', %(timeframe)s, timestamp, %(now)s, value, bar_revision FROM wanted ORDER BY symbol, timestamp
ON CONFLICT (symbol, timeframe, timestamp, indicator_name) DO UPDATE SET
    value = excluded.value, calculation_timestamp = excluded.calculation_timestamp, bar_revision = excluded.bar_revision
WHERE (kept.value, kept.bar_revision) IS DISTINCT FROM (excluded.value, excluded.bar_revision)
) SELECT count(*) FROM wanted
"""  # noqa: S608 - constant text
_OF_BARS = """(mine.symbol, mine.timestamp) IN (
    SELECT symbol, timestamptz 'epoch' + opened * interval '1 millisecond' FROM unnest(%(symbols)s::text[], %(opened)s::bigint[])
    AS bar(symbol, opened))"""
_AT_MOMENTS = """mine.timestamp IN (
    SELECT timestamptz 'epoch' + opened * interval '1 millisecond' FROM unnest(%(moments)s::bigint[]) AS opened)"""


def store_strength(bars: JudgedBars, *, now: datetime) -> int:
    """Store the relative strength of the judged bars, and of all others at the moments of the benchmark's; return how many the former have."""
    moments = bars.opened_at_ms[np.array(bars.symbols, dtype=object) == BENCHMARK].tolist()
    parameters = bars.columns() | {"now": now, "moments": moments}
    with connection.cursor() as cursor:
        cursor.execute(_STORE_STRENGTH.format(which=_OF_BARS), parameters)
        (count,) = cursor.fetchone()
        if moments:
            cursor.execute(_STORE_STRENGTH.format(which=_AT_MOMENTS), parameters)
    return int(count)


# ---- Attempts ---------------------------------------------------------------------------------------------------------------------------

_PRESENT_MINUTE = "SELECT revision FROM ohlcv_1min WHERE symbol = key.symbol AND timestamp = key.moment"
_PRESENT_BUCKET = """
    SELECT least(sum(revision + 1) - 1, 2147483647)::int AS revision FROM ohlcv_1min
    WHERE symbol = key.symbol AND timestamp >= key.moment AND timestamp < key.moment + %(minutes)s * interval '1 minute' HAVING count(*) > 0
"""
_PRESENT_DAY = """
    SELECT extract(epoch FROM updated_at - timestamptz '2000-01-01')::int AS revision FROM ohlcv_daily
    WHERE symbol = key.symbol AND date = (key.moment AT TIME ZONE 'America/New_York')::date
"""
_PRESENT = {"1m": _PRESENT_MINUTE, **dict.fromkeys(("5m", "15m", "1h"), _PRESENT_BUCKET), "1d": _PRESENT_DAY}

_COUNT_ATTEMPTS = """
INSERT INTO scan_failures AS known (symbol, timeframe, timestamp, bar_revision, attempts, last_at, error)
SELECT key.symbol, %(timeframe)s, key.moment, bar.revision, 1, %(now)s, %(error)s
FROM (SELECT symbol, timestamptz 'epoch' + opened * interval '1 millisecond' AS moment
      FROM unnest(%(symbols)s::text[], %(opened)s::bigint[]) AS asked(symbol, opened)) AS key
CROSS JOIN LATERAL ({present}) AS bar
WHERE %(error)s <> '' OR NOT EXISTS (
    SELECT 1 FROM scanned_bars AS ledger WHERE ledger.symbol = key.symbol AND ledger.timeframe = %(timeframe)s
    AND ledger.timestamp = key.moment AND ledger.bar_revision = bar.revision)
ON CONFLICT (symbol, timeframe, timestamp) DO UPDATE SET
    attempts = CASE WHEN known.bar_revision = excluded.bar_revision THEN least(known.attempts + 1, 1000) ELSE 1 END,
    bar_revision = excluded.bar_revision, last_at = excluded.last_at, error = excluded.error
"""


def count_attempts(keys: Sequence[tuple[str, int]], *, now: datetime, timeframe: str = "1m", error: str = "") -> None:
    """
    Count an attempt on each of these bars (symbol, Unix ms; no key twice).

    Without an `error` only on those that were not scanned yet: a message may come back long after the sweep has done its work.
    """
    parameters: dict[str, Any] = {
        "timeframe": timeframe,
        "symbols": [key[0] for key in keys],
        "opened": [key[1] for key in keys],
        "minutes": INTRADAY.get(timeframe, 0),
        "now": now,
        "error": error[:300],
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_ATTEMPTS.format(present=_PRESENT[timeframe]), parameters)
