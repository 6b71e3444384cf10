"""How many of a market rise, fall, make highs and stand above their averages. Pure: arrays in, numbers out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.window import Floats, Integers
from patterns.market.averages import LENGTHS, Averages
from patterns.market.panel import NO_DAY, Panel, Today, tail
from patterns.market.strength import YEAR

FAST, SLOW = 0.10, 0.05  # the weights of EMA 19 and EMA 39
THRESHOLD = 4.0  # percent of a threshold bar
PER_MILLE = 1000.0


@dataclass(frozen=True, eq=False, slots=True)
class Marks:
    """What breadth counts, of each symbol, shape (n,). `has_…` says who could be counted."""

    change: Floats
    volume: Floats
    has_price: NDArray[np.bool_]
    new_high: NDArray[np.bool_]
    new_low: NDArray[np.bool_]
    has_year: NDArray[np.bool_]
    above: dict[str, NDArray[np.bool_]]
    has_average: dict[str, NDArray[np.bool_]]

    def chosen(self, rows: Integers) -> "Marks":
        """Return those of some symbols."""
        return Marks(
            self.change[rows],
            self.volume[rows],
            self.has_price[rows],
            self.new_high[rows],
            self.new_low[rows],
            self.has_year[rows],
            {name: column[rows] for name, column in self.above.items()},
            {name: column[rows] for name, column in self.has_average.items()},
        )


def marks(history: Panel, today: Today, averages: Averages, *, change: Floats) -> Marks:
    """
    Return what each symbol adds to breadth; `change` is in percent against the close before.

    A new high: today's high ≥ the highest of the 252 daily bars before, which must exist; a new low likewise.
    """
    top, bottom = tail(history.high, YEAR).max(axis=1), tail(history.low, YEAR).min(axis=1)
    with np.errstate(invalid="ignore"):
        new_high, new_low = today.high >= top, today.low <= bottom
        above = {name: today.last > averages.value[name] for name in LENGTHS}
    return Marks(
        change=change,
        volume=today.volume,
        has_price=np.isfinite(today.last),
        new_high=new_high,
        new_low=new_low,
        has_year=np.isfinite(top) & np.isfinite(bottom) & np.isfinite(today.high) & np.isfinite(today.low),
        above=above,
        has_average={name: np.isfinite(averages.value[name]) & np.isfinite(today.last) for name in LENGTHS},
    )


@dataclass(frozen=True, eq=False, slots=True)
class Nets:
    """Advancers and decliners of each earlier day that any symbol traded, oldest first."""

    day: Integers
    advancers: Integers
    decliners: Integers


def nets(day: Integers, close: Floats) -> Nets:
    """Count for each day who closed above and below the own close before; shapes (symbols, bars)."""
    with np.errstate(invalid="ignore"):
        up, down = close[:, 1:] > close[:, :-1], close[:, 1:] < close[:, :-1]
    known = (day[:, 1:] != NO_DAY) & np.isfinite(close[:, :-1])
    day = day[:, 1:]
    if not known.any():
        nothing = np.zeros(0, dtype=np.int64)
        return Nets(nothing, nothing, nothing)
    first = int(day[known].min())
    width = int(day[known].max()) - first + 1
    traded, advancers, decliners = (np.bincount(day[which] - first, minlength=width) for which in (known, up & known, down & known))
    days = np.flatnonzero(traded)
    return Nets(days + first, advancers[days], decliners[days])


def mcclellan(advancers: Floats, decliners: Floats) -> float | None:
    """
    Return the ratio-adjusted McClellan oscillator of the newest day, None without a day: EMA 19 − EMA 39 of 1000·(A − D)/(A + D).

    Both averages begin at the first day's value; days on which nothing rose or fell are left out.
    Source: McClellan, Patterns for Profit, 1989; ratio adjustment after McClellan Financial Publications.
    """
    moved = advancers + decliners
    ratios = PER_MILLE * (advancers - decliners)[moved > 0] / moved[moved > 0]
    if not len(ratios):
        return None
    fast = slow = float(ratios[0])
    for ratio in ratios[1:].tolist():
        fast += FAST * (ratio - fast)
        slow += SLOW * (ratio - slow)
    return fast - slow


def breadth(marks: Marks, nets: Nets) -> dict[str, int | float | None]:
    """
    Return the numbers of breadth of some symbols; None where nothing could be counted.

    `n_…` beside a number says how many symbols it saw, where that may differ from those with a price.
    """
    compared = np.isfinite(marks.change)
    count = int(compared.sum())
    with np.errstate(invalid="ignore"):
        up, down = marks.change > 0, marks.change < 0
        strong_up, strong_down = marks.change >= THRESHOLD, marks.change <= -THRESHOLD
    advancers, decliners = int(up.sum()), int(down.sum())
    year = int(marks.has_year.sum())

    def counted(which: NDArray[np.bool_]) -> int | None:
        return int(which.sum()) if count else None

    found: dict[str, int | float | None] = {
        "advancers": counted(up),
        "decliners": counted(down),
        "unchanged": counted(compared & ~up & ~down),
        "up_volume": float(np.nansum(marks.volume[up])) if count else None,
        "down_volume": float(np.nansum(marks.volume[down])) if count else None,
        "ad_line": int((nets.advancers - nets.decliners).sum()) + advancers - decliners if count else None,
        "mcclellan": mcclellan(np.append(nets.advancers, advancers), np.append(nets.decliners, decliners)) if count else None,
        "new_highs": int((marks.new_high & marks.has_year).sum()) if year else None,
        "new_lows": int((marks.new_low & marks.has_year).sum()) if year else None,
    }
    for name in LENGTHS:
        has = int(marks.has_average[name].sum())
        found[f"above_{name}"] = 100 * int((marks.above[name] & marks.has_average[name]).sum()) / has if has else None
        found[f"n_above_{name}"] = has
    found |= {"up_4_percent": counted(strong_up), "down_4_percent": counted(strong_down)}
    return found | {"n_change": count, "n_new_highs": year}
