"""Windows and stored bars for tests of scans: random, real, and as few words as a test needs."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from django.db import connection

from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarChange, BarSnapshot
from marketdata.bars.window import BarWindow
from marketdata.writer import Writer
from tests.factories import at

Table = list[tuple]

PATTERN_ROWS = """SELECT symbol, pattern_type, timestamp, detection_timestamp, confidence, direction, status, status_at, bar_revision, detail::text
                  FROM intraday_patterns ORDER BY symbol, timestamp, pattern_type"""
VALUE_ROWS = """SELECT symbol, indicator_name, timestamp, calculation_timestamp, value, bar_revision
                FROM intraday_indicators ORDER BY symbol, timestamp, indicator_name"""
LEDGER_ROWS = """SELECT symbol, timeframe, timestamp, bar_revision, scanned_at, session_turnover, session_volume, session_spread,
                 session_balance, close, change FROM scanned_bars ORDER BY symbol, timeframe, timestamp"""


def rows(statement: str) -> Table:
    """Return the rows of a query."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def everything() -> list[Table]:
    """Return all that scans have written, times included."""
    return [rows(PATTERN_ROWS), rows(VALUE_ROWS), rows(LEDGER_ROWS)]


def what_stands() -> list[Table]:
    """Return all that scans have written, without when and without what was retracted."""
    return [
        rows("SELECT symbol, pattern_type, timeframe, timestamp, confidence, direction, bar_revision, detail::text FROM intraday_patterns "
             "WHERE status = 'standing' ORDER BY symbol, timeframe, timestamp, pattern_type"),
        rows("SELECT symbol, indicator_name, timeframe, timestamp, value, bar_revision FROM intraday_indicators "
             "ORDER BY symbol, timeframe, timestamp, indicator_name"),
        rows("SELECT symbol, timeframe, timestamp, bar_revision, session_turnover, session_volume, session_spread, session_balance, close, change "
             "FROM scanned_bars ORDER BY symbol, timeframe, timestamp"),
    ]  # fmt: skip


def random_bars(
    symbol: str, count: int, *, seed: int, first: int | None = None, price: float = 50.0, tick: float = 0.01
) -> list[BarSnapshot]:
    """Return bars of a random walk in whole ticks, one a minute."""
    dice = np.random.default_rng(seed)
    steps = dice.integers(-6, 7, size=(count, 4))
    level = round(price / tick)
    start = at("14:30") if first is None else first
    bars = []
    for minute, (a, b, c, d) in enumerate(steps.tolist()):
        open_, close = max(level + a // 3, 1), max(level + b, 1)
        high, low = max(open_, close) + abs(c) // 2, max(min(open_, close) - abs(d) // 2, 1)
        o, h, l, last = (round(value * tick, 6) for value in (open_, high, low, close))
        volume = int(dice.integers(1, 5_000))
        bars.append(BarSnapshot(symbol, start + minute * MINUTE_MS, o, h, l, last, volume * SHARE, None, None, 30, 1, True))
        level = close
    return bars


def real_bars(folder: Path) -> list[list[BarSnapshot]]:
    """Return the runs of one-minute bars of the recorded days, each with a symbol of its own."""
    runs: dict[str, list[BarSnapshot]] = defaultdict(list)
    for path in sorted(folder.glob("*minute-aggs.csv.gz")):
        with gzip.open(path, "rt") as lines:
            for row in csv.DictReader(lines):
                o, h, l, c = (float(row[name]) for name in ("open", "high", "low", "close"))
                symbol = f"{row['ticker']}.{path.name[2:10]}"
                opened_at_ms = int(row["window_start"]) // 10**6
                runs[symbol].append(
                    BarSnapshot(symbol, opened_at_ms, o, h, l, c, round(float(row["volume"]) * SHARE), None, None, 30, 1, True)
                )
    return list(runs.values())


def real_days(folder: Path) -> list[list[BarSnapshot]]:
    """Return the runs of recorded daily bars, their date as midnight UTC."""
    runs: dict[str, list[BarSnapshot]] = defaultdict(list)
    for path in sorted(folder.glob("*day-aggs.csv.gz")):
        with gzip.open(path, "rt") as lines:
            for row in csv.DictReader(lines):
                o, h, l, c = (float(row[name]) for name in ("open", "high", "low", "close"))
                opened_at_ms = int(row["window_start"]) // 10**6
                volume = round(float(row["volume"])) * SHARE
                runs[row["ticker"]].append(BarSnapshot(row["ticker"], opened_at_ms, o, h, l, c, volume, None, None, 50, 1, True))
    return list(runs.values())


def window_of(runs: Sequence[Sequence[BarSnapshot]]) -> BarWindow:
    """Return runs of bars as one window."""
    bars = [bar for run in runs for bar in run]

    def floats(name: str) -> np.ndarray:
        return np.array([getattr(bar, name) for bar in bars], dtype=np.float64)

    return BarWindow(
        symbols=tuple(run[0].symbol for run in runs),
        starts=np.cumsum([0, *(len(run) for run in runs)]),
        opened_at_ms=np.array([bar.opened_at_ms for bar in bars], dtype=np.int64),
        open=floats("open"),
        high=floats("high"),
        low=floats("low"),
        close=floats("close"),
        volume=floats("volume") / SHARE,
        vwap=np.array([np.nan if bar.vwap is None else bar.vwap for bar in bars]),
    )


def store(writer: Writer, bars: Sequence[BarSnapshot]) -> list[BarChange]:
    """Store bars as the stream does."""
    changes, refused = writer.write(list(bars))
    assert not refused, refused
    return changes


def keys_of(bars: Sequence[BarSnapshot]) -> list[tuple[str, int]]:
    """Return what a task is told of bars."""
    return [(bar.symbol, bar.opened_at_ms) for bar in bars]


NOW = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)
