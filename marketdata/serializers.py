"""What the REST of bars takes and gives: checked parameters in, JSON out."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketdata.bars.digits import exact_number
from marketdata.bars.interval import INTERVALS, Candle
from marketdata.models import Bar, BarRevision, Gap, GapCause, GapState, Job, JobKind, JobState, Symbol, Universe

SYMBOL_FORM = r"^[A-Za-z0-9.\-/]{1,20}\Z"
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)
MILLISECONDS_FROM = 10**11  # as seconds that would be the year 5138, as milliseconds it is 1973
_encoder = msgspec.json.Encoder()
_NUMBER = re.compile(r"\d{1,16}(\.\d{1,9})?", re.ASCII)
_PLUS_LOST = re.compile(r"(.+T.+) (\d{2}:?\d{2})", re.ASCII)


# ---- Parameters ---------------------------------------------------------------------------------------------------------------------


@extend_schema_field({"oneOf": [{"type": "string", "format": "date-time"}, {"type": "number"}], "example": "2026-11-20T14:30:00Z"})
class MomentField(serializers.Field[datetime, str, str, Any]):
    """A moment as ISO 8601 (UTC where no offset stands) or as Unix seconds or milliseconds."""

    default_error_messages = {
        "invalid": "Not a moment. Write ISO 8601 (2026-11-20T14:30:00Z), Unix seconds or Unix milliseconds.",
        "range": "This moment lies outside the years 1900 to 2999.",
    }

    def to_internal_value(self, data: Any) -> datetime:
        """Return the aware moment. ValidationError on anything else."""
        text = str(data).strip()[:64]
        try:
            at = _from_number(text) if _NUMBER.fullmatch(text) else _from_iso(text)
        except OverflowError:
            self.fail("range")
        except ValueError:
            self.fail("invalid")
        if not EARLIEST <= at < LATEST:
            self.fail("range")
        return at

    def to_representation(self, value: datetime) -> str:
        """Return it as ISO 8601."""
        return value.isoformat()


def _from_number(text: str) -> datetime:
    number = Decimal(text)
    seconds = number / 1000 if number >= MILLISECONDS_FROM else number
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(seconds * 1_000_000))


def _from_iso(text: str) -> datetime:
    if lost := _PLUS_LOST.fullmatch(text):  # a plus that nobody encoded arrives as a space
        text = f"{lost[1]}+{lost[2]}"
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


class SymbolField(serializers.RegexField):
    """A ticker; case matters (`KIMpL` is not `KIMPL`)."""

    default_error_messages = {"invalid": "Not a symbol: 1 to 20 letters, digits, dots, hyphens or slashes."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(SYMBOL_FORM, trim_whitespace=False, **kwargs)


def ensure_symbol_form(symbol: str) -> None:
    """Check a symbol that stands in the path. ValidationError names the field."""
    try:
        SymbolField().run_validation(symbol)
    except serializers.ValidationError as error:
        raise serializers.ValidationError({"symbol": error.detail}) from None


class Parameters(serializers.Serializer[Any]):
    """The query of one request. An empty parameter counts as absent, of a repeated one the last counts."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return checked values. ValidationError names each bad field."""
        given = {key: value for key, value in data.items() if value != ""}
        return dict(super().to_internal_value(given))


class TicksQuery(Parameters):
    """GET /api/ticks/recent."""

    symbol = SymbolField(help_text="the ticker, case kept")
    since = MomentField(required=False, help_text="only bars that start after it: ISO 8601, Unix seconds or milliseconds")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100, help_text="the newest ones where more fit")


class BarsQuery(Parameters):
    """GET /api/bars/{symbol}/."""

    interval = serializers.ChoiceField(choices=list(INTERVALS), default="1m", help_text="length of a bar")
    to = MomentField(required=False, help_text="bars that start before it; without `from` the newest of them")
    limit = serializers.IntegerField(min_value=1, max_value=5000, default=500)
    adjusted = serializers.BooleanField(default=False, help_text="prices and volume as after the splits that followed; dividends stay in")
    as_of = MomentField(
        required=False, help_text="the bars as they stood at this moment: ISO 8601, Unix seconds or milliseconds; not in the future"
    )
    cursor = serializers.RegexField(
        r"^(after|before):\d{1,11}\Z", required=False, help_text="`next` of the answer before", error_messages={"invalid": "Not a cursor."}
    )

    def validate_as_of(self, value: datetime) -> datetime:
        """Return it. ValidationError for the future: nobody knows how the bars will stand."""
        if value > timezone.now():
            raise serializers.ValidationError("This moment has not come yet. Leave it out for the bars as they stand now.")
        return value

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add `from`, which Python keeps for itself."""
        at = MomentField(required=False, help_text="bars that start at it or later, oldest first")
        return {"from": at, **super().get_fields()}


class SymbolsQuery(Parameters):
    """GET /api/symbols/."""

    q = serializers.CharField(max_length=60, required=False, help_text="beginning of the ticker, or part of the name")
    sector = serializers.CharField(max_length=60, required=False)
    type = serializers.CharField(max_length=20, required=False, help_text="Massive's ticker type: CS, ETF, ADRC …")
    exchange = serializers.CharField(max_length=20, required=False, help_text="ISO 10383: XNAS, XNYS, ARCX …")
    universe = serializers.RegexField(
        r"^[\w\-:]{1,200}\Z",
        required=False,
        help_text="a universe, or several joined by a colon",
        error_messages={"invalid": "Not a universe key."},
    )
    active = serializers.BooleanField(required=False, help_text="whether it is still traded")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    cursor = SymbolField(required=False, help_text="`next` of the answer before", error_messages={"invalid": "Not a cursor."})


class GapsQuery(Parameters):
    """What `/api/gaps/` can be asked."""

    symbol = SymbolField(required=False)
    state = serializers.ChoiceField(choices=GapState.choices, required=False)
    cause = serializers.ChoiceField(choices=GapCause.choices, required=False)
    since = MomentField(required=False, help_text="gaps that reach past this moment")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    cursor = serializers.RegexField(r"^\d{1,18}\Z", required=False, help_text="`next` of the page before")


class RevisionsQuery(Parameters):
    """What `/api/revisions/` can be asked."""

    symbol = SymbolField(help_text="the ticker, case kept")
    to = MomentField(required=False, help_text="minutes that start before it")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=200)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add `from`, which Python keeps for itself."""
        return {"from": MomentField(required=False, help_text="minutes that start at it or later"), **super().get_fields()}


class CoverageQuery(Parameters):
    """What `/api/coverage/` can be asked."""

    symbol = SymbolField(required=False, help_text="one symbol; without it the whole universe")
    universe = serializers.CharField(max_length=200, required=False, help_text="universe names joined by `:`; the streamed one by default")
    date = serializers.DateField(required=False, help_text="exchange day; the last session that has begun by default")


class UniversesQuery(Parameters):
    """GET /api/universes/."""

    q = serializers.CharField(max_length=60, required=False, help_text="part of the key or the name")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    cursor = serializers.SlugField(
        max_length=60, required=False, help_text="`next` of the answer before", error_messages={"invalid": "Not a cursor."}
    )


# ---- Answers ------------------------------------------------------------------------------------------------------------------------


@extend_schema_field(OpenApiTypes.NUMBER)
class ExactNumber(serializers.Field[Decimal, Any, Decimal, Any]):
    """A stored decimal, handed on untouched: the renderer writes its digits."""

    def to_representation(self, value: Decimal) -> Decimal:
        """Return it as it is."""
        return value


class TickRow(serializers.Serializer[Bar]):
    """One stored minute, in the names of `ohlcv_1min`."""

    timestamp = serializers.DateTimeField(help_text="start of the minute")
    open = ExactNumber()
    high = ExactNumber()
    low = ExactNumber()
    close = ExactNumber()
    volume = ExactNumber()


class TicksAnswer(serializers.Serializer[Any]):
    """The newest minutes of a symbol, oldest first."""

    symbol = serializers.CharField()
    count = serializers.IntegerField()
    ticks = TickRow(many=True)


class BarRow(serializers.Serializer[Any]):
    """One bar: it covers [t, end)."""

    t = serializers.DateTimeField(help_text="start")
    end = serializers.DateTimeField(help_text="end, which belongs to the next bar")
    o = ExactNumber(help_text="open")
    h = ExactNumber(help_text="high")
    l = ExactNumber(help_text="low")  # noqa: E741 - the name on the wire
    c = ExactNumber(help_text="close")
    v = ExactNumber(help_text="volume in shares, which may be fractions")
    vw = ExactNumber(allow_null=True, help_text="volume-weighted average price, where known")
    n = serializers.IntegerField(allow_null=True, help_text="number of trades, where known")
    final = serializers.BooleanField(help_text="nothing but a repair may change it any more")


class BarsAnswer(serializers.Serializer[Any]):
    """A page of bars, oldest first."""

    symbol = serializers.CharField()
    interval = serializers.CharField()
    next = serializers.CharField(allow_null=True, help_text="send it as `cursor`; null where this is the last page")
    bars = BarRow(many=True)


class _BarLine(msgspec.Struct, frozen=True, gc=False):
    """A `BarRow` whose numbers are written already: one call of the encoder does the rest of a page."""

    t: datetime
    end: datetime
    o: msgspec.Raw
    h: msgspec.Raw
    l: msgspec.Raw  # noqa: E741 - the name on the wire
    c: msgspec.Raw
    v: msgspec.Raw
    vw: msgspec.Raw | None
    n: int | None
    final: bool


def bars_json(candles: Iterable[Candle]) -> msgspec.Raw:
    """Return bars, which start and end on whole seconds of UTC, as the JSON list of their `BarRow`s."""
    lines = [
        _BarLine(
            bar.start, bar.end, _raw(bar.open), _raw(bar.high), _raw(bar.low), _raw(bar.close), _raw(bar.volume),
            None if bar.vwap is None else _raw(bar.vwap), bar.trades, bar.final,
        )
        for bar in candles
    ]  # fmt: skip
    return msgspec.Raw(_encoder.encode(lines))


def _raw(value: Decimal) -> msgspec.Raw:
    return msgspec.Raw(exact_number(value))


class SymbolRow(serializers.ModelSerializer[Symbol]):
    """A symbol."""

    class Meta:
        model = Symbol
        fields = ["symbol", "name", "type", "exchange", "sector", "industry", "active"]


class SymbolsAnswer(serializers.Serializer[Any]):
    """A page of symbols in alphabetical order."""

    next = serializers.CharField(allow_null=True, help_text="send it as `cursor`; null where this is the last page")
    symbols = SymbolRow(many=True)


class SymbolAnswer(SymbolRow):
    """A symbol and the universes it stands in: `keys` of its row."""

    universes = serializers.ListField(child=serializers.CharField(), source="keys")

    class Meta(SymbolRow.Meta):
        fields = [*SymbolRow.Meta.fields, "universes"]


class UniverseRow(serializers.ModelSerializer[Universe]):
    """A universe and how many symbols it has."""

    count = serializers.IntegerField()

    class Meta:
        model = Universe
        fields = ["key", "name", "description", "count"]


class UniversesAnswer(serializers.Serializer[Any]):
    """A page of universes in the order of their keys."""

    next = serializers.CharField(allow_null=True, help_text="send it as `cursor`; null where this is the last page")
    universes = UniverseRow(many=True)


class UniverseAnswer(UniverseRow):
    """A universe with its symbols in its own order: `members` of its row."""

    symbols = serializers.ListField(child=serializers.CharField(), source="members")

    class Meta(UniverseRow.Meta):
        fields = [*UniverseRow.Meta.fields, "symbols"]


class GapRow(serializers.ModelSerializer[Gap]):
    """Missing minutes of one symbol, and how far their repair is."""

    symbol = serializers.CharField(source="symbol_id")

    class Meta:
        model = Gap
        fields = [
            "id", "symbol", "first_minute", "last_minute", "cause", "state", "opened_at", "asked_at", "closed_at", "attempts", "bars_found",
            "last_error",
        ]  # fmt: skip


class GapsAnswer(serializers.Serializer[Any]):
    """A page of gaps, the newest ledger entry first."""

    next = serializers.CharField(allow_null=True, help_text="cursor of the next page")
    gaps = GapRow(many=True)


class RevisionRow(serializers.Serializer[BarRevision]):
    """A minute as it stood before it was replaced."""

    t = serializers.DateTimeField(source="timestamp", help_text="start of the minute")
    revision = serializers.IntegerField(help_text="the number that these values had; the values after it have the next one")
    o = ExactNumber(source="open")
    h = ExactNumber(source="high")
    l = ExactNumber(source="low")  # noqa: E741 - the name on the wire
    c = ExactNumber(source="close")
    v = ExactNumber(source="volume")
    cause = serializers.CharField(help_text="late, corrected, backfill, reconcile")
    stored_at = serializers.DateTimeField(help_text="from when on these were the values")
    replaced_at = serializers.DateTimeField()


class RevisionsAnswer(serializers.Serializer[Any]):
    """The newest replacements of a symbol's minutes, the last one first."""

    symbol = serializers.CharField()
    count = serializers.IntegerField()
    revisions = RevisionRow(many=True)


class CoverageRow(serializers.Serializer[Any]):
    """One symbol's day in minutes: expected = bars + no_trade + open + unproven."""

    symbol = serializers.CharField()
    expected = serializers.IntegerField(help_text="minutes of the session so far")
    bars = serializers.IntegerField()
    no_trade = serializers.IntegerField(help_text="the line was up, or REST was asked, and there was no trade")
    halted = serializers.IntegerField(help_text="of no_trade: minutes of a trading pause that the feed announced")
    open = serializers.IntegerField(help_text="gaps that wait for REST")
    unproven = serializers.IntegerField(help_text="no evidence: before the first live minute, or not yet in the ledger")
    repaired = serializers.IntegerField(help_text="bars that REST brought for gaps")
    revised = serializers.IntegerField(help_text="bars whose values were replaced")


class CoverageAnswer(serializers.Serializer[Any]):
    """The coverage of one exchange day."""

    date = serializers.DateField()
    symbols = CoverageRow(many=True)


# ---- Jobs -----------------------------------------------------------------------------------------------------------------------------


class JobsQuery(Parameters):
    """What `/api/jobs/` can be asked."""

    kind = serializers.ChoiceField(choices=JobKind.choices, required=False)
    state = serializers.ChoiceField(choices=JobState.choices, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    cursor = serializers.RegexField(r"^\d{1,18}\Z", required=False, help_text="`next` of the page before")


class JobOptions(serializers.Serializer[Any]):
    """What a job is about; which of it counts depends on the kind."""

    symbols = serializers.ListField(child=SymbolField(), required=False, max_length=5000, help_text="these symbols instead of a universe")
    universe = serializers.CharField(max_length=200, required=False, help_text="universe names joined by `:`; the streamed one by default")
    timespan = serializers.ChoiceField(choices=["minute", "day"], required=False, help_text="import: bars of a minute or of a day")
    date = serializers.DateField(required=False, help_text="reconcile, end_of_day: exchange day; the last finished one by default")

    def get_fields(self) -> dict[str, Any]:
        """Add `from`, which Python keeps for itself, and `to`."""
        words = "exchange day, included: import, repair, reconcile, scan"
        bounds = {name: serializers.DateField(required=False, help_text=words) for name in ("from", "to")}
        return super().get_fields() | bounds

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what is unknown and a range that ends before it begins: nothing that was asked for is left out in silence."""
        if unknown := sorted(set(self.initial_data if isinstance(self.initial_data, dict) else {}) - set(self.fields)):
            raise serializers.ValidationError({unknown[0]: "There is no such option."})
        if "from" in attrs and "to" in attrs and attrs["from"] > attrs["to"]:
            raise serializers.ValidationError({"to": "It must not lie before `from`."})
        names = set(attrs.get("universe", "").split(":")) - {""}
        known = set(Universe.objects.filter(key__in=names).values_list("key", flat=True))
        if names - known:
            raise serializers.ValidationError({"universe": f"No universe {min(names - known)!r} is known."})
        return attrs

    def as_json(self) -> dict[str, Any]:
        """Return the checked options as the row holds them."""
        return {name: value if isinstance(value, str | list) else value.isoformat() for name, value in self.validated_data.items()}


class JobRequest(serializers.Serializer[Any]):
    """A job to be done."""

    kind = serializers.ChoiceField(choices=JobKind.choices)
    options = serializers.DictField(required=False, help_text="symbols, universe, timespan, date, from, to")

    def validate_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the checked options as JSON holds them."""
        checked = JobOptions(data=options)
        checked.is_valid(raise_exception=True)
        return checked.as_json()


class JobRow(serializers.ModelSerializer[Job]):
    """A job, and how far it is."""

    class Meta:
        model = Job
        fields = [
            "id", "kind", "options", "state", "asked_by", "asked_at", "started_at", "finished_at", "cancel_asked_by", "done", "total", "step",
            "report", "error",
        ]  # fmt: skip


class JobsAnswer(serializers.Serializer[Any]):
    """A page of jobs, the newest first."""

    next = serializers.CharField(allow_null=True, help_text="cursor of the next page")
    jobs = JobRow(many=True)
