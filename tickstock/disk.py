"""How large each class of rows is, how fast it grows, how long it is kept, and when the disk is full. Asks the catalogue and a day of rows."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection

# class: (tables, the column of time by which a day's growth is counted in the first table, days kept; None: for ever)
CLASSES: dict[str, tuple[tuple[str, ...], str, str | None]] = {
    "minute bars": (("ohlcv_1min",), "timestamp", "BAR_DAYS"),
    "revisions": (("bar_revisions",), "replaced_at", "BAR_DAYS"),
    "daily bars": (("ohlcv_daily",), "updated_at", None),
    "indicator values": (("intraday_indicators",), "calculation_timestamp", "INDICATOR_DAYS"),
    "detections": (("intraday_patterns",), "detection_timestamp", "DETECTION_DAYS"),
    "ledger of scans": (("scanned_bars", "scan_failures"), "scanned_at", "DETECTION_DAYS"),
    "evidence and gaps": (("feed_spans", "gaps", "reconciliations"), "alive_until", None),
    "rejected events": (("rejected_events",), "received_at", "ERROR_DAYS"),
    "errors and dead tasks": (("logged_errors", "dead_tasks"), "last_at", "ERROR_DAYS"),
    "audit log and jobs": (("audit_log", "jobs"), "at", "AUDIT_DAYS"),
}


@dataclass(frozen=True)
class Share:
    """
    One class: bytes now, rows, bytes a day by the last 24 hours, days kept (None: for ever), bytes when it no longer grows.

    Where each interval is kept for another time, `kept_days` is the mean of the rows that came in the last 24 hours.
    """

    name: str
    bytes: int
    rows: int
    bytes_a_day: int
    kept_days: int | None

    @property
    def settles_at(self) -> int | None:
        """Return how large it becomes at this rate, None where it grows for ever."""
        return None if self.kept_days is None else max(self.bytes, self.bytes_a_day * self.kept_days)


@dataclass(frozen=True)
class Forecast:
    """The disk: free bytes (None where the database lies elsewhere), the classes, and in how many days it is full (None: never, or unknown)."""

    free: int | None
    total: int | None
    shares: list[Share]
    full_in_days: float | None


def forecast() -> Forecast:
    """Measure and project. The bars of a weekend forecast a weekend; ask on a day of trading."""
    shares = [_share(name, *described) for name, described in CLASSES.items()]
    folder = settings.DATA_DIR
    while not folder.exists():
        folder = folder.parent
    if not is_local():
        return Forecast(None, None, shares, None)
    usage = shutil.disk_usage(folder)
    return Forecast(usage.free, usage.total, shares, _days_until_full(shares, usage.free))


def is_local() -> bool:
    """Return whether the database lies on this machine's disk, as the embedded one does."""
    return Path(str(connection.settings_dict["HOST"] or "-")).is_absolute()


def _days_until_full(shares: list[Share], free: int) -> float | None:
    """Return when what grows for ever, and what has not settled yet, have eaten the free space."""
    endless = sum(share.bytes_a_day for share in shares if share.settles_at is None)
    bounded = sum((share.settles_at or 0) - share.bytes for share in shares if share.settles_at is not None)
    left = free - bounded
    if left <= 0:
        rising = sum(share.bytes_a_day for share in shares)
        return free / rising if rising else None
    return left / endless if endless else None


def _share(name: str, tables: tuple[str, ...], column: str, kept: str | None) -> Share:
    size = rows = 0
    with connection.cursor() as cursor:
        for table in tables:
            # Chunks of a hypertable inherit from it, so they count too
            cursor.execute(
                "SELECT coalesce(sum(pg_total_relation_size(oid)), 0), coalesce(sum(greatest(reltuples, 0)), 0) FROM pg_class "
                "WHERE oid = %s::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)",
                [table, table],
            )
            found = cursor.fetchone()
            size, rows = size + int(found[0]), rows + int(found[1])
        since = datetime.now(UTC) - timedelta(days=1)
        quote = connection.ops.quote_name
        days = getattr(settings, kept) if kept else None
        interval = "timeframe" if isinstance(days, dict) else "''"
        cursor.execute(
            f"SELECT {interval}, count(*) FROM {quote(tables[0])} WHERE {quote(column)} >= %s GROUP BY 1",  # noqa: S608 - names of ours
            [since],
        )
        counts = {str(key): int(count) for key, count in cursor.fetchall()}
    fresh = sum(counts.values())
    if isinstance(days, dict):
        days = _mean_days(days, counts)
    return Share(name, size, max(rows, fresh), round(size / max(rows, fresh) * fresh) if fresh else 0, days or None)


def _mean_days(days: dict[str, int], counts: dict[str, int]) -> int:
    """Return how long a row is kept on the average of a day's new rows by interval; 0 (for ever) where one interval is kept for ever."""
    fresh = sum(counts.values())
    if not fresh or 0 in days.values():
        return 0 if 0 in days.values() else max(days.values())
    return -(-sum(days.get(interval, 0) * count for interval, count in counts.items()) // fresh)
