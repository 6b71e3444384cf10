"""
Combinations of stored detections and values: on which bars they fire.

Whether one fires on a bar is a function of rows: all its clauses hold at the bar's end and did not at the end of the bar before. It is
evaluated whenever one of the intervals that it speaks of was scanned, so it does not matter which of them came first.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection

from patterns.detectors.detail import conditions_of
from patterns.detectors.matches import Condition
from patterns.detectors.rules import OF_THE_BAR, Clause, PatternClause, RuleError, ValueClause, holds, margin
from patterns.models import Combination, Direction
from patterns.windows import LENGTH_MS, milliseconds_of, moment_of
from patterns.writer import Announcement, FoundPattern, JudgedBars, store_detections

log = logging.getLogger(__name__)

BARS_AT_ONCE = 2_000
BARS_OF_A_TRIAL = 50_000
FRESH = {"1d": "8 days"}
FRESH_WITHIN_THE_DAY = "4 days"
"""The newest bar of an interval says nothing any more when it began longer ago: a week's holidays, a weekend's."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Firing:
    """That a combination fires on a bar, how clearly, and why."""

    symbol: str
    opened_at_ms: int
    confidence: float
    detail: dict[str, Any]


# ---- Statements: one lateral look into the rows for each clause ----------------------------------------------------------------------------


def _length(interval: str) -> str:
    return f"interval '{LENGTH_MS[interval] // 60_000} minutes'"


def _end(interval: str, start: str) -> str:
    """Return the expression of a bar's end; days end at midnight in New York."""
    if interval == "1d":
        return f"(({start} AT TIME ZONE 'America/New_York') + interval '1 day') AT TIME ZONE 'America/New_York'"
    return f"{start} + {_length(interval)}"


def _last_start(interval: str) -> str:
    """Return the expression of the latest start that a bar of the interval may have, to be over at the end of the combination's bar."""
    if interval == "1d":
        return "((asked.ends AT TIME ZONE 'America/New_York') - interval '1 day') AT TIME ZONE 'America/New_York'"
    return f"asked.ends - {_length(interval)}"


def _newest(interval: str, *, rows: int) -> str:
    fresh = FRESH.get(interval, FRESH_WITHIN_THE_DAY)
    oldest = "" if rows > 1 else f"AND timestamp > asked.ends - interval '{fresh}'"
    return (
        f"SELECT timestamp, close, change FROM scanned_bars WHERE symbol = asked.symbol AND timeframe = '{interval}' "  # noqa: S608 - own words
        f"AND timestamp <= {_last_start(interval)} {oldest} ORDER BY timestamp DESC LIMIT {rows}"
    )


def _number(name: str, interval: str, place: str) -> str:
    if name in OF_THE_BAR:
        return f"bar.{name}"
    return (
        f"(SELECT value::float8 FROM intraday_indicators WHERE symbol = asked.symbol AND timeframe = '{interval}' "  # noqa: S608 - own words
        f"AND timestamp = bar.timestamp AND indicator_name = %({place})s)"
    )


def _value_join(clause: ValueClause, number: int) -> tuple[str, dict[str, Any]]:
    names = {f"value_{number}": clause.value, f"than_{number}": clause.than}
    is_name = isinstance(clause.than, str)
    than = _number(str(clause.than), clause.interval, f"than_{number}") if is_name else f"%(than_{number})s::float8"
    measured = _number(clause.value, clause.interval, f"value_{number}")
    text = (
        f"LEFT JOIN LATERAL (SELECT bar.timestamp AS at, {measured} AS measured, {than} AS threshold, '' AS kind "  # noqa: S608 - own words
        f"FROM ({_newest(clause.interval, rows=1)}) AS bar) AS clause_{number} ON true"
    )
    return text, names


def _pattern_join(clause: PatternClause, number: int) -> tuple[str, dict[str, Any]]:
    close = f"AND asked.close {clause.close} (found.detail->'geometry'->>'level')::float8" if clause.close else ""
    direction = f"AND found.direction = %(direction_{number})s" if clause.direction else ""
    text = (
        f"LEFT JOIN LATERAL (SELECT found.timestamp AS at, found.confidence AS measured, %(least_{number})s::float8 AS threshold, "  # noqa: S608 - own words
        f"found.pattern_type AS kind FROM (SELECT min(timestamp) AS first, max(timestamp) AS last "
        f"FROM ({_newest(clause.interval, rows=clause.within)}) AS bars) AS span "
        f"JOIN intraday_patterns AS found ON found.symbol = asked.symbol AND found.timeframe = '{clause.interval}' "
        f"AND found.timestamp BETWEEN span.first AND span.last AND found.status = 'standing' AND found.pattern_type = ANY(%(kinds_{number})s) "
        f"AND found.confidence >= %(least_{number})s {direction} {close} ORDER BY found.timestamp DESC, found.confidence DESC, "
        f"found.pattern_type LIMIT 1) AS clause_{number} ON true"
    )
    names = {f"kinds_{number}": list(clause.patterns), f"least_{number}": clause.min_confidence, f"direction_{number}": clause.direction}
    return text, names


def _measured(timeframe: str, clauses: Sequence[Clause], bars: Sequence[tuple[str, datetime]]) -> list[Row]:
    """Return for each bar that is in the ledger (symbol, start, then (at, measured, threshold, kind) of each clause)."""
    parameters: dict[str, Any] = {"symbols": [bar[0] for bar in bars], "starts": [bar[1] for bar in bars], "timeframe": timeframe}
    joins = []
    for number, clause in enumerate(clauses):
        text, names = _pattern_join(clause, number) if isinstance(clause, PatternClause) else _value_join(clause, number)
        joins.append(text)
        parameters |= names
    columns = ", ".join(
        f"clause_{number}.at, clause_{number}.measured, clause_{number}.threshold, clause_{number}.kind" for number in range(len(clauses))
    )
    statement = (
        f"SELECT asked.symbol, asked.timestamp, {columns} FROM ("  # noqa: S608 - own words, values as parameters
        f"SELECT ledger.*, {_end(timeframe, 'ledger.timestamp')} AS ends "
        f"FROM unnest(%(symbols)s::text[], %(starts)s::timestamptz[]) AS key(symbol, start) "
        f"JOIN scanned_bars AS ledger ON ledger.symbol = key.symbol AND ledger.timeframe = %(timeframe)s AND ledger.timestamp = key.start"
        f") AS asked {' '.join(joins)} ORDER BY asked.symbol, asked.timestamp"
    )
    return _rows(statement, parameters)


def _rows(statement: str, parameters: dict[str, Any]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


_BEFORE = """
SELECT key.symbol, key.start, before.timestamp
FROM unnest(%(symbols)s::text[], %(starts)s::timestamptz[]) AS key(symbol, start)
LEFT JOIN LATERAL (
    SELECT timestamp FROM scanned_bars WHERE symbol = key.symbol AND timeframe = %(timeframe)s AND timestamp < key.start
    ORDER BY timestamp DESC LIMIT 1
) AS before ON true
"""

_REVISIONS = """
SELECT ledger.symbol, ledger.timestamp, ledger.bar_revision
FROM unnest(%(symbols)s::text[], %(starts)s::timestamptz[]) AS key(symbol, start)
JOIN scanned_bars AS ledger ON ledger.symbol = key.symbol AND ledger.timeframe = %(timeframe)s AND ledger.timestamp = key.start
"""

# The bars of the combination at whose end a bar of another interval may have had a say, and one more: whether it fires depends on the last
_CONCERNED = """
SELECT concerned.symbol, concerned.timestamp
FROM unnest(%(symbols)s::text[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[]) AS key(symbol, first, last)
CROSS JOIN LATERAL (
    SELECT coalesce((SELECT {next_end} FROM scanned_bars AS next WHERE next.symbol = key.symbol AND next.timeframe = %(scanned)s
                     AND next.timestamp > key.last ORDER BY next.timestamp OFFSET %(within)s LIMIT 1), 'infinity') AS until
) AS reach
CROSS JOIN LATERAL (
    (SELECT symbol, timestamp FROM scanned_bars WHERE symbol = key.symbol AND timeframe = %(timeframe)s
     AND timestamp > key.first - interval '3 days' AND {own_end} >= {first_end} AND timestamp <= reach.until)
    UNION ALL
    (SELECT symbol, timestamp FROM scanned_bars WHERE symbol = key.symbol AND timeframe = %(timeframe)s AND timestamp > reach.until
     ORDER BY timestamp LIMIT 1)
) AS concerned
"""


# ---- Evaluation -------------------------------------------------------------------------------------------------------------------------


def firings(combination: Combination, bars: Sequence[tuple[str, datetime]]) -> list[Firing]:
    """Return on which of these bars (symbol, start) of its interval the combination fires; only bars in the ledger can. RuleError."""
    clauses = combination.clauses()
    found: list[Firing] = []
    for first in range(0, len(bars), BARS_AT_ONCE):
        found += _firings(combination.timeframe, clauses, bars[first : first + BARS_AT_ONCE])
    return found


def _firings(timeframe: str, clauses: Sequence[Clause], bars: Sequence[tuple[str, datetime]]) -> list[Firing]:
    parameters = {"symbols": [bar[0] for bar in bars], "starts": [bar[1] for bar in bars], "timeframe": timeframe}
    before = {(symbol, start): earlier for symbol, start, earlier in _rows(_BEFORE, parameters)}
    needed = set(before) | {(symbol, earlier) for (symbol, _), earlier in before.items() if earlier}
    rows = {row[:2]: row for row in _measured(timeframe, clauses, sorted(needed))}
    judged = {key: _conditions(clauses, row) for key, row in rows.items()}
    true = {key for key, conditions in judged.items() if all(condition.passed for condition in conditions)}
    fires = [key for key in sorted(before) if key in true and (key[0], before[key]) not in true]
    return [_firing(clauses, rows[key], judged[key]) for key in fires]


def _conditions(clauses: Sequence[Clause], row: Row) -> list[Condition]:
    conditions = []
    for number, clause in enumerate(clauses):
        _, measured, threshold, _ = row[2 + 4 * number : 6 + 4 * number]
        relation = clause.relation if isinstance(clause, ValueClause) else ">="
        if threshold is None:
            threshold = clause.min_confidence if isinstance(clause, PatternClause) else None
        passed = measured is not None and threshold is not None and holds(measured, relation, threshold)
        conditions.append(Condition(clause.name, measured, relation, threshold, passed))
    return conditions


def _firing(clauses: Sequence[Clause], row: Row, conditions: list[Condition]) -> Firing:
    """The confidence is the mean over the clauses: of a pattern its own, of a number how clearly it is past its threshold (`margin`)."""
    parts: list[float] = []
    seen = []
    for number, (clause, condition) in enumerate(zip(clauses, conditions, strict=True)):
        at, measured, threshold, kind = row[2 + 4 * number : 6 + 4 * number]
        parts.append(measured if isinstance(clause, PatternClause) else margin(measured, threshold))
        seen.append({"interval": clause.interval, "at": at.isoformat().replace("+00:00", "Z"), "what": kind or condition.name})
    detail = {"conditions": conditions_of(conditions), "geometry": None, "clauses": seen}
    return Firing(row[0], milliseconds_of(row[1]), round(float(np.clip(np.mean(parts), 0, 1)), 4), detail)


def evaluate_after(bars: JudgedBars, *, now: datetime) -> tuple[list[Announcement], list[Announcement], int]:
    """Evaluate what the judged bars may have changed; return (detected, retracted, how many stand on the bars looked at)."""
    detected: list[Announcement] = []
    retracted: list[Announcement] = []
    count = 0
    for combination, concerned in _concerned(bars):
        for first in range(0, len(concerned), BARS_AT_ONCE):
            some = concerned[first : first + BARS_AT_ONCE]
            more, fewer, number = _store(combination, some, firings(combination, some), now=now)
            detected, retracted, count = detected + more, retracted + fewer, count + number
    return detected, retracted, count


def _concerned(bars: JudgedBars) -> Iterator[tuple[Combination, list[tuple[str, datetime]]]]:
    """Yield the enabled combinations with the bars of theirs that may have changed with these."""
    for combination in Combination.objects.filter(enabled=True):
        try:
            clauses = combination.clauses()
        except RuleError as error:
            log.error("The combination “%s” cannot be read and is left out; mend it in the admin: %s", combination.key, error)
            continue
        if combination.timeframe == bars.timeframe:
            yield (
                combination,
                [(symbol, moment_of(opened)) for symbol, opened in zip(bars.symbols, bars.opened_at_ms.tolist(), strict=True)],
            )
        elif mine := [clause for clause in clauses if clause.interval == bars.timeframe]:
            yield (
                combination,
                _behind(bars, combination.timeframe, max(clause.within if isinstance(clause, PatternClause) else 1 for clause in mine)),
            )


def _behind(bars: JudgedBars, timeframe: str, within: int) -> list[tuple[str, datetime]]:
    spans: dict[str, list[int]] = {}
    for symbol, opened in zip(bars.symbols, bars.opened_at_ms.tolist(), strict=True):
        spans.setdefault(symbol, []).append(opened)
    statement = _CONCERNED.format(
        next_end=_end(bars.timeframe, "next.timestamp"), own_end=_end(timeframe, "timestamp"), first_end=_end(bars.timeframe, "key.first")
    )
    parameters = {
        "symbols": list(spans),
        "firsts": [moment_of(min(opened)) for opened in spans.values()],
        "lasts": [moment_of(max(opened)) for opened in spans.values()],
        "scanned": bars.timeframe,
        "timeframe": timeframe,
        "within": within - 1,
    }
    return sorted(set(_rows(statement, parameters)))


def _store(
    combination: Combination, bars: Sequence[tuple[str, datetime]], fired: Sequence[Firing], *, now: datetime
) -> tuple[list[Announcement], list[Announcement], int]:
    parameters = {"symbols": [bar[0] for bar in bars], "starts": [bar[1] for bar in bars], "timeframe": combination.timeframe}
    rows = _rows(_REVISIONS, parameters)
    place = {(symbol, milliseconds_of(start)): number for number, (symbol, start, _) in enumerate(rows)}
    judged = JudgedBars(
        combination.timeframe,
        [row[0] for row in rows],
        np.array([milliseconds_of(row[1]) for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.ones(len(rows), dtype=np.bool_),
    )
    found = [
        FoundPattern(
            place[one.symbol, one.opened_at_ms], combination.key, one.confidence, Direction(combination.direction), json.dumps(one.detail)
        )
        for one in fired
    ]
    detected, retracted = store_detections(judged, found, judgeable=[combination.key], now=now)
    named = [[row | {"name": combination.name} for row in rows] for rows in (detected, retracted)]
    return named[0], named[1], len(found)


# ---- Trying out -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """On how many stored bars since a moment a combination would have fired, and on which; `bars` of `of` were looked at, the newest ones."""

    since: datetime
    bars: int
    of: int
    firings: list[Firing]


def try_out(combination: Combination, *, since: datetime) -> Trial:
    """Return where the combination would have fired since the moment, by what is stored now; changes nothing. RuleError."""
    where = {"timeframe": combination.timeframe, "since": since, "most": BARS_OF_A_TRIAL}
    ((of,),) = _rows("SELECT count(*) FROM scanned_bars WHERE timeframe = %(timeframe)s AND timestamp >= %(since)s", where)
    newest = (
        "SELECT symbol, timestamp FROM scanned_bars WHERE timeframe = %(timeframe)s AND timestamp >= %(since)s "
        "ORDER BY timestamp DESC, symbol LIMIT %(most)s"
    )
    bars = sorted(_rows(newest, where))
    return Trial(since, len(bars), of, firings(combination, bars))
