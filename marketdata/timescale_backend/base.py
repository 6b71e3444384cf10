"""
The PostgreSQL backend of the product: a hypertable where the server has TimescaleDB, a plain table of the same shape where not.

One engine everywhere; the server is asked, no setting decides. Mends three traps of django-timescaledb: its migration drops the
composite primary key, adds an index that we do not want, and crashes on a server without the extension.
"""

import logging
from typing import Any

from django.db.backends.postgresql import base as postgresql
from django.db.utils import DatabaseError
from timescale.db.backends.postgresql.base import DatabaseWrapper as TimescaleWrapper
from timescale.db.backends.postgresql.schema import TimescaleSchemaEditor
from timescale.db.models.fields import TimescaleDateTimeField

log = logging.getLogger(__name__)


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
