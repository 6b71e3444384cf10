"""
The sole writer of `ohlcv_1min` (and of `ohlcv_daily`): snapshots → rows, by an upsert that is safe to repeat.

A writer holds the lock of its line (`stream I/N` live or replay, `past` for history) on a connection of its own, and a fencing number that every
transaction checks: a deposed writer's next write is refused by the database, not by its own belief.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import psycopg
from django.db import connections
from psycopg import sql
from psycopg.types.json import Jsonb

from marketdata.bars.session import Hours
from marketdata.bars.sizes import decimal_text
from marketdata.bars.snapshot import BarChange, BarSnapshot, DailySnapshot
from marketdata.feed.decode import Rejection
from marketdata.models import Cause, Source

log = logging.getLogger(__name__)

LOCK_CLASS = 0x7469636B  # "tick": our half of PostgreSQL's two-number advisory locks
REVISION_LOCK = 0  # held for the length of a transaction that replaces bars
LOCK_RETRY_SECONDS = 0.5
REJECTIONS_PER_FLUSH = 1_000
SETTLED = int(Source.SETTLED)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WriterBusyError(RuntimeError):
    """Another process holds this line; the message says which, `epoch` what its fencing number is."""

    def __init__(self, message: str, epoch: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch


class WriterDeposedError(RuntimeError):
    """Another writer has taken the line over; nothing of this one's may be written any more."""


_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged_bars (
    symbol text, timestamp timestamptz, open numeric, high numeric, low numeric, close numeric, volume numeric, vwap numeric,
    trades integer, source smallint, source_version bigint, complete boolean, is_final boolean
) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS staged_days (
    symbol text, date date, open numeric, high numeric, low numeric, close numeric, volume numeric, vwap numeric,
    trades integer, source smallint, source_version bigint
) ON COMMIT DELETE ROWS;
"""

# What a batch meets in the table: nothing as a rule, then it is copied straight into it, in half the time. Asked symbol by symbol, for
# what lies between the first and the last minute of a file is nearly all of a day; of a whole minute by time, for thousands of symbols take long to plan.
_SYMBOLS_STORED = """
SELECT clock_timestamp(), array(
    SELECT asked.symbol FROM unnest(%(symbols)s::varchar[]) AS asked (symbol) CROSS JOIN LATERAL (
        SELECT 1 FROM ohlcv_1min bar
        WHERE bar.symbol = asked.symbol AND bar.timestamp >= %(first)s AND bar.timestamp <= %(last)s LIMIT 1
    ) AS found
)
"""
_MINUTE_STORED = "SELECT clock_timestamp(), EXISTS (SELECT 1 FROM ohlcv_1min WHERE timestamp = %(first)s)"
WHOLE_MINUTE = 500

_COPY = """
COPY ohlcv_1min (symbol, timestamp, open, high, low, close, volume, vwap, trades, source, source_version, complete, is_final,
                 revision, writer_epoch, valued_at, updated_at) FROM STDIN
"""

# Sorted by bytes, for the rules of a language take ten times as long
_UPSERT_OF = """
WITH now AS MATERIALIZED (
    SELECT clock_timestamp() AS moment
), before AS (
    SELECT bar.* FROM ohlcv_1min bar JOIN staged_bars USING (symbol, timestamp)
    WHERE {found}
), news AS (
    SELECT staged_bars.* FROM staged_bars LEFT JOIN before bar USING (symbol, timestamp)
    WHERE bar.symbol IS NULL OR {replaces}
), stored AS (
    INSERT INTO ohlcv_1min AS bar (symbol, timestamp, open, high, low, close, volume, vwap, trades, source, source_version,
                                   revision, complete, is_final, writer_epoch, valued_at, updated_at)
    SELECT symbol, timestamp, open, high, low, close, volume, vwap, trades, source, source_version,
           0, complete, is_final, %(epoch)s, now.moment, now.moment
    FROM news, now ORDER BY symbol COLLATE "C", timestamp
    ON CONFLICT (symbol, timestamp) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
        vwap = coalesce(excluded.vwap, bar.vwap), trades = coalesce(excluded.trades, bar.trades),
        source = excluded.source, source_version = excluded.source_version,
        (revision, valued_at) = (SELECT
            CASE WHEN is_other THEN bar.revision + 1 ELSE bar.revision END, CASE WHEN is_other THEN excluded.valued_at ELSE bar.valued_at END
            FROM (SELECT (bar.open, bar.high, bar.low, bar.close, bar.volume) IS DISTINCT FROM
                         (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume) AS is_other) AS compared),
        complete = excluded.complete, is_final = bar.is_final OR excluded.is_final,
        writer_epoch = excluded.writer_epoch, updated_at = excluded.updated_at
    WHERE {guard}
    RETURNING bar.symbol, bar.timestamp, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades, bar.source,
              bar.source_version, bar.revision, bar.complete, bar.is_final, bar.updated_at
), kept AS (
    INSERT INTO bar_revisions (symbol, timestamp, revision, open, high, low, close, volume, vwap, trades, source, source_version,
                               complete, stored_at, replaced_at, cause)
    SELECT before.symbol, before.timestamp, before.revision, before.open, before.high, before.low, before.close, before.volume,
           before.vwap, before.trades, before.source, before.source_version, before.complete, before.valued_at, stored.updated_at,
           CASE WHEN %(cause)s = 'late' AND stored.source > before.source THEN 'corrected' ELSE %(cause)s END
    FROM before JOIN stored USING (symbol, timestamp) WHERE stored.revision > before.revision
)
"""

_REPLACES = """((new.source, new.source_version) >= (bar.source, bar.source_version)
      AND (NOT bar.is_final OR new.source >= %(settled)s)
      AND (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades, bar.source, bar.complete)
          IS DISTINCT FROM (new.open, new.high, new.low, new.close, new.volume,
                            coalesce(new.vwap, bar.vwap), coalesce(new.trades, bar.trades), new.source, new.complete))"""


def _upsert(found: str) -> str:
    """Return the statement, with how to find what is stored. What replaces nothing is left out early: a conflict locks its row, changed or not."""
    return _UPSERT_OF.format(found=found, replaces=_REPLACES.replace("new.", "staged_bars."), guard=_REPLACES.replace("new.", "excluded."))


_UPSERT = _upsert("bar.symbol = ANY(%(symbols)s::varchar[]) AND bar.timestamp >= %(first)s AND bar.timestamp <= %(last)s")
_UPSERT_MINUTE = _upsert("bar.timestamp = %(first)s")

# What is stored are the values that were sent, but for a vwap or a count that the sender did not know
_CHANGED_ROWS = """
SELECT stored.symbol, (date_part('epoch', stored.timestamp) * 1000)::bigint, stored.vwap::float8, stored.trades, stored.revision,
       stored.is_final, before.symbol IS NULL AS inserted
FROM stored LEFT JOIN before USING (symbol, timestamp) ORDER BY stored.timestamp, stored.symbol COLLATE "C"
"""

_CHANGED_COUNT = """
SELECT count(*) FILTER (WHERE before.symbol IS NULL), count(before.symbol) FROM stored LEFT JOIN before USING (symbol, timestamp)
"""

# A feed that agrees with what was made of the minutes still makes the day its own: only then it is final, and counts as compared
_UPSERT_DAYS = f"""
INSERT INTO ohlcv_daily AS day (symbol, date, open, high, low, close, volume, vwap, trades, source, source_version, updated_at)
SELECT symbol, date, open, high, low, close, volume, vwap, trades, source, source_version, clock_timestamp()
FROM staged_days ORDER BY symbol, date
ON CONFLICT (symbol, date) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume,
    vwap = coalesce(excluded.vwap, day.vwap), trades = coalesce(excluded.trades, day.trades),
    source = excluded.source, source_version = excluded.source_version, updated_at = excluded.updated_at
WHERE (excluded.source, excluded.source_version) >= (day.source, day.source_version)
  AND ((day.open, day.high, day.low, day.close, day.volume) IS DISTINCT FROM
       (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume)
    OR (day.source = {Source.MADE_DAY.value} AND excluded.source <> day.source))
"""  # noqa: S608 - a number of this program

# Prices of the regular session, volume of the whole day, as the vendor's daily bars have them
_STAGE_MADE_DAYS = """
INSERT INTO staged_days
SELECT symbol, %(date)s, (array_agg(open ORDER BY timestamp) FILTER (WHERE regular))[1], max(high) FILTER (WHERE regular),
       min(low) FILTER (WHERE regular), (array_agg(close ORDER BY timestamp DESC) FILTER (WHERE regular))[1], sum(volume),
       CASE WHEN bool_and(vwap IS NOT NULL OR volume = 0) AND sum(volume) > 0 THEN round(sum(vwap * volume) / sum(volume), 6) END,
       CASE WHEN bool_and(trades IS NOT NULL) THEN sum(trades) END, %(source)s, %(version)s
FROM (
    SELECT *, timestamp >= %(open)s AND timestamp < %(close)s AS regular FROM ohlcv_1min
    WHERE symbol = ANY(%(symbols)s::varchar[]) AND timestamp >= %(pre_open)s AND timestamp < %(post_close)s AND (complete OR is_final)
) AS minute
GROUP BY symbol HAVING bool_or(regular)
"""

# Of a table without revisions xmax tells a new row (0) from a replaced one
_COUNTED_DAYS = f"""
WITH stored AS ({_UPSERT_DAYS} RETURNING day.xmax = 0 AS inserted)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM stored
"""  # noqa: S608 - made of this module's own constants


class Stored(msgspec.Struct, frozen=True):
    """What a call did to the table: rows that are new, and rows that were replaced."""

    inserted: int = 0
    changed: int = 0


def line_name(shard: int, shards: int) -> str:
    """Return the name of a live line's lock."""
    return f"stream {shard}/{shards}"


PAST = "past"


def _lock_number(name: str) -> int:
    """Return a stable 31-bit number for a line's name."""
    number = 2_166_136_261
    for byte in name.encode():  # FNV-1a
        number = ((number ^ byte) * 16_777_619) & 0xFFFFFFFF
    return number & 0x7FFFFFFF or 1


def this_process() -> str:
    """Return who we are, for whoever finds the line taken."""
    return f"process {os.getpid()} on {socket.gethostname()}"


class Writer:
    """
    One line's way into the table. Not thread-safe: one thread owns it.

    `acquire` first; after OperationalError call `reconnect` and write the same batch again, it is harmless.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = 0
        self._connection: psycopg.Connection[Any] | None = None
        self._known: set[str] = set()

    # -- the lock -----------------------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Take the line's lock and a new fencing number. WriterBusyError names the present holder."""
        self.close()
        connection = self._connection = self._open()
        with connection.transaction():
            row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_CLASS, _lock_number(self.name))).fetchone()
            if row is None or not row[0]:
                holder = connection.execute("SELECT holder, acquired_at, epoch FROM writer_leases WHERE name = %s", (self.name,)).fetchone()
                self.close()
                who = f"{holder[0]} since {holder[1]:%Y-%m-%d %H:%M:%S} UTC" if holder else "another process"
                raise WriterBusyError(
                    f"The line “{self.name}” is already written by {who}. Stop it first, or wait until it ends; two writers never share a line.",
                    holder[2] if holder else 0,
                )
            self._refuse_overlap(connection)
            row = connection.execute(
                "INSERT INTO writer_leases AS lease (name, epoch, holder, acquired_at) VALUES (%s, 1, %s, clock_timestamp()) "
                "ON CONFLICT (name) DO UPDATE SET epoch = lease.epoch + 1, holder = excluded.holder, acquired_at = excluded.acquired_at "
                "RETURNING epoch",
                (self.name, this_process()),
            ).fetchone()
        assert row is not None
        self.epoch = row[0]
        connection.execute(_STAGE)

    def _refuse_overlap(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse to run beside shards of another count: they hold some of the same symbols."""
        prefix, slash, count = self.name.rpartition("/")
        if not slash:
            return
        kind = prefix.partition(" ")[0]
        others = connection.execute(
            "SELECT name, holder FROM writer_leases WHERE name LIKE %s AND name NOT LIKE %s", (f"{kind} %/%", f"%/{count}")
        ).fetchall()
        for name, holder in others:
            held = connection.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                (LOCK_CLASS, _lock_number(name)),
            ).fetchone()
            if held:
                self.close()
                raise WriterBusyError(
                    f"The line “{self.name}” would share symbols with “{name}”, which {holder} writes. All shards need the same N; stop it first.",
                    0,
                )

    def acquire_within(self, seconds: float, *, stopped: Callable[[], bool] = lambda: False) -> None:
        """Like `acquire`, but wait for the present holder to finish. WriterBusyError when the time is over."""
        end = time.monotonic() + seconds
        while True:
            try:
                return self.acquire()
            except WriterBusyError:
                if time.monotonic() > end or stopped():
                    raise
                time.sleep(LOCK_RETRY_SECONDS)

    def _open(self) -> psycopg.Connection[Any]:
        """Open a direct connection: a session lock does not survive a transaction pooler."""
        settings = connections["default"].get_connection_params()
        # The server shall notice a dead network too: until then it keeps the lock of a connection that is gone
        settings["options"] = (
            f"{settings.get('options', '')} -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
        )
        return psycopg.connect(
            **{key: value for key, value in settings.items() if key not in {"cursor_factory", "context", "prepare_threshold"}},
            autocommit=True, application_name=f"tickstock {self.name}", keepalives_idle=10, keepalives_interval=5, keepalives_count=3,
        )  # fmt: skip

    def reconnect(self) -> None:
        """
        Open the line again after the database went away.

        WriterDeposedError where another process has taken it meanwhile; psycopg.OperationalError while the database is still away.
        """
        mine = self.epoch
        try:
            self.acquire()
        except WriterBusyError as error:
            if error.epoch == mine:
                raise psycopg.OperationalError("this process's own former connection is not gone yet") from None
            raise WriterDeposedError(str(error)) from None
        if self.epoch != mine + 1:
            raise WriterDeposedError(f"The line “{self.name}” was written by another process meanwhile; this one stops.")

    def close(self) -> None:
        """Give the line up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """Return the open connection. OperationalError where there is none."""
        if self._connection is None or self._connection.closed:
            raise psycopg.OperationalError("the connection is closed")
        return self._connection

    def _check_fence(self, *, replaces_bars: bool) -> None:
        row = self.connection.execute("SELECT epoch FROM writer_leases WHERE name = %s FOR SHARE", (self.name,)).fetchone()
        if row is None or row[0] != self.epoch:
            raise WriterDeposedError(f"The line “{self.name}” belongs to another process now; nothing of this batch was written.")
        if replaces_bars:
            # A live line and `past` may touch the same bar: one transaction at a time, so that no revision goes unrecorded
            self.connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_CLASS, REVISION_LOCK))

    # -- bars ---------------------------------------------------------------------------------------------------------------------

    def write(self, bars: Sequence[BarSnapshot], *, cause: Cause = Cause.LATE) -> tuple[list[BarChange], list[Rejection]]:
        """
        Store bars (at most one per key); return what changed, and what the database's checks refused.

        A bar of lower rank or version than the stored one changes nothing. All or nothing per call, refused rows excepted.
        """
        if not bars:
            return [], []
        try:
            return self._write(bars, cause), []
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError) as error:
            if len(bars) == 1:
                return [], [_refused_by_database(bars[0], error)]
        half = len(bars) // 2  # one bad row must not take the others with it
        changes, rejections = self.write(bars[:half], cause=cause)
        more_changes, more_rejections = self.write(bars[half:], cause=cause)
        return changes + more_changes, rejections + more_rejections

    def _write(self, bars: Sequence[BarSnapshot], cause: Cause) -> list[BarChange]:
        connection = self.connection
        symbols = {bar.symbol for bar in bars}
        with connection.transaction():
            self._check_fence(replaces_bars=True)
            self._add_symbols(symbols - self._known)
            text = "".join([_line(bar) for bar in bars])
            first_ms, last_ms = min(bar.opened_at_ms for bar in bars), max(bar.opened_at_ms for bar in bars)
            bounds = {"symbols": list(symbols), "first": _moment(first_ms), "last": _moment(last_ms)}
            with connection.cursor() as cursor:
                whole_minute = first_ms == last_ms and len(bars) >= WHOLE_MINUTE
                now, met = self._stored(cursor, _MINUTE_STORED if whole_minute else _SYMBOLS_STORED, bounds)
                if not met:
                    self._copy_new(cursor, text, now)
                    rows = None
                else:
                    with cursor.copy("COPY staged_bars FROM STDIN") as copy:
                        copy.write(text)
                    cursor.execute((_UPSERT_MINUTE if whole_minute else _UPSERT) + _CHANGED_ROWS, bounds | self._rule(cause))
                    rows = cursor.fetchall()
        self._known |= symbols
        if rows is None:
            return [BarChange(bar, 0, bar.source >= SETTLED, True) for bar in sorted(bars, key=_KEY)]
        sent = {_KEY(bar)[::-1]: bar for bar in bars}
        return [_change(sent[row[0], row[1]], row) for row in rows]

    def _rule(self, cause: Cause) -> dict[str, Any]:
        return {"settled": SETTLED, "epoch": self.epoch, "cause": cause}

    def _stored(self, cursor: psycopg.Cursor[Any], question: str, bounds: dict[str, Any]) -> tuple[datetime, Any]:
        """Return the database's moment and what `question` finds. Nobody else can store any meanwhile: bars are written under one lock."""
        row = cursor.execute(question, bounds).fetchone()
        assert row is not None
        return row[0], row[1]

    def _copy_new(self, cursor: psycopg.Cursor[Any], text: str, now: datetime) -> None:
        with cursor.copy(_COPY) as copy:
            copy.write(text.replace("\n", f"\t0\t{self.epoch}\t{now}\t{now}\n"))

    def _add_symbols(self, symbols: Iterable[str]) -> None:
        new = sorted(symbols)
        if new:
            self.connection.execute(
                "INSERT INTO symbols (symbol, name, type, exchange, sector, industry, active, created_at) "
                "SELECT symbol, '', '', '', '', '', true, clock_timestamp() FROM unnest(%s::text[]) AS symbol ON CONFLICT DO NOTHING",
                (new,),
            )

    def write_days(self, days: Sequence[DailySnapshot]) -> int:
        """Store daily bars (at most one per key); return how many rows changed. A refused row raises: a source of days is checked before."""
        if not days:
            return 0
        connection = self.connection
        unknown = {day.symbol for day in days} - self._known
        with connection.transaction():
            self._check_fence(replaces_bars=False)
            self._add_symbols(unknown)
            with connection.cursor() as cursor:
                with cursor.copy("COPY staged_days FROM STDIN") as copy:
                    for day in days:
                        copy.write_row(
                            (
                                day.symbol, day.date, repr(day.open), repr(day.high), repr(day.low), repr(day.close),
                                decimal_text(day.volume), None if day.vwap is None else repr(day.vwap), day.trades, day.source, day.version,
                            )
                        )  # fmt: skip
                cursor.execute(_UPSERT_DAYS)
                changed = cursor.rowcount
        self._known |= unknown
        return changed

    def make_days(self, day: date, hours: Hours, symbols: Sequence[str], *, version: int) -> int:
        """
        Make the daily bars of one session from its stored minutes; return how many rows are new or changed.

        Of the lowest rank: whatever a feed says of that day replaces them, and they replace nothing of it.
        """
        moments = {name: _moment(getattr(hours, name)) for name in ("pre_open", "open", "close", "post_close")}
        with self.connection.transaction(), self.connection.cursor() as cursor:
            self._check_fence(replaces_bars=False)
            asked = {"date": day, "symbols": list(symbols), "source": Source.MADE_DAY, "version": version}
            cursor.execute(_STAGE_MADE_DAYS, asked | moments)
            cursor.execute(_UPSERT_DAYS)
            return cursor.rowcount

    def copy_bars(self, text: str, *, first_ms: int, last_ms: int, symbols: Iterable[str]) -> tuple[Stored, list[Rejection]]:
        """
        Store bars that stand ready as lines of COPY's text format, columns as in `staged_bars`, at most one per key; return what changed.

        The way of whole files: the same upsert as `write`, but no row becomes an object of Python, and symbols with nothing stored yet need
        none: a block that begins within a symbol meets that one only. [first_ms, last_ms] and `symbols` say what the lines touch. All or
        nothing per call, rows that the database refuses excepted.
        """
        return self._copied(text, lambda part: self._copy_bars(part, first_ms, last_ms, set(symbols)))

    def copy_days(self, text: str, *, symbols: Iterable[str]) -> tuple[Stored, list[Rejection]]:
        """Store daily bars that stand ready as lines of COPY's text format, columns as in `staged_days`; otherwise like `copy_bars`."""
        return self._copied(text, lambda part: self._copy_days(part, set(symbols)))

    def _copied(self, text: str, store: Callable[[str], Stored]) -> tuple[Stored, list[Rejection]]:
        if not text:
            return Stored(), []
        try:
            return store(text), []
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError) as error:
            lines = text.splitlines(keepends=True)
            if len(lines) == 1:
                detail = str(error).splitlines()[0][:300]
                return Stored(), [Rejection("refused_by_database", detail, "row", text.partition("\t")[0], text.rstrip("\n"))]
        half = len(lines) // 2  # one bad row must not take the others with it
        stored, refused = self._copied("".join(lines[:half]), store)
        more, more_refused = self._copied("".join(lines[half:]), store)
        return Stored(stored.inserted + more.inserted, stored.changed + more.changed), refused + more_refused

    def _copy_bars(self, text: str, first_ms: int, last_ms: int, symbols: set[str]) -> Stored:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            self._check_fence(replaces_bars=True)
            self._add_symbols(symbols - self._known)
            bounds = {"symbols": list(symbols), "first": _moment(first_ms), "last": _moment(last_ms)}
            now, met = self._stored(cursor, _SYMBOLS_STORED, bounds)
            new, others = _parted(text, set(met))
            inserted = changed = 0
            if new:
                self._copy_new(cursor, new, now)
                inserted = cursor.rowcount
            if others:
                with cursor.copy("COPY staged_bars FROM STDIN") as copy:
                    copy.write(others)
                row = cursor.execute(_UPSERT + _CHANGED_COUNT, bounds | {"symbols": met} | self._rule(Cause.BACKFILL)).fetchone()
                assert row is not None
                inserted, changed = inserted + row[0], row[1]
        self._known |= symbols
        return Stored(inserted, changed)

    def _copy_days(self, text: str, symbols: set[str]) -> Stored:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            self._check_fence(replaces_bars=False)
            self._add_symbols(symbols - self._known)
            with cursor.copy("COPY staged_days FROM STDIN") as copy:
                copy.write(text)
            cursor.execute(_COUNTED_DAYS)
            row = cursor.fetchone()
        self._known |= symbols
        assert row is not None
        return Stored(*row)

    def settle(self, first: datetime, last: datetime) -> int:
        """Mark the complete bars of [first, last) final: their late window has passed. Return how many were not yet."""
        with self.connection.transaction():
            self._check_fence(replaces_bars=True)
            done = self.connection.execute(
                "UPDATE ohlcv_1min SET is_final = true WHERE timestamp >= %s AND timestamp < %s AND complete AND NOT is_final",
                (first, last),
            )
            return done.rowcount

    # -- what is kept beside the bars ----------------------------------------------------------------------------------------------

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Keep refused events with their reason; beyond a bound per call, one row per reason counts the rest."""
        if not rejections:
            return
        rows = condensed(rejections, keep=REJECTIONS_PER_FLUSH)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            copy_columns = "COPY rejected_events (received_at, reason, detail, kind, symbol, count, raw) FROM STDIN"
            now = datetime.now(UTC)
            with cursor.copy(copy_columns) as copy:
                for row in rows:
                    copy.write_row((now, row.reason[:40], row.detail[:300], row.kind[:10], row.symbol[:40], row.count, row.raw[:2_000]))

    def beat(self, state: str, detail: dict[str, Any], *, started_at: datetime) -> None:
        """Leave a sign of life."""
        self.connection.execute(
            "INSERT INTO heartbeats (part, at, started_at, state, detail) VALUES (%s, clock_timestamp(), %s, %s, %s) "
            "ON CONFLICT (part) DO UPDATE SET at = excluded.at, started_at = excluded.started_at, state = excluded.state, "
            "detail = excluded.detail",
            (self.name, started_at, state, Jsonb(detail)),
        )

    def keep_span(
        self,
        span: int | None,
        *,
        line: str,
        began_at: datetime,
        alive_until: datetime,
        symbols: Sequence[str],
        kinds: Sequence[str],
        ended: str,
    ) -> int:
        """Store a stretch of the live line, or how far it has come since; return its number."""
        if span is not None:
            self.connection.execute(
                "UPDATE feed_spans SET began_at = %s, alive_until = %s, ended = %s WHERE id = %s", (began_at, alive_until, ended, span)
            )
            return span
        row = self.connection.execute(
            "INSERT INTO feed_spans (line, began_at, alive_until, symbols, kinds, ended) VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            (line, began_at, alive_until, list(symbols), list(kinds), ended),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def keep_pause(self, symbol: str, at: datetime, *, paused: bool) -> None:
        """Store that a symbol was paused, or that its pause is over. A pause that lasts already, or none to end, changes nothing."""
        if paused:
            self._add_symbols({symbol} - self._known)
            self.connection.execute(
                "INSERT INTO halts (symbol, began_at) SELECT %(symbol)s::text, %(at)s::timestamptz WHERE NOT EXISTS "
                "(SELECT 1 FROM halts WHERE symbol = %(symbol)s AND (ended_at IS NULL OR ended_at > %(at)s)) ON CONFLICT DO NOTHING",
                {"symbol": symbol, "at": at},
            )
        else:
            self.connection.execute(
                "UPDATE halts SET ended_at = %s WHERE symbol = %s AND ended_at IS NULL AND began_at < %s", (at, symbol, at)
            )

    def claim_origin(self, feed: str) -> None:
        """Mark the database as filled by `feed`. RuntimeError in one sentence where the other feed has filled it."""
        self.connection.execute(
            "INSERT INTO feed_origin (id, name, since) VALUES (1, %s, clock_timestamp()) ON CONFLICT DO NOTHING", (feed,)
        )
        row = self.connection.execute("SELECT name FROM feed_origin").fetchone()
        if row is not None and row[0] != feed:
            raise RuntimeError(
                f"This database holds bars of the feed “{row[0]}”; made-up and real bars never share one: point DATABASE_URL at another "
                f"database for “{feed}”."
            )

    def analyze(self) -> None:
        """Renew the planner's statistics after a large import."""
        for table in ("ohlcv_1min", "ohlcv_daily"):
            self.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))


def condensed(rejections: Sequence[Rejection], *, keep: int) -> list[Rejection]:
    """Return the first `keep` as they are, and of the rest one per reason and kind that counts the others."""
    rest: dict[tuple[str, str], Rejection] = {}
    for rejection in rejections[keep:]:
        key = (rejection.reason, rejection.kind)
        known = rest.get(key)
        count = rejection.count + (known.count if known else 0)
        rest[key] = msgspec.structs.replace(known or rejection, count=count)
    return [*rejections[:keep], *rest.values()]


def _moment(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


@lru_cache(maxsize=1_000)
def _moment_text(milliseconds: int) -> str:
    return str(_moment(milliseconds))


_KEY = attrgetter("opened_at_ms", "symbol")
_UNSAFE = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _line(bar: BarSnapshot) -> str:
    """Return the bar as a line of COPY's text format, columns as in `staged_bars`."""
    vwap = "\\N" if bar.vwap is None else repr(bar.vwap)
    trades = "\\N" if bar.trades is None else bar.trades
    symbol = bar.symbol if bar.symbol.isalnum() else bar.symbol.translate(_UNSAFE)
    return (
        f"{symbol}\t{_moment_text(bar.opened_at_ms)}\t{bar.open!r}\t{bar.high!r}\t{bar.low!r}\t{bar.close!r}\t"
        f"{decimal_text(bar.volume)}\t{vwap}\t{trades}\t{bar.source:d}\t{bar.version}\t"
        f"{'t' if bar.complete else 'f'}\t{'t' if bar.source >= SETTLED else 'f'}\n"
    )


def _parted(text: str, symbols: set[str]) -> tuple[str, str]:
    """Return the lines of all other symbols and those of these, each in their order."""
    if not symbols:
        return text, ""
    parts: tuple[list[str], list[str]] = [], []
    for line in text.splitlines(keepends=True):
        parts[line.partition("\t")[0] in symbols].append(line)
    return "".join(parts[0]), "".join(parts[1])


def _change(bar: BarSnapshot, row: Sequence[Any]) -> BarChange:
    _, _, vwap, trades, revision, is_final, inserted = row
    if vwap != bar.vwap or trades != bar.trades:
        bar = msgspec.structs.replace(bar, vwap=vwap, trades=trades)
    return BarChange(bar, revision, is_final, inserted)


def _refused_by_database(bar: BarSnapshot, error: psycopg.Error) -> Rejection:
    return Rejection(
        reason="refused_by_database",
        detail=str(error).splitlines()[0][:300],
        kind="bar",
        symbol=bar.symbol,
        raw=msgspec.json.encode(bar).decode(),
    )
