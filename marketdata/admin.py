"""The market's tables in the admin. Bars have no page of their own (their key has two columns): each symbol shows its newest."""

from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from marketdata import jobs
from marketdata.forms import JobForm
from marketdata.models import (
    AuditEntry,
    Bar,
    BarRevision,
    Closure,
    DeadTask,
    Dividend,
    FeedOrigin,
    FeedSpan,
    Gap,
    Halt,
    Heartbeat,
    Job,
    LoggedError,
    Membership,
    Reconciliation,
    RejectedEvent,
    Session,
    Split,
    Symbol,
    SymbolChange,
    Universe,
    WriterLease,
)
from marketdata.reconciliation import match_percent

BARS_SHOWN = 20
COLUMNS = ("start (UTC)", "open", "high", "low", "close", "volume", "trades", "source", "revision", "final")


class KeyStays(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """A table whose primary key is text or a day: editing it would make a second row, so it can be written only once."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Return the fields that cannot be edited, the key of an existing row among them."""
        fields = list(super().get_readonly_fields(request, obj))
        return fields if obj is None else [self.opts.pk.name, *fields]


class Looking(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """A table that only the running parts write."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False


@admin.register(Symbol)
class SymbolAdmin(KeyStays):
    """A symbol with its newest bars. It is never deleted, its bars hang on it: make it inactive."""

    list_display = ["symbol", "name", "type", "exchange", "sector", "active"]
    list_filter = ["active", "type", "exchange", "sector", "universes"]
    search_fields = ["symbol__istartswith", "name"]
    fields = ["symbol", "name", "type", "exchange", "sector", "industry", "sic_code", "market_cap", "active", "details_at", "latest_bars"]
    readonly_fields = ["details_at", "latest_bars"]
    list_per_page = 200

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    @admin.display(description="newest bars")
    def latest_bars(self, symbol: Symbol) -> SafeString | str:
        """Return the newest stored minutes as a table, read-only like everything about bars."""
        bars = Bar.objects.of(symbol.pk).newest_first()[:BARS_SHOWN] if symbol.pk else []
        rows = [_cells(bar) for bar in bars]
        if not rows:
            return "none yet"
        head = format_html_join("", "<th scope='col'>{}</th>", ((column,) for column in COLUMNS))
        body = format_html_join("", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows))
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, body)


def _cells(bar: Bar) -> tuple[str, ...]:
    prices = (f"{price:f}" for price in (bar.open, bar.high, bar.low, bar.close, bar.volume))
    trades = "" if bar.trades is None else str(bar.trades)
    return (
        f"{bar.timestamp:%Y-%m-%d %H:%M}",
        *prices,
        trades,
        bar.get_source_display(),
        str(bar.revision),
        "yes" if bar.is_final else "no",
    )


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """The symbols of a universe, in its order."""

    model = Membership
    fields = ["position", "symbol", "weight"]
    ordering = ["position", "symbol"]
    autocomplete_fields = ["symbol"]
    extra = 3


@admin.register(Universe)
class UniverseAdmin(KeyStays):
    """A universe and its symbols."""

    fields = ["key", "name", "kind", "description"]
    list_display = ["key", "name", "kind", "description"]
    list_filter = ["kind"]
    search_fields = ["key", "name"]
    inlines = [MembershipInline]


@admin.register(Session)
class SessionAdmin(KeyStays):
    """The exchange's days: hours that no calendar foresaw are edited here (with a note, so that they stay). A deleted day is a closure."""

    list_display = ["date", "calendar", "pre_open", "open", "close", "post_close", "note"]
    fields = ["date", "calendar", "pre_open", "open", "close", "post_close", "note"]
    list_filter = ["calendar"]
    search_fields = ["note"]
    date_hierarchy = "date"
    ordering = ["-date"]

    def delete_model(self, request: HttpRequest, obj: Session) -> None:
        """Close the day: without that the next start would bring its session back."""
        Closure.objects.get_or_create(date=obj.date, defaults={"note": f"closed by {request.user}"})
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """Close the days."""
        for session in queryset:
            Closure.objects.get_or_create(date=session.date, defaults={"note": f"closed by {request.user}"})
        super().delete_queryset(request, queryset)


@admin.register(Closure)
class ClosureAdmin(KeyStays):
    """Days that are closed although the calendar says otherwise. Taken out, the session comes back at the next start of `stream_ticks`."""

    list_display = ["date", "note"]
    date_hierarchy = "date"


@admin.register(Halt)
class HaltAdmin(Looking):
    """Trading pauses as the feed announced them."""

    list_display = ["symbol_id", "began_at", "ended_at"]
    search_fields = ["=symbol__symbol"]


@admin.register(RejectedEvent)
class RejectedEventAdmin(Looking):
    """What the feed sent and we refused."""

    list_display = ["received_at", "reason", "kind", "symbol", "count", "detail"]
    list_filter = ["reason", "kind"]
    search_fields = ["symbol", "detail"]
    date_hierarchy = "received_at"


@admin.register(BarRevision)
class BarRevisionAdmin(Looking):
    """Bars as they stood before they were replaced."""

    list_display = ["symbol_id", "timestamp", "revision", "open", "high", "low", "close", "volume", "source", "cause", "replaced_at"]
    list_filter = ["cause", "source"]
    search_fields = ["=symbol__symbol"]
    ordering = ["-replaced_at"]


@admin.register(Gap)
class GapAdmin(Looking):
    """Minutes that nothing proves, and their repair."""

    list_display = ["symbol_id", "first_minute", "last_minute", "cause", "state", "bars_found", "attempts", "asked_at", "last_error"]
    list_filter = ["state", "cause"]
    search_fields = ["=symbol__symbol"]
    ordering = ["-last_minute", "symbol"]


@admin.register(FeedSpan)
class FeedSpanAdmin(Looking):
    """When the line was up."""

    list_display = ["line", "began_at", "alive_until", "ended"]
    ordering = ["-began_at"]


@admin.register(Reconciliation)
class ReconciliationAdmin(Looking):
    """Each night's comparison with REST."""

    list_display = [
        "date",
        "source",
        "match",
        "compared",
        "matched",
        "differing",
        "missing_here",
        "missing_there",
        "repaired",
        "finished_at",
    ]
    list_filter = ["source"]
    date_hierarchy = "date"

    @admin.display(description="match %")
    def match(self, report: Reconciliation) -> float | None:
        """Return how many of all minutes agree in every field."""
        return match_percent(report)


@admin.register(Split)
class SplitAdmin(Looking):
    """Splits as imported."""

    list_display = ["symbol_id", "execution_date", "split_from", "split_to"]
    search_fields = ["=symbol__symbol"]
    ordering = ["-execution_date"]


@admin.register(Dividend)
class DividendAdmin(Looking):
    """Dividends as imported."""

    list_display = ["symbol_id", "ex_date", "cash_amount", "pay_date"]
    search_fields = ["=symbol__symbol"]
    ordering = ["-ex_date"]


@admin.register(SymbolChange)
class SymbolChangeAdmin(Looking):
    """Changes of ticker as imported."""

    list_display = ["old", "new", "date"]
    ordering = ["-date"]


@admin.register(Heartbeat)
class HeartbeatAdmin(Looking):
    """Signs of life of the running parts."""

    list_display = ["part", "state", "at", "started_at"]


@admin.register(WriterLease)
class WriterLeaseAdmin(Looking):
    """Who writes bars."""

    list_display = ["name", "holder", "epoch", "acquired_at"]


@admin.register(FeedOrigin)
class FeedOriginAdmin(Looking):
    """Which feed filled this database."""

    list_display = ["name", "since"]


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Work that was asked for: add some, watch how far it is, cancel it."""

    form = JobForm
    list_display = ["id", "kind", "state", "progress", "step", "error", "asked_by", "asked_at", "started_at", "finished_at"]
    list_filter = ["state", "kind"]
    actions = ["cancel_jobs"]
    show_full_result_count = False

    @admin.display(description="progress")
    def progress(self, job: Job) -> str:
        """Return how far it is."""
        return f"{job.done} of {job.total}" if job.total else ""

    def save_model(self, request: HttpRequest, obj: Job, form: Any, change: bool) -> None:
        """Note who asked."""
        obj.asked_by = request.user.get_username()
        super().save_model(request, obj, form, change)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False for a single one: what was asked stays as it was asked. The list may be seen, and its actions used."""
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: who asked for what is kept."""
        return False

    @admin.action(description="Cancel", permissions=["add"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Cancel what waits, and ask what runs to stop."""
        for job in queryset.open():  # type: ignore[attr-defined]  # our manager's
            with suppress(jobs.JobNotOpenError):
                jobs.cancel(job, by=request.user.get_username())


@admin.register(LoggedError)
class LoggedErrorAdmin(Looking):
    """Errors of all parts, repeats in one row."""

    list_display = ["last_at", "level", "part", "logger", "message", "count", "first_at"]
    list_filter = ["level", "part", "last_at"]
    search_fields = ["message", "logger"]


@admin.register(DeadTask)
class DeadTaskAdmin(Looking):
    """Tasks that failed or took their worker with them; given up where `dead at` is set."""

    list_display = ["last_at", "name", "attempts", "dead_at", "error", "arguments"]
    list_filter = ["name", "dead_at"]


@admin.register(AuditEntry)
class AuditEntryAdmin(Looking):
    """Who did what."""

    list_display = ["at", "actor", "action", "target", "address"]
    list_filter = ["action", "at"]
    search_fields = ["actor", "target"]
