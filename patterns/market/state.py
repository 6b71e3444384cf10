"""The state of a whole market at one moment, computed once; universes are cut out of it. Pure: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import Floats, Integers
from marketdata.feed.listing import BENCHMARK
from patterns.market.averages import Averages, averages
from patterns.market.breadth import Marks, marks
from patterns.market.panel import Panel, Today
from patterns.market.rotation import Relative, relative, rotate, rotate_at
from patterns.market.stages import Change, Stages, Weeks, changes, mansfield, stages, walk, weeks_of
from patterns.market.strength import Strength, strength


@dataclass(frozen=True, eq=False, slots=True)
class Turns:
    """Rotation of each symbol, shape (n, points): the last ten days, and the half hours of today at `at_ms`."""

    relative: Relative
    ratio: Floats
    momentum: Floats
    at_ms: Integers
    ratio_today: Floats
    momentum_today: Floats


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """Everything that does not depend on a universe."""

    history: Panel
    today: Today
    averages: Averages
    strength: Strength
    marks: Marks
    stages: Stages
    changes: list[Change]
    turns: Turns
    benchmark: int | None
    """The benchmark's row, None where it has no bars at all."""


@dataclass(frozen=True, eq=False, slots=True)
class HalfHours:
    """
    Prices at the half hours of today, shape (symbols, moments), NaN before a symbol's first; `at_ms` are the moments.

    `rows` are the symbols that have tails of today.
    """

    at_ms: Integers
    last: Floats
    rows: Integers


def state(bars: Panel, today: Today, half_hours: HalfHours) -> State:
    """
    Return the state of the market on `today`; of `bars` only those of earlier days count.

    Nothing later than today's prices is looked at.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        history = bars.before(today.day)
        spy = history.symbols.index(BENCHMARK) if BENCHMARK in history.symbols else None
        means = averages(history, today)
        ranks = strength(history, today)
        weeks = weeks_of(history, today)
        way = walk(weeks)
        has_benchmark = spy is not None and bool(np.isfinite(today.last[spy]))
        against = Weeks(weeks.close[[spy]], weeks.day[[spy]]) if has_benchmark else None
        where = stages(history, today, way, atr=means.atr, strength=mansfield(weeks, against))
        return State(
            history=history,
            today=today,
            averages=means,
            strength=ranks,
            marks=marks(history, today, means, change=ranks.change_day),
            stages=where,
            changes=changes(way),
            turns=_turns(history, today, half_hours, spy),
            benchmark=spy,
        )


def _turns(history: Panel, today: Today, half_hours: HalfHours, spy: int | None) -> Turns:
    if spy is None:
        nothing = np.full((len(history.symbols), 1), np.nan)
        empty = nothing[:, :0]
        return Turns(Relative(nothing, nothing), nothing, nothing, half_hours.at_ms[:0], empty, empty)
    against = relative(history, today, benchmark=history.chosen(np.array([spy])), benchmark_last=float(today.last[spy]))
    ratio, momentum = rotate(against.value)
    ratio_today, momentum_today = (np.full(half_hours.last.shape, np.nan) for _ in range(2))
    rows = half_hours.rows
    then = np.log(half_hours.last[rows] / half_hours.last[spy])
    ratio_today[rows], momentum_today[rows] = rotate_at(Relative(against.value[rows], against.day[rows]), then)
    return Turns(against, ratio, momentum, half_hours.at_ms, ratio_today, momentum_today)
