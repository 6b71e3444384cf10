"""How the installation runs: what answers, what is late, what is missing, what was refused. Reads only; everybody who is signed in may look."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from amqp.exceptions import ChannelError
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError
from redis import RedisError

from dashboards.templatetags.wording import FEED_WORDS, NEW_YORK, feed_state
from marketdata import jobs
from marketdata.models import (
    Bar,
    DailyBar,
    DeadTask,
    FeedSpan,
    Gap,
    GapState,
    Heartbeat,
    Job,
    JobKind,
    LoggedError,
    Reconciliation,
    RejectedEvent,
    Session,
    Symbol,
)  # fmt: skip
from patterns.models import Detection, MarketSurvey, ScanFailure

MINUTE = timedelta(minutes=1)
MINUTES_SHOWN = 60
SILENT = timedelta(seconds=30)
GAPS_SHOWN = 14
NIGHTS_SHOWN = 14
DAYS_AHEAD = 8
DAYS_OF_A_YEAR = 252
HALF_DAY = timedelta(hours=6)
SPANS_SHOWN = 400
QUEUE_SECONDS = 1.0
WEEKEND = 5
JOBS_SHOWN = 8
ERRORS_SHOWN = 8
ERRORS_KEPT = timedelta(days=7)
WIDTH = 600  # units of the figures of today


@dataclass(frozen=True)
class Step:
    """One line of the first-run list: whether it is done, what is so, and where not, the one thing to do."""

    name: str
    done: bool
    words: str
    fix: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Part:
    """One running part: its state in words, whether it gives signs of life, and what it says of itself."""

    name: str
    state: str
    lamp: str
    words: str
    at: datetime | None
    since: datetime | None


@require_safe
def operations(request: HttpRequest) -> HttpResponse:
    """Show the feed, the parts, the ledger of gaps, errors, nights and days ahead."""
    now = timezone.now()
    may_act = request.user.has_perm("marketdata.add_job")
    beats = list(Heartbeat.objects.order_by("part"))
    feed = feed_state(now)
    session = Session.objects.open_or_next(now)
    waiting = _waiting_tasks()
    minutes = _minutes(now)
    gaps = [_gap(row) for row in Gap.objects.ledger()[:GAPS_SHOWN]]
    nights = list(Reconciliation.objects.all()[:NIGHTS_SHOWN])[::-1]
    steps = _first_run(now, beats, feed)
    refused = list(RejectedEvent.objects.by_reason(now - timedelta(days=1)))
    failures = list(ScanFailure.objects.order_by("-last_at")[:5])
    parts = [*_parts(beats, now), _broker(waiting)]
    return render(
        request,
        "dashboards/operations.html",
        {
            "now": now,
            "feed": feed,
            "parts": parts,
            "waiting": waiting,
            "minutes": minutes,
            "lanes": _lanes(session, now) if session and session.pre_open <= now else [],
            "session": session,
            "gaps": gaps,
            "open_gaps": sum(1 for gap in gaps if gap["state"] == GapState.OPEN),
            "nights": _nights(nights),
            "last_night": nights[-1] if nights else None,
            "steps": steps,
            "undone": [step for step in steps if not step.done and not step.optional],
            "refused": refused,
            "failures": failures,
            "logged": LoggedError.objects.filter(last_at__gte=now - ERRORS_KEPT).order_by("-last_at")[:ERRORS_SHOWN],
            "dead": DeadTask.objects.filter(dead_at__isnull=False).order_by("-dead_at")[:ERRORS_SHOWN],
            "jobs": [_job(job) for job in Job.objects.newest_first()[:JOBS_SHOWN]],
            "may_act": may_act,
            "kinds": [(kind, JobKind(kind).label) for kind in jobs.kinds_here()] if may_act else [],
            "ahead": _ahead(now),
            "disk": _disk(),
            "lede": _lede(feed, parts, gaps, steps, minutes),
        },
    )


def _disk() -> dict[str, Any] | None:
    """Return what the worker measured last: free bytes, classes by size with their growth, when it is full. None where nothing is known."""
    try:
        seen = cache.get("disk")
    except RedisError:
        return None
    if seen is None:
        return None
    shares = sorted(seen["shares"], key=lambda share: -share["bytes"])
    return {**seen, "shares": shares, "bytes": sum(share["bytes"] for share in shares), "at": datetime.fromtimestamp(seen["at"], UTC)}


def _waiting_tasks() -> int | None:
    """Return how many tasks wait in the queue, whatever the broker; None where it does not answer."""
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "socket_timeout": QUEUE_SECONDS, "socket_connect_timeout": QUEUE_SECONDS}
    try:
        with current_app.connection_for_read(connect_timeout=QUEUE_SECONDS, transport_options=options) as line:
            channel: Any = line.channel()  # kombu's types know the standard channel only, not what each transport adds
            return int(channel.queue_declare(queue=current_app.conf.task_default_queue, passive=True).message_count)
    except ChannelError:
        return 0  # an empty queue is none
    except (OperationalError, RedisError, OSError):
        return None


def _parts(beats: Iterable[Heartbeat], now: datetime) -> list[Part]:
    """Return each part that ever gave a sign of life."""
    found = []
    for beat in beats:
        alive = now - beat.at < SILENT
        words = FEED_WORDS.get(beat.state, beat.state or "running") if alive else "silent"
        detail = beat.detail
        if beat.part.startswith("stream") and alive:
            words += f", {detail.get('frames_per_minute', 0)} frames a minute, {detail.get('waiting_bars', 0)} bars wait"
        state = beat.state if beat.state in FEED_WORDS else "live"
        found.append(Part(beat.part, words, state if alive else "down", str(detail.get("reason") or ""), beat.at, beat.started_at))
    return found


def _broker(waiting: int | None) -> Part:
    if waiting is None:
        return Part("queue", "does not answer", "down", "", None, None)
    return Part("queue", f"{waiting} task{'' if waiting == 1 else 's'} wait{'s' if waiting == 1 else ''}", "live", "", None, None)


def _minutes(now: datetime) -> dict[str, Any]:
    """Return the last hour minute by minute: how many bars each has, and how long after its end they were stored."""
    of = Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).count()
    first = (now - MINUTES_SHOWN * MINUTE).replace(second=0, microsecond=0)
    known = {row["timestamp"]: row for row in Bar.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).by_minute(first)}
    rows = [{"at": first + place * MINUTE, **_seen(known.get(first + place * MINUTE))} for place in range(MINUTES_SHOWN)]
    delays = [row["delay"] for row in rows if row["delay"] is not None]
    middle = sorted(delays)[len(delays) // 2] if delays else None
    most = max(delays, default=0.0)
    step = WIDTH / MINUTES_SHOWN
    for place, row in enumerate(rows):
        row["x"], row["width"] = round(place * step, 2), round(step * 0.78, 2)
        row["tall"] = round(56 * row["bars"] / of, 1) if of else 0
        row["part"] = bool(row["bars"]) and row["bars"] < of
        row["slow"] = round(44 * row["delay"] / most, 1) if row["delay"] is not None and most else 0
    return {"rows": rows, "of": of, "delays": len(delays), "median": middle, "most": most, "first": first, "newest": rows[-1]["at"]}


def _seen(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"bars": 0, "delay": None}
    return {"bars": row["bars"], "delay": row["delay"].total_seconds() if row["delay"] is not None else None}


def _lanes(session: Session, now: datetime) -> list[dict[str, Any]]:
    """Return for each line the pieces of today in which it was up, in units of the figure's width."""
    whole = session.post_close - session.pre_open
    spans = FeedSpan.objects.filter(alive_until__gte=session.pre_open, began_at__lt=session.post_close).order_by("line", "began_at")
    lanes: dict[str, list[dict[str, Any]]] = {}
    for span in spans[:SPANS_SHOWN]:
        left = max(span.began_at, session.pre_open) - session.pre_open
        right = min(span.alive_until, session.post_close) - session.pre_open
        lanes.setdefault(span.line, []).append(
            {"x": round(WIDTH * (left / whole), 2), "width": max(1.0, round(WIDTH * ((right - left) / whole), 2)), "ended": span.ended}
        )
    here = round(WIDTH * ((min(now, session.post_close) - session.pre_open) / whole), 2)
    return [{"line": line, "pieces": pieces, "now": here} for line, pieces in lanes.items()]


def _gap(row: dict[str, Any]) -> dict[str, Any]:
    minutes = int((row["last_minute"] - row["first_minute"]) / MINUTE) + 1
    return {**row, "minutes": minutes * row["symbols"], "cause": row["cause"].replace("_", " "), "single": minutes == 1}


def _job(job: Job) -> dict[str, Any]:
    """Return a job with its share done, in percent; None while its size is unknown."""
    about = " ".join(str(value) for value in job.options.values())
    share = round(100 * min(1.0, job.done / job.total), 1) if job.total else None
    return {"row": job, "about": about, "share": share, "open": job.state in {"queued", "running"}}


def _nights(nights: list[Reconciliation]) -> list[dict[str, Any]]:
    """Return the nights as columns: what did not agree, taller is worse; a failed night is hatched."""
    misses = [1 - night.matched / night.compared if night.compared else 0.0 for night in nights]
    worst = max(misses, default=0.0)
    step = WIDTH / NIGHTS_SHOWN
    return [
        {
            "night": night, "x": round(place * step, 2), "width": round(step * 0.86, 2), "miss": 100 * miss,
            "tall": round(3 + 41 * miss / worst, 1) if worst else 3, "failed": bool(night.error) or night.finished_at is None,
        }
        for place, (night, miss) in enumerate(zip(nights, misses, strict=True))
    ]  # fmt: skip


def _first_run(now: datetime, beats: list[Heartbeat], feed: dict[str, Any]) -> list[Step]:
    """Return what a new installation needs, in the order in which it is done."""
    universe = Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).count()
    deep = DailyBar.objects.filter(symbol__in=Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY)).symbols_with(DAYS_OF_A_YEAR)
    newest = Bar.objects.newest_minute()
    worker = next((beat for beat in beats if beat.part.startswith("worker")), None)
    worked = worker is not None and now - worker.at < SILENT
    survey = MarketSurvey.objects.standing_at(settings.SYMBOL_UNIVERSE_KEY, blocks=[])
    found = Detection.objects.newest_first().first()
    streaming = feed["state"] in {"live", "delayed"}
    major, minor = divmod(getattr(connection, "pg_version", 0), 10_000)
    source = "the twin, a synthetic market" if settings.FEED_NAME == "twin" else "Massive"
    return [
        Step("Database", True, f"PostgreSQL {major}.{minor}" if major else "answers"),
        Step("Universe", universe > 0, f"{settings.SYMBOL_UNIVERSE_KEY}, {universe} symbols", "manage.py migrate"),
        Step("Feed", streaming, f"{source}, {feed['words']}", "manage.py stream_ticks"),
        Step(
            "History",
            universe > 0 and deep >= universe,
            f"{deep} of {universe} symbols have a year of days",
            "manage.py import_history massive",
        ),
        Step("First minute", newest is not None, "stored" if newest else "no minute is stored yet", "manage.py stream_ticks"),
        Step("Worker", worked, "gives signs of life" if worked else "silent", "celery -A tickstock worker -B"),
        Step("First detection", found is not None, "found" if found else "nothing was found yet", "manage.py scan_patterns"),
        Step("Market survey", survey is not None, "stands" if survey else "none was made yet", "manage.py survey_market"),
    ]


def _ahead(now: datetime) -> list[dict[str, Any]]:
    """Return the days ahead: sessions with their hours, and the weekdays on which the exchange is closed."""
    today = now.astimezone(NEW_YORK).date()
    days = [today + timedelta(days=number) for number in range(DAYS_AHEAD)]
    known = {session.date: session for session in Session.objects.filter(date__gte=days[0], date__lte=days[-1])}
    return [_day(day, known.get(day), today) for day in days if day in known or day.weekday() < WEEKEND]


def _day(day: date, session: Session | None, today: date) -> dict[str, Any]:
    if session is None:
        return {"date": day, "today": day == today, "words": "closed", "loud": True}
    close, post = (moment.astimezone(NEW_YORK).strftime("%H:%M") for moment in (session.close, session.post_close))
    half = session.close - session.open < HALF_DAY
    words = f"half day until {close}" if half else f"regular until {close}" + (f", post until {post}" if post != close else "")
    return {"date": day, "today": day == today, "words": f"{words}{f' ({session.note})' if session.note else ''}", "loud": half}


def _lede(
    feed: dict[str, Any], parts: list[Part], gaps: list[dict[str, Any]], steps: list[Step], minutes: dict[str, Any]
) -> tuple[str, str]:
    """Return the page's sentence: what needs somebody first, else that all runs."""
    faults = [f"{part.name} {part.state}" for part in parts if part.lamp == "down"]
    if feed["state"] not in {"live", "delayed"} and not any(fault.startswith("stream") for fault in faults):
        faults.insert(0, f"the feed is {feed['words']}")
    still = sum(1 for gap in gaps if gap["state"] == GapState.OPEN)
    undone = [step.name.lower() for step in steps if not step.done and not step.optional]
    first = "Running." if not faults else f"Not all runs: {'; '.join(faults)}."
    if still:
        first += f" {still} gap{'' if still == 1 else 's'} {'is' if still == 1 else 'are'} being repaired."
    if undone:
        return first, f"Still to do: {', '.join(undone)}."
    if minutes["median"] is None:
        return first, "No minute of the last hour was stored live."
    return first, f"Minutes were stored {minutes['median']:.1f} s after their end in the last hour."
