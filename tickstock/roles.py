"""
Who may do what in the database: one role a kind of process, as a table of grants, the statements that make it so, and its proof.

The grants are derived from the models, so a new table falls into its class by itself: what nobody named here, the web may not write if it
is the market's, and no other process if it is people's.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import psycopg
from django.apps import apps
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

READ = frozenset({"SELECT"})
ADD = READ | {"INSERT"}
EDIT = ADD | {"UPDATE"}
WRITE = EDIT | {"DELETE"}
NOTHING: frozenset[str] = frozenset()

ROLES = ("app_stream", "app_worker", "app_web", "app_readonly")
BAR_TABLES = ("ohlcv_1min", "bar_revisions", "ohlcv_daily")
"""Written by app_stream and the owner alone."""

# Exceptions by table from what the app's label says; everything here stands in marketdata
WORKER_WRITES = {
    "heartbeats": WRITE,
    "jobs": WRITE,
    "dead_tasks": WRITE,
    "logged_errors": WRITE,
    "audit_log": ADD | {"DELETE"},  # what is past its time
    "rejected_events": READ | {"DELETE"},
}
WEB_WRITES = {
    "symbols": EDIT, "universes": WRITE, "universe_memberships": WRITE, "sessions": WRITE, "closures": WRITE,  # rows that people edit in the admin
    "jobs": EDIT, "dead_tasks": READ | {"DELETE"}, "logged_errors": WRITE, "audit_log": ADD,
}  # fmt: skip
STREAM_WRITES = {
    "ohlcv_1min": EDIT,
    "ohlcv_daily": EDIT,
    "bar_revisions": ADD,
    "dead_tasks": READ,
    "audit_log": ADD,
}  # what was is never changed
NOT_FOR_READERS = {"audit_log", "logged_errors", "dead_tasks", "jobs"}  # names, addresses, insides
PEOPLE_A_WORKER_READS = {"accounts_user", "auth_group", "auth_permission", "accounts_user_groups", "accounts_user_user_permissions",
                         "auth_group_permissions", "django_content_type"}  # fmt: skip
ATTEMPTS = {
    "SELECT": "SELECT FROM {table} LIMIT 0",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
}
LOCK = 0x726F6C65  # "role": two who grant at once would collide in PostgreSQL's catalogue


class RolesError(RuntimeError):
    """The roles cannot be made or tried; the message names the cure."""


def tables() -> dict[str, str]:
    """Return the label of the app that each table of the models belongs to."""
    models = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed and not model._meta.proxy]
    return {model._meta.db_table: model._meta.app_label for model in models} | {"django_migrations": "django"}


def granted(role: str, table: str, label: str) -> frozenset[str]:
    """Return what the role may do with the table."""
    if role == "app_stream":
        if label == "marketdata":
            return STREAM_WRITES.get(table, WRITE)
        return READ if label in {"patterns", "django"} else NOTHING
    if role == "app_worker":
        if label in {"patterns", "dashboards"}:
            return WRITE
        if label == "marketdata":
            return WORKER_WRITES.get(table, READ)
        return READ if label == "django" or table in PEOPLE_A_WORKER_READS else NOTHING
    if role == "app_web":
        if label == "marketdata":
            return WEB_WRITES.get(table, READ)
        return READ if label in {"patterns", "django"} else WRITE
    return READ if label in {"marketdata", "patterns"} and table not in NOT_FOR_READERS else NOTHING


# ---- making it so -----------------------------------------------------------------------------------------------------------------------


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def role_statements(login: str, passwords: dict[str, str] | None = None) -> Iterator[str]:
    """
    Yield what makes the roles; needs CREATEROLE. Roles belong to the whole server, so an existing one is kept.

    `login` may then become any of them: where one URL serves all processes, each takes its own.
    """
    for role in ROLES:
        reader = "ALTER ROLE app_readonly SET default_transaction_read_only = on; ALTER ROLE app_readonly SET statement_timeout = '5s'; "
        yield (
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} LOGIN NOINHERIT; "
            f"{reader if role == 'app_readonly' else ''}END IF; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
        yield (
            f"DO $$ BEGIN IF NOT pg_has_role('{login}', '{role}', 'MEMBER') THEN GRANT {role} TO {_quoted(login)}; END IF; "
            "EXCEPTION WHEN unique_violation THEN NULL; END $$"
        )
    for role, password in (passwords or {}).items():
        yield f"ALTER ROLE {role} PASSWORD '{password.replace(chr(39), chr(39) * 2)}'"


def grant_statements(database: str, *, existing: Container[str]) -> Iterator[str]:
    """Yield what gives each role its rights on the existing tables and nothing else; needs the owner of the tables."""
    yield f"SELECT pg_advisory_xact_lock({LOCK})"
    everybody = ", ".join(ROLES)
    yield f"REVOKE TEMPORARY ON DATABASE {_quoted(database)} FROM PUBLIC"
    yield f"GRANT CONNECT ON DATABASE {_quoted(database)} TO {everybody}"
    yield f"GRANT TEMPORARY ON DATABASE {_quoted(database)} TO app_stream"  # the writer's staging tables
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA public TO {everybody}"
    for table, label in sorted(tables().items()):
        if table not in existing:
            continue  # the migration was asked for one app only
        yield f"REVOKE ALL ON TABLE {_quoted(table)} FROM PUBLIC, {everybody}"
        for role in ROLES:
            rights = granted(role, table, label)
            if rights:
                yield f"GRANT {', '.join(sorted(rights))} ON TABLE {_quoted(table)} TO {role}"
    yield (
        "DO $$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN "
        f"GRANT MAINTAIN ON TABLE {', '.join(map(_quoted, BAR_TABLES))} TO app_stream; END IF; END $$"  # ANALYZE after an import
    )


def statements(passwords: dict[str, str] | None = None) -> list[str]:
    """Return all of it for the default database and its login."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_user, current_database()")
        login, database = cursor.fetchone()
        existing = set(connection.introspection.table_names(cursor))
    if not existing.issuperset(BAR_TABLES):
        raise RolesError("The database has no tables yet. Run `manage.py migrate` first.")
    return [*role_statements(login, passwords), *grant_statements(database, existing=existing)]


def make_roles(passwords: dict[str, str] | None = None) -> None:
    """Make roles and grants in the default database; safe to repeat. RolesError."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in statements(passwords):
                cursor.execute(statement)
    except Exception as error:
        if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise RolesError(
                f"The login of DATABASE_URL may not make roles or grant ({str(error).strip().splitlines()[0]}). Give the output of "
                "`manage.py setup_roles --print` to the administrator of the server, or use the login that owns the tables."
            ) from None
        raise


# ---- the proof --------------------------------------------------------------------------------------------------------------------------


@dataclass
class Audit:
    """What was tried: by (role, object) the actions that were not refused, and the cells that are wrong, in words."""

    seen: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    tried: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    chunks: int = 0


def audit() -> Audit:
    """Attempt each action as each role on each table, on the chunks there are and on one made later; everything is rolled back. RolesError."""
    found = Audit()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        _ensure_may_become(cursor)
        names = tables()
        columns = _first_columns(cursor)
        targets = [(table, table, label) for table, label in sorted(names.items())]
        if _has_timescaledb(cursor):
            targets += _chunks(cursor, names)
        for role in ROLES:
            for target, table, label in targets:
                allowed = granted(role, table, label)
                name = ".".join(_quoted(part) for part in target.split("."))
                for action in ATTEMPTS:
                    statement = _attempt(action, name, columns[table])
                    _compare(found, cursor, role=role, what=target, action=action, statement=statement, expected=action in allowed)
            for what, statement, is_allowed in _beyond_tables(role):
                _compare(found, cursor, role=role, what="server", action=what, statement=statement, expected=is_allowed)
        found.chunks = sum("." in target for target, _, _ in targets)
        transaction.set_rollback(True)
    return found


def _ensure_may_become(cursor: CursorWrapper) -> None:
    cursor.execute(
        "SELECT name FROM unnest(%s::text[]) AS name LEFT JOIN pg_roles ON rolname = name WHERE oid IS NULL OR NOT pg_has_role(session_user, oid, 'MEMBER')",
        [list(ROLES)],
    )
    missing = [name for (name,) in cursor.fetchall()]
    if missing:
        raise RolesError(
            f"There is no role {', '.join(missing)}, or this login may not become it. Run `manage.py setup_roles` as the owner."
        )


def _has_timescaledb(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
    return cursor.fetchone() is not None


def _first_columns(cursor: CursorWrapper) -> dict[str, str]:
    cursor.execute(
        "SELECT DISTINCT ON (table_name) table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND is_identity = 'NO' ORDER BY table_name, ordinal_position"
    )
    return dict(cursor.fetchall())


def _chunks(cursor: CursorWrapper, names: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return the chunks of each hypertable, a new one of `ohlcv_1min` among them, which the rollback takes away again."""
    cursor.execute(
        "INSERT INTO symbols (symbol, name, type, exchange, sector, industry, active, created_at) "
        "VALUES ('ROLE.AUDIT', '', '', '', '', '', false, now()) ON CONFLICT DO NOTHING; "
        "INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source, source_version, revision, complete, is_final, "
        "writer_epoch, valued_at, updated_at) VALUES ('ROLE.AUDIT', '2100-01-01', 1, 1, 1, 1, 1, 10, 0, 0, false, false, 0, now(), now())"
    )
    cursor.execute(
        "SELECT chunk_schema || '.' || chunk_name, hypertable_name FROM timescaledb_information.chunks WHERE hypertable_schema = 'public' "
        "ORDER BY range_end DESC"
    )
    newest: dict[str, list[str]] = {}
    for chunk, table in cursor.fetchall():
        newest.setdefault(table, []).append(chunk)
    return [(chunk, table, names[table]) for table, chunks in newest.items() if table in names for chunk in chunks[:20]]


def _attempt(action: str, name: str, column: str) -> str:
    return ATTEMPTS[action].format(table=name, column=_quoted(column))


def _beyond_tables(role: str) -> Iterator[tuple[str, str, bool]]:
    yield "CREATE", "CREATE TABLE public.role_audit ()", False
    yield "TEMPORARY", "CREATE TEMPORARY TABLE role_audit ()", role == "app_stream"
    yield "DROP", "DROP TABLE public.heartbeats", False
    yield "ALTER", "ALTER TABLE public.ohlcv_1min ADD COLUMN role_audit int", False
    yield "PROGRAM", "COPY (SELECT 1) TO PROGRAM 'true'", False
    yield "READ FILE", "SELECT pg_read_file('PG_VERSION')", False
    yield "CREATE ROLE", "CREATE ROLE role_audit", False
    yield "REPLICATION", "SET LOCAL session_replication_role = 'replica'", False


def _compare(found: Audit, cursor: CursorWrapper, *, role: str, what: str, action: str, statement: str, expected: bool) -> None:
    is_allowed = _is_allowed(cursor, role, statement)
    found.tried += 1
    found.refused += not is_allowed
    if is_allowed:
        found.seen.setdefault((role, what), []).append(action)
    if is_allowed != expected:
        found.wrong.append(f"{role} {'may' if is_allowed else 'may not'} {action} {what}")


def _is_allowed(cursor: CursorWrapper, role: str, statement: str) -> bool:
    """Return whether the server lets the role do it: any other answer than a missing right means yes."""
    cursor.execute(f"SAVEPOINT attempt; SET LOCAL ROLE {role}")
    try:
        cursor.execute(statement)
    except Exception as error:
        if not isinstance(error.__cause__, psycopg.Error):
            raise
        return not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)
    else:
        return True
    finally:
        cursor.execute("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt")  # the role goes with it
