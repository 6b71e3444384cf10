"""Stored bars read as whole-market arrays: daily bars that a process holds until they change, and the day's minutes folded. Reads only."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from django.db import connection
from django.db.models import Count, Max
from numpy.typing import NDArray

from marketdata.bars.window import Floats, Integers
from marketdata.models import Session, Split
from patterns.market.panel import NO_DAY, Panel, Today
from patterns.market.state import HalfHours

YEARS_BEFORE = 2
SETTLED = timedelta(minutes=20)  # older minutes are folded once; younger ones, which may still be revised, are read anew each time
SEEN_AGAIN = timedelta(minutes=2)  # longer than a commit takes: what became visible late is still found
HALF_HOUR_MS = 1_800_000
MOST_HALF_HOURS = 50  # of a day of 25 hours


Columns = dict[str, NDArray[Any]]
_PRICES = ("open", "high", "low", "close", "volume")


def _gathered(statement: str, parameters: dict[str, Any], *, at: str) -> Columns:
    """
    Return the columns row, `at` and the prices of a statement that gives each symbol's bars as lines of one text.

    A message a symbol instead of one a bar, and text instead of floats: PostgreSQL makes a float of a numeric by way of its text.
    """
    schema = {"row": pl.Int64, at: pl.Int64, **dict.fromkeys(_PRICES, pl.Float64)}
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        copy.set_types(["bytea"])  # the text as it comes: nothing in it needs to be decoded
        text = b"\n".join(lines for (lines,) in copy.rows())
    found = pl.read_csv(text, has_header=False, schema=schema) if text else pl.DataFrame(schema=schema)
    return {name: found[name].to_numpy() for name in schema}


# ---- daily bars -------------------------------------------------------------------------------------------------------------------------

_DAYS = """
COPY (
    SELECT string_agg(concat_ws(',', asked.row - 1, bar.date - date '0001-01-01' + 1, open, high, low, close, volume), E'\\n')
    FROM unnest(%(symbols)s::text[]) WITH ORDINALITY AS asked(symbol, row)
    JOIN ohlcv_daily AS bar ON bar.symbol = asked.symbol::varchar
    WHERE bar.date >= %(first)s
    GROUP BY asked.row
) TO STDOUT (FORMAT BINARY)
"""


def first_day(day: date) -> date:
    """Return from where on a survey of `day` looks at daily bars: 1 January two years before."""
    return date(day.year - YEARS_BEFORE, 1, 1)


def read_days(symbols: Sequence[str], first: date) -> Panel:
    """Return the stored daily bars from `first` on, unadjusted."""
    bars = _gathered(_DAYS, {"symbols": list(symbols), "first": first}, at="day")
    order = np.argsort(bars["row"] << 24 | bars["day"], kind="stable")
    row = bars["row"][order]
    counts = np.bincount(row, minlength=len(symbols))
    width = int(counts.max(initial=0))
    column = width - counts[row] + np.arange(len(row)) - np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)[row]
    day = np.full((len(symbols), width), NO_DAY, dtype=np.int64)
    day[row, column] = bars["day"][order]
    prices = []
    for name in _PRICES:
        values = np.full((len(symbols), width), np.nan)
        values[row, column] = bars[name][order]
        prices.append(values)
    return Panel(tuple(symbols), day, *prices)


Ratio = tuple[int, int, float]
"""Row of the symbol, ordinal of the execution day, old shares ÷ new shares."""


def adjusted(panel: Panel, splits: Sequence[Ratio]) -> Panel:
    """Return the panel as its bars would have been after these splits."""
    if not splits:
        return panel
    day = panel.day
    open_, high, low, close, volume = (column.copy() for column in panel.prices())
    for row, executed, ratio in splits:
        before = day[row] < executed
        for column in (open_, high, low, close):
            column[row, before] *= ratio
        volume[row, before] /= ratio
    return Panel(panel.symbols, day, open_, high, low, close, volume)


Version = tuple[Any, ...]


def days_version() -> Version:
    """Return what changes when any daily bar or split does."""
    # Bars are never deleted by the product, and each change moves this moment on
    return (_newest_change(), *Split.objects.aggregate(Count("pk"), Max("pk")).values())


def _newest_change() -> datetime | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(updated_at) FROM ohlcv_daily")
        row = cursor.fetchone()
    return row[0] if row else None


_CHANGED_DAYS = "SELECT DISTINCT symbol FROM ohlcv_daily WHERE updated_at >= %(since)s"


class HeldDays:
    """The daily bars of some symbols as this process holds them; of which any changed, those are read anew. Not for two threads at once."""

    def __init__(self) -> None:
        self._symbols: tuple[str, ...] = ()
        self._version: Version = ()
        self._raw: dict[date, Panel] = {}
        self._splits: list[Ratio] = []
        self._adjusted: dict[tuple[date, int], Panel] = {}

    def panel(self, symbols: Sequence[str], day: date) -> Panel:
        """Return the bars that a survey of `day` may look at (and later ones), adjusted for the splits until then."""
        version = days_version()
        if self._symbols != tuple(symbols):
            self._symbols, self._version, self._raw = tuple(symbols), (), {}
        if self._version != version:
            self._renew(version)
        first = first_day(day)
        if first not in self._raw:
            self._raw[first] = read_days(symbols, first)
        in_force = sum(1 for _, executed, _ in self._splits if executed <= day.toordinal())
        key = (first, in_force)
        if key not in self._adjusted:
            self._adjusted = {old: panel for old, panel in self._adjusted.items() if old[0] != first}
            self._adjusted[key] = adjusted(self._raw[first], self._splits[:in_force])
        return self._adjusted[key]

    def _renew(self, version: Version) -> None:
        """Read the splits, and the bars of those symbols of which any changed."""
        before, self._version, self._adjusted = self._version[:1], version, {}
        self._splits = self._read_splits()
        if before == version[:1]:
            return
        if before in {(), (None,)}:
            self._raw = {}
        if self._raw:
            rows = _rows_changed(_CHANGED_DAYS, {"since": before[0] - SEEN_AGAIN}, self._symbols)
            some = [self._symbols[row] for row in rows.tolist()]
            self._raw = {first: panel.put(rows, read_days(some, first)) for first, panel in self._raw.items()}

    def _read_splits(self) -> list[Ratio]:
        """Return them in the order of their execution."""
        places = {symbol: row for row, symbol in enumerate(self._symbols)}
        rows = Split.objects.filter(symbol__in=list(self._symbols)).order_by("execution_date", "symbol_id")
        values = rows.values_list("symbol_id", "execution_date", "split_from", "split_to")
        return [(places[symbol], day.toordinal(), float(old / new)) for symbol, day, old, new in values]


def _rows_changed(statement: str, parameters: dict[str, Any], symbols: Sequence[str]) -> Integers:
    """Return the rows of those symbols that a statement names."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        changed = {symbol for (symbol,) in cursor.fetchall()}
    return np.array([row for row, symbol in enumerate(symbols) if symbol in changed], dtype=np.int64)


# ---- the day's minutes --------------------------------------------------------------------------------------------------------------------

_MINUTES = """
COPY (
    SELECT string_agg(concat_ws(',', asked.row - 1, date_part('epoch', bar.timestamp)::int8 * 1000, open, high, low, close, volume), E'\\n')
    FROM unnest(%(symbols)s::text[]) WITH ORDINALITY AS asked(symbol, row)
    JOIN ohlcv_1min AS bar ON bar.symbol = asked.symbol::varchar
    WHERE bar.timestamp >= %(first)s AND bar.timestamp < %(end)s AND (bar.complete OR bar.is_final)
    GROUP BY asked.row
) TO STDOUT (FORMAT BINARY)
"""
_REVISED = """
SELECT DISTINCT symbol FROM ohlcv_1min WHERE updated_at >= %(since)s AND timestamp >= %(first)s AND timestamp < %(end)s
"""


@dataclass(frozen=True, eq=False, slots=True)
class Folded:
    """Minutes of a day folded by symbol, shape (n,): NaN and −1 where there is none. `half_hours` holds the last price of each, shape (n, 50)."""

    open: Floats
    high: Floats
    low: Floats
    last: Floats
    volume: Floats
    bar_at_ms: Integers
    half_hours: Floats

    @classmethod
    def nothing(cls, count: int) -> "Folded":
        """Return no minutes of `count` symbols."""
        open_, high, low, last, volume = (np.full(count, np.nan) for _ in range(5))
        return cls(open_, high, low, last, volume, np.full(count, -1, dtype=np.int64), np.full((count, MOST_HALF_HOURS), np.nan))

    def then(self, later: "Folded") -> "Folded":
        """Return both together; `later` holds later minutes."""
        return Folded(
            np.where(np.isnan(self.open), later.open, self.open),
            np.fmax(self.high, later.high),
            np.fmin(self.low, later.low),
            np.where(np.isnan(later.last), self.last, later.last),
            np.where(np.isnan(later.volume), self.volume, np.nan_to_num(self.volume) + later.volume),
            np.maximum(self.bar_at_ms, later.bar_at_ms),
            np.where(np.isnan(later.half_hours), self.half_hours, later.half_hours),
        )

    def put(self, rows: Integers, those: "Folded") -> "Folded":
        """Return it with other symbols' minutes in some rows."""
        found = [column.copy() for column in self._columns()]
        for column, other in zip(found, those._columns(), strict=True):
            column[rows] = other
        return Folded(*found)

    def _columns(self) -> tuple[Any, ...]:
        return self.open, self.high, self.low, self.last, self.volume, self.bar_at_ms, self.half_hours


def fold(minutes: Columns, count: int, *, open_ms: int, close_ms: int) -> Folded:
    """Fold minutes (row, at_ms and prices) of `count` symbols: prices of [open, close), volume of all of them."""
    found = Folded.nothing(count)
    row = minutes["row"]
    if not len(row):
        return found
    traded = np.unique(row)
    found.volume[traded] = np.bincount(row, weights=minutes["volume"], minlength=count)[traded]
    is_regular = (minutes["at_ms"] >= open_ms) & (minutes["at_ms"] < close_ms)
    if not is_regular.any():
        return found
    regular = {name: column[is_regular] for name, column in minutes.items()}
    order = np.lexsort((regular["at_ms"], regular["row"]))
    row, at_ms, open_, high, low, close = (regular[name][order] for name in ("row", "at_ms", *_PRICES[:4]))
    start = np.flatnonzero(np.concatenate(([True], row[1:] != row[:-1])))
    end = np.concatenate((start[1:], [len(row)])) - 1
    who = row[start]
    found.open[who] = open_[start]
    found.high[who], found.low[who] = np.maximum.reduceat(high, start), np.minimum.reduceat(low, start)
    found.last[who], found.bar_at_ms[who] = close[end], at_ms[end]
    found.half_hours[row, (at_ms - open_ms) // HALF_HOUR_MS] = close  # of a repeated place the last one stays
    return found


class DayBook:
    """
    The minutes of one session folded as far as they have settled; only new and revised ones are read. Not for two threads at once.

    A symbol of which a settled minute was revised is read anew.
    """

    def __init__(self, session: Session, symbols: Sequence[str]) -> None:
        self.session = session
        self.symbols = tuple(symbols)
        self._settled = Folded.nothing(len(symbols))
        self._through = session.pre_open
        self._changed_since: datetime | None = None

    def until(self, end: datetime, *, now: datetime) -> Folded:
        """Return the minutes that ended at `end` or before. An `end` before what was asked last begins anew."""
        if end < self._through:
            self._settled, self._through, self._changed_since = Folded.nothing(len(self.symbols)), self.session.pre_open, None
        if self._changed_since is not None:
            self._renew_revised()
        self._changed_since = now - SEEN_AGAIN
        settled = min(now - SETTLED, end).replace(second=0, microsecond=0)
        if settled > self._through:
            self._settled = self._settled.then(self._read(self.symbols, self._through, settled))
            self._through = settled
        return self._settled.then(self._read(self.symbols, self._through, end))

    def _renew_revised(self) -> None:
        asked = {"since": self._changed_since, "first": self.session.pre_open, "end": self._through}
        rows = _rows_changed(_REVISED, asked, self.symbols)
        if len(rows):
            some = [self.symbols[row] for row in rows.tolist()]
            self._settled = self._settled.put(rows, self._read(some, self.session.pre_open, self._through))

    def _read(self, symbols: Sequence[str], first: datetime, end: datetime) -> Folded:
        """Read the minutes that start in [first, end − 1 min]: those are over at `end`."""
        asked = {"symbols": list(symbols), "first": first, "end": end}
        if end <= first:
            return Folded.nothing(len(symbols))
        hours = self.session.hours()
        return fold(_gathered(_MINUTES, asked, at="at_ms"), len(symbols), open_ms=hours.open, close_ms=hours.close)


def day_from_minutes(folded: Folded, session: Session, *, moment: datetime) -> Today:
    """Return the day as its minutes up to `moment` tell it."""
    length = (session.close - session.open).total_seconds()
    part = min(max((moment - session.open).total_seconds() / length, 0.0), 1.0)
    over = int((min(moment, session.close) - session.open).total_seconds() * 1000) // HALF_HOUR_MS
    known = np.any(np.isfinite(folded.half_hours[:, : max(over, 0)]), axis=0, keepdims=True)[0]
    return Today(
        session.date.toordinal(), moment >= session.close, part, folded.open, folded.high, folded.low, folded.last, folded.volume,
        folded.bar_at_ms, bool(known[:1].all()), bool(known.all()),
    )  # fmt: skip


def day_from_bars(panel: Panel, minutes: Today) -> Today:
    """Return a finished day: its daily bars, and where a symbol has none, what its minutes tell."""
    place = panel.day == minutes.day
    has = place.any(axis=1)
    column = place.argmax(axis=1) if place.shape[1] else np.zeros(len(has), dtype=np.int64)  # no symbol has a day yet: no column
    row = np.arange(len(panel.symbols))

    def chosen(bars: Floats, told: Floats) -> Floats:
        return np.where(has, bars[row, column], told) if bars.shape[1] else told

    open_, high, low, close, volume = panel.prices()
    return Today(
        minutes.day, True, 1.0, chosen(open_, minutes.open), chosen(high, minutes.high), chosen(low, minutes.low),
        chosen(close, minutes.last), chosen(volume, minutes.volume), minutes.bar_at_ms,
    )  # fmt: skip


def half_hours_of(folded: Folded, session: Session, *, moment: datetime, rows: Integers) -> HalfHours:
    """Return the prices at the half hours since the open, the last of them at `moment`."""
    open_ms, until_ms = session.hours().open, min(session.hours().close, round(moment.timestamp() * 1000))
    count = min(max(-(-(until_ms - open_ms) // HALF_HOUR_MS), 0), MOST_HALF_HOURS)
    ends = np.minimum(open_ms + (np.arange(count, dtype=np.int64) + 1) * HALF_HOUR_MS, until_ms)
    last = folded.half_hours[:, :count].copy()
    for column in range(1, count):
        last[:, column] = np.where(np.isnan(last[:, column]), last[:, column - 1], last[:, column])
    return HalfHours(ends, last, rows)


lock = threading.Lock()
"""Held by whoever uses what this process holds."""
