"""
REST of the market's state: reads only. One query an answer, whatever it asks for; a block that this process has read is not read again.

Stored blocks are JSON already: they go into the answer as they stand, and are taken apart only where rows are chosen.

What each block holds stands in docs/market.md.
"""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotModified
from django.utils import timezone
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.http import parse_etags
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketdata.models import Universe
from marketdata.serializers import MomentField, Parameters
from patterns.models import MarketSurvey, SurveyKind, SurveyText, SurveyVersion

MOST_ROWS = 10_000
MOST_DAYS = 504
HELD_BYTES = 64_000_000  # of one process: a block of 4,000 symbols is some two megabytes of text
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
TAG = re.compile(r'(?:W/)?"(\d{1,18})-(\d{1,16})-([0-9a-f]{12})"')
MOST_TAGS = 20  # of If-None-Match that are looked at

# ---- what can be asked --------------------------------------------------------------------------------------------------------------------


class MarketQuery(Parameters):
    """What every block can be asked."""

    universe = serializers.RegexField(
        r"^[\w\-:]{1,300}\Z",
        required=False,
        help_text="a universe of which surveys are kept; the streamed one by default",
        error_messages={"invalid": "Not a universe key."},
    )
    as_of = MomentField(
        required=False, help_text="the survey that stood at this moment: ISO 8601, Unix seconds or milliseconds; not in the future"
    )

    def validate_as_of(self, value: datetime) -> datetime:
        """Return it. ValidationError for the future."""
        if value > timezone.now():
            raise serializers.ValidationError("This moment has not come yet. Leave it out for the market as it stands now.")
        return value


class ChosenQuery(MarketQuery):
    """What a block of many rows can be asked besides."""

    sector = serializers.CharField(max_length=60, required=False, allow_blank=True, help_text="only this sector; `unknown` for none")
    sort = serializers.RegexField(
        r"^-?[a-z0-9_]{1,30}\Z",
        required=False,
        help_text="a column of numbers or text, `-` in front for the largest first; null comes last",
    )
    limit = serializers.IntegerField(min_value=1, max_value=MOST_ROWS, required=False, help_text="so many rows at most")


class RankingsQuery(ChosenQuery):
    """GET /api/market/rankings/."""

    symbols = serializers.CharField(max_length=4000, required=False, help_text="only these, joined by commas")
    stage = serializers.IntegerField(min_value=1, max_value=4, required=False)
    min_rs_rating = serializers.IntegerField(min_value=1, max_value=99, required=False)


class SectorsQuery(ChosenQuery):
    """GET /api/market/sectors/."""


class RotationQuery(ChosenQuery):
    """GET /api/market/rotation/."""

    quadrant = serializers.ChoiceField(choices=["leading", "weakening", "lagging", "improving"], required=False)
    funds = serializers.BooleanField(required=False, help_text="true: the sector funds alone; false: without them")


class StagesQuery(ChosenQuery):
    """GET /api/market/stages/."""

    stage = serializers.IntegerField(min_value=1, max_value=4, required=False)
    history = serializers.IntegerField(min_value=1, max_value=MOST_DAYS, required=False, help_text="counts of so many closes besides")


class HistoryQuery(MarketQuery):
    """GET /api/market/breadth/ and /api/market/regime/."""

    history = serializers.IntegerField(min_value=1, max_value=MOST_DAYS, required=False, help_text="values of so many closes besides")


class AveragesQuery(ChosenQuery):
    """GET /api/market/averages/."""

    bucket = serializers.ChoiceField(choices=["extended", "hold", "pullback", "broken", "below"], required=False)


# ---- what is answered -----------------------------------------------------------------------------------------------------------------------


class CoverageBlock(serializers.Serializer[Any]):
    """How much of the universe a survey saw."""

    symbols = serializers.IntegerField(help_text="members with a price today")
    of = serializers.IntegerField(help_text="members")
    oldest_bar = serializers.DateTimeField(allow_null=True, help_text="start of the oldest of their newest minutes")


class SurveyAnswer(serializers.Serializer[Any]):
    """The head of every answer."""

    universe = serializers.CharField()
    as_of = serializers.DateTimeField(help_text="end of the newest minute surveyed, or the close")
    kind = serializers.ChoiceField(choices=SurveyKind.choices)
    coverage = CoverageBlock()


@extend_schema_field({"type": "array", "items": {"type": "object", "additionalProperties": True}})
class Rows(serializers.ListField):
    """Rows as docs/market.md describes them."""


@extend_schema_field({"type": "object", "additionalProperties": True})
class Block(serializers.DictField):
    """A block as docs/market.md describes it."""


def _answer(name: str, **fields: serializers.Field[Any, Any, Any, Any]) -> type[SurveyAnswer]:
    return type(f"{name}Answer", (SurveyAnswer,), {"__doc__": f"The block {name.lower()}.", **fields})


# ---- reading ----------------------------------------------------------------------------------------------------------------------------


class Held:
    """JSON texts that this process has read or made of surveys, as many as fit into some bytes; the least used go first."""

    def __init__(self, room: int = HELD_BYTES) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._texts: OrderedDict[tuple[SurveyVersion, str], bytes] = OrderedDict()

    def find(self, version: SurveyVersion, name: str) -> bytes | None:
        """Return a text, None where it is not held."""
        with self._lock:
            found = self._texts.get((version, name))
            if found is not None:
                self._texts.move_to_end((version, name))
            return found

    def keep(self, version: SurveyVersion, name: str, text: bytes) -> None:
        """Keep a text; one that is larger than all the room is not kept."""
        with self._lock:
            self._room += len(self._texts.pop((version, name), b""))
            self._texts[version, name] = text
            self._room -= len(text)
            while self._room < 0:
                self._room += len(self._texts.popitem(last=False)[1])

    def of(self, names: Collection[str]) -> dict[SurveyVersion, dict[str, bytes]]:
        """Return the texts of the surveys of which all these are held."""
        found: dict[SurveyVersion, dict[str, bytes]] = {}
        with self._lock:
            for (version, name), text in self._texts.items():
                if name in names:
                    found.setdefault(version, {})[name] = text
        return {version: texts for version, texts in found.items() if len(texts) == len(names)}


held = Held()


def _standing(names: tuple[str, ...], asked: dict[str, Any], seen: Collection[SurveyVersion]) -> tuple[SurveyText, bool]:
    """
    Return the survey that is asked for, in one query, and whether its blocks had to be read; one that the reader has `seen` comes without.

    ValidationError for an unknown universe, Http404 without a survey.
    """
    key, moment, mine = asked.get("universe", settings.SYMBOL_UNIVERSE_KEY), asked.get("as_of"), held.of(names)
    survey = MarketSurvey.objects.standing_text(key, moment, blocks=names, known={*mine, *seen})
    if survey is None:
        raise _nothing(key, asked)
    for name, text in survey.blocks.items():
        held.keep(survey.version, name, text)
    return survey._replace(blocks=survey.blocks or mine.get(survey.version, {})), bool(survey.blocks)


def _nothing(key: str, asked: dict[str, Any]) -> Exception:
    known = set(Universe.objects.values_list("key", flat=True))
    if unknown := [part for part in key.split(":") if part not in known]:
        return ValidationError({"universe": f"No universe {unknown[0]!r} is known. Known: {', '.join(sorted(known)) or 'none'}."})
    if ":" in key and key != settings.SYMBOL_UNIVERSE_KEY:
        return ValidationError(
            {
                "universe": f"Surveys are kept of each universe and of {settings.SYMBOL_UNIVERSE_KEY}; `survey_market --store --universe {key}` makes others."
            }
        )
    if "as_of" in asked:
        return Http404(f"No survey of {key} is as old as {asked['as_of'].isoformat()}.")
    return Http404(f"No survey of {key} has been made yet; the first comes with the first whole minute, or with its daily bars.")


# ---- filters --------------------------------------------------------------------------------------------------------------------------------

Rule = Callable[[dict[str, Any], Any], bool]
UNKNOWN_SECTOR = "unknown"


def _stands_in(row: dict[str, Any], sector: str) -> bool:
    return bool(row["sector"] == ("" if sector == UNKNOWN_SECTOR else sector))


RULES: dict[str, Rule] = {
    "sector": _stands_in,
    "stage": lambda row, stage: bool(row["stage"] == stage),
    "quadrant": lambda row, quadrant: bool(row["quadrant"] == quadrant),
    "funds": lambda row, funds: bool(row["fund"] == funds),
    "bucket": lambda row, bucket: bool(row["bucket"] == bucket),
    "symbols": lambda row, text: row["symbol"] in {symbol.strip() for symbol in text.split(",")},
    "min_rs_rating": lambda row, least: row["rs_rating"] is not None and row["rs_rating"] >= least,
}


def chosen(rows: list[dict[str, Any]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that fit, in the order asked for, as many as asked for. ValidationError where the column cannot order them."""
    for name, rule in RULES.items():
        if name in asked:
            rows = [row for row in rows if rule(row, asked[name])]
    if "sort" in asked:
        rows = _sorted(rows, asked["sort"])
    return rows[: asked["limit"]] if "limit" in asked else rows


def _sorted(rows: list[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    column = order.removeprefix("-")
    columns = [name for name, value in (rows[0].items() if rows else ()) if not isinstance(value, list | dict)]
    if rows and column not in columns:
        raise ValidationError({"sort": f"There is no column {column!r} to sort by; there are {', '.join(columns)}."})
    known = [row for row in rows if row[column] is not None]
    known.sort(key=lambda row: row[column], reverse=order.startswith("-"))
    return known + [row for row in rows if row[column] is None]


# ---- doors ------------------------------------------------------------------------------------------------------------------------------------


class MarketView(APIView):
    """One block of the survey that stands, or stood at a moment."""

    required_scope = "read:market"
    query: type[MarketQuery] = MarketQuery
    blocks: tuple[str, ...] = ()
    filtered = ""  # the block of rows that filters choose from
    history = ""  # the block of which closes are shown besides

    def show(self, request: Request) -> HttpResponseBase:
        """
        Answer, with 304 where the reader has this survey already.

        `Cache-Status` (RFC 9211) says whether a block had to be read from the table; /metrics counts it.
        """
        given = self.query(data=request.query_params.dict())
        given.is_valid(raise_exception=True)
        asked = dict(given.validated_data)
        question = hashlib.sha256(request.META.get("QUERY_STRING", "").encode()).hexdigest()[:12]
        seen = _seen(request, question) if "history" not in asked else []
        survey, is_read = _standing(self.blocks, asked, seen)
        etag = _etag(survey.version, question)
        if survey.version in seen:
            return _marked(get_conditional_response(_django(request), etag=etag) or HttpResponseNotModified(), etag, is_read=is_read)
        key = asked.get("universe", settings.SYMBOL_UNIVERSE_KEY)
        answer: dict[str, Any] = {"universe": key, "as_of": survey.as_of, "kind": survey.kind, "coverage": msgspec.Raw(survey.coverage)}
        answer |= {name: msgspec.Raw(self._text(name, survey, asked, question)) for name in self.blocks}
        if "history" in asked:
            closes = MarketSurvey.objects.filter(as_of__lte=survey.as_of).closes(key, asked["history"])
            answer["history"] = [{"as_of": row.as_of, self.history: getattr(row, self.history)} for row in closes]
            etag = ""  # closes may change while this survey stays: the answer's bytes tag it
        return _marked(Response(answer), etag, is_read=is_read)

    def _text(self, name: str, survey: SurveyText, asked: dict[str, Any], question: str) -> bytes:
        """Return a block's text, with only the rows that are asked for; what was chosen once is kept."""
        whole = survey.blocks[name]
        if name != self.filtered or not asked.keys() - {"universe", "as_of", "history"}:
            return whole
        text = held.find(survey.version, f"{name} {question}")
        if text is None:
            text = msgspec.json.encode(chosen(msgspec.json.decode(whole), asked))
            held.keep(survey.version, f"{name} {question}", text)
        return text


def _django(request: Request) -> HttpRequest:
    return request._request


def _etag(version: SurveyVersion, question: str) -> str:
    pk, made_at = version
    return f'"{pk}-{(made_at - EPOCH) // MICROSECOND}-{question}"'


def _seen(request: Request, question: str) -> list[SurveyVersion]:
    """Return the surveys that the reader's tags say are there already, as answers to the same question."""
    tags = [TAG.fullmatch(tag) for tag in parse_etags(request.headers.get("If-None-Match", ""))[:MOST_TAGS]]
    known = [tag.groups() for tag in tags if tag is not None]
    return [(int(pk), EPOCH + int(micros) * MICROSECOND) for pk, micros, of in known if of == question]


def _marked(response: HttpResponseBase, etag: str, *, is_read: bool) -> HttpResponseBase:
    response.headers["Cache-Status"] = f"surveys; {'fwd=miss' if is_read else 'hit'}"
    if etag:
        response.headers["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    return response


class Rankings(MarketView):
    """The members by relative strength."""

    query, blocks, filtered = RankingsQuery, ("rankings",), "rankings"

    @extend_schema(parameters=[RankingsQuery], responses=_answer("Rankings", rankings=Rows()), operation_id="market_rankings")
    def get(self, request: Request) -> HttpResponseBase:
        """Return the members with their ratings and changes, strongest first. Ratings are among all members, whatever is filtered."""
        return self.show(request)


class Sectors(MarketView):
    """The members by sector and by industry."""

    query, blocks, filtered = SectorsQuery, ("sectors", "industries"), "sectors"

    @extend_schema(
        parameters=[SectorsQuery], responses=_answer("Sectors", sectors=Rows(), industries=Rows()), operation_id="market_sectors"
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return each sector's numbers, and each industry's; the sector `""` holds the members of which none is known."""
        return self.show(request)


class Rotation(MarketView):
    """Sector funds and members against SPY."""

    query, blocks, filtered = RotationQuery, ("rotation",), "rotation"

    @extend_schema(parameters=[RotationQuery], responses=_answer("Rotation", rotation=Rows()), operation_id="market_rotation")
    def get(self, request: Request) -> HttpResponseBase:
        """Return relative strength, its momentum, the quadrant and the tail of each sector fund and member."""
        return self.show(request)


class Stages(MarketView):
    """Weinstein's stages."""

    query, blocks, filtered, history = StagesQuery, ("stages", "stage_counts", "stage_changes"), "stages", "stage_counts"

    @extend_schema(
        parameters=[StagesQuery],
        responses=_answer("Stages", stages=Rows(), stage_counts=Block(), stage_changes=Rows(), history=Rows(required=False)),
        operation_id="market_stages",
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return each member's stage, how many stand in which, and who changed in the last eight weeks."""
        return self.show(request)


class Breadth(MarketView):
    """How many rise, fall, make highs and stand above their averages."""

    query, blocks, history = HistoryQuery, ("breadth",), "breadth"

    @extend_schema(
        parameters=[HistoryQuery],
        responses=_answer("Breadth", breadth=Block(), history=Rows(required=False)),
        operation_id="market_breadth",
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return the numbers of breadth; with `history` those of the closes up to then, oldest first."""
        return self.show(request)


class Regime(MarketView):
    """One score of the market, and its parts."""

    query, blocks, history = HistoryQuery, ("regime",), "regime"

    @extend_schema(
        parameters=[HistoryQuery],
        responses=_answer("Regime", regime=Block(), history=Rows(required=False)),
        operation_id="market_regime",
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return the score of 0 to 100 with its parts and their weights."""
        return self.show(request)


class MovingAverages(MarketView):
    """The members' prices against their averages."""

    query, blocks, filtered = AveragesQuery, ("averages",), "averages"

    @extend_schema(parameters=[AveragesQuery], responses=_answer("Averages", averages=Rows()), operation_id="market_averages")
    def get(self, request: Request) -> HttpResponseBase:
        """Return each member's distance from EMA 10, SMA 20, SMA 50 and SMA 200 in percent and ATRs, its bucket and its stops."""
        return self.show(request)
