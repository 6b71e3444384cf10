"""Is everything in order, and if not: what is the cure. Each question is asked once, answers in words, and never raises."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import redis
import requests
from django.conf import settings
from django.core import mail
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

from marketdata.models import DeadTask, Heartbeat, LoggedError, Session
from tickstock import disk, health
from tickstock.roles import ROLES

OK, WARN, FAIL = "ok", "warn", "fail"
CLOCK_WARN, CLOCK_FAIL = 2.0, 10.0  # seconds
CALENDAR_DAYS = 30  # sessions must be known so far ahead
DISK_WARN, DISK_FAIL = 0.15, 0.05  # free part
FULL_WARN_DAYS = 30
ASK_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """What one question found; `cure` is empty where all is well."""

    name: str
    verdict: str
    words: str
    cure: str = ""


def examine() -> Iterator[Finding]:
    """Ask every question, the servers first: what hangs on a dead one says so in one line."""
    for name, ask in QUESTIONS.items():
        try:
            yield from (Finding(name, *answer) for answer in ask())
        except (DatabaseError, InterfaceError) as error:
            yield Finding(name, FAIL, f"the database does not answer: {_first_line(error)}", "Start it, and check DATABASE_URL.")
        finally:
            connection.close()


Answer = tuple[str, str, str]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# ---- the feed's side ---------------------------------------------------------------------------------------------------------------------


def _key() -> Iterator[Answer]:
    if settings.USE_SYNTHETIC_DATA:
        yield OK, "not needed: the market is synthetic", ""
        return
    if not settings.MASSIVE_API_KEY:
        yield FAIL, "MASSIVE_API_KEY is not set", "Put your key into it, or set USE_SYNTHETIC_DATA=1."
        return
    answer = _rest("/v1/marketstatus/now")
    if isinstance(answer, str):
        yield FAIL, f"{settings.MASSIVE_REST_URL} cannot be reached: {answer}", "Check MASSIVE_REST_URL and the way out of this machine."
    elif answer.status_code in {401, 403}:
        yield FAIL, f"the key is not accepted (HTTP {answer.status_code})", "Copy the key again from massive.com into MASSIVE_API_KEY."
    elif answer.status_code != 200:
        yield WARN, f"REST answers HTTP {answer.status_code}", "Look at the vendor's status page, and try again."
    else:
        yield OK, "accepted", ""


def _entitlement() -> Iterator[Answer]:
    if settings.USE_SYNTHETIC_DATA or not settings.MASSIVE_API_KEY:
        yield OK, "nothing to ask: no vendor is used", ""
        return
    today = datetime.now(UTC).date()
    answer = _rest(f"/v2/aggs/ticker/SPY/range/1/minute/{today - timedelta(days=5)}/{today}?limit=1")
    if isinstance(answer, str):
        yield WARN, f"not asked: {answer}", "See key."
    elif answer.status_code == 403:
        yield FAIL, "the plan does not hold minute aggregates", "Take a plan with aggregates; without them gaps stay open."
    elif answer.status_code == 429:
        yield WARN, "the plan's rate is used up for now", "Wait a minute; with a free plan repair takes its time."
    elif answer.status_code != 200:
        yield WARN, f"REST answers HTTP {answer.status_code}", "Try again."
    else:
        yield OK, "minute aggregates by REST", ""
    delayed = [beat.part for beat in Heartbeat.objects.filter(part__startswith="stream ", state="delayed")]
    if delayed:
        yield WARN, "the stream is 15 minutes delayed", "That is the plan; a real-time plan shows the present."


def _rest(path: str) -> "requests.Response | str":
    """Return REST's answer, or why there is none."""
    try:
        return requests.get(
            settings.MASSIVE_REST_URL.rstrip("/") + path,
            headers={"Authorization": f"Bearer {settings.MASSIVE_API_KEY}"},
            timeout=ASK_SECONDS,
        )
    except requests.RequestException as error:
        return type(error).__name__


def _feed() -> Iterator[Answer]:
    reason = health.ask_parts(["feed"])["feed"]
    yield (
        (OK, "live", "")
        if reason is None
        else (FAIL, reason, "Start stream_ticks, and read its last words; `doctor --flow SYMBOL` follows one symbol.")
    )
    for beat in Heartbeat.objects.filter(part__startswith="stream ", at__gte=datetime.now(UTC) - timedelta(minutes=5)):
        if beat.detail.get("dropped_frames"):
            yield (
                WARN,
                f"{beat.part} dropped {beat.detail['dropped_frames']} frames: this machine was too slow",
                "Use --shard to divide the symbols.",
            )
        missing = sum(line.get("missing_topics") or 0 for line in beat.detail.get("lines") or [])
        if missing and beat.state in health.STREAMING_STATES:
            yield (
                WARN,
                f"{beat.part}: the feed did not acknowledge {missing} topics",
                "Check MASSIVE_EVENTS against the plan, and the tickers.",
            )


# ---- servers -------------------------------------------------------------------------------------------------------------------------------


def _clock() -> Iterator[Answer]:
    began = time.time()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        apart = {"the database's": float(cursor.fetchone()[0]) - (began + time.time()) / 2}
    if settings.MASSIVE_API_KEY and not settings.USE_SYNTHETIC_DATA:
        answer = _rest("/v1/marketstatus/now")
        if not isinstance(answer, str) and "Date" in answer.headers:
            apart["the vendor's"] = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    for whose, seconds in apart.items():
        words = f"{abs(seconds):.1f} s from {whose} clock"
        verdict = FAIL if abs(seconds) > CLOCK_FAIL else WARN if abs(seconds) > CLOCK_WARN else OK
        yield verdict, words, "" if verdict == OK else "Let a time service (chrony, systemd-timesyncd) set the clock of both machines."


def _database() -> Iterator[Answer]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_database(), "
            "current_setting('server_encoding')"
        )
        version, commit, name, encoding = cursor.fetchone()
    plan = MigrationExecutor(connection).migration_plan(MigrationExecutor(connection).loader.graph.leaf_nodes())
    yield (
        (FAIL, f"{len(plan)} migrations are not applied", "Run `manage.py migrate`.")
        if plan
        else (OK, f"PostgreSQL {version}, {name}, all migrations", "")
    )
    if commit == "off":
        yield FAIL, "synchronous_commit is off: a crash loses stored bars", "Set synchronous_commit = on in postgresql.conf."
    if encoding != "UTF8":
        yield WARN, f"the encoding is {encoding}", "Make the database with ENCODING 'UTF8'."


def _roles() -> Iterator[Answer]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)", [list(ROLES)])
        count = cursor.fetchone()[0]
    if count < len(ROLES):
        yield (
            WARN,
            f"{count} of {len(ROLES)} roles exist: every process is the owner",
            "Run `manage.py setup_roles`, then set DATABASE_ROLES=1 or a login each.",
        )
    elif not settings.DATABASE_ROLES and connection.settings_dict["USER"] not in ROLES:
        yield (
            WARN,
            "the roles are there; with this DATABASE_URL every process is the owner",
            "Set DATABASE_ROLES=1, or give each process its own login.",
        )
    else:
        yield OK, "each process has its own; `audit_roles` proves it", ""


def _extension() -> Iterator[Answer]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'")
        row = cursor.fetchone()
        if row is None:
            yield OK, "plain PostgreSQL: fine for some hundred symbols; TimescaleDB keeps years in chunks", ""
        elif row[1] is None:
            yield (
                WARN,
                "TimescaleDB is on the server and not in this database",
                "Add it to shared_preload_libraries before the first migrate.",
            )
        else:
            cursor.execute("SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_name = 'ohlcv_1min'")
            is_hypertable = bool(cursor.fetchone()[0])
            cursor.execute("SELECT current_setting('timescaledb.license', true)")
            words = f"TimescaleDB {row[1]} ({cursor.fetchone()[0]} licence)"
            yield (
                (OK, words, "")
                if is_hypertable
                else (
                    WARN,
                    f"{words}, but ohlcv_1min is a plain table",
                    "Make a backup, migrate an empty database with the extension, restore into it.",
                )
            )


def _redis() -> Iterator[Answer]:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=ASK_SECONDS, socket_connect_timeout=ASK_SECONDS)
    try:
        client.ping()
        memory: Any = client.info("memory")
        persistence: Any = client.info("persistence")
    except (redis.RedisError, OSError) as error:
        yield FAIL, f"does not answer: {_first_line(error)}", "Start it, and check REDIS_URL."
        return
    finally:
        client.close()
    if memory.get("maxmemory_policy", "noeviction") != "noeviction":
        yield FAIL, f"maxmemory-policy is {memory['maxmemory_policy']}: tasks would vanish", "Set maxmemory-policy noeviction."
    elif memory.get("maxmemory") and memory["used_memory"] > 0.9 * memory["maxmemory"]:
        yield FAIL, "its memory is full to nine tenths", "Raise maxmemory."
    elif not persistence.get("aof_enabled") and not settings.REDIS_URL.startswith("unix://"):
        yield WARN, "keeps no file: a restart forgets queued tasks until the sweep finds their bars", "Set appendonly yes."
    else:
        yield OK, f"answers, {memory['used_memory'] / 1e6:.0f} MB used", ""


def _worker() -> Iterator[Answer]:
    reason = health.ask_parts(["worker"])["worker"]
    yield (
        (OK, "takes tasks from the queue", "")
        if reason is None
        else (FAIL, reason, "Start the Celery worker and beat; where they run, restart the worker.")
    )
    hour = datetime.now(UTC) - timedelta(hours=1)
    dead = DeadTask.objects.filter(dead_at__gte=hour).count()
    if dead:
        yield WARN, f"{dead} tasks were given up in the last hour", "Their rows in dead_tasks (admin) say why."
    errors = LoggedError.objects.filter(last_at__gte=hour).order_by("-last_at")
    if errors.exists():
        yield (
            WARN,
            f"{errors.count()} different errors in the last hour, the last: {errors[0].message[:120]}",
            "Read them in the admin: logged errors.",
        )


def _calendar() -> Iterator[Answer]:
    last = Session.objects.order_by("-date").values_list("date", flat=True).first()
    if last is None:
        yield FAIL, "there is no session at all", "Run `manage.py migrate`; it loads New York's."
    elif last < datetime.now(UTC).date() + timedelta(days=CALENDAR_DAYS):
        yield FAIL, f"it ends on {last}", "Start stream_ticks: it renews the calendar a year ahead."
    else:
        yield OK, f"sessions until {last}", ""


def _disk() -> Iterator[Answer]:
    seen = disk.forecast()
    size = sum(share.bytes for share in seen.shares)
    if seen.free is None or seen.total is None:
        yield OK, f"{size / 1e9:.2f} GB in the tables; the database's disk is another machine's", ""
        return
    days = "" if seen.full_in_days is None else f", full in {seen.full_in_days:,.0f} days at this rate"
    words = f"{seen.free / 1e9:.1f} GB of {seen.total / 1e9:.0f} GB free, {size / 1e9:.2f} GB in the tables{days}"
    part = seen.free / seen.total
    is_short = part < DISK_WARN or (seen.full_in_days is not None and seen.full_in_days < FULL_WARN_DAYS)
    verdict = FAIL if part < DISK_FAIL else WARN if is_short else OK
    yield (
        verdict,
        words,
        "" if verdict == OK else "Free space, or keep less: BAR_DAYS and `manage.py retention`, INDICATOR_DAYS, DETECTION_DAYS.",
    )


def _mail() -> Iterator[Answer]:
    backend = settings.EMAIL_BACKEND.rsplit(".", 2)[-2]
    if backend != "smtp":
        yield WARN, f"messages go to {backend}, to nobody's inbox", "Set up an SMTP server to have invitations and alerts sent."
        return
    try:
        with mail.get_connection(timeout=ASK_SECONDS):
            yield OK, f"{settings.EMAIL_HOST} takes messages", ""
    except OSError as error:
        yield (
            WARN,
            f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT} does not answer ({_first_line(error)})",
            "Set EMAIL_HOST to a server that sends.",
        )


QUESTIONS: dict[str, Callable[[], Iterator[Answer]]] = {
    "database": _database, "redis": _redis, "clock": _clock, "key": _key, "entitlement": _entitlement, "feed": _feed, "worker": _worker,
    "roles": _roles, "extension": _extension, "calendar": _calendar, "disk": _disk, "e-mail": _mail,
}  # fmt: skip
