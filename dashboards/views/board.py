"""What every market page shares: which universe, as of when, the survey that stands there, and its refusals."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import wraps
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe
from rest_framework.exceptions import ValidationError

from dashboards.drawing.lines import Spark, spark
from dashboards.ledes.market import FLOOR, Lede, too_few
from dashboards.templatetags.wording import NEW_YORK
from marketdata.models import Bar, Session, Universe
from marketdata.serializers import MomentField
from patterns.models import MarketSurvey

MINUTE = timedelta(minutes=1)
OLD_BAR = timedelta(minutes=5)  # PRODUCT F9
SPARK_POINTS = 60
SPARK_STEPS = (5, 10, 15, 30)  # minutes
SMALL, LARGE = (58, 18), (142, 32)  # the line of a day: width, height


class RefusedError(Exception):
    """What the address asks for cannot be shown; the message says how to ask."""

    def __init__(self, message: str, *, status: int, universes: list[tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.universes = universes or []


@dataclass(frozen=True)
class Board:
    """The survey that a page shows, and what was asked for it."""

    universe: str
    universes: list[tuple[str, str]]
    asked_at: datetime | None
    survey: MarketSurvey
    now: datetime

    @property
    def coverage(self) -> dict[str, Any]:
        """Return {symbols, of, oldest_bar}."""
        found: dict[str, Any] = self.survey.coverage
        return found

    @property
    def oldest(self) -> datetime | None:
        """Return the start of the oldest of the newest minutes."""
        text = self.coverage.get("oldest_bar")
        return datetime.fromisoformat(text) if text else None

    @property
    def below_floor(self) -> bool:
        """Return whether too few symbols have a price, or the oldest price is too old inside a session."""
        few = self.coverage["symbols"] < FLOOR * self.coverage["of"]
        return few or bool(self.survey.kind == "intraday" and self.oldest and self.survey.as_of - self.oldest > OLD_BAR + MINUTE)

    @property
    def day(self) -> date:
        """Return the exchange's day of the survey."""
        return day_of_end(self.survey.as_of)

    @property
    def today(self) -> bool:
        """Return whether the survey is of the reader's exchange day."""
        return self.day == self.now.astimezone(NEW_YORK).date()

    @property
    def closed(self) -> bool:
        """Return whether it stands at a regular close."""
        return self.survey.kind == "close"

    @property
    def streamed(self) -> str:
        """Return the universe key shown where none is asked for."""
        return str(settings.SYMBOL_UNIVERSE_KEY)

    @property
    def as_of_text(self) -> str:
        """Return the moment asked for as an address says it; empty where none was."""
        return self.asked_at.strftime("%Y-%m-%dT%H:%M:%SZ") if self.asked_at else ""

    @property
    def keep(self) -> str:
        """Return what links to other market pages carry on, with its question mark; empty where nothing special was asked."""
        parts = {} if self.universe == settings.SYMBOL_UNIVERSE_KEY else {"universe": self.universe}
        if self.asked_at:
            parts["as_of"] = self.as_of_text
        return f"?{urlencode(parts)}" if parts else ""

    @property
    def more(self) -> str:
        """Return the same for an address that has a query already."""
        return f"&{self.keep[1:]}" if self.keep else ""

    def lede(self, told: Callable[[], Lede]) -> Lede:
        """Return the page's sentence; below the floor none is built from its numbers."""
        if self.coverage["symbols"] < FLOOR * self.coverage["of"]:
            return too_few(self.coverage["symbols"], self.coverage["of"])
        return told()

    def context(self, **page: Any) -> dict[str, Any]:
        """Return what the templates of every market page need, and the page's own."""
        return {"board": self, "survey": self.survey, "keep": self.keep, "more": self.more, **page}


def day_of_end(moment: datetime) -> date:
    """Return the exchange's day that ends at or contains a moment: midnight belongs to the day before."""
    return (moment - timedelta(seconds=1)).astimezone(NEW_YORK).date()


def moment_of(text: str) -> datetime:
    """Return the moment that `as_of` names: ISO 8601, Unix seconds or milliseconds, or a date, which means the end of that exchange day."""
    try:
        return datetime.combine(date.fromisoformat(text), time.max, tzinfo=NEW_YORK).astimezone(UTC)
    except ValueError:
        pass
    try:
        return MomentField().to_internal_value(text)
    except ValidationError:
        raise RefusedError(f"“{text[:40]}” is no moment. Write a date (2026-11-20) or a moment (2026-11-20T15:30Z).", status=400) from None


def universe_of(key: str, known: list[tuple[str, str]]) -> str:
    """Return the universe key asked for, the streamed one where none is. RefusedError names the known ones."""
    key = key.strip() or settings.SYMBOL_UNIVERSE_KEY
    if key != settings.SYMBOL_UNIVERSE_KEY and key not in {name for name, _ in known}:
        raise RefusedError(f"There is no universe “{key[:60]}”.", status=404, universes=known)
    return key


def board_page(*blocks: str) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """
    Return a decorator that hands a page the survey asked for, with these blocks read: two queries.

    Without a survey the page says what is awaited; what cannot be asked is refused in one sentence.
    """

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @require_safe
        @wraps(view)
        def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                board = ask(request, blocks)
            except RefusedError as error:
                words = {"refused": str(error), "universes": error.universes}
                return render(request, "dashboards/refused.html", words, status=error.status)
            return (
                view(request, board, *args, **kwargs) if isinstance(board, Board) else render(request, "dashboards/no_survey.html", board)
            )

        return page

    return decorate


def ask(request: HttpRequest, blocks: Iterable[str]) -> Board | dict[str, Any]:
    """Return the board that a request asks for, or what to say where no survey stands there. RefusedError where the request is wrong."""
    known = list(Universe.objects.values_list("key", "name"))
    key = universe_of(request.GET.get("universe", ""), known)
    text = request.GET.get("as_of", "").strip()
    asked_at = moment_of(text) if text else None
    survey = MarketSurvey.objects.standing_at(key, asked_at, blocks=tuple(blocks))
    if survey is None:
        return {"universe": key, "universes": known, "asked_at": asked_at}
    return Board(key, known, asked_at, survey, timezone.now())


def user_of(request: HttpRequest) -> int:
    """Return the number of the one who asks; the door is closed to strangers."""
    return cast("int", request.user.pk)


def session_of(board: Board) -> Session | None:
    """Return the session that a board's survey belongs to."""
    return Session.objects.filter(date=board.day).first()


@dataclass(frozen=True)
class DayLines:
    """The closes of the session's day, a few dozen a symbol, ready to be drawn in any size."""

    closes: dict[str, list[float | None]]
    steps: int

    def line(self, row: dict[str, Any], size: tuple[int, int] = SMALL) -> Spark | None:
        """Return a row's line up to the survey's price against its close before; None for fewer than two prices."""
        values = self.closes.get(row["symbol"])
        if values is None:
            return None
        return spark([*values, row["last"]], width=size[0], height=size[1], base=close_before(row), of=self.steps + 1)


def day_lines(board: Board, session: Session | None, rows: list[dict[str, Any]]) -> DayLines:
    """
    Return the lines of the session's day up to the survey; one query for all rows.

    A line's box is as long as the session, so that its length tells the time.
    """
    if session is None or not rows:
        return DayLines({}, 0)
    length = int((session.close - session.open) / MINUTE)
    step = next((step for step in SPARK_STEPS if length / step <= SPARK_POINTS), SPARK_STEPS[-1])
    minutes = [session.open + (number - 1) * MINUTE for number in range(step, length + 1, step)]
    gone = [minute for minute in minutes if minute < board.survey.as_of]
    known: dict[str, dict[datetime, float]] = defaultdict(dict)
    for symbol, at, close in Bar.objects.closes_at([row["symbol"] for row in rows], gone):
        known[symbol][at] = float(close)
    return DayLines({symbol: [found.get(minute) for minute in gone] for symbol, found in known.items()}, len(minutes))


def close_before(row: dict[str, Any]) -> float | None:
    """Return the close that a row's change of the day is measured against."""
    last, change = row.get("last"), row.get("change_day")
    return None if last is None or change is None or change <= -100 else last / (1 + change / 100)
