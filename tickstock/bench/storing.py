"""Bars → committed rows, and files → rows: against the bare statements that PostgreSQL needs at least."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from django.db import connection

from marketdata.bars.columns import Wanted
from marketdata.bars.sizes import decimal_text
from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarSnapshot
from marketdata.importing import import_file
from marketdata.models import Bar, Source
from marketdata.writer import PAST, Writer, line_name
from tickstock.bench.rows import Place, Row, alternate, growth_row, time_row

FIRST_MS = 1_795_185_000_000
SYMBOLS = 11_000
IMPORT_ROWS = 1_000_000
MINUTES_OF_A_DAY = 390

_BARE = """
CREATE TEMPORARY TABLE IF NOT EXISTS bare_stage (LIKE ohlcv_1min INCLUDING DEFAULTS) ON COMMIT DELETE ROWS;
CREATE TABLE IF NOT EXISTS bench_bare (LIKE ohlcv_1min INCLUDING DEFAULTS, PRIMARY KEY (symbol, timestamp));
SELECT create_hypertable('bench_bare', 'timestamp', chunk_time_interval => interval '1 day', create_default_indexes => false, if_not_exists => true);
"""
_BARE_LIKE_OURS = """
CREATE TABLE bench_like (LIKE ohlcv_1min INCLUDING ALL);
ALTER TABLE bench_like ADD FOREIGN KEY (symbol) REFERENCES symbols (symbol) DEFERRABLE INITIALLY DEFERRED;
SELECT create_hypertable('bench_like', 'timestamp', chunk_time_interval => interval '1 day', create_default_indexes => false);
"""
_COLUMNS = [str(field.column) for field in Bar._meta.local_concrete_fields]
_BARE_UPSERT = f"""
INSERT INTO bench_bare SELECT * FROM bare_stage ON CONFLICT (symbol, timestamp) DO UPDATE SET
    {", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[2:])}
"""  # noqa: S608 - made of the model's own names


def rows(place: Place) -> Iterator[Row]:
    """Yield the rows of writing and importing."""
    writer = Writer(line_name(1, 1))
    writer.acquire()
    try:
        yield from _minutes(place, writer)
    finally:
        writer.close()
    yield from _file(place)


def minute_of(symbols: int, number: int) -> list[BarSnapshot]:
    """Return one minute of the whole market."""
    return [
        BarSnapshot(
            f"B{index:05d}", FIRST_MS + number * MINUTE_MS, 50.01, 50.25, 49.9, 50.11, (1_000 + index) * SHARE, 50.05, None, Source.VENDOR,
            1_000 + index, True,
        )
        for index in range(symbols)
    ]  # fmt: skip


def _minutes(place: Place, writer: Writer) -> Iterator[Row]:
    _prepare()
    writer.write(minute_of(SYMBOLS, 0))  # the symbols' own rows, once
    number = 0
    written: list[list[BarSnapshot]] = []

    def ours(symbols: int = SYMBOLS) -> None:
        nonlocal number
        number += 1
        written.append(minute_of(symbols, number))
        changes, refused = writer.write(written[-1])
        assert len(changes) == symbols
        assert not refused

    def again() -> None:
        changes, _ = writer.write(written[-1])
        assert not changes

    def bare(symbols: int = SYMBOLS) -> None:
        _write_bare(minute_of(symbols, number))

    first, repeated, limit = alternate(place.repeats, ours, again, bare)
    yield time_row(
        "a minute of 11,000 bars → committed",
        "COPY + INSERT … ON CONFLICT of the same rows into a hypertable with the key only, nothing checked",
        ours=first,
        peer=limit,
        goal=1.5,
    )
    yield time_row("the same bars again", "the first write", ours=repeated, peer=first, goal=0.7, note="0 rows changed")
    points = [(SYMBOLS, first)]
    for symbols in (70, 1_000):
        small, least = alternate(place.repeats, lambda symbols=symbols: ours(symbols), lambda symbols=symbols: bare(symbols))  # type: ignore[misc]
        yield time_row(f"a minute of {symbols:,} bars → committed", "the same", ours=small, peer=least, goal=1.5)
        points.append((symbols, small))
    yield growth_row("a minute of bars → committed", sorted(points))


def _prepare() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_BARE)
        cursor.execute("TRUNCATE bench_bare")


def _write_bare(bars: Sequence[BarSnapshot]) -> None:
    at = datetime.now(UTC)
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        with cursor.copy(f"COPY bare_stage ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
            for bar in bars:
                copy.write_row(
                    (
                        bar.symbol, _text(bar.opened_at_ms), repr(bar.open), repr(bar.high), repr(bar.low), repr(bar.close),
                        decimal_text(bar.volume), repr(bar.vwap), bar.trades, bar.source, bar.version, 0, bar.complete, False, 1, at, at,
                    )
                )  # fmt: skip
        cursor.execute(_BARE_UPSERT)
        cursor.execute("COMMIT")
    assert raw.info.transaction_status == 0


def _text(opened_at_ms: int) -> str:
    minutes = (opened_at_ms - FIRST_MS) // MINUTE_MS
    return f"2026-11-20 {14 + (30 + minutes) // 60:02d}:{(30 + minutes) % 60:02d}+00"


def _file(place: Place) -> Iterator[Row]:
    path = place.scratch / "2026-11-20.csv.gz"
    _write_file(path, IMPORT_ROWS)
    writer = Writer(PAST)
    writer.acquire()
    wanted = Wanted(days=False, flat=True, zone="UTC", now_ms=FIRST_MS + 10 * 86_400_000)

    def ours(path: Path = path, rows: int = IMPORT_ROWS) -> None:
        _empty("ohlcv_1min, bar_revisions, imported_files")
        report = import_file(path, writer, wanted, source=Source.FLATFILE, now=datetime.now(UTC))
        assert report.inserted == rows, report

    def bare(table: str) -> None:
        _empty(table)
        at = datetime.now(UTC).isoformat()
        rest = (Source.FLATFILE.value, 1, 0, "t", "t", 1, at, at)
        with connection.cursor() as cursor:
            columns = [column for column in _COLUMNS if column != "vwap"]
            with gzip.open(path, "rt") as lines, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                rows = csv.reader(lines)
                next(rows)
                for ticker, volume, open_, close, high, low, window_start, trades in rows:
                    copy.write_row((ticker, _text(int(window_start) // 1_000_000), open_, high, low, close, volume, trades, *rest))

    try:
        with connection.cursor() as cursor:
            cursor.execute(_BARE_LIKE_OURS)
        points = []
        for symbols in (70, 1_000):
            smaller, rows = place.scratch / f"{symbols}.csv.gz", symbols * MINUTES_OF_A_DAY
            _write_file(smaller, rows)
            points.append((symbols, alternate(place.repeats, partial(ours, smaller, rows))[0]))
        mine, limit, least = alternate(place.repeats, ours, lambda: bare("bench_like"), lambda: bare("bench_bare"))
    finally:
        writer.close()
        with connection.cursor() as cursor:
            for table in ("bench_bare", "bench_like"):
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
    yield time_row(
        "import of 1,000,000 minutes",
        "gunzip + csv + psycopg COPY of the same columns into a hypertable with the same keys, indexes and checks",
        ours=mine,
        peer=limit,
        goal=2.5,
        note=f"{mine / least:.2f} of one with the primary key only",
    )
    yield growth_row("import", [*points, (IMPORT_ROWS // MINUTES_OF_A_DAY, mine)])


def _empty(tables: str) -> None:
    """Let each way begin alike: what the one before left to write back is written."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables}")
        cursor.execute("CHECKPOINT")


def _write_file(path: Path, rows: int) -> None:
    """Write a flat file: a day's regular minutes of as many symbols as make so many rows."""
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write("ticker,volume,open,close,high,low,window_start,transactions\n")
        for row in range(rows):
            symbol, minute = divmod(row, MINUTES_OF_A_DAY)
            at = (FIRST_MS + minute * MINUTE_MS) * 1_000_000
            file.write(f"B{symbol:05d},{1000 + row % 977},50.01,50.11,50.25,49.9,{at},{row % 91}\n")
