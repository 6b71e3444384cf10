"""
Let go of minutes that are older than BAR_DAYS: chunks at once on TimescaleDB, rows in bites elsewhere. Run as the owner.

What hangs on bars (values, detections, ledger) goes by settings of its own, see `patterns.tasks.prune`; daily bars stay.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

ROWS_A_BITE = 20_000
LEAST_DAYS = 14  # gaps and indicators look back days; what they need must not go


class RetentionError(RuntimeError):
    """It cannot be done; the message names the cure."""


@dataclass
class Dropped:
    """What went, or would go: chunks of bars (TimescaleDB), rows of bars elsewhere, rows of revisions; chunks that were compressed."""

    chunks: int = 0
    bars: int = 0
    revisions: int = 0
    compressed: int = 0


def drop_old(*, now: datetime, days: int, dry_run: bool = False) -> Dropped:
    """Drop minutes that began before `now` - `days`; only whole chunks on TimescaleDB. RetentionError."""
    if days < LEAST_DAYS:
        raise RetentionError(f"BAR_DAYS={days} would take minutes that gaps and indicators still need; keep at least {LEAST_DAYS} days.")
    until = now - timedelta(days=days)
    dropped = Dropped()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
        if cursor.fetchone():
            does = "SELECT count(*) FROM show_chunks" if dry_run else "SELECT count(*) FROM drop_chunks"
            cursor.execute(f"{does}('ohlcv_1min', older_than => %s::timestamptz)", [until])
            dropped.chunks = cursor.fetchone()[0]
        else:
            dropped.bars = _bites("ohlcv_1min", "timestamp", until, dry_run=dry_run)
    dropped.revisions = _bites("bar_revisions", "timestamp", until, dry_run=dry_run)
    return dropped


def compress_old(*, now: datetime, days: int) -> int:
    """Compress chunks older than `days`; return how many. RetentionError where the server's licence has no compression."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('timescaledb.license', true)")
        licence = cursor.fetchone()[0]
        if licence != "timescale":
            raise RetentionError(f"This server cannot compress (TimescaleDB licence: {licence or 'no TimescaleDB'}). Leave --compress out.")
        cursor.execute(
            "ALTER TABLE ohlcv_1min SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol', "
            "timescaledb.compress_orderby = 'timestamp')"
        )
        cursor.execute(
            "SELECT count(compress_chunk(chunk, if_not_compressed => true)) FROM show_chunks('ohlcv_1min', older_than => %s::timestamptz) AS chunk",
            [now - timedelta(days=days)],
        )
        return int(cursor.fetchone()[0])


def _bites(table: str, column: str, until: datetime, *, dry_run: bool) -> int:
    """Delete in bites, so that no lock is held for long; return how many rows."""
    with connection.cursor() as cursor:
        if dry_run:
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} < %s", [until])  # noqa: S608 - constants of this module
            return int(cursor.fetchone()[0])
        total = 0
        while True:
            cursor.execute(
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {column} < %s LIMIT {ROWS_A_BITE}))",  # noqa: S608
                [until],
            )
            if not cursor.rowcount:
                return total
            total += cursor.rowcount
