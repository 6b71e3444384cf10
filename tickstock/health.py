"""
/health and /ready. Beside `http.py` because this file reads tables, and DRF's settings name `http.py` before the tables are loaded.

Each part is asked in a thread of its own with a bound, so that a server which accepts and then says nothing cannot hang the answer.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import timedelta
from time import monotonic

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from marketdata.models import Heartbeat
from tickstock.http import json_bytes

log = logging.getLogger(__name__)
ANSWER_SECONDS = 3.0
REDIS_SECONDS = 2.0
STREAM_SILENCE = timedelta(seconds=15)
WORKER_SILENCE = timedelta(seconds=30)
SILENT = "no sign of life"
STREAMING_STATES = {"live", "delayed", "replay"}

# Bounded: threads that wait for a dead server stay few, and further questions time out in the queue
_askers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="ready")


class NotReadyError(Exception):
    """Why a part is not ready, in words for everybody: no address, no secret."""


@login_not_required
@never_cache
@require_safe
def health(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer 200 while this process lives; asks nothing and nobody."""
    return HttpResponse(b'{"status":"ok"}', content_type="application/json")


@login_not_required
@never_cache
@require_safe
def ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Answer 200 when every part that this stack runs is well, else 503, with a reason for each that is not."""
    reasons = ask_parts(settings.READY_PARTS)
    parts: dict[str, dict[str, object]] = {
        part: {"ok": True} if reason is None else {"ok": False, "reason": reason} for part, reason in reasons.items()
    }
    if parts.get("feed", {}).get("ok") and (notices := feed_notices()):
        parts["feed"]["notices"] = notices
    well = all(part["ok"] for part in parts.values())
    body = json_bytes({"status": "ok" if well else "unready", "parts": parts})
    answer = HttpResponse(body, status=200 if well else 503, content_type="application/json")
    answer._has_been_logged = True  # type: ignore[attr-defined]  # Django's mark: whoever asks is told, the log need not repeat it each second
    return answer


def ask_parts(names: list[str]) -> dict[str, str | None]:
    """Return for each part None, or why it is not ready; within `ANSWER_SECONDS` whatever the parts do."""
    end = monotonic() + ANSWER_SECONDS
    questions = {name: _askers.submit(QUESTIONS[name]) for name in names}
    return {name: _reason(question, end) for name, question in questions.items()}


def _reason(question: "Future[None]", end: float) -> str | None:
    try:
        question.result(timeout=max(0.0, end - monotonic()))
    except NotReadyError as error:
        return str(error)
    except FutureTimeoutError:
        question.cancel()
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    return None


def _ask_database() -> None:
    _rows_of("")


def _ask_redis() -> None:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        log.warning("redis is not ready: %s", error)
        raise NotReadyError("does not answer") from None
    finally:
        client.close()


def _ask_feed() -> None:
    """
    Every shard must be alive: the newest sign of life says how many there are (`stream 1/2`).

    A shard of an earlier division of the symbols has gone silent and counts for nothing.
    """
    rows = _rows_of("stream ")
    if not rows:
        raise NotReadyError("has never run: start stream_ticks")
    newest = max(rows, key=lambda row: row.at)
    if _silence(newest) > STREAM_SILENCE:
        raise NotReadyError(f"{SILENT} for {_silence(newest).total_seconds():.0f} s")
    division = newest.part.rpartition("/")[2]
    alive = [row for row in rows if row.part.endswith(f"/{division}") and _silence(row) <= STREAM_SILENCE]
    if division.isdecimal() and len(alive) < int(division):
        raise NotReadyError(f"{len(alive)} of {division} shards are alive")
    for row in alive:
        if row.state not in STREAMING_STATES:
            raise NotReadyError(f"{row.part} is {row.state or 'starting'}")


def feed_notices() -> list[str]:
    """Ask for the feed's notices within `ANSWER_SECONDS`; a database that has just answered and now does not costs them."""
    question = _askers.submit(_feed_notices)
    try:
        return question.result(timeout=ANSWER_SECONDS)
    except FutureTimeoutError:
        question.cancel()
        return []


def _feed_notices() -> list[str]:
    """Return what a person should know although the feed streams: that it is delayed, topics that the plan lacks, a line that is down."""
    try:
        rows = [row for row in _rows_of("stream ") if _silence(row) <= STREAM_SILENCE]
    except NotReadyError:
        return []
    return [str(notice) for row in rows for notice in row.detail.get("notices", ())]


def _ask_worker() -> None:
    rows = [row for row in _rows_of("worker") if row.part == "worker"]  # the canary: any worker took it from the queue
    if not rows:
        raise NotReadyError("has never run: start the Celery worker and beat")
    if _silence(rows[0]) > WORKER_SILENCE:
        raise NotReadyError(f"{SILENT} for {_silence(rows[0]).total_seconds():.0f} s")


def _rows_of(part: str) -> list[Heartbeat]:
    """Return signs of life of the parts that begin so, over a connection of this thread that is closed again."""
    try:
        return list(Heartbeat.objects.filter(part__startswith=part))
    except (DatabaseError, InterfaceError) as error:
        log.warning("the database is not ready: %s", error)
        raise NotReadyError("the database does not answer") from None
    finally:
        connection.close()


def _silence(row: Heartbeat) -> timedelta:
    return timezone.now() - row.at


QUESTIONS: dict[str, Callable[[], None]] = {"database": _ask_database, "redis": _ask_redis, "feed": _ask_feed, "worker": _ask_worker}
