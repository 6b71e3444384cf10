"""
The schema of the market: symbols, universes, bars and what happened to them. Questions to it are queryset methods.

`ohlcv_1min` is written by `writer.py` alone; every other part reads.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.lookups import Exact
from django.utils import timezone
from timescale.db.models.fields import TimescaleDateTimeField

from marketdata.bars.session import Hours, SessionTable
from marketdata.operations import AuditEntry, DeadTask, Job, JobKind, JobState, LoggedError

__all__ = ["AuditEntry", "DeadTask", "Job", "JobKind", "JobState", "LoggedError"]  # Django finds tables in this module

MINUTE = timedelta(minutes=1)
LIVE = timedelta(seconds=30)


class Numeric(models.DecimalField):  # type: ignore[type-arg]  # it cannot be subscripted at run time
    """PostgreSQL's unlimited `numeric`: prices keep the digits that the feed sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 30)
        kwargs.setdefault("decimal_places", 12)
        super().__init__(*args, **kwargs)

    def db_type(self, connection: Any) -> str:  # noqa: ARG002 - Django's signature
        """Return the column type."""
        return "numeric"


class EpochModulo(models.Func):
    """Seconds of a moment past the whole minute, with fraction; Django's own `second` drops the fraction."""

    template = "MOD(EXTRACT(EPOCH FROM %(expressions)s), 60)"
    output_field = Numeric()


class SymbolQuerySet(models.QuerySet["Symbol"]):
    """Questions to the table of symbols."""

    def in_universe(self, key: str) -> "SymbolQuerySet":
        """Return the members of a universe key: a name, or several joined by `:` (their union)."""
        return self.filter(pk__in=Membership.objects.filter(universe__in=key.split(":")).values("symbol"))

    def with_last_bar(self) -> "SymbolQuerySet":
        """Add `last_at`, `last_close` and `last_volume` of the newest stored minute; None where there is none."""
        newest = Bar.objects.filter(symbol=models.OuterRef("pk")).order_by("-timestamp")
        return self.annotate(
            last_at=models.Subquery(newest.values("timestamp")[:1]),
            last_close=models.Subquery(newest.values("close")[:1]),
            last_volume=models.Subquery(newest.values("volume")[:1]),
        )

    def with_close_before(self, day: date) -> "SymbolQuerySet":
        """Add `previous_close` and `previous_date`: the last daily bar before the exchange's `day`; None where there is none."""
        earlier = DailyBar.objects.filter(symbol=models.OuterRef("pk"), date__lt=day).order_by("-date")
        return self.annotate(
            previous_close=models.Subquery(earlier.values("close")[:1]), previous_date=models.Subquery(earlier.values("date")[:1])
        )

    def named_like(self, text: str) -> "SymbolQuerySet":
        """Return symbols whose ticker starts with `text`, or whose name contains it; BRK-B and BRK B mean BRK.B."""
        ticker = text.replace("-", ".").replace(" ", ".")
        return self.filter(models.Q(symbol__istartswith=ticker) | models.Q(name__icontains=text))


class Symbol(models.Model):
    """One ticker; its text is its identity, case kept (`KIMpL` is not `KIMPL`)."""

    symbol = models.CharField(max_length=20, primary_key=True, validators=[RegexValidator(r"^[A-Za-z0-9.\-/]{1,20}$")])
    name = models.CharField(max_length=200, blank=True, default="")
    type = models.CharField(max_length=20, blank=True, default="", help_text="Massive's ticker type: CS, ETF, ADRC …")
    exchange = models.CharField(max_length=20, blank=True, default="", help_text="primary exchange, ISO 10383 (XNAS, XNYS, ARCX)")
    sector = models.CharField(max_length=60, blank=True, default="", help_text="empty where unknown")
    industry = models.CharField(max_length=100, blank=True, default="")
    market_cap = Numeric(null=True, blank=True, help_text="in dollars, where known")
    sic_code = models.CharField(
        max_length=4, blank=True, default="", db_default="", help_text="Standard Industrial Classification, as the SEC files it"
    )
    details_at = models.DateTimeField(null=True, blank=True, help_text="when REST was last asked for its details")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SymbolQuerySet.as_manager()

    class Meta:
        db_table = "symbols"
        ordering = ["symbol"]

    def __str__(self) -> str:
        return self.symbol


class UnknownUniverseError(ValueError):
    """No universe has this name; the message lists those there are."""


class UniverseQuerySet(models.QuerySet["Universe"]):
    """Questions to the universes."""

    def symbols_of(self, key: str) -> list[str]:
        """
        Return the symbols of a universe key, a name or several joined by `:` (their union), by position, each once.

        Where two universes give the same position, the one named first comes first.

        UnknownUniverseError for an unknown name; never another universe in its place.
        """
        names = [name.strip() for name in key.split(":") if name.strip()]
        known = set(self.values_list("key", flat=True))
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise UnknownUniverseError(
                f"There is no universe “{':'.join(unknown) or key}”. Known are: {', '.join(sorted(known)) or 'none; run `migrate` first'}."
            )
        rank = {name: place for place, name in enumerate(names)}
        members = Membership.objects.filter(universe_id__in=names).values_list("position", "universe_id", "symbol_id")
        ordered = sorted(members, key=lambda member: (member[0], rank[member[1]], member[2]))
        found = dict.fromkeys(symbol for _, _, symbol in ordered)
        return list(found)


class UniverseKind(models.TextChoices):
    """What a universe is a list of."""

    LIST = "list", "list of one's own"
    INDEX = "index", "index"
    FUND = "fund", "holdings of a fund"
    THEME = "theme", "theme"


class Universe(models.Model):
    """A named list of symbols in a stated order."""

    key = models.SlugField(max_length=60, primary_key=True)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=8, choices=UniverseKind.choices, default=UniverseKind.LIST)
    description = models.TextField(blank=True, default="")
    symbols = models.ManyToManyField(Symbol, through="Membership", related_name="universes")

    objects = UniverseQuerySet.as_manager()

    class Meta:
        db_table = "universes"
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key


class Membership(models.Model):
    """That a symbol stands in a universe, where, and with which weight."""

    universe = models.ForeignKey(Universe, on_delete=models.CASCADE, related_name="memberships")
    symbol = models.ForeignKey(Symbol, on_delete=models.CASCADE, related_name="memberships")
    position = models.PositiveIntegerField(default=0)
    weight = Numeric(null=True, blank=True, help_text="share of the universe in percent, where known")

    class Meta:
        db_table = "universe_memberships"
        ordering = ["universe", "position", "symbol"]
        constraints = [models.UniqueConstraint(fields=["universe", "symbol"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.universe_id}: {self.symbol_id}"


class Source(models.IntegerChoices):
    """Where a stored bar comes from; the number is its rank, the higher replaces the lower (PRODUCT A3)."""

    MADE_DAY = 5, "day made from minutes"
    PARTIAL = 10, "partial, from the stream"
    SECONDS = 20, "whole minute from second aggregates"
    TRADES = 25, "whole minute from trades"
    VENDOR = 30, "minute aggregate of the feed, or REST inside the late window"
    SETTLED = 40, "REST after the late window"
    FLATFILE = 50, "flat file"
    OPERATOR = 60, "operator"


class Cause(models.TextChoices):
    """Why a stored bar was replaced."""

    LATE = "late", "late event"
    CORRECTED = "corrected", "corrected by the feed"
    BACKFILL = "backfill", "backfill"
    RECONCILE = "reconcile", "reconciliation"


def bar_checks(name: str) -> list[models.BaseConstraint]:
    """
    Return the checks that no table of bars may do without.

    In `numeric` NaN and infinity are greater than every bound, so upper bounds refuse them.
    """
    return [
        models.CheckConstraint(name=f"{name}_prices", condition=models.Q(low__gt=0, high__lt=10**7)),
        models.CheckConstraint(
            name=f"{name}_order",
            condition=models.Q(
                high__gte=models.F("low"),
                open__gte=models.F("low"),
                open__lte=models.F("high"),
                close__gte=models.F("low"),
                close__lte=models.F("high"),
            ),
        ),
        models.CheckConstraint(name=f"{name}_volume", condition=models.Q(volume__gte=0, volume__lt=10**15)),
    ]


class BarQuerySet(models.QuerySet["Bar"]):
    """Questions to the table of one-minute bars."""

    def of(self, symbol: str) -> "BarQuerySet":
        """Return one symbol's bars."""
        return self.filter(symbol_id=symbol)

    def whole(self) -> "BarQuerySet":
        """Leave out minutes that were seen only in part, until they are repaired: half a bar is a wrong bar."""
        return self.filter(models.Q(complete=True) | models.Q(is_final=True))

    def partial(self) -> "BarQuerySet":
        """Return minutes that were seen only in part."""
        return self.filter(complete=False, is_final=False)

    def newest_first(self) -> "BarQuerySet":
        """Return them from the newest on."""
        return self.order_by("-timestamp")

    def after(self, moment: datetime) -> "BarQuerySet":
        """Return bars that start after `moment`."""
        return self.filter(timestamp__gt=moment)

    def since(self, moment: datetime) -> "BarQuerySet":
        """Return bars that start at `moment` or later."""
        return self.filter(timestamp__gte=moment)

    def in_universe(self, key: str) -> "BarQuerySet":
        """Return bars of the members of a universe key: a name, or several joined by `:`."""
        return self.filter(symbol__in=Membership.objects.filter(universe__in=key.split(":")).values("symbol"))

    def every_five_minutes(self, symbols: list[str], start: datetime, end: datetime) -> "models.QuerySet[Bar, tuple[str, Decimal]]":
        """Return (symbol, close) of each fifth minute in [start, end), oldest first: enough for a small line."""
        chosen = self.filter(symbol__in=symbols, timestamp__gte=start, timestamp__lt=end, timestamp__minute__in=range(4, 60, 5))
        return chosen.order_by("symbol", "timestamp").values_list("symbol", "close")

    def by_minute(self, moment: datetime) -> "models.QuerySet[Any, Any]":
        """
        Return each minute from `moment` on, oldest first, with how many `bars` it has and their mean `delay` from its end to their storing.

        Bars stored later than `LIVE` after their minute came from history and do not count in the delay.
        """
        stored = models.ExpressionWrapper(models.F("valued_at") - models.F("timestamp"), output_field=models.DurationField())
        live = models.Q(revision=0, valued_at__lt=models.F("timestamp") + MINUTE + LIVE, valued_at__gte=models.F("timestamp") + MINUTE)
        rows = self.filter(timestamp__gte=moment).values("timestamp")
        return rows.annotate(bars=models.Count("*"), delay=models.Avg(stored, filter=live) - MINUTE).order_by("timestamp")

    def closes_at(self, symbols: list[str], minutes: list[datetime]) -> "models.QuerySet[Bar, tuple[str, datetime, Decimal]]":
        """Return (symbol, minute, close) of these minutes, for many small lines at once: the index is asked for each, none is read between."""
        return self.filter(symbol__in=symbols, timestamp__in=minutes).values_list("symbol", "timestamp", "close")

    def newest_minute(self) -> datetime | None:
        """Return the start of the newest stored minute of any symbol."""
        return self.order_by("-timestamp").values_list("timestamp", flat=True).first()


class Bar(models.Model):
    """One minute of one symbol: [timestamp, timestamp + 1 min), UTC."""

    pk = models.CompositePrimaryKey("symbol", "timestamp")
    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="bars")
    timestamp = TimescaleDateTimeField(interval="1 day")
    open = Numeric()
    high = Numeric()
    low = Numeric()
    close = Numeric()
    volume = Numeric()
    vwap = Numeric(null=True)
    trades = models.IntegerField(null=True, help_text="null where the source does not count them")
    source = models.SmallIntegerField(choices=Source.choices)
    source_version = models.BigIntegerField(help_text="orders bars of equal source")
    revision = models.IntegerField(default=0, help_text="rises when open, high, low, close or volume changes")
    complete = models.BooleanField(help_text="the stream saw the whole minute")
    is_final = models.BooleanField(default=False, help_text="nothing but a repair may change it")
    writer_epoch = models.BigIntegerField()
    valued_at = models.DateTimeField(default=timezone.now, help_text="since when it has these values")
    updated_at = models.DateTimeField(help_text="when anything of it changed")

    objects = BarQuerySet.as_manager()

    class Meta:
        db_table = "ohlcv_1min"
        indexes = [
            models.Index(fields=["-timestamp"], name="ohlcv_1min_ts_idx"),
            models.Index(fields=["symbol", "-timestamp"], include=["open", "high", "low", "close", "volume"], name="ohlcv_1min_cover_idx"),
            models.Index(fields=["timestamp"], condition=models.Q(complete=False, is_final=False), name="ohlcv_1min_partial_idx"),
            BrinIndex(fields=["updated_at"], autosummarize=True, name="ohlcv_1min_updated_brin"),  # the sweep asks what changed since
        ]
        constraints = [
            *bar_checks("ohlcv_1min"),
            models.CheckConstraint(name="ohlcv_1min_on_the_minute", condition=Exact(EpochModulo(models.F("timestamp")), 0)),
        ]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.timestamp:%Y-%m-%d %H:%M}"


class BarRevision(models.Model):
    """A bar as it stood before it was replaced."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="+")
    timestamp = models.DateTimeField()
    revision = models.IntegerField()
    open = Numeric()
    high = Numeric()
    low = Numeric()
    close = Numeric()
    volume = Numeric()
    vwap = Numeric(null=True)
    trades = models.IntegerField(null=True)
    source = models.SmallIntegerField(choices=Source.choices)
    source_version = models.BigIntegerField()
    complete = models.BooleanField()
    stored_at = models.DateTimeField(help_text="from when on this was the bar")
    replaced_at = models.DateTimeField()
    cause = models.CharField(max_length=20, choices=Cause.choices)

    class Meta:
        db_table = "bar_revisions"
        constraints = [models.UniqueConstraint(fields=["symbol", "timestamp", "revision"], name="bar_revision_once")]
        indexes = [models.Index(fields=["-replaced_at"], name="bar_revision_recent_idx")]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.timestamp:%Y-%m-%d %H:%M} r{self.revision}"


class DailyBarQuerySet(models.QuerySet["DailyBar"]):
    """Questions to the table of days."""

    def symbols_with(self, days: int) -> int:
        """Return how many symbols have so many days or more."""
        return self.values("symbol").annotate(days=models.Count("date")).filter(days__gte=days).count()


class DailyBar(models.Model):
    """One session of one symbol, unadjusted."""

    pk = models.CompositePrimaryKey("symbol", "date")
    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="daily_bars")
    date = models.DateField(help_text="the exchange's day")
    open = Numeric()
    high = Numeric()
    low = Numeric()
    close = Numeric()
    volume = Numeric()
    vwap = Numeric(null=True)
    trades = models.IntegerField(null=True)
    source = models.SmallIntegerField(choices=Source.choices)
    source_version = models.BigIntegerField()
    updated_at = models.DateTimeField()

    objects = DailyBarQuerySet.as_manager()

    class Meta:
        db_table = "ohlcv_daily"
        indexes = [
            models.Index(fields=["-date"], name="ohlcv_daily_date_idx"),
            models.Index(fields=["updated_at"], name="ohlcv_daily_updated_idx"),  # a survey asks whether anything is new
        ]
        constraints = bar_checks("ohlcv_daily")

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.date}"


class SessionQuerySet(models.QuerySet["Session"]):
    """Questions to the sessions."""

    def open_or_next(self, moment: datetime) -> "Session | None":
        """Return the day whose hours, pre-market to post-market, contain `moment`, else the next one."""
        return self.filter(post_close__gt=moment).order_by("pre_open").first()

    def table(self, *, since: datetime | None = None) -> SessionTable:
        """Return them all, or those that end after `since`, as a value that answers without the database."""
        rows = (self if since is None else self.filter(post_close__gt=since)).values_list("pre_open", "open", "close", "post_close")
        return SessionTable([_hours(row) for row in rows.iterator()])


def _hours(moments: Iterable[datetime]) -> Hours:
    return Hours(*(round(moment.timestamp() * 1000) for moment in moments))


class Session(models.Model):
    """One day of the exchange: pre-market, regular and post-market hours as moments in UTC. A day without a row has no session."""

    date = models.DateField(primary_key=True)
    calendar = models.CharField(max_length=20, help_text="XNYS, or twin")
    pre_open = models.DateTimeField()
    open = models.DateTimeField()
    close = models.DateTimeField()
    post_close = models.DateTimeField()
    note = models.CharField(max_length=100, blank=True, default="")

    objects = SessionQuerySet.as_manager()

    class Meta:
        db_table = "sessions"
        ordering = ["date"]
        indexes = [models.Index(fields=["pre_open", "post_close"], name="session_span_idx")]

    def __str__(self) -> str:
        return f"{self.date} ({self.calendar})"

    def hours(self) -> Hours:
        """Return the session as a value."""
        return _hours((self.pre_open, self.open, self.close, self.post_close))


class WriterLease(models.Model):
    """Who writes a shard, and the fencing number that each of its transactions checks."""

    name = models.CharField(max_length=40, primary_key=True, help_text="stream 1/1, or past")
    epoch = models.BigIntegerField(default=0)
    holder = models.CharField(max_length=200, blank=True, default="")
    acquired_at = models.DateTimeField()

    class Meta:
        db_table = "writer_leases"

    def __str__(self) -> str:
        return f"{self.name} epoch {self.epoch}"


class RejectedEventQuerySet(models.QuerySet["RejectedEvent"]):
    """Questions to the refused events."""

    def by_reason(self, moment: datetime) -> "models.QuerySet[Any, Any]":
        """Return each reason since `moment` with how many `events` it had, the `last` moment and one symbol, the most frequent first."""
        rows = self.filter(received_at__gte=moment).values("reason")
        told = rows.annotate(
            events=models.Sum("count"), last=models.Max("received_at"), example=models.Max("symbol"), words=models.Max("detail")
        )
        return told.order_by("-events", "reason")


class RejectedEvent(models.Model):
    """What the feed sent and we refused, with the reason. Repeats of one reason in one flush beyond a bound share a row."""

    received_at = models.DateTimeField(db_index=True)
    reason = models.CharField(max_length=40, db_index=True)
    detail = models.CharField(max_length=300, blank=True, default="")
    kind = models.CharField(max_length=10, blank=True, default="", help_text="the event's ev, where readable")
    symbol = models.CharField(max_length=40, blank=True, default="")
    count = models.IntegerField(default=1)
    raw = models.TextField(help_text="the event as received, cut at 2,000 characters")

    objects = RejectedEventQuerySet.as_manager()

    class Meta:
        db_table = "rejected_events"
        ordering = ["-received_at", "-id"]

    def __str__(self) -> str:
        return f"{self.reason} {self.symbol}"


class Heartbeat(models.Model):
    """The last sign of life of a running part, with what it says of itself. One row a part."""

    part = models.CharField(max_length=40, primary_key=True, help_text="stream 1/1, worker, beat")
    at = models.DateTimeField()
    started_at = models.DateTimeField()
    state = models.CharField(max_length=40, blank=True, default="")
    detail = models.JSONField(default=dict)

    class Meta:
        db_table = "heartbeats"

    def __str__(self) -> str:
        return self.part


class FeedOrigin(models.Model):
    """Which feed filled this database: made-up and real bars never share one. At most one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    name = models.CharField(max_length=20, help_text="twin or massive")
    since = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "feed_origin"
        constraints = [models.CheckConstraint(name="feed_origin_single", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return self.name


class FeedSpan(models.Model):
    """
    Evidence: from `began_at` to `alive_until` (stream time) a line was up and subscribed to these symbols.

    A minute of a symbol that lies wholly in a span and has no bar had no trade; one that does not is unknown until REST was asked.
    """

    line = models.CharField(max_length=40, help_text="stream 1/1, line 1")
    began_at = models.DateTimeField()
    alive_until = models.DateTimeField()
    symbols = ArrayField(models.CharField(max_length=20))
    kinds = ArrayField(models.CharField(max_length=8))
    ended = models.CharField(max_length=200, blank=True, default="", help_text="why it ended; empty while it lasts")

    class Meta:
        db_table = "feed_spans"
        indexes = [models.Index(fields=["alive_until", "began_at"], name="feed_span_time_idx")]

    def __str__(self) -> str:
        return f"{self.line} {self.began_at:%Y-%m-%d %H:%M:%S} to {self.alive_until:%H:%M:%S}"


class GapCause(models.TextChoices):
    """Why minutes are missing."""

    FEED_DOWN = "feed_down", "feed down"
    PARTIAL = "partial", "seen in part"
    UNKNOWN = "unknown", "unknown"


class GapState(models.TextChoices):
    """How far the repair is."""

    OPEN = "open", "open"
    REPAIRED = "repaired", "repaired"
    EMPTY = "empty", "asked, no trade"


class GapQuerySet(models.QuerySet["Gap"]):
    """Questions to the ledger of gaps."""

    def reaching_past(self, moment: datetime) -> "GapQuerySet":
        """Return gaps whose last minute is `moment` or later."""
        return self.filter(last_minute__gte=moment)

    def spans_since(self, moment: datetime) -> "models.QuerySet[Any, Any]":
        """Return each distinct span of open and repaired gaps that reaches past `moment`, with how many `symbols` share it; newest first."""
        told = self.reaching_past(moment).filter(state__in=[GapState.OPEN, GapState.REPAIRED])
        return (
            told.values("first_minute", "last_minute", "state")
            .annotate(symbols=models.Count("symbol"))
            .order_by("-last_minute", "-first_minute", "state")
        )

    def ledger(self) -> "models.QuerySet[Any, Any]":
        """Return the ledger by span, cause and state, the newest span first, with `symbols`, `bars` found, the newest error and times."""
        spans = self.values("first_minute", "last_minute", "cause", "state")
        told = spans.annotate(
            symbols=models.Count("symbol"), bars=models.Sum("bars_found"), example=models.Min("symbol"), tries=models.Max("attempts"),
            error=models.Max("last_error"), asked=models.Max("asked_at"), closed=models.Max("closed_at"),
        )  # fmt: skip
        return told.order_by("-last_minute", "-first_minute", "cause", "state")


class Gap(models.Model):
    """Minutes of one symbol, [first_minute, last_minute], that no evidence covers, until REST was asked for them."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="gaps")
    first_minute = models.DateTimeField()
    last_minute = models.DateTimeField()
    cause = models.CharField(max_length=12, choices=GapCause.choices)
    state = models.CharField(max_length=10, choices=GapState.choices, default=GapState.OPEN)
    opened_at = models.DateTimeField()
    asked_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)
    bars_found = models.IntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True, default="")

    objects = GapQuerySet.as_manager()

    class Meta:
        db_table = "gaps"
        constraints = [
            models.UniqueConstraint(fields=["symbol", "first_minute"], name="gap_once"),
            models.CheckConstraint(name="gap_order", condition=models.Q(last_minute__gte=models.F("first_minute"))),
        ]
        indexes = [
            models.Index(fields=["state", "-last_minute"], name="gap_state_idx"),
            models.Index(fields=["symbol", "-last_minute"], name="gap_symbol_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.first_minute:%Y-%m-%d %H:%M} to {self.last_minute:%H:%M} {self.state}"


class Reconciliation(models.Model):
    """One day's stored minutes held against REST or flat files: how many agreed, what differed and was repaired."""

    date = models.DateField(help_text="the exchange's day")
    source = models.CharField(max_length=10, help_text="rest or flatfile; days: daily bars against their minutes")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    symbols = models.IntegerField(default=0)
    compared = models.IntegerField(default=0)
    matched = models.IntegerField(default=0)
    missing_here = models.IntegerField(default=0)
    missing_there = models.IntegerField(default=0)
    differing = models.IntegerField(default=0)
    fields = models.JSONField(default=dict, help_text="how often open, high, low, close, volume differed")
    repaired = models.IntegerField(default=0)
    error = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        db_table = "reconciliations"
        ordering = ["-date", "-started_at"]

    def __str__(self) -> str:
        return f"{self.date} {self.source}"


class Split(models.Model):
    """A share split: from the execution date on, `split_from` old shares are `split_to` new ones. Stored bars stay raw."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="splits")
    execution_date = models.DateField()
    split_from = Numeric()
    split_to = Numeric()

    class Meta:
        db_table = "splits"
        constraints = [
            models.UniqueConstraint(fields=["symbol", "execution_date"], name="split_once"),
            models.CheckConstraint(name="split_positive", condition=models.Q(split_from__gt=0, split_to__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.split_to}:{self.split_from} {self.execution_date}"


class Dividend(models.Model):
    """A cash dividend a share, in the currency of the listing."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="dividends")
    ex_date = models.DateField()
    cash_amount = Numeric()
    pay_date = models.DateField(null=True, blank=True)

    class Meta:
        db_table = "dividends"
        constraints = [
            models.UniqueConstraint(fields=["symbol", "ex_date", "cash_amount"], name="dividend_once"),
            models.CheckConstraint(name="dividend_positive", condition=models.Q(cash_amount__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.cash_amount} {self.ex_date}"


class SymbolChange(models.Model):
    """That a company traded as `old` before the date and as `new` from it on. Rows stay with the ticker that they were printed under."""

    old = models.CharField(max_length=20)
    new = models.CharField(max_length=20)
    date = models.DateField()

    class Meta:
        db_table = "symbol_changes"
        constraints = [models.UniqueConstraint(fields=["old", "date"], name="symbol_change_once")]

    def __str__(self) -> str:
        return f"{self.old} to {self.new} {self.date}"


class ImportedFile(models.Model):
    """How far the import of one file came, so that it can go on after an interruption."""

    digest = models.CharField(max_length=64, primary_key=True, help_text="SHA-256 of the file, with the options that change its meaning")
    name = models.CharField(max_length=300)
    rows_done = models.BigIntegerField(default=0, help_text="rows read whose batch is committed")
    finished_at = models.DateTimeField(null=True, blank=True)
    report = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "imported_files"

    def __str__(self) -> str:
        return self.name


class Closure(models.Model):
    """A day on which the exchange is closed although its calendar says otherwise; such a day has no session, whatever is imported."""

    date = models.DateField(primary_key=True)
    note = models.CharField(max_length=100, blank=True, default="")

    class Meta:
        db_table = "closures"
        ordering = ["-date"]

    def __str__(self) -> str:
        return f"{self.date} {self.note}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store it, and take the day's session away."""
        super().save(*args, **kwargs)
        Session.objects.filter(date=self.date).delete()


class HaltQuerySet(models.QuerySet["Halt"]):
    """Questions to the trading pauses."""

    def lasting_at(self, moment: datetime, *, symbol: str, traded_at: datetime | None) -> "Halt | None":
        """Return the symbol's pause at a moment. One whose minute is before that of the last trade is over, though nobody heard its end."""
        last = self.filter(symbol_id=symbol, began_at__lte=moment).order_by("-began_at").first()
        over = (
            last is None or (last.ended_at is not None and last.ended_at <= moment) or (traded_at is not None and traded_at > last.began_at)
        )
        return None if over else last


class Halt(models.Model):
    """A trading pause as the LULD feed announced it: from `began_at` until trades or new bands came; None: it lasts."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="halts")
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = HaltQuerySet.as_manager()

    class Meta:
        db_table = "halts"
        constraints = [models.UniqueConstraint(fields=["symbol", "began_at"], name="halt_once")]
        ordering = ["-began_at"]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.began_at:%Y-%m-%d %H:%M:%S}"
