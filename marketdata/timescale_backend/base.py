"""
The PostgreSQL backend of the product: a hypertable where the server has TimescaleDB, a plain table of the same shape where not.

One engine everywhere; the server is asked, no setting decides. Mends three traps of django-timescaledb: its migration drops the
composite primary key, adds an index that we do not want, and crashes on a server without the extension.
"""

import logging
import select
import time
from collections import defaultdict, deque
from datetime import UTC
from typing import Any

from django.db.backends.postgresql import base as postgresql
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.utils import DatabaseError
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader
from timescale.db.backends.postgresql.base import DatabaseWrapper as TimescaleWrapper
from timescale.db.backends.postgresql.schema import TimescaleSchemaEditor
from timescale.db.models.fields import TimescaleDateTimeField

log = logging.getLogger(__name__)
KEPT_SECONDS = 60.0
_kept: dict[str, deque[tuple[Connection, float]]] = defaultdict(deque)  # by alias: connections that wait for the next request, since when


class SchemaEditor(TimescaleSchemaEditor):  # type: ignore[misc]  # the package has no types
    """Make hypertables only where the extension is, and keep a primary key that holds the time column."""

    sql_add_hypertable = (
        "SELECT create_hypertable({table}, {partition_column}, chunk_time_interval => interval {interval}, "
        "migrate_data => {migrate}, create_default_indexes => false)"
    )

    def _create_hypertable(self, model: Any, field: Any, should_migrate: bool = False) -> None:
        if self.connection.has_timescaledb():
            super()._create_hypertable(model, field, should_migrate)

    def _drop_primary_key(self, model: Any) -> None:
        if not any(isinstance(field, TimescaleDateTimeField) for field in model._meta.pk_fields):
            super()._drop_primary_key(model)

    def _set_chunk_time_interval(self, model: Any, field: Any) -> None:
        if self.connection.has_timescaledb():
            super()._set_chunk_time_interval(model, field)


class DatabaseWrapper(TimescaleWrapper):  # type: ignore[misc]  # the package has no types
    """Ask the server what it can do."""

    SchemaEditorClass = SchemaEditor
    connection: Connection | None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """
        Return one that an earlier request has left, else a new one.

        Django's own pool (psycopg_pool) makes each request wait two seconds and more while the server is away or was just started again;
        this one fails as fast as a connection without a pool.
        """
        kept = _kept[self.alias]
        while kept:
            try:
                connection, since = kept.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < KEPT_SECONDS and _is_quiet(connection):
                self.isolation_level = IsolationLevel.READ_COMMITTED
                return connection
            connection.close()
        made: Connection = super().get_new_connection(conn_params)
        return made

    def _close(self) -> None:
        connection, most = self.connection, self.settings_dict.get("KEPT_CONNECTIONS", 0)
        if connection is not None and len(_kept[self.alias]) < most and _may_stay(connection):
            _kept[self.alias].append((connection, time.monotonic()))
            self.connection = None
        else:
            super()._close()

    def create_cursor(self, name: str | None = None) -> Cursor[Any]:
        """Return a cursor that reads moments as psycopg does, in C; Django's own loader is Python and costs 2.5 µs more for each."""
        cursor: Cursor[Any] = super().create_cursor(name)
        if self.timezone is UTC:  # and so is the session, Django sees to it
            cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        return cursor

    def has_timescaledb(self) -> bool:
        """Return whether this database has the extension."""
        with self.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
            return cursor.fetchone() is not None

    def prepare_database(self) -> None:
        """Add the extension before a migration where the server offers it. A server without it stays plain."""
        postgresql.DatabaseWrapper.prepare_database(self)
        with self.cursor() as cursor:
            cursor.execute("SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
            row = cursor.fetchone()
        if row is None or row[0] is not None:
            return
        try:
            with self.cursor() as cursor:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb CASCADE")
        except DatabaseError as error:  # "must be preloaded" is fatal and ends the session
            log.warning("TimescaleDB is there but could not be enabled, tables stay plain: %s", error)
            self.close()


def _may_stay(connection: Connection) -> bool:
    """Return whether the next request finds it as a new one: alive, in autocommit, in no transaction."""
    return not connection.closed and connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def _is_quiet(connection: Connection) -> bool:
    """Return whether nothing has come on it since: a server that ends a connection says so, or closes it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
