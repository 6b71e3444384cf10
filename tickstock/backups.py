"""
Backups that are proven: a dump and, from the same snapshot, each table's count and checksum; a restore compares them again.

PostgreSQL's own pg_dump and pg_restore do the work; the embedded server brings them.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tickstock import embedded, env

MANIFEST = ".json"


class BackupError(RuntimeError):
    """The backup or restore cannot be done; the message names the cure."""


@dataclass(frozen=True)
class Content:
    """What a table held: rows, and the sum of the hashes of their texts, which no order changes."""

    rows: int
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds."""

    server: str
    timescaledb: str
    tables: dict[str, Content]

    @property
    def rows(self) -> int:
        """Return the rows of all tables."""
        return sum(content.rows for content in self.tables.values())


def _address(name: str = "") -> tuple[str, dict[str, str]]:
    """Return libpq's address of the database (or another on its server), and the environment with the password, which no process list shows."""
    values = connection.settings_dict
    address = make_conninfo(
        host=values["HOST"] or None,
        port=values["PORT"] or None,
        user=values["USER"] or None,
        dbname=name or values["NAME"],
        connect_timeout=5,
    )
    environment = {key: value for key, value in env.inherited().items() if not key.startswith("PG") or key == "PG_BIN"}
    return address, environment | ({"PGPASSWORD": str(values["PASSWORD"])} if values["PASSWORD"] else {})


@contextmanager
def _connected(name: str = "") -> Iterator[psycopg.Connection[Any]]:
    address, _ = _address(name)
    options = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex"
    with psycopg.connect(address, password=connection.settings_dict["PASSWORD"] or None, options=options) as opened:
        yield opened


def _program(name: str) -> str:
    folder = embedded.client_folder()
    found = str(folder / name) if folder and (folder / name).exists() else shutil.which(name)
    if not found:
        raise BackupError(f"There is no {name}. Install PostgreSQL's client programs (Debian: postgresql-client), or run `make install`.")
    return found


def _run(name: str, *arguments: str, database: str = "") -> str:
    address, environment = _address(database)
    done = subprocess.run(
        [_program(name), *arguments, "--dbname", address],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if "error" in line or "mismatch" in line or "version" in line]
        raise BackupError(f"{name} failed: {(words or done.stderr.strip().splitlines() or ['no word'])[0]}")
    return done.stdout


def contents(session: psycopg.Connection[Any]) -> Manifest:
    """Count and sum up every table of ours as this session's snapshot sees it."""
    names = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    tables = {}
    for (name,) in names:
        query = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(row::text, 0)::numeric), 0)::text FROM {} AS row")
        found = session.execute(query.format(sql.Identifier("public", name))).fetchone()
        assert found is not None
        tables[name] = Content(*found)
    extension = session.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    return Manifest(str(session.info.server_version), extension[0] if extension else "", tables)


# ---- making one ------------------------------------------------------------------------------------------------------------------------


def backup(path: Path) -> Manifest:
    """Dump the database into `path` and its manifest beside it, both of one moment, while everything runs on. BackupError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    try:
        with _connected() as session:
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            row = session.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            _run("pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--snapshot={row[0]}", f"--file={draft}")
            manifest = contents(session)
        draft.chmod(0o600)  # it holds people's names and password hashes
        _manifest_of(path).write_text(json.dumps(asdict(manifest), indent=1))
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def _manifest_of(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST)


def read_manifest(path: Path) -> Manifest:
    """Return what stands beside a dump. BackupError."""
    try:
        told = json.loads(_manifest_of(path).read_text())
        return Manifest(told["server"], told["timescaledb"], {name: Content(**content) for name, content in told["tables"].items()})
    except FileNotFoundError:
        raise BackupError(f"There is no {_manifest_of(path)}: it says what the dump must hold. Copy both files.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{_manifest_of(path)} cannot be read: {error}") from None


# ---- bringing it back ------------------------------------------------------------------------------------------------------------------


def restore(path: Path, *, into: str = "") -> tuple[Manifest, list[str]]:
    """
    Bring a dump back into the empty database of DATABASE_URL, or into a new one called `into`; return what it must hold and what differs.

    All or nothing. BackupError where the database is not empty, or the server lacks what the dump needs.
    """
    if not path.is_file():
        raise BackupError(f"There is no file {path}.")
    wanted = read_manifest(path)
    if into:
        _create(into)
    with _connected(into) as session:
        session.autocommit = True
        _ensure_empty(session)
        if wanted.timescaledb:
            _ready_timescaledb(session, wanted.timescaledb)
            session.execute("SELECT timescaledb_pre_restore()")
    try:
        _run("pg_restore", "--no-owner", "--no-acl", "--no-comments", "--exit-on-error", "--single-transaction", str(path), database=into)
    finally:
        if wanted.timescaledb:
            with _connected(into) as session:
                session.execute("SELECT timescaledb_post_restore()")
    with _connected(into) as session:
        session.execute("ANALYZE")
        found = contents(session)
    return wanted, _differences(wanted, found)


def _create(name: str) -> None:
    with _connected() as session:
        session.autocommit = True
        try:
            session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name)))
        except psycopg.errors.DuplicateDatabase:
            raise BackupError(f"There is a database {name} already; name another one.") from None
        except psycopg.errors.InsufficientPrivilege:
            raise BackupError(f"The login of DATABASE_URL may not create the database {name}; have the administrator make it.") from None


def _ensure_empty(session: psycopg.Connection[Any]) -> None:
    row = session.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    if row is not None and row[0]:
        raise BackupError(f"The database {session.info.dbname} is not empty ({row[0]} tables). Restore into a new one: --into NAME.")


def _ready_timescaledb(session: psycopg.Connection[Any], version: str) -> None:
    try:
        session.execute("CREATE EXTENSION IF NOT EXISTS timescaledb CASCADE")
    except psycopg.Error:
        raise BackupError(f"The dump needs TimescaleDB {version}; this server does not have it. Install and preload it.") from None
    row = session.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if row is None or row[0] != version:
        raise BackupError(
            f"The dump is of TimescaleDB {version}, this server has {row[0] if row else 'none'}. Install that version, then update it."
        )


def _differences(wanted: Manifest, found: Manifest) -> list[str]:
    names = sorted(wanted.tables.keys() | found.tables.keys())
    return [
        f"{name}: {wanted.tables.get(name)} became {found.tables.get(name)}"
        for name in names
        if wanted.tables.get(name) != found.tables.get(name)
    ]
