"""Stored bars and what the ledger says of them, read as windows. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from marketdata.bars.window import BarWindow, Floats, Integers
from marketdata.models import Session
from patterns.indicators.minute import RECURSIVE
from patterns.indicators.volume import session_sums

BEFORE = RECURSIVE - 1
AFTER = 1_500  # the bars of the longest session (24 hours, 25 where a clock goes back): how far a late bar's influence can reach
RECENT = timedelta(days=10)  # where the bars before a key are looked for first, so that a hypertable opens few chunks
KNOWN_FROM = "15 minutes"  # before the first key: the ledger is asked no further back, all that is wanted there is the VWAP so far
NEVER = -1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)

Span = tuple[str, int, int]
"""Symbol, first and last minute in Unix ms."""


@dataclass(frozen=True, eq=False, slots=True)
class Read:
    """
    What the tables say about a batch: the window, and for each of its bars the revision, whether it may be judged, and its ledger entry.

    `scanned` is the revision that was judged, NEVER without an entry; `turnover` and `volume` are the ledger's sums, NaN where it has none.
    """

    window: BarWindow
    revision: Integers
    scannable: NDArray[np.bool_]
    scanned: Integers
    turnover: Floats
    volume: Floats


_ROW = np.dtype(
    [("", ">i2"), *(field for name, kind in (
        ("run", ">i4"), ("opened_at_ms", ">i8"), ("open", ">f8"), ("high", ">f8"), ("low", ">f8"), ("close", ">f8"), ("volume", ">f8"),
        ("vwap", ">f8"), ("revision", ">i4"), ("scannable", "?"), ("scanned", ">i4"), ("turnover", ">f8"), ("session_volume", ">f8"),
    ) for field in ((f"{name}_bytes", ">i4"), (name, kind)))]
)  # fmt: skip
_HEADER_BYTES, _TRAILER_BYTES = 19, 2  # of PostgreSQL's binary COPY

_WINDOWS = """
COPY (
    SELECT wanted.run::int4 - 1, (extract(epoch FROM bar.timestamp) * 1000)::int8, bar.open::float8, bar.high::float8, bar.low::float8,
           bar.close::float8, bar.volume::float8, coalesce(bar.vwap::float8, 'NaN'), bar.revision::int4, (bar.complete OR bar.is_final),
           coalesce(ledger.bar_revision, -1)::int4, coalesce(ledger.session_turnover, 'NaN')::float8,
           coalesce(ledger.session_volume, 'NaN')::float8
    FROM unnest(%(symbols)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[]) WITH ORDINALITY AS asked(symbol, first, last, run)
    CROSS JOIN LATERAL (
        SELECT asked.symbol::varchar AS symbol, asked.run, timestamptz 'epoch' + asked.first * interval '1 millisecond' AS first,
               timestamptz 'epoch' + asked.last * interval '1 millisecond' AS last
    ) AS wanted
    CROSS JOIN LATERAL (
        (SELECT * FROM ohlcv_1min WHERE symbol = wanted.symbol AND timestamp < wanted.first AND timestamp >= %(floor)s
         ORDER BY timestamp DESC LIMIT %(before)s)
        UNION ALL
        (SELECT * FROM ohlcv_1min WHERE symbol = wanted.symbol AND timestamp >= wanted.first AND timestamp <= wanted.last
         AND timestamp >= %(floor)s)
        UNION ALL
        (SELECT * FROM ohlcv_1min WHERE symbol = wanted.symbol AND timestamp > wanted.last AND timestamp >= %(floor)s
         ORDER BY timestamp LIMIT %(after)s)
    ) AS bar
    LEFT JOIN LATERAL (
        SELECT * FROM scanned_bars WHERE symbol = wanted.symbol AND timeframe = '1m' AND timestamp = bar.timestamp
        AND bar.timestamp >= wanted.first - interval %(known_from)s LIMIT 1
    ) AS ledger ON true
) TO STDOUT (FORMAT BINARY)
"""


def _rows(spans: Sequence[Span], *, floor: datetime, before: int, after: int) -> np.ndarray[Any, Any]:
    """Return the bars of (symbol, first, last) with `before` bars before and `after` after each, ordered by symbol and time."""
    parameters = {
        "symbols": [span[0] for span in spans],
        "firsts": [span[1] for span in spans],
        "lasts": [span[2] for span in spans],
        "floor": floor,
        "before": before,
        "after": after,
        "known_from": KNOWN_FROM,
    }
    with connection.cursor() as cursor, cursor.copy(_WINDOWS, parameters) as copy:
        data = b"".join(copy)
    rows = np.frombuffer(data[_HEADER_BYTES : len(data) - _TRAILER_BYTES], dtype=_ROW)
    return rows[np.lexsort((rows["opened_at_ms"], rows["run"]))]


def read_windows(spans: Sequence[Span]) -> Read:
    """Return the bars of (symbol, first, last), Unix ms, with the windows before them and what their change may touch after them."""
    floor = moment_of(min(span[1] for span in spans)) - RECENT
    rows = _rows(spans, floor=floor, before=BEFORE, after=AFTER)
    known = np.bincount(rows["run"][rows["opened_at_ms"] < np.array([span[1] for span in spans])[rows["run"]]], minlength=len(spans))
    short = np.flatnonzero(known < BEFORE)
    if len(short):
        older = _rows([spans[run] for run in short.tolist()], floor=EARLIEST, before=BEFORE, after=AFTER).copy()
        older["run"] = short[older["run"]]
        rows = np.concatenate([rows[~np.isin(rows["run"], short)], older])
        rows = rows[np.lexsort((rows["opened_at_ms"], rows["run"]))]
    return _read(tuple(span[0] for span in spans), rows)


def _read(symbols: tuple[str, ...], rows: np.ndarray[Any, Any]) -> Read:
    def floats(name: str) -> Floats:
        return rows[name].astype(np.float64)

    starts = np.concatenate(([0], np.cumsum(np.bincount(rows["run"], minlength=len(symbols))))).astype(np.int64)
    window = BarWindow(
        symbols, starts, rows["opened_at_ms"].astype(np.int64), floats("open"), floats("high"), floats("low"), floats("close"),
        floats("volume"), floats("vwap"),
    )  # fmt: skip
    return Read(
        window,
        rows["revision"].astype(np.int64),
        rows["scannable"].copy(),
        rows["scanned"].astype(np.int64),
        floats("turnover"),
        floats("session_volume"),
    )


def session_opens(opened_at_ms: Integers) -> Integers:
    """Return for each bar the open of the regular session that it lies in, -1 outside."""
    opens = np.full(len(opened_at_ms), NEVER, dtype=np.int64)
    if not len(opened_at_ms):
        return opens
    first, last = moment_of(int(opened_at_ms.min())), moment_of(int(opened_at_ms.max()))
    sessions = Session.objects.filter(open__lte=last, close__gt=first).order_by("open").values_list("open", "close")
    if sessions:
        start, end = (np.array([milliseconds_of(moment) for moment in side], dtype=np.int64) for side in zip(*sessions, strict=True))
        place = np.searchsorted(start, opened_at_ms, side="right") - 1
        inside = (place >= 0) & (opened_at_ms < end[place])
        opens[inside] = start[place[inside]]
    return opens


def sums_since_open(window: BarWindow, missing: Sequence[tuple[int, int]]) -> dict[int, tuple[float, float]]:
    """Return (turnover, volume) from the session's open up to the window's first bar, for (run, open in Unix ms)."""
    if not missing:
        return {}
    spans = [(window.symbols[run], open_ms, int(window.opened_at_ms[window.starts[run]]) - 1) for run, open_ms in missing]
    floor = moment_of(min(span[1] for span in spans))
    opening = _read(tuple(span[0] for span in spans), _rows(spans, floor=floor, before=0, after=0)).window
    nothing = np.zeros(len(spans))
    one_session = np.zeros(len(opening), dtype=np.int64)
    turnover, volume = session_sums(opening, one_session, begin=opening.starts[:-1], turnover=nothing, volume=nothing)
    last = opening.starts[1:] - 1
    filled = np.diff(opening.starts) > 0
    return {
        run: (float(turnover[end]), float(volume[end]))
        for (run, _), end, some in zip(missing, last.tolist(), filled.tolist(), strict=True)
        if some
    }


def moment_of(milliseconds: int) -> datetime:
    """Return a moment from Unix ms."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds_of(moment: datetime) -> int:
    """Return a moment's Unix ms."""
    return (moment - EPOCH) // timedelta(milliseconds=1)
