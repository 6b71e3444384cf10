"""REST of symbols and bars: reads only. One query an answer, a second only to tell an unknown symbol from one without bars."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Count, Q, QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata import jobs
from marketdata.gaps import coverage
from marketdata.intervals import candles
from marketdata.models import Bar, BarRevision, Gap, Job, Session, Symbol, Universe
from marketdata.permissions import MayRunJobs
from marketdata.serializers import (
    BarsAnswer,
    BarsQuery,
    CoverageAnswer,
    CoverageQuery,
    CoverageRow,
    GapRow,
    GapsAnswer,
    GapsQuery,
    JobRequest,
    JobRow,
    JobsAnswer,
    JobsQuery,
    Parameters,
    RevisionsAnswer,
    RevisionsQuery,
    SymbolAnswer,
    SymbolRow,
    SymbolsAnswer,
    SymbolsQuery,
    TickRow,
    TicksAnswer,
    TicksQuery,
    UniverseAnswer,
    UniverseRow,
    UniversesAnswer,
    UniversesQuery,
    bars_json,
    ensure_symbol_form,
)

ROOT = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SYMBOL_IN_PATH = OpenApiParameter("symbol", str, OpenApiParameter.PATH, description="the ticker, case kept")


class RecentTicks(APIView):
    """The newest stored minutes of one symbol."""

    required_scope = "read:bars"

    @extend_schema(parameters=[TicksQuery], responses=TicksAnswer, operation_id="ticks_recent")
    def get(self, request: Request) -> Response:
        """Return the newest minutes of a symbol, oldest first; with `since` those that start after it. Forming and partial minutes never show."""
        asked = _checked(TicksQuery, request)
        bars = Bar.objects.of(asked["symbol"]).whole().newest_first()
        if since := asked.get("since"):
            bars = bars.after(since)
        newest = list(bars.values(*TickRow().fields)[: asked["limit"]])  # the columns bear the names of the answer
        if not newest:
            _ensure_known(asked["symbol"])
        return Response({"symbol": asked["symbol"], "count": len(newest), "ticks": newest[::-1]})


class Bars(APIView):
    """The stored bars of one symbol, page by page."""

    required_scope = "read:bars"

    @extend_schema(parameters=[SYMBOL_IN_PATH, BarsQuery], responses=BarsAnswer, operation_id="bars_list")
    def get(self, request: Request, symbol: str) -> Response:
        """
        Return bars that start in [from, to), oldest first.

        With `from` the pages go forward in time. Without it the first page holds the newest bars, and the next one those before.
        Prices are as traded unless `adjusted`. Bars of 4h start at 0, 4, 8 … o'clock in New York, a day at its midnight, a week on Monday.
        """
        ensure_symbol_form(symbol)
        asked = _checked(BarsQuery, request)
        forward, start, end = _span(asked)
        rows = candles(
            symbol,
            asked["interval"],
            start=start,
            end=end,
            forward=forward,
            limit=asked["limit"] + 1,
            now=timezone.now(),
            as_of=asked.get("as_of"),
            adjusted=asked["adjusted"],
        )
        if not rows:
            _ensure_known(symbol)
        more = len(rows) > asked["limit"]
        page = rows[: asked["limit"]] if forward else rows[: asked["limit"]][::-1]
        cursor = (f"after:{_unix(page[-1].start)}" if forward else f"before:{_unix(page[0].start)}") if more else None
        answer = {"symbol": symbol, "interval": asked["interval"], "next": cursor, "bars": bars_json(page)}
        return Response(answer, headers=_link(request, cursor))


def _span(asked: dict[str, Any]) -> tuple[bool, datetime | None, datetime | None]:
    """Return whether pages go forward in time, and [start, end) with the cursor applied; None is open."""
    start, end = asked.get("from"), asked.get("to")
    direction, _, seconds = asked.get("cursor", "").partition(":")
    if not direction:
        return start is not None, start, end
    turn = ROOT + int(seconds) * SECOND
    if direction == "after":  # bars start on whole seconds, so the next one starts a second later at the earliest
        return True, max(turn + SECOND, start or ROOT), end
    return False, start, min(turn, end or turn)


class Symbols(APIView):
    """All symbols, filtered, page by page."""

    required_scope = "read:bars"

    @extend_schema(parameters=[SymbolsQuery], responses=SymbolsAnswer, operation_id="symbols_list")
    def get(self, request: Request) -> Response:
        """Return symbols in alphabetical order. Filters are joined by and."""
        asked = _checked(SymbolsQuery, request)
        exact = {name: asked[name] for name in ("sector", "type", "exchange", "active") if name in asked}
        symbols = Symbol.objects.filter(**exact)
        if "q" in asked:
            symbols = symbols.named_like(asked["q"])
        if "universe" in asked:
            _ensure_universes(asked["universe"])
            symbols = symbols.in_universe(asked["universe"])
        page, cursor = _page(symbols, "symbol", asked)
        return Response({"next": cursor, "symbols": SymbolRow(page, many=True).data}, headers=_link(request, cursor))


class OneSymbol(APIView):
    """One symbol."""

    required_scope = "read:bars"

    @extend_schema(parameters=[SYMBOL_IN_PATH], responses=SymbolAnswer, operation_id="symbols_get")
    def get(self, request: Request, symbol: str) -> Response:  # noqa: ARG002 - Django's signature
        """Return a symbol and the keys of the universes it stands in."""
        ensure_symbol_form(symbol)
        keys = ArrayAgg("memberships__universe", filter=Q(memberships__isnull=False), order_by="memberships__universe", default=[])
        found = Symbol.objects.filter(pk=symbol).annotate(keys=keys).first()
        if found is None:
            raise _unknown(symbol)
        return Response(SymbolAnswer(found).data)


class Universes(APIView):
    """All universes."""

    required_scope = "read:bars"

    @extend_schema(parameters=[UniversesQuery], responses=UniversesAnswer, operation_id="universes_list")
    def get(self, request: Request) -> Response:
        """Return universes in the order of their keys."""
        asked = _checked(UniversesQuery, request)
        universes = Universe.objects.annotate(count=Count("memberships"))
        if "q" in asked:
            universes = universes.filter(Q(key__icontains=asked["q"]) | Q(name__icontains=asked["q"]))
        page, cursor = _page(universes, "key", asked)
        return Response({"next": cursor, "universes": UniverseRow(page, many=True).data}, headers=_link(request, cursor))


class OneUniverse(APIView):
    """One universe with its symbols."""

    required_scope = "read:bars"

    @extend_schema(responses=UniverseAnswer, operation_id="universes_get")
    def get(self, request: Request, key: str) -> Response:  # noqa: ARG002 - Django's signature
        """Return a universe with its symbols in its own order."""
        order = ["memberships__position", "memberships__symbol"]
        members = ArrayAgg("memberships__symbol", filter=Q(memberships__isnull=False), order_by=order, default=[])
        found = Universe.objects.filter(pk=key).annotate(count=Count("memberships"), members=members).first()
        if found is None:
            raise Http404(f"No universe {key!r} is known. The list: /api/universes/")
        return Response(UniverseAnswer(found).data)


class Gaps(APIView):
    """The gap ledger."""

    required_scope = "read:bars"

    @extend_schema(parameters=[GapsQuery], responses=GapsAnswer, operation_id="gaps_list")
    def get(self, request: Request) -> Response:
        """Return gaps, the newest ledger entry first. A gap closes when REST was asked for all of it, with bars or without."""
        asked = _checked(GapsQuery, request)
        gaps = Gap.objects.filter(**{name: asked[name] for name in ("state", "cause") if name in asked}).order_by("-id")
        if "symbol" in asked:
            gaps = gaps.filter(symbol_id=asked["symbol"])
        if "since" in asked:
            gaps = gaps.filter(last_minute__gte=asked["since"])
        if "cursor" in asked:
            gaps = gaps.filter(id__lt=int(asked["cursor"]))
        found = list(gaps[: asked["limit"] + 1])
        page = found[: asked["limit"]]
        cursor = str(page[-1].pk) if len(found) > len(page) else None
        return Response({"next": cursor, "gaps": GapRow(page, many=True).data}, headers=_link(request, cursor))


class Revisions(APIView):
    """What stored minutes said before they were replaced."""

    required_scope = "read:bars"

    @extend_schema(parameters=[RevisionsQuery], responses=RevisionsAnswer, operation_id="revisions_list")
    def get(self, request: Request) -> Response:
        """Return the old values of a symbol's minutes that start in [from, to), the last replaced first."""
        asked = _checked(RevisionsQuery, request)
        rows = BarRevision.objects.filter(symbol_id=asked["symbol"]).order_by("-replaced_at", "-revision")
        if "from" in asked:
            rows = rows.filter(timestamp__gte=asked["from"])
        if "to" in asked:
            rows = rows.filter(timestamp__lt=asked["to"])
        found = list(rows[: asked["limit"]])
        if not found:
            _ensure_known(asked["symbol"])
        return Response(RevisionsAnswer({"symbol": asked["symbol"], "count": len(found), "revisions": found}).data)


class CoverageOfDay(APIView):
    """How much of a day is proven."""

    required_scope = "read:bars"

    @extend_schema(parameters=[CoverageQuery], responses=CoverageAnswer, operation_id="coverage_get")
    def get(self, request: Request) -> Response:
        """Return for each symbol the day's minutes: bars, proven without a trade, open gaps, unproven."""
        asked = _checked(CoverageQuery, request)
        now = timezone.now()
        sessions = (
            Session.objects.filter(date=asked["date"]) if "date" in asked else Session.objects.filter(pre_open__lte=now).order_by("-date")
        )
        session = sessions.first()
        if session is None:
            raise ValidationError({"date": "This day has no session in the calendar."})
        if "symbol" in asked:
            _ensure_known(asked["symbol"])
            symbols = [asked["symbol"]]
        else:
            key = asked.get("universe", settings.SYMBOL_UNIVERSE_KEY)
            _ensure_universes(key)
            symbols = Universe.objects.symbols_of(key)
        rows = CoverageRow(coverage(symbols, session, now=now), many=True).data
        return Response({"date": session.date.isoformat(), "symbols": rows})


class JobView(APIView):
    """What both addresses of jobs ask: reading like bars, doing takes an operator, whose token has the scope `operate`."""

    permission_classes = [*APIView.permission_classes, MayRunJobs]

    @property
    def required_scope(self) -> str | None:
        """Return the scope; none for a person's session, which `MayRunJobs` judges."""
        request = getattr(self, "request", None)
        if request is None or request.method in SAFE_METHODS:
            return "read:bars"
        return "operate" if request.auth is not None else None


class Jobs(JobView):
    """Work that was asked for."""

    @extend_schema(parameters=[JobsQuery], responses=JobsAnswer, operation_id="jobs_list")
    def get(self, request: Request) -> Response:
        """Return jobs, the newest first."""
        asked = _checked(JobsQuery, request)
        rows = Job.objects.newest_first().filter(**{name: asked[name] for name in ("kind", "state") if name in asked})
        if "cursor" in asked:
            rows = rows.filter(id__lt=int(asked["cursor"]))
        found = list(rows[: asked["limit"] + 1])
        page = found[: asked["limit"]]
        cursor = str(page[-1].pk) if len(found) > len(page) else None
        return Response({"next": cursor, "jobs": JobRow(page, many=True).data}, headers=_link(request, cursor))

    @extend_schema(request=JobRequest, responses={201: JobRow}, operation_id="jobs_ask")
    def post(self, request: Request) -> Response:
        """
        Ask for a job; its row says how far it is.

        Bars are written by the stream's process alone: while none runs, import, repair, reconcile and end_of_day wait.
        """
        given = JobRequest(data=request.data)
        given.is_valid(raise_exception=True)
        kind = given.validated_data["kind"]
        if kind not in jobs.kinds_here():
            raise ValidationError({"kind": "This installation has no such job."})
        job = jobs.ask(kind, given.validated_data.get("options"), asked_by=request.user.get_username())
        return Response(JobRow(job).data, status=201)


class OneJob(JobView):
    """One job."""

    @extend_schema(responses=JobRow, operation_id="job_get")
    def get(self, request: Request, number: int) -> Response:  # noqa: ARG002 - DRF's signature
        """Return the job."""
        return Response(JobRow(_job(number)).data)

    @extend_schema(responses=JobRow, operation_id="job_cancel")
    def delete(self, request: Request, number: int) -> Response:
        """Cancel the job: one that waits ends at once, one that runs at its next step; what it stored stays. 409 where it has ended."""
        try:
            job = jobs.cancel(_job(number), by=request.user.get_username())
        except jobs.JobNotOpenError as error:
            raise HasEnded(str(error)) from None
        return Response(JobRow(job).data)


class HasEnded(APIException):
    """The job cannot be cancelled any more."""

    status_code = 409


def _job(number: int) -> Job:
    job = Job.objects.filter(pk=number).first() if number < 2**63 else None
    if job is None:
        raise Http404(f"There is no job {number}.")
    return job


def _checked(query: type[Parameters], request: Request) -> dict[str, Any]:
    """Return the request's parameters, checked. ValidationError names each bad one."""
    parameters = query(data=request.query_params.dict())
    parameters.is_valid(raise_exception=True)
    return dict(parameters.validated_data)


def _page(rows: QuerySet[Any], key: str, asked: dict[str, Any]) -> tuple[list[Any], str | None]:
    """Return one page in the order of its key, and the cursor of the next; None after the last."""
    if "cursor" in asked:
        rows = rows.filter(**{f"{key}__gt": asked["cursor"]})
    found = list(rows.order_by(key)[: asked["limit"] + 1])
    page = found[: asked["limit"]]
    return page, getattr(page[-1], key) if len(found) > len(page) else None


def _link(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the next page's address as RFC 8288 wants it, for clients that follow links."""
    if cursor is None:
        return {}
    query = request.query_params.copy()
    query["cursor"] = cursor
    return {"Link": f'<{request.path}?{query.urlencode()}>; rel="next"'}


def _ensure_known(symbol: str) -> None:
    if not Symbol.objects.filter(pk=symbol).exists():
        raise _unknown(symbol)


def _ensure_universes(key: str) -> None:
    known = set(Universe.objects.values_list("key", flat=True))
    if unknown := [part for part in key.split(":") if part not in known]:
        raise ValidationError({"universe": f"No universe {unknown[0]!r} is known. Known: {', '.join(sorted(known)) or 'none'}."})


def _unknown(symbol: str) -> Http404:
    return Http404(f"No symbol {symbol!r} is known.")


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())
