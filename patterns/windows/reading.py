"""Windows of bars, each with its present revision and its entry in the ledger. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.bars.interval import INTRADAY
from marketdata.bars.window import BarWindow, Floats, Integers
from patterns.detectors import SHAPES
from patterns.detectors.quality import CONTEXT_BARS
from patterns.indicators.catalogue import INTERVALS, LONGEST
from patterns.indicators.volume import SessionSums, no_sums, session_sums, traded_prices
from patterns.windows.copying import copied
from patterns.windows.moments import LENGTH_MS, bar_start_ms, moment_of
from patterns.windows.sessions import OUTSIDE, Sessions, sessions_around
from patterns.windows.statements import WINDOWS

SESSION_MINUTES = 1_500  # of the longest session: 24 hours, 25 where a clock goes back
BEFORE: dict[str, int] = {
    interval: max(LONGEST[interval] - 1, CONTEXT_BARS, *(shape.look_back for shape in SHAPES.values() if interval in shape.intervals))
    for interval in INTERVALS
}
"""Bars before a bar that what is said of it may depend on."""

AFTER: dict[str, int] = {
    interval: max(BEFORE[interval], SESSION_MINUTES // INTRADAY[interval] if interval in INTRADAY else 0) for interval in INTERVALS
}
"""Bars after a bar that it may still have a say in."""

RECENT = 12  # times as long as the bars before a key take without a break: where they are looked for first, so that few chunks are opened
NEVER = -1
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)

Key = tuple[str, int]
"""A bar: symbol and start in Unix ms."""

Span = tuple[str, int, int]
"""Symbol, start of the first and of the last bar in Unix ms."""


@dataclass(frozen=True, eq=False, slots=True)
class Read:
    """
    What the tables say about a batch: the window, and for each of its bars the revision, whether it may be judged, and its ledger entry.

    `scanned` is the revision that was judged, NEVER without an entry; `sums` are the ledger's, NaN where it has none. `session_open_ms` is
    the regular session that the bar, or a part of it, lies in, -1 outside; `part_price` and `part_volume` are those of that part.
    """

    timeframe: str
    window: BarWindow
    revision: Integers
    scannable: NDArray[np.bool_]
    scanned: Integers
    sums: SessionSums
    sessions: Sessions
    session_open_ms: Integers
    part_price: Floats
    part_volume: Floats


_SUMS = ("turnover", "session_volume", "spread", "balance")
_PRICES = ("open", "high", "low", "close", "volume", "vwap")
_FIELDS = (
    ("run", "i4"), ("opened_at_ms", "i8"), *((name, "f8") for name in _PRICES), ("revision", "i4"), ("whole", "?"), ("over_alone", "?"),
    ("session_open", "i8"), ("part_turnover", "f8"), ("part_volume", "f8"), ("scanned", "i4"), *((name, "f8") for name in _SUMS),
)  # fmt: skip


def read_windows(timeframe: str, spans: Sequence[Span], *, now: datetime, before: int | None = None) -> Read:
    """
    Return the bars of the spans (no symbol twice), with the windows before them and what their change may touch after them.

    `before` is how many bars before, BEFORE unless told.
    """
    sessions = _sessions(timeframe, spans)
    before, after = before or BEFORE[timeframe], AFTER[timeframe]
    reach = timedelta(milliseconds=before * LENGTH_MS[timeframe] * RECENT)
    floor = max(moment_of(min(span[1] for span in spans)) - max(reach, timedelta(days=10)), EARLIEST)
    rows = _rows(timeframe, spans, sessions, floor=floor, before=before, after=after, now=now)
    known = np.bincount(rows["run"][rows["opened_at_ms"] < np.array([span[1] for span in spans])[rows["run"]]], minlength=len(spans))
    short = np.flatnonzero(known < before)
    if len(short):
        chosen = [spans[run] for run in short.tolist()]
        older = _rows(timeframe, chosen, sessions, floor=EARLIEST, before=before, after=after, now=now).copy()
        older["run"] = short[older["run"]]
        rows = np.concatenate([rows[~np.isin(rows["run"], short)], older])
        rows = rows[np.lexsort((rows["opened_at_ms"], rows["run"]))]
    return _read(timeframe, tuple(span[0] for span in spans), rows, sessions)


def _sessions(timeframe: str, spans: Sequence[Span]) -> Sessions:
    first, last = min(span[1] for span in spans), max(span[2] for span in spans)
    length = LENGTH_MS[timeframe]
    return sessions_around(first - BEFORE[timeframe] * length, last + AFTER[timeframe] * length)


def _rows(
    timeframe: str, spans: Sequence[Span], sessions: Sessions, *, floor: datetime, before: int, after: int, now: datetime
) -> np.ndarray[Any, Any]:
    """Return the bars of the spans with `before` bars before and `after` after each, ordered by symbol and time."""
    minutes = INTRADAY.get(timeframe, 1)
    parameters: dict[str, Any] = {
        "timeframe": timeframe,
        "symbols": [span[0] for span in spans],
        "firsts": [span[1] for span in spans],
        "lasts": [span[2] for span in spans],
        "length": LENGTH_MS[timeframe],
        "floor": floor,
        "before": before * minutes,
        "after": (after + 1) * minutes,
        "known_from": timedelta(milliseconds=max(15 * LENGTH_MS["1m"], 4 * LENGTH_MS[timeframe])),
        "now": now,
    }
    if minutes > 1:
        parameters |= {"opens": [moment_of(moment) for moment in sessions.open.tolist()]}
        parameters |= {"closes": [moment_of(moment) for moment in sessions.close.tolist()]}
    rows = copied(WINDOWS[timeframe], parameters, _FIELDS)
    rows = rows[np.lexsort((rows["opened_at_ms"], rows["run"]))]
    return _within(rows, spans, before=before, after=after) if len(rows) else rows


def _within(rows: np.ndarray[Any, Any], spans: Sequence[Span], *, before: int, after: int) -> np.ndarray[Any, Any]:
    """
    Cut each run down to `before` bars before its span and `after` behind it: further ones may be made of some of their minutes only.

    A bar with a later one behind it is over.
    """
    run = rows["run"]
    first, last = (np.array([span[side] for span in spans])[run] for side in (1, 2))
    count = np.bincount(run, minlength=len(spans))
    position = np.arange(len(rows)) - (np.cumsum(count) - count)[run]
    earlier = np.bincount(run[rows["opened_at_ms"] < first], minlength=len(spans))[run]
    up_to = np.bincount(run[rows["opened_at_ms"] <= last], minlength=len(spans))[run]
    kept: np.ndarray[Any, Any] = rows.copy()
    kept["over_alone"] |= position < count[run] - 1
    inside: NDArray[np.bool_] = (position >= earlier - before) & (position < up_to + after)
    return np.compress(inside, kept)


def _read(timeframe: str, symbols: tuple[str, ...], rows: np.ndarray[Any, Any], sessions: Sessions) -> Read:
    def floats(name: str) -> Floats:
        return rows[name].astype(np.float64)

    starts = np.concatenate(([0], np.cumsum(np.bincount(rows["run"], minlength=len(symbols))))).astype(np.int64)
    window = BarWindow(symbols, starts, rows["opened_at_ms"].astype(np.int64), *(floats(name) for name in _PRICES))
    if timeframe == "1m":
        session_open_ms, part_price, part_volume = sessions.opens_of(window.opened_at_ms), traded_prices(window), window.volume
    else:
        session_open_ms, part_volume = rows["session_open"].astype(np.int64), floats("part_volume")
        part_price = np.divide(floats("part_turnover"), part_volume, out=window.close.copy(), where=part_volume > 0)
    return Read(
        timeframe, window, rows["revision"].astype(np.int64), rows["whole"] & rows["over_alone"], rows["scanned"].astype(np.int64),
        SessionSums(*(floats(name) for name in _SUMS)), sessions, session_open_ms, part_price, part_volume,
    )  # fmt: skip


def sums_since_open(read: Read, missing: Sequence[tuple[int, int]], *, now: datetime) -> dict[int, tuple[SessionSums, float]]:
    """Return (sums of one bar, its close) of the session from its open up to the window's first bar, for (run, open in Unix ms)."""
    if not missing:
        return {}
    window, timeframe = read.window, read.timeframe
    spans = [
        (window.symbols[run], bar_start_ms(open_ms, timeframe), int(window.opened_at_ms[window.starts[run]]) - LENGTH_MS[timeframe])
        for run, open_ms in missing
    ]
    floor = moment_of(min(span[1] for span in spans))
    rows = _rows(timeframe, spans, read.sessions, floor=floor, before=0, after=0, now=now)
    opening = _read(timeframe, tuple(span[0] for span in spans), rows, read.sessions)
    bars = opening.window
    inside = np.where(opening.session_open_ms == np.array([open_ms for _, open_ms in missing])[bars.run], 0, OUTSIDE)
    nothing = no_sums(len(spans), value=0.0)
    sums = session_sums(
        bars, inside, price=opening.part_price, volume=opening.part_volume, begin=bars.starts[:-1], before=nothing,
        close_before=np.full(len(spans), np.nan),
    )  # fmt: skip
    filled = [(place, run) for place, (run, _) in enumerate(missing) if bars.starts[place] < bars.starts[place + 1]]
    return {
        run: (sums.at(np.array([end])), float(bars.close[end]))
        for place, run in filled
        if not np.isnan(sums.volume[end := int(bars.starts[place + 1]) - 1])
    }


def bars_of(window: BarWindow, keys: Sequence[Key]) -> NDArray[np.bool_]:
    """Return which bars of the window are among the keys."""
    place = {symbol: run for run, symbol in enumerate(window.symbols)}
    step = 10**9  # minutes of one symbol; more than there are until the year 3871
    codes = np.array([place[symbol] * step + opened_at_ms // LENGTH_MS["1m"] for symbol, opened_at_ms in keys], dtype=np.int64)
    return np.isin(window.run * step + window.opened_at_ms // LENGTH_MS["1m"], codes)
