"""
The rules of combinations: JSON in, clauses out, and how well a clause is fulfilled. Pure.

A rule is a list of clauses, all of which must hold. A clause speaks of a pattern or of a number:

    {"pattern": "bull_flag", "interval": "5m", "direction": "bullish", "min_confidence": 0.5, "within": 3, "close": ">="}
    {"value": "rvol_20", "interval": "5m", "is": ">", "than": 2}
    {"value": "ema_20", "interval": "1d", "is": ">", "than": "ema_50"}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from patterns.detectors import DETECTORS, SHAPES
from patterns.indicators.catalogue import INTERVALS, NAMES

RELATIONS = (">", ">=", "<", "<=")
DIRECTIONS = ("bullish", "bearish", "neutral")
OF_THE_BAR = ("close", "change")
"""Numbers of the bar itself: its close, and that over the close of the session before (of a day: of 20 sessions before)."""

MOST_CLAUSES, LONGEST_WITHIN = 8, 100
_PATTERN_KEYS = {"pattern", "interval", "direction", "min_confidence", "within", "close"}
_VALUE_KEYS = {"value", "interval", "is", "than"}


class RuleError(ValueError):
    """The rule cannot be read; `faults` has one sentence for each clause that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(" ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class PatternClause:
    """
    A standing detection of one of the patterns on the last `within` bars of an interval.

    `close` is the relation in which the close of the combination's bar must stand to the level of the detection's geometry; None: whatever.
    """

    patterns: tuple[str, ...]
    interval: str
    direction: str | None
    min_confidence: float
    within: int
    close: str | None

    @property
    def name(self) -> str:
        """Return what it asks for, in words."""
        wanted = f"{self.direction} " if self.direction else ""
        return f"{wanted}{' or '.join(self.patterns)} on {self.interval}"


@dataclass(frozen=True, slots=True)
class ValueClause:
    """A number of the newest bar of an interval, in a relation to a constant or to another number of the same bar."""

    value: str
    interval: str
    relation: str
    than: float | str

    @property
    def name(self) -> str:
        """Return what it asks for, in words."""
        return f"{self.value} on {self.interval}" + (f" against {self.than}" if isinstance(self.than, str) else "")


Clause = PatternClause | ValueClause


def clauses_of(rule: Any, *, within: int) -> tuple[Clause, ...]:
    """Return the clauses of a rule; `within` stands where a clause does not say. RuleError lists what is wrong, clause by clause."""
    if not isinstance(rule, list) or not rule:
        raise RuleError(["A rule is a list of at least one clause: [{…}, {…}]."])
    if len(rule) > MOST_CLAUSES:
        raise RuleError([f"A rule has at most {MOST_CLAUSES} clauses, not {len(rule)}."])
    clauses: list[Clause] = []
    faults: list[str] = []
    for number, clause in enumerate(rule, start=1):
        try:
            clauses.append(_clause(clause, within))
        except ValueError as error:
            faults.append(f"Clause {number}: {error}")
    if faults:
        raise RuleError(faults)
    return tuple(clauses)


def holds(measured: float, relation: str, threshold: float) -> bool:
    """Return whether the relation holds."""
    return {
        ">": measured > threshold, ">=": measured >= threshold, "<": measured < threshold, "<=": measured <= threshold,
    }[relation]  # fmt: skip


def margin(measured: float, threshold: float) -> float:
    """
    Return how clearly a number is past its threshold: 0.5 at it, towards 1 far from it.

    x = |measured - threshold| / |threshold| (of a threshold of 0: over |measured| + 1), as (0.5 + x) / (1 + x). The formula is ours.
    """
    distance = abs(measured - threshold)
    share = distance / abs(threshold) if threshold else distance / (abs(measured) + 1)
    return (0.5 + share) / (1 + share)


def _clause(clause: Any, within: int) -> Clause:
    if not isinstance(clause, Mapping) or ("pattern" in clause) == ("value" in clause):
        raise ValueError('it needs either "pattern" or "value".')
    interval = clause.get("interval")
    if interval not in INTERVALS:
        raise ValueError(f'"interval" is {_said(interval)}; it must be one of {", ".join(INTERVALS)}.')
    unknown = set(clause) - (_PATTERN_KEYS if "pattern" in clause else _VALUE_KEYS)
    if unknown:
        raise ValueError(f"it knows no {', '.join(sorted(map(repr, unknown)))}.")
    return _pattern_clause(clause, interval, within) if "pattern" in clause else _value_clause(clause, interval)


def _pattern_clause(clause: Mapping[str, Any], interval: str, within: int) -> PatternClause:
    asked = clause["pattern"]
    patterns = tuple(asked) if isinstance(asked, list) else (asked,)
    unknown = [_said(name) for name in patterns if not isinstance(name, str) or (name not in DETECTORS and name not in SHAPES)]
    if unknown or not patterns:
        raise ValueError(f"there is no pattern {', '.join(unknown) or 'in an empty list'}.")
    elsewhere = [name for name in patterns if name in SHAPES and interval not in SHAPES[name].intervals]
    if elsewhere:
        raise ValueError(f"{', '.join(elsewhere)} is not looked for on {interval}.")
    direction, close = clause.get("direction"), clause.get("close")
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(f'"direction" is {_said(direction)}; it must be one of {", ".join(DIRECTIONS)}.')
    if close is not None and close not in RELATIONS:
        raise ValueError(f'"close" is {_said(close)}; it must be one of {" ".join(RELATIONS)}.')
    if close is not None and any(name not in SHAPES for name in patterns):
        raise ValueError('"close" asks for a level, which candlesticks do not have.')
    confidence, bars = clause.get("min_confidence", 0), clause.get("within", within)
    if not _is_number(confidence) or not 0 <= confidence <= 1:
        raise ValueError(f'"min_confidence" is {_said(confidence)}; it must lie between 0 and 1.')
    if not isinstance(bars, int) or isinstance(bars, bool) or not 1 <= bars <= LONGEST_WITHIN:
        raise ValueError(f'"within" is {_said(bars)}; it must be a whole number from 1 to {LONGEST_WITHIN}.')
    return PatternClause(patterns, interval, direction, float(confidence), bars, close)


def _value_clause(clause: Mapping[str, Any], interval: str) -> ValueClause:
    known = (*OF_THE_BAR, *NAMES[interval])
    value, relation, than = clause["value"], clause.get("is"), clause.get("than")
    if value not in known:
        raise ValueError(f"there is no value {_said(value)} on {interval}; there are {', '.join(known)}.")
    if relation not in RELATIONS:
        raise ValueError(f'"is" is {_said(relation)}; it must be one of {" ".join(RELATIONS)}.')
    if isinstance(than, str) and than not in known:
        raise ValueError(f"there is no value {_said(than)} on {interval} to compare with.")
    if isinstance(than, str):
        return ValueClause(value, interval, relation, than)
    if not _is_number(than):
        raise ValueError(f'"than" is {_said(than)}; it must be a number or the name of a value.')
    return ValueClause(value, interval, relation, float(than))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _said(value: Any) -> str:
    return "missing" if value is None else repr(value)[:60]
