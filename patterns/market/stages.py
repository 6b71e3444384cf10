"""
Weinstein's stages on weekly closes, as a state machine with stated thresholds. Pure: arrays in, arrays out.

Source: Weinstein, Secrets for Profiting in Bull and Bear Markets, 1988: four stages, the 30-week average, relative strength after Mansfield.
The numbers (band, weeks, extension) are ours; docs/market.md states them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from marketdata.bars.window import Floats, Integers
from patterns.market.panel import NO_DAY, Panel, Today, packed, week_of

AVERAGE_WEEKS = 30
SLOPE_WEEKS = 4
BAND = 0.5  # percent in four weeks: what counts as flat
MANSFIELD_WEEKS = 52
EARLY_WEEKS = 8
EXTENDED_ATR = 10.0
CHANGE_WEEKS = 8
UNKNOWN = 0


@dataclass(frozen=True, eq=False, slots=True)
class Weeks:
    """Weekly closes, each symbol's own at the right, shape (symbols, weeks); `day` is the ordinal of a week's last bar, NaN where there is none."""

    close: Floats
    day: Floats

    @property
    def week(self) -> Floats:
        """The number of each week."""
        return np.asarray((self.day - 1) // 7)


def weeks_of(history: Panel, today: Today) -> Weeks:
    """Return the weeks up to today, the running one with today's last price; a symbol without a price today has no running week."""
    traded = np.isfinite(today.last)
    is_running = week_of(history.day) == week_of(np.array([today.day]))
    following = np.concatenate([week_of(history.day)[:, 1:], np.full((len(history.symbols), 1), -1)], axis=1)
    is_last = (history.day != NO_DAY) & (week_of(history.day) != following) & ~(is_running & traded[:, None])
    keep = np.concatenate([is_last, traded[:, None]], axis=1)
    close = np.concatenate([history.close, today.last[:, None]], axis=1)
    day = np.concatenate([history.day.astype(np.float64), np.full((len(history.symbols), 1), float(today.day))], axis=1)
    return Weeks(packed(close, keep), packed(day, keep))


@dataclass(frozen=True, eq=False, slots=True)
class Walk:
    """The machine's way over the weeks, shape (symbols, weeks): the 30-week average, its slope in percent, and the stage, UNKNOWN at first."""

    weeks: Weeks
    average: Floats
    slope: Floats
    stage: NDArray[np.int8]


def walk(weeks: Weeks) -> Walk:
    """
    Judge week after week; no week knows a later one.

    Rising and falling: a slope beyond ±0.5 % in four weeks. Price above a rising average is stage 2, below a falling one stage 4, from any
    stage. Else 2 becomes 3 once its average no longer rises, 4 becomes 1 once it no longer falls, and 1 and 3 stay.
    """
    shape = weeks.close.shape
    average = np.full(shape, np.nan)
    slope = np.full(shape, np.nan)
    if shape[1] >= AVERAGE_WEEKS:
        average[:, AVERAGE_WEEKS - 1 :] = sliding_window_view(weeks.close, AVERAGE_WEEKS, axis=1).mean(axis=-1)
    if shape[1] > SLOPE_WEEKS:
        slope[:, SLOPE_WEEKS:] = (average[:, SLOPE_WEEKS:] / average[:, :-SLOPE_WEEKS] - 1) * 100
    with np.errstate(invalid="ignore"):
        above, below = weeks.close > average, weeks.close < average
        rising, falling = slope > BAND, slope < -BAND
    known = np.isfinite(slope)
    stage = np.zeros(shape, dtype=np.int8)
    now = np.zeros(shape[0], dtype=np.int8)
    for week in range(shape[1]):
        there = known[:, week]
        now = np.where(there & (now == 2) & ~rising[:, week], 3, now)
        now = np.where(there & (now == 4) & ~falling[:, week], 1, now)
        now = np.where(above[:, week] & rising[:, week], 2, now)
        now = np.where(below[:, week] & falling[:, week], 4, now).astype(np.int8)
        stage[:, week] = now
    return Walk(weeks, average, slope, stage)


@dataclass(frozen=True, eq=False, slots=True)
class Stages:
    """Where each symbol stands, shape (n,). `stage` is UNKNOWN and the numbers are NaN where a price or the history is missing."""

    stage: Integers
    substage: list[str | None]
    since: Integers
    days: Integers
    weeks: Integers
    average: Floats
    slope: Floats
    distance: Floats
    distance_atr: Floats
    mansfield: Floats
    weeks_known: Integers


def mansfield(weeks: Weeks, benchmark: Weeks | None) -> Floats:
    """
    Return Mansfield's relative strength now: percent of close ÷ benchmark from its mean of 52 weeks, over the weeks that both have, shape (n,).

    `benchmark` holds one row; without it all are NaN.
    """
    found = np.full(len(weeks.close), np.nan)
    if benchmark is None:
        return found
    known = np.isfinite(benchmark.day[0])
    theirs, price = benchmark.week[0][known], benchmark.close[0][known]
    if not len(theirs):
        return found
    mine = weeks.week
    place = np.minimum(np.searchsorted(theirs, mine), len(theirs) - 1)
    both = np.isfinite(mine) & (theirs[place] == mine)
    ratio = packed(np.where(both, weeks.close / price[place], np.nan), both)
    if ratio.shape[1] >= MANSFIELD_WEEKS:
        found = (ratio[:, -1] / ratio[:, -MANSFIELD_WEEKS:].mean(axis=1) - 1) * 100
    return np.where(both[:, -1] if both.shape[1] else False, found, np.nan)


def stages(history: Panel, today: Today, way: Walk, *, atr: Floats, strength: Floats) -> Stages:
    """Return where each symbol stands in the last week of the walk; `strength` is Mansfield's."""
    count = len(history.symbols)
    if not way.stage.shape[1]:
        nothing, zero = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
        return Stages(zero, [None] * count, zero, zero, zero, nothing, nothing, nothing, nothing, strength, zero)
    traded = np.isfinite(today.last)
    stage = np.where(traded, way.stage[:, -1], UNKNOWN).astype(np.int64)
    same = np.cumprod((way.stage == way.stage[:, -1:])[:, ::-1], axis=1).sum(axis=1)
    known = stage != UNKNOWN
    began = way.weeks.day[np.arange(count), way.stage.shape[1] - same]
    since = np.where(known & np.isfinite(began), np.nan_to_num(began), NO_DAY).astype(np.int64)
    days = np.where(known, (history.day >= np.maximum(since, 1)[:, None]).sum(axis=1) + 1, 0)
    average, slope = (np.where(traded, column[:, -1], np.nan) for column in (way.average, way.slope))
    distance_atr = np.divide(today.last - average, atr, out=np.full(count, np.nan), where=np.isfinite(atr) & (atr > 0))
    weeks = np.where(known, same, 0)
    return Stages(
        stage=stage,
        substage=_substages(stage, weeks, today.last > average, distance_atr, strength),
        since=since,
        days=days,
        weeks=weeks,
        average=average,
        slope=slope,
        distance=(today.last / average - 1) * 100,
        distance_atr=distance_atr,
        mansfield=np.where(traded, strength, np.nan),
        weeks_known=np.isfinite(way.weeks.close).sum(axis=1),
    )


def _substages(stage: Integers, weeks: Integers, above: NDArray[np.bool_], distance_atr: Floats, strength: Floats) -> list[str | None]:
    """Return the sub-stage of each symbol; the first rule that holds gives the name."""
    early = weeks <= EARLY_WEEKS
    with np.errstate(invalid="ignore"):
        rules: list[tuple[NDArray[np.bool_], str]] = [
            ((stage == 1) & above, "late"),
            (stage == 1, "early"),
            ((stage == 2) & (distance_atr >= EXTENDED_ATR), "extended"),
            ((stage == 2) & ~above, "pullback"),
            ((stage == 2) & early, "early"),
            ((stage == 2) & (strength < 0), "weak"),
            (stage == 2, "advancing"),
            ((stage == 3) & above, "early"),
            (stage == 3, "breakdown"),
            ((stage == 4) & (distance_atr <= -EXTENDED_ATR), "extended"),
            ((stage == 4) & above, "rally"),
            ((stage == 4) & early, "early"),
            ((stage == 4) & (strength < 0), "confirmed"),
            (stage == 4, "declining"),
        ]
    words = np.select([rule for rule, _ in rules], [word for _, word in rules], "")
    return [str(word) or None for word in words.tolist()]


@dataclass(frozen=True, slots=True)
class Change:
    """A symbol that went from one stage to another; `day` is the ordinal of the last bar of that week."""

    row: int
    day: int
    before: int
    after: int
    reason: str


def changes(way: Walk, *, weeks: int = CHANGE_WEEKS) -> list[Change]:
    """Return the changes of the last `weeks` weeks, counted back from the newest week of any symbol, newest first."""
    if way.stage.shape[1] < 2:
        return []
    newest = np.nanmax(way.weeks.day, initial=0.0)
    changed = (way.stage[:, 1:] != way.stage[:, :-1]) & (way.stage[:, :-1] != UNKNOWN)
    recent = changed & (way.weeks.week[:, 1:] > (newest - 1) // 7 - weeks)
    found = [_change(way, row, column + 1) for row, column in zip(*(places.tolist() for places in np.nonzero(recent)), strict=True)]
    return sorted(found, key=lambda change: (-change.day, change.row))


def _change(way: Walk, row: int, week: int) -> Change:
    close, average, slope = (float(column[row, week]) for column in (way.weeks.close, way.average, way.slope))
    side = "above" if close > average else "below"
    moved = "rose" if slope > BAND else "fell" if slope < -BAND else "stayed flat, moving"
    shown = f"{close:,.2f}" if close >= 1 else f"{close:,.4f}"  # as the pages write prices
    reason = f"{shown} is {abs(close / average - 1) * 100:.1f} % {side} the 30-week average, which {moved} {abs(slope):.1f} % in 4 weeks"
    return Change(row, int(way.weeks.day[row, week]), int(way.stage[row, week - 1]), int(way.stage[row, week]), reason)
