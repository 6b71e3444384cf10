"""
The blocks of a survey: what docs/market.md describes, as lists and dictionaries that JSON can hold. Pure.

Null stands for what cannot be computed, with the reason beside it; percent and averages have four to six places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from marketdata.bars.window import Floats, Integers
from marketdata.feed.listing import BENCHMARK, SECTOR_FUNDS
from patterns.market import regime
from patterns.market.averages import LENGTHS
from patterns.market.breadth import breadth, nets
from patterns.market.rotation import NEEDED, TAIL, bars_known, quadrant
from patterns.market.stages import AVERAGE_WEEKS, SLOPE_WEEKS, UNKNOWN
from patterns.market.state import State
from patterns.market.strength import SPANS, YEAR, places, rating

Row = dict[str, Any]

PERCENT, PRICE = 4, 6  # decimal places
TAILS_UP_TO = 100  # members of a universe that has tails for all
NO_PRICE = "no price today"
HOLE = "half an hour of today has no bar, so its volume is unknown"
FUNDS = {sector: fund for fund, sector in SECTOR_FUNDS.items()}


@dataclass(frozen=True, slots=True)
class Facts:
    """Reference data of each symbol of a state, in its order; "" and None are unknown."""

    name: list[str]
    sector: list[str]
    industry: list[str]
    type: list[str]
    market_cap: list[float | None]


def survey(state: State, facts: Facts, rows: Integers, *, close_ms: int | None) -> Row:
    """
    Return all blocks of the universe whose members are `rows` of the state.

    `close_ms`: of a close its moment, which then stands for the newest bar; None inside a session.
    """
    universe = _Universe(state, facts, rows, close_ms)
    found = universe.breadth()
    counts = universe.stage_counts()
    rotation = universe.rotation()
    return {
        "coverage": universe.coverage(),
        "rankings": universe.rankings(),
        "sectors": universe.groups("sector"),
        "industries": universe.groups("industry"),
        "rotation": rotation,
        "stages": universe.stages(),
        "stage_counts": counts,
        "stage_changes": universe.stage_changes(),
        "breadth": found,
        "averages": universe.averages(),
        "regime": universe.regime(rotation),
    }


class _Universe:
    """Members of a universe, cut out of the market's state; each method makes one block."""

    def __init__(self, state: State, facts: Facts, rows: Integers, close_ms: int | None) -> None:
        self._state, self._facts, self._rows = state, facts, rows
        self._members = rows.tolist()
        self._symbols = [state.history.symbols[row] for row in self._members]
        last = state.today.last[rows]
        self._priced = np.isfinite(last)
        moments = np.full(len(rows), close_ms) if close_ms is not None else state.today.bar_at_ms[rows]
        self._bar_at = [iso(moment) if priced else None for moment, priced in zip(moments.tolist(), self._priced.tolist(), strict=True)]
        self._oldest = iso(int(moments[self._priced].min())) if self._priced.any() else None
        self._rating = rating(state.strength.score[rows])
        self._place = places(state.strength.score[rows])
        self._numbers = breadth(state.marks.chosen(rows), nets(state.history.day[rows], state.history.close[rows]))

    def coverage(self) -> Row:
        return {"symbols": int(self._priced.sum()), "of": len(self._members), "oldest_bar": self._oldest}

    def _values(self, column: Floats, places: int = PERCENT) -> list[float | None]:
        return numbers(column[self._rows], places)

    def _facts_of(self, name: str) -> list[Any]:
        column = getattr(self._facts, name)
        return [column[row] for row in self._members]

    def rankings(self) -> list[Row]:
        ranks, rows = self._state.strength, self._rows
        columns: dict[str, Sequence[Any]] = {"symbol": self._symbols}
        columns |= {name: self._facts_of(name) for name in ("name", "sector", "industry", "type")}
        columns |= {
            "last": self._values(self._state.today.last, PRICE),
            "rs_rating": whole(self._rating),
            "rank": whole(self._place),
            "rank_shift_day": whole(places(ranks.score_day[rows]) - self._place),
            "rank_shift_week": whole(places(ranks.score_week[rows]) - self._place),
            "change_day": self._values(ranks.change_day),
            "change_open": self._values(ranks.change_open),
        }
        columns |= {f"change_{name}": self._values(ranks.change[name]) for name in SPANS}
        columns |= {
            "adr": self._values(ranks.adr),
            "atr_sma50": self._values(self._state.averages.atrs("sma50")),
            "rvol": self._values(ranks.rvol),
            "rvol_projected": self._values(ranks.rvol_projected),
            "volume": self._values(self._state.today.volume, PRICE),
            "stage": self._stage(),
            "substage": self._substage(),
            "market_cap": self._facts_of("market_cap"),
            "bar_at": self._bar_at,
            "reason": self._rank_reasons(),
        }
        found = _table(columns)
        return sorted(found, key=lambda row: (row["rank"] is None, row["rank"] or 0, row["symbol"]))

    def _rank_reasons(self) -> list[str | None]:
        known = self._state.strength.earlier_closes[self._rows].tolist()
        alone = int(np.isfinite(self._rating).sum()) == 0
        reasons: list[str | None] = []
        for priced, closes in zip(self._priced.tolist(), known, strict=True):
            if not priced:
                reasons.append(NO_PRICE)
            elif closes < YEAR:
                reasons.append(f"needs {YEAR} earlier closes, has {closes}")
            elif alone:
                reasons.append("no other member to be rated against")
            else:
                reasons.append(None if self._state.today.unbroken else HOLE)
        return reasons

    def _stage(self) -> list[int | None]:
        return [stage or None for stage in self._state.stages.stage[self._rows].tolist()]

    def _substage(self) -> list[str | None]:
        return [self._state.stages.substage[row] for row in self._members]

    # ---- groups --------------------------------------------------------------------------------------------------------------------------

    def groups(self, kind: str) -> list[Row]:
        """Return the members by sector, or by sector and industry."""
        sectors, industries = self._facts_of("sector"), self._facts_of("industry")
        of_group: dict[tuple[str, ...], list[int]] = {}
        for place, key in enumerate(zip(sectors, industries, strict=True)):
            of_group.setdefault(key[:1] if kind == "sector" else key, []).append(place)
        return [self._group(key, np.array(members)) for key, members in sorted(of_group.items())]

    def _group(self, key: tuple[str, ...], members: Integers) -> Row:
        rows = self._rows[members]
        ranks, marks = self._state.strength, self._state.marks.chosen(rows)
        named = {"sector": key[0], "fund": FUNDS.get(key[0])} if len(key) == 1 else {"industry": key[1], "sector": key[0]}
        change = marks.change
        compared = bool(np.isfinite(change).any())
        with np.errstate(invalid="ignore"):
            up, down = int((change > 0).sum()), int((change < 0).sum())
        stage = self._state.stages.stage[rows]
        year = bool(marks.has_year.any())
        both = np.isfinite(self._state.today.volume[rows]) & (ranks.mean_volume[rows] > 0)
        usual = float(ranks.mean_volume[rows][both].sum()) if self._state.today.unbroken else 0.0
        return {
            **named,
            "symbols": int(marks.has_price.sum()),
            "of": len(members),
            "change_day": mean(change),
            **{f"change_{name}": mean(ranks.change[name][rows]) for name in SPANS},
            "advancers": up if compared else None,
            "decliners": down if compared else None,
            "unchanged": int(np.isfinite(change).sum()) - up - down if compared else None,
            **{f"above_{name}": share(marks.above[name], marks.has_average[name]) for name in ("sma50", "sma200")},
            "new_highs": int((marks.new_high & marks.has_year).sum()) if year else None,
            "new_lows": int((marks.new_low & marks.has_year).sum()) if year else None,
            "stages": {str(number): int((stage == number).sum()) for number in (1, 2, 3, 4)},
            "rs_rating": median(self._rating[members]),
            "rvol": round(float(self._state.today.volume[rows][both].sum()) / usual, PERCENT) if usual else None,
        }

    # ---- rotation ------------------------------------------------------------------------------------------------------------------------

    def rotation(self) -> list[Row]:
        """Return the sector funds that have bars, then the members."""
        symbols = self._state.history.symbols
        funds = [row for row, symbol in enumerate(symbols) if symbol in SECTOR_FUNDS]
        funds.sort(key=lambda row: list(SECTOR_FUNDS).index(symbols[row]))
        rows = list(dict.fromkeys([*funds, *self._members]))
        turns = self._state.turns
        ratio, momentum = numbers(turns.ratio[rows, -1]), numbers(turns.momentum[rows, -1])
        known = bars_known(turns.relative)
        changes = numbers(self._state.strength.change_day, PERCENT)
        found = []
        for row, ratio_now, momentum_now in zip(rows, ratio, momentum, strict=True):
            is_fund = symbols[row] in SECTOR_FUNDS
            complete = ratio_now is not None and momentum_now is not None
            has_tail = complete and (is_fund or len(self._members) <= TAILS_UP_TO)
            found.append(
                {
                    "symbol": symbols[row],
                    "name": self._facts.name[row],
                    "sector": self._facts.sector[row],
                    "fund": is_fund,
                    "change_day": changes[row],
                    "ratio": ratio_now if complete else None,
                    "momentum": momentum_now if complete else None,
                    "quadrant": quadrant(ratio_now, momentum_now),
                    "tail": self._tail(row) if has_tail else [],
                    "tail_intraday": self._tail_intraday(row) if has_tail else [],
                    "reason": None if complete else self._rotation_reason(row, int(known[row])),
                }
            )
        return found

    def _tail(self, row: int) -> list[Row]:
        turns = self._state.turns
        days = turns.relative.day[row, -turns.ratio.shape[1] :]
        points = zip(days.tolist(), numbers(turns.ratio[row]), numbers(turns.momentum[row]), strict=True)
        return [
            {"at": date.fromordinal(int(day)).isoformat(), "ratio": ratio, "momentum": momentum}
            for day, ratio, momentum in points
            if ratio is not None and momentum is not None
        ]

    def _tail_intraday(self, row: int) -> list[Row]:
        turns = self._state.turns
        points = zip(turns.at_ms.tolist(), numbers(turns.ratio_today[row]), numbers(turns.momentum_today[row]), strict=True)
        return [
            {"at": iso(at_ms), "ratio": ratio, "momentum": momentum}
            for at_ms, ratio, momentum in points
            if ratio is not None and momentum is not None
        ]

    def _rotation_reason(self, row: int, known: int) -> str:
        spy = self._state.benchmark
        if spy is None:
            return f"{BENCHMARK} has no bars"
        if not np.isfinite(self._state.today.last[row]):
            return NO_PRICE
        if not np.isfinite(self._state.today.last[spy]):
            return f"{BENCHMARK} has {NO_PRICE}"
        if known <= NEEDED - TAIL:
            return f"needs {NEEDED - TAIL + 1} bars in common with {BENCHMARK}, has {known}"
        return f"does not move against {BENCHMARK}"

    # ---- stages ----------------------------------------------------------------------------------------------------------------------------

    def stages(self) -> list[Row]:
        where = self._state.stages
        since = [date.fromordinal(day).isoformat() if day else None for day in where.since[self._rows].tolist()]
        return _table(
            {
                "symbol": self._symbols,
                "sector": self._facts_of("sector"),
                "stage": self._stage(),
                "substage": self._substage(),
                "since": since,
                "days": [count or None for count in where.days[self._rows].tolist()],
                "weeks": [count or None for count in where.weeks[self._rows].tolist()],
                "close": self._values(self._state.today.last, PRICE),
                "sma30w": self._values(where.average, PRICE),
                "slope": self._values(where.slope),
                "distance": self._values(where.distance),
                "distance_atr": self._values(where.distance_atr),
                "mansfield": self._values(where.mansfield),
                "reason": self._stage_reasons(),
            }
        )

    def _stage_reasons(self) -> list[str | None]:
        where, needed = self._state.stages, AVERAGE_WEEKS + SLOPE_WEEKS
        reasons: list[str | None] = []
        for row, priced in zip(self._members, self._priced.tolist(), strict=True):
            if not priced:
                reasons.append(NO_PRICE)
            elif where.weeks_known[row] < needed:
                reasons.append(f"needs {needed} weeks, has {where.weeks_known[row]}")
            else:
                reasons.append("no trend up or down since the history begins" if where.stage[row] == UNKNOWN else None)
        return reasons

    def stage_counts(self) -> dict[str, int]:
        stage = self._state.stages.stage[self._rows]
        return {("unknown" if number == UNKNOWN else str(number)): int((stage == number).sum()) for number in (1, 2, 3, 4, UNKNOWN)}

    def stage_changes(self) -> list[Row]:
        members, week = set(self._members), (self._state.today.day - 1) // 7
        return [
            {
                "symbol": self._state.history.symbols[change.row],
                "at": date.fromordinal(change.day).isoformat(),
                "from": change.before,
                "to": change.after,
                "reason": change.reason,
                "final": (change.day - 1) // 7 < week,
            }
            for change in self._state.changes
            if change.row in members
        ]

    # ---- breadth, averages, regime -----------------------------------------------------------------------------------------------------------

    def breadth(self) -> Row:
        found: Row = {name: rounded(value) for name, value in self._numbers.items() if not name.startswith("n_")}
        priced, seen = int(self._priced.sum()), self._numbers
        counts = {name: seen[f"n_{name}"] for name in ("above_ema10", "above_sma20", "above_sma50", "above_sma200")}
        changed = (
            "advancers",
            "decliners",
            "unchanged",
            "up_volume",
            "down_volume",
            "ad_line",
            "mcclellan",
            "up_4_percent",
            "down_4_percent",
        )
        counts |= dict.fromkeys(changed, seen["n_change"]) | dict.fromkeys(("new_highs", "new_lows"), seen["n_new_highs"])
        return found | {"symbols": priced, "of": len(self._members), "n": {name: n for name, n in counts.items() if n != priced}}

    def averages(self) -> list[Row]:
        means = self._state.averages
        alignment, bucket = means.alignment(), means.bucket()
        columns: dict[str, Sequence[Any]] = {
            "symbol": self._symbols,
            "sector": self._facts_of("sector"),
            "last": self._values(means.last, PRICE),
            "atr": self._values(means.atr, PRICE),
        }
        for name in LENGTHS:
            parts = {"value": self._values(means.value[name], PRICE), "percent": self._values(means.percent(name))}
            columns[name] = _table(parts | {"atr": self._values(means.atrs(name))})
        columns["alignment"] = [alignment[row] for row in self._members]
        columns["bucket"] = [bucket[row] for row in self._members]
        columns["stop"] = _table({name: self._values(price, PRICE) for name, price in means.stop.items()})
        return _table(columns)

    def regime(self, rotation: list[Row]) -> Row:
        stage = self._state.stages.stage[self._rows].tolist()
        spy = self._state.benchmark
        closes = np.array([np.nan]) if spy is None else np.append(self._state.history.close[spy], self._state.today.last[spy])
        if not np.isfinite(closes[-1]):
            closes = closes[-1:]
        parts = regime.parts(
            self._numbers,
            of=len(self._members),
            stages={number: stage.count(number) for number in (UNKNOWN, 1, 2, 3, 4)},
            ratios={row["symbol"]: row["ratio"] for row in rotation},
            closes=closes,
        )
        score, label = regime.score(parts)
        shown = [{name: rounded(value) if name in ("value", "score") else value for name, value in asdict(part).items()} for part in parts]
        return {"score": None if score is None else round(score, 1), "label": label, "parts": shown}


def _table(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def numbers(values: Floats, places: int = PERCENT) -> list[float | None]:
    """Return the values as JSON has them, rounded; None for what is no number."""
    finite = np.isfinite(values)
    found: list[float | None] = np.round(values, places).tolist()
    if finite.all():
        return found
    return [value if there else None for value, there in zip(found, finite.tolist(), strict=True)]


def whole(values: Floats) -> list[int | None]:
    """Return whole numbers, None for what is none."""
    return [int(value) if value == value else None for value in values.tolist()]


def rounded(value: float | None) -> float | None:
    """Return a number with four places at most; whole ones as they are."""
    return value if value is None or isinstance(value, int) else round(value, PERCENT)


def mean(values: Floats) -> float | None:
    """Return the mean of what is known."""
    known = values[np.isfinite(values)]
    return round(float(known.mean()), PERCENT) if len(known) else None


def median(values: Floats) -> float | None:
    """Return the median of what is known."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def share(which: Any, of: Any) -> float | None:
    """Return how many of those are which, in percent."""
    count = int(of.sum())
    return round(100 * int((which & of).sum()) / count, PERCENT) if count else None


def iso(moment_ms: int) -> str:
    """Return Unix ms as ISO 8601 UTC."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
