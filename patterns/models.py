"""What bars say: detections, indicator values, and which bars were looked at. Questions to them are queryset methods."""

import zlib
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import connections, models
from django.db.models.functions import Coalesce, JSONObject

from marketdata.bars.interval import INTRADAY
from marketdata.models import Bar, Numeric, Session, Source, Symbol, SymbolQuerySet
from patterns.detectors import DETECTORS, SHAPES, name_of
from patterns.detectors.rules import Clause, RuleError, clauses_of
from patterns.indicators.catalogue import INTERVALS

GIVE_UP_AFTER = 3
"""Scans that are tried on one revision of a bar; one that a scan cannot survive must not take the worker with it for ever."""


class Direction(models.TextChoices):
    """Which way a detection points."""

    BULLISH = "bullish", "bullish"
    BEARISH = "bearish", "bearish"
    NEUTRAL = "neutral", "neutral"


class Status(models.TextChoices):
    """Whether a detection still stands on its bar's present revision."""

    STANDING = "standing", "standing"
    RETRACTED = "retracted", "retracted"


class DetectionQuerySet(models.QuerySet["Detection"]):
    """Questions to the detections."""

    def newest_first(self) -> "DetectionQuerySet":
        """Return them in the order in which they were found, the last one first."""
        return self.order_by("-id")

    def of_symbol(self, symbol: str) -> "DetectionQuerySet":
        """Return one symbol's detections."""
        return self.filter(symbol_id=symbol)

    def found_by(self, moment: datetime) -> "DetectionQuerySet":
        """Return what was known at a moment."""
        return self.filter(detection_timestamp__lte=moment)

    def closing_since(self, minute: datetime, *, among: Sequence[str]) -> "DetectionQuerySet":
        """
        Return those of these symbols on intraday bars that closed with the end of this minute or of a later one, without what was measured.

        One question an interval: only so each is a short range of an index, however many days a backfill has just had scanned.
        """
        rows = self.filter(symbol_id__in=among).defer("detail")
        closing = [
            rows.filter(timeframe=timeframe, timestamp__gte=minute - timedelta(minutes=INTRADAY[timeframe] - 1))
            for timeframe in INTERVALS
            if timeframe in INTRADAY
        ]
        return closing[0].union(*closing[1:], all=True)

    def found_since(self, moment: datetime, *, among: SymbolQuerySet, most: int) -> dict[str, int]:
        """
        Return how many were found from a moment on, on how many symbols among those, and how many of them no longer stand.

        Of the newest `most` and one more: after a backfill there are millions.
        """
        newest = self.filter(detection_timestamp__gte=moment).order_by("-detection_timestamp", "-id")[: most + 1]
        return newest.aggregate(
            found=models.Count("id"),
            symbols=models.Count("symbol", distinct=True, filter=models.Q(symbol__in=among)),
            retracted=models.Count("id", filter=models.Q(status=Status.RETRACTED)),
        )

    def found_before(self, number: int) -> "DetectionQuerySet":
        """Return what was found before the detection of that number."""
        return self.filter(id__lt=number)


class Detection(models.Model):
    """One pattern on one bar. Judged again when its bar is revised, never deleted by that."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="detections")
    pattern_type = models.CharField(
        max_length=40, help_text="of a candlestick TA-Lib's name in lower case without cdl; of a combination its key"
    )
    timeframe = models.CharField(max_length=4)
    timestamp = models.DateTimeField(help_text="start of the bar spoken of")
    detection_timestamp = models.DateTimeField(help_text="when it was found")
    confidence = models.FloatField(help_text="quality of the shape, 0 to 1")
    direction = models.CharField(max_length=8, choices=Direction.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.STANDING)
    status_at = models.DateTimeField(help_text="when the status became what it is")
    bar_revision = models.IntegerField(help_text="revision of the bar that was judged")
    detail = models.JSONField(default=dict, help_text="conditions with value, threshold and whether passed; geometry, measures")

    objects = DetectionQuerySet.as_manager()

    class Meta:
        db_table = "intraday_patterns"
        constraints = [
            models.UniqueConstraint(fields=["symbol", "timeframe", "timestamp", "pattern_type"], name="detection_once"),
            models.CheckConstraint(name="detection_confidence", condition=models.Q(confidence__gte=0, confidence__lte=1)),
        ]
        indexes = [
            models.Index(fields=["-detection_timestamp", "-id"], name="detection_found_idx"),
            models.Index(fields=["symbol", "-timestamp"], name="detection_symbol_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.pattern_type} {self.timeframe} {self.timestamp:%Y-%m-%d %H:%M}"


class IndicatorValueQuerySet(models.QuerySet["IndicatorValue"]):
    """Questions to the indicator values."""

    def of_symbol(self, symbol: str, *, timeframe: str) -> "IndicatorValueQuerySet":
        """Return one symbol's values on one interval."""
        return self.filter(symbol_id=symbol, timeframe=timeframe)

    def named(self, names: list[str]) -> "IndicatorValueQuerySet":
        """Return the values of these indicators."""
        return self.filter(indicator_name__in=names)

    def within(self, start: datetime | None, end: datetime | None) -> "IndicatorValueQuerySet":
        """Return values at bars that start in [start, end); None leaves a side open."""
        after = self if start is None else self.filter(timestamp__gte=start)
        return after if end is None else after.filter(timestamp__lt=end)

    def newest_first(self) -> "IndicatorValueQuerySet":
        """Return them from the newest bar on, by name inside a bar."""
        return self.order_by("-timestamp", "-indicator_name")


class IndicatorValue(models.Model):
    """One value of one indicator at one bar."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="indicator_values")
    indicator_name = models.CharField(max_length=30)
    timeframe = models.CharField(max_length=4)
    timestamp = models.DateTimeField(help_text="start of the bar spoken of")
    calculation_timestamp = models.DateTimeField()
    value = Numeric()
    bar_revision = models.IntegerField()

    objects = IndicatorValueQuerySet.as_manager()

    class Meta:
        db_table = "intraday_indicators"
        constraints = [models.UniqueConstraint(fields=["symbol", "timeframe", "timestamp", "indicator_name"], name="indicator_once")]
        indexes = [models.Index(fields=["-calculation_timestamp"], name="indicator_found_idx")]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.indicator_name} {self.timestamp:%Y-%m-%d %H:%M}"


class ScannedBar(models.Model):
    """That a bar was looked at, in which revision. The sweep compares it with the table of bars: what is missing here is scanned."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="+")
    timeframe = models.CharField(max_length=4)
    timestamp = models.DateTimeField()
    bar_revision = models.IntegerField()
    scanned_at = models.DateTimeField()
    session_turnover = models.FloatField(null=True, help_text="price times volume from the regular open up to this bar; null outside")
    session_volume = models.FloatField(null=True, help_text="volume of the same bars: the next bar's VWAP goes on from here")
    session_spread = models.FloatField(null=True, help_text="sum of volume · (price - VWAP)² of the same bars, for the VWAP's bands")
    session_balance = models.FloatField(null=True, help_text="on-balance volume of the same bars")
    close = models.FloatField(null=True, help_text="the close that was judged")
    change = models.FloatField(
        null=True, help_text="close ÷ close of the session before (of a day: of 20 sessions before); over SPY's it is the relative strength"
    )

    class Meta:
        db_table = "scanned_bars"
        constraints = [models.UniqueConstraint(fields=["symbol", "timeframe", "timestamp"], name="scanned_once")]
        indexes = [
            models.Index(fields=["timestamp"], name="scanned_ts_idx"),
            BrinIndex(fields=["scanned_at"], autosummarize=True, name="scanned_at_brin"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.timestamp:%Y-%m-%d %H:%M} r{self.bar_revision}"


class ScanFailure(models.Model):
    """A bar that could not be scanned, or on which a worker died. Gone as soon as a scan of it succeeds."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="+")
    timeframe = models.CharField(max_length=4)
    timestamp = models.DateTimeField()
    bar_revision = models.IntegerField()
    attempts = models.SmallIntegerField(help_text="on this revision; counted before the work, so that a killed worker counts too")
    last_at = models.DateTimeField()
    error = models.CharField(max_length=300, blank=True, default="", help_text="empty where the worker did not live to say")

    class Meta:
        db_table = "scan_failures"
        constraints = [models.UniqueConstraint(fields=["symbol", "timeframe", "timestamp"], name="scan_failure_once")]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.timestamp:%Y-%m-%d %H:%M} after {self.attempts} attempts"


class SweepMark(models.Model):
    """Up to which change of the table of bars everything has been compared with the ledger. One row an interval."""

    timeframe = models.CharField(max_length=4, primary_key=True)
    through = models.DateTimeField(help_text="bars written before this moment are scanned")
    busy_until = models.DateTimeField(help_text="a sweep holds the mark until then; a dead one loses it by waiting")

    class Meta:
        db_table = "sweep_marks"

    def __str__(self) -> str:
        return f"{self.timeframe} through {self.through:%Y-%m-%d %H:%M:%S}"


class JudgedSplit(models.Model):
    """
    A split as the judged bars know it. What differs from the table of splits is noticed by the sweep, and what it reaches is judged again.

    One that is gone from that table stands here without its numbers.
    """

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="+")
    execution_date = models.DateField()
    split_from = Numeric(null=True)
    split_to = Numeric(null=True)
    noticed_at = models.DateTimeField(help_text="bars behind it that were judged before are out of date")
    settled = models.BooleanField(default=False, help_text="none of them is left")

    class Meta:
        db_table = "judged_splits"
        constraints = [models.UniqueConstraint(fields=["symbol", "execution_date"], name="judged_split_once")]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.execution_date}"


# ---- What is looked for -----------------------------------------------------------------------------------------------------------------


class DefinitionQuerySet(models.QuerySet["DetectorDefinition"]):
    """Questions to the definitions."""

    def complete(self) -> "DefinitionQuerySet":
        """Return all of them, after adding those that the code knows and the table does not: nobody has to load them first."""
        known = set(self.values_list("pattern_type", flat=True))
        missing = [row for row in _definitions_of_the_code() if row.pattern_type not in known]
        if missing:
            DetectorDefinition.objects.bulk_create(missing, ignore_conflicts=True)
        return self.all()

    def looked_for(self, timeframe: str) -> frozenset[str]:
        """Return the patterns to look for on bars of an interval."""
        chosen = self.complete().filter(enabled=True, intervals__contains=[timeframe])
        return frozenset(chosen.values_list("pattern_type", flat=True))


class DetectorDefinition(models.Model):
    """That a pattern of the code is looked for, and on which intervals. What was found before it was switched off stays as it is."""

    pattern_type = models.CharField(max_length=40, primary_key=True)
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=12, choices=[("candlestick", "candlestick"), ("shape", "chart pattern")])
    enabled = models.BooleanField(default=True, help_text="looked for from the next scan on")
    intervals = ArrayField(models.CharField(max_length=4), help_text="intervals on which it is looked for, joined by commas", blank=True)

    objects = DefinitionQuerySet.as_manager()

    class Meta:
        db_table = "detector_definitions"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse intervals that the code does not look on. ValidationError names them."""
        possible = intervals_of(self.pattern_type)
        unknown = [interval for interval in self.intervals or [] if interval not in possible]
        if unknown:
            raise ValidationError(
                {"intervals": f"{self.name} is not looked for on {', '.join(unknown)}; possible are {', '.join(possible)}."}
            )


def intervals_of(pattern_type: str) -> tuple[str, ...]:
    """Return the intervals on which the code can look for a pattern."""
    shape = SHAPES.get(pattern_type)
    return shape.intervals if shape else INTERVALS


def _definitions_of_the_code() -> list[DetectorDefinition]:
    return [
        DetectorDefinition(
            pattern_type=kind, name=detector.name, kind="shape" if kind in SHAPES else "candlestick", intervals=list(intervals_of(kind))
        )
        for kind, detector in (DETECTORS | SHAPES).items()
    ]


class CombinationQuerySet(models.QuerySet["Combination"]):
    """Questions to the combinations."""

    def name_of(self, pattern_type: str) -> str:
        """Return the human name of any pattern: one query for a combination, none for the others. What no row knows any more keeps its key."""
        return name_of(pattern_type) or self.filter(pk=pattern_type).values_list("name", flat=True).first() or pattern_type

    def names_of(self, pattern_types: Iterable[str]) -> dict[str, str]:
        """Return the human name of each, with one query at most."""
        names = {pattern_type: name_of(pattern_type) for pattern_type in pattern_types}
        unknown = [pattern_type for pattern_type, name in names.items() if name is None]
        found = dict(self.filter(pk__in=unknown).values_list("pk", "name")) if unknown else {}
        return {pattern_type: name or found.get(pattern_type, pattern_type) for pattern_type, name in names.items()}


class Combination(models.Model):
    """
    A rule over detections and indicators of several intervals, as data. It fires on a bar of its interval where all its clauses hold,
    and did not on the bar before; what it finds are detections whose pattern is its key.
    """

    key = models.CharField(
        max_length=40,
        primary_key=True,
        validators=[RegexValidator(r"^[a-z][a-z0-9_]*\Z", "Small letters, digits and _ only, a letter first.")],
    )
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True, default="")
    enabled = models.BooleanField(default=True)
    timeframe = models.CharField(max_length=4, choices=[(interval, interval) for interval in INTERVALS], help_text="on whose bars it fires")
    direction = models.CharField(max_length=8, choices=Direction.choices)
    within_bars = models.PositiveSmallIntegerField(
        default=3, validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="how many of the newest bars of its interval a clause's pattern may be old; a clause may say otherwise with `within`",
    )  # fmt: skip
    rule = models.JSONField(help_text="a list of clauses, see docs/combinations.md")

    objects = CombinationQuerySet.as_manager()

    class Meta:
        db_table = "combinations"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clauses(self) -> tuple[Clause, ...]:
        """Return the rule's clauses. RuleError says what is wrong with which."""
        return clauses_of(self.rule, within=self.within_bars)

    def clean(self) -> None:
        """Refuse a rule that cannot be read, and the name of a pattern. ValidationError has a sentence for each clause at fault."""
        if self.key in DETECTORS or self.key in SHAPES:
            raise ValidationError({"key": f"A pattern is called {self.key} already."})
        try:
            self.clauses()
        except RuleError as error:
            raise ValidationError({"rule": list(error.faults)}) from None


def missed_bars(*, imports_from: datetime) -> "models.QuerySet[Bar, tuple[str, datetime, int]]":
    """
    Return (symbol, timestamp, attempts) of the whole or final minutes that were never scanned in their present revision, oldest first.

    Bars that the feed delivered count at any age; bars asked for later (repair, import) only where they start at `imports_from` or later:
    years of history are scanned when somebody asks. Bars given up are left out.
    """
    same = {
        "symbol": models.OuterRef("symbol"),
        "timeframe": "1m",
        "timestamp": models.OuterRef("timestamp"),
        "bar_revision": models.OuterRef("revision"),
    }
    attempts = models.Subquery(ScanFailure.objects.filter(**same).values("attempts")[:1])
    return (
        Bar.objects.filter(models.Q(complete=True) | models.Q(is_final=True))
        .filter(models.Q(source__lte=Source.VENDOR) | models.Q(timestamp__gte=imports_from))
        .filter(~models.Exists(ScannedBar.objects.filter(**same)))
        .annotate(attempts=Coalesce(attempts, 0))
        .filter(attempts__lt=GIVE_UP_AFTER)
        .order_by("timestamp")
        .values_list("symbol", "timestamp", "attempts")
    )


# ---- The market's state -----------------------------------------------------------------------------------------------------------------


class PackedJSON(models.Field):  # type: ignore[type-arg]  # it cannot be subscripted at run time
    """JSON that is only read and written whole, kept as zlib in a `bytea`: a fifth of the room of `jsonb`, and quicker both ways."""

    description = "compressed JSON"

    def db_type(self, connection: Any) -> str:  # noqa: ARG002 - Django's signature
        """Return the column type."""
        return "bytea"

    def get_prep_value(self, value: Any) -> Any:
        """Return the bytes that are stored."""
        return None if value is None else zlib.compress(msgspec.json.encode(value), 1)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:  # noqa: ARG002 - Django's signature
        """Return the lists and dictionaries."""
        return None if value is None else msgspec.json.decode(zlib.decompress(value))


class SurveyKind(models.TextChoices):
    """What the newest price of a survey is."""

    INTRADAY = "intraday", "intraday"
    CLOSE = "close", "close"


COUNTS_BY_MINUTE = ("advancers", "decliners", "unchanged", "up_volume", "down_volume")
SurveyVersion = tuple[int, datetime]
"""Number of a survey and when it was made: one that was made again is another version."""


class SurveyText(NamedTuple):
    """A survey's head, and blocks of it as JSON text."""

    version: SurveyVersion
    as_of: datetime
    kind: str
    coverage: bytes
    blocks: dict[str, bytes]


def _json_text(stored: Any) -> bytes:
    """Return what a block's column holds as JSON: `text` of a small one, `bytea` of a packed one."""
    return stored.encode() if isinstance(stored, str) else zlib.decompress(stored)


class MarketSurveyQuerySet(models.QuerySet["MarketSurvey"]):
    """Questions to the surveys."""

    def standing_at(self, universe: str, moment: datetime | None = None, *, blocks: Sequence[str] | None = None) -> "MarketSurvey | None":
        """
        Return the newest survey of a universe key, with `moment` the newest that was of that moment or before; None where there is none.

        `blocks` names those that will be read: the others are left in the table.
        """
        rows = self.filter(universe=universe).order_by("-as_of")
        if moment is not None:
            rows = rows.filter(as_of__lte=moment)
        if blocks is not None:
            rows = rows.only("universe", "as_of", "kind", "made_at", "coverage", *blocks)
        return rows.first()

    def standing_text(
        self, universe: str, moment: datetime | None, *, blocks: Sequence[str], known: Collection["SurveyVersion"]
    ) -> "SurveyText | None":
        """
        Return the survey that `standing_at` would, its blocks as JSON text; none of them where its version is `known`.

        One query tells which survey stands and brings what is new of it. `blocks` are names of this model's fields.
        """
        columns = {name: name if isinstance(self.model._meta.get_field(name), PackedJSON) else f"{name}::text" for name in blocks}
        once = "CASE WHEN (id, made_at) IN (SELECT * FROM known) THEN NULL ELSE {} END"
        brought = ", ".join(["coverage::text", *(once.format(column) for column in columns.values())])
        statement = f"""
            WITH known AS (SELECT * FROM unnest(%s::bigint[], %s::timestamptz[]))
            SELECT id, made_at, as_of, kind, {brought} FROM market_surveys
            WHERE universe = %s AND as_of <= coalesce(%s, 'infinity'::timestamptz) ORDER BY as_of DESC LIMIT 1
        """  # noqa: S608 - made of the model's own names
        with connections[self.db].cursor() as cursor:
            cursor.execute(statement, [[pk for pk, _ in known], [made_at for _, made_at in known], universe, moment])
            row = cursor.fetchone()
        if row is None:
            return None
        pk, made_at, as_of, kind, coverage, *texts = row
        new = {name: _json_text(text) for name, text in zip(columns, texts, strict=True) if text is not None}
        return SurveyText((pk, made_at), as_of, kind, coverage.encode(), new)

    def closes(self, universe: str, days: int) -> list[Any]:
        """Return (as_of, breadth, stage_counts, regime) of the last `days` closes, oldest first, as named tuples."""
        rows = self.filter(universe=universe, kind=SurveyKind.CLOSE).order_by("-as_of")
        return list(rows.values_list("as_of", "breadth", "stage_counts", "regime", named=True)[:days])[::-1]

    def half_hours(self, universe: str, start: datetime, end: datetime) -> list[Any]:
        """Return (as_of, breadth) of the intraday surveys of whole half hours in [start, end), oldest first: what is usual at a time of day."""
        rows = self.filter(universe=universe, kind=SurveyKind.INTRADAY, as_of__gte=start, as_of__lt=end, as_of__minute__in=(0, 30))
        return list(rows.order_by("as_of").values_list("as_of", "breadth", named=True))

    def today(self, universe: str, day: date) -> list[Any]:
        """
        Return (as_of, counts, coverage) of the intraday surveys of an exchange day, oldest first, as named tuples.

        `counts` is that of the breadth's block which a line by the minute is drawn from: a whole day of whole blocks is a megabyte of JSON.
        """
        session = Session.objects.filter(date=day).first()
        if session is None:
            return []
        rows = self.filter(universe=universe, kind=SurveyKind.INTRADAY, as_of__gt=session.open, as_of__lte=session.close)
        counts = JSONObject(**{name: models.F(f"breadth__{name}") for name in COUNTS_BY_MINUTE})
        return list(rows.order_by("as_of").annotate(counts=counts).values_list("as_of", "counts", "coverage", named=True))


class MarketSurvey(models.Model):
    """The market's state of one universe at one moment. What each block holds stands in docs/market.md."""

    universe = models.CharField(max_length=300, help_text="a universe key, or several joined by `:`")
    as_of = models.DateTimeField(help_text="end of the newest minute surveyed; of a close the regular close")
    kind = models.CharField(max_length=8, choices=SurveyKind.choices)
    made_at = models.DateTimeField(help_text="when it was computed")
    coverage = models.JSONField(help_text="how many symbols had a price, of how many, and how old the oldest price is")
    breadth = models.JSONField()
    regime = models.JSONField()
    stage_counts = models.JSONField()
    rankings = PackedJSON()
    sectors = PackedJSON()
    industries = PackedJSON()
    rotation = PackedJSON()
    stages = PackedJSON()
    stage_changes = PackedJSON()
    averages = PackedJSON()

    objects = MarketSurveyQuerySet.as_manager()

    class Meta:
        db_table = "market_surveys"
        constraints = [models.UniqueConstraint(fields=["universe", "as_of"], name="market_survey_once")]
        indexes = [
            models.Index(fields=["universe", "kind", "-as_of"], name="market_survey_kind_idx"),
            models.Index(fields=["as_of"], name="market_survey_age_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.universe} {self.as_of:%Y-%m-%d %H:%M} {self.kind}"
