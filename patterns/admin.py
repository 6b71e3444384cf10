"""What was found, to look at in the admin; what is looked for, to edit."""

from collections import Counter
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html

from patterns.combinations import Trial, try_out
from patterns.detectors import DETECTORS, SHAPES
from patterns.detectors.rules import RuleError
from patterns.forms import TrialForm
from patterns.models import Combination, Detection, DetectorDefinition, IndicatorValue, MarketSurvey, ScanFailure, SweepMark
from patterns.windows import moment_of

TRIAL_DAYS = 2
FIRINGS_SHOWN, SYMBOLS_SHOWN = 200, 30


class Looking(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """A table that only scans write."""

    show_full_result_count = False
    list_per_page = 100

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False."""
        return False


class PatternFilter(admin.SimpleListFilter):
    """The patterns by their human names, from the table of detectors: asking a large table for its distinct values takes long."""

    title = "pattern"
    parameter_name = "pattern_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 - Django's signature
        """Return what can be chosen."""
        known = {kind: detector.name for kind, detector in (DETECTORS | SHAPES).items()}
        known |= dict(Combination.objects.values_list("key", "name"))
        return sorted(known.items(), key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:  # noqa: ARG002 - Django's signature
        """Return what was chosen."""
        return queryset.filter(pattern_type=self.value()) if self.value() else queryset


@admin.register(Detection)
class DetectionAdmin(Looking):
    """Detections, the last found first."""

    list_display = ["symbol_id", "pattern", "timeframe", "timestamp", "direction", "confidence", "status", "detection_timestamp"]
    list_filter = ["direction", "status", "timeframe", PatternFilter]
    search_fields = ["symbol__symbol__exact"]
    search_help_text = "a symbol, as written"
    ordering = ["-id"]

    @admin.display(description="pattern", ordering="pattern_type")
    def pattern(self, detection: Detection) -> str:
        """Return the pattern's human name."""
        return Combination.objects.name_of(detection.pattern_type)


@admin.register(IndicatorValue)
class IndicatorValueAdmin(Looking):
    """Indicator values, the last computed first."""

    list_display = ["symbol_id", "indicator_name", "timeframe", "timestamp", "value", "calculation_timestamp"]
    search_fields = ["symbol__symbol__exact"]
    search_help_text = "a symbol, as written"
    ordering = ["-id"]


@admin.register(ScanFailure)
class ScanFailureAdmin(Looking):
    """Bars that could not be scanned."""

    list_display = ["symbol_id", "timestamp", "bar_revision", "attempts", "last_at", "error"]
    ordering = ["-last_at"]


@admin.register(SweepMark)
class SweepMarkAdmin(Looking):
    """How far the sweep has come."""

    list_display = ["timeframe", "through", "busy_until"]


# ---- What is looked for -----------------------------------------------------------------------------------------------------------------


@admin.register(DetectorDefinition)
class DetectorDefinitionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """The patterns of the code: which are looked for, and on which intervals."""

    list_display = ["name", "pattern_type", "kind", "enabled", "intervals"]
    list_editable = ["enabled"]
    list_filter = ["kind", "enabled"]
    search_fields = ["name", "pattern_type"]
    fields = ["pattern_type", "name", "kind", "enabled", "intervals"]
    readonly_fields = ["pattern_type", "name", "kind"]
    list_per_page = 200

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return all of them, those too that the code has since the last look."""
        DetectorDefinition.objects.complete()
        return super().get_queryset(request)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: the code makes them."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: disable one instead."""
        return False


@admin.register(Combination)
class CombinationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Combinations, with a trial of each over what is stored."""

    list_display = ["name", "key", "timeframe", "direction", "enabled", "trial"]
    list_filter = ["enabled", "timeframe", "direction"]
    fields = ["key", "name", "description", "enabled", "timeframe", "direction", "within_bars", "rule", "trial"]
    readonly_fields = ["trial"]

    def get_readonly_fields(self, request: HttpRequest, obj: Combination | None = None) -> list[str]:
        """Return what cannot be edited: the key of an existing one names its detections."""
        return [*super().get_readonly_fields(request, obj), *(["key"] if obj else [])]

    def get_urls(self) -> list[Any]:
        """Add the page of a trial."""
        page = path("<path:key>/trial/", self.admin_site.admin_view(self.show_trial), name="patterns_combination_trial")
        return [page, *super().get_urls()]

    @admin.display(description="trial")
    def trial(self, combination: Combination) -> str:
        """Return a link to the trial of a saved combination."""
        if not combination.pk or combination._state.adding:
            return "after saving"
        return format_html(
            '<a href="{}">how often it would have fired</a>', reverse("admin:patterns_combination_trial", args=[combination.pk])
        )

    def show_trial(self, request: HttpRequest, key: str) -> TemplateResponse:
        """Show on how many bars of the last days the combination would have fired, and on which; nothing is stored."""
        combination = get_object_or_404(Combination, pk=key)
        if not self.has_view_permission(request, combination):
            raise PermissionDenied
        form = TrialForm(request.GET or {"days": TRIAL_DAYS})
        context = self.admin_site.each_context(request) | {
            "title": f"Trial: {combination.name}",
            "combination": combination,
            "form": form,
            "opts": self.opts,
        }
        if form.is_valid():
            days = form.cleaned_data["days"]
            try:
                context |= _told(try_out(combination, since=timezone.now() - timedelta(days=days)), days)
            except RuleError as error:
                context["faults"] = error.faults
        return TemplateResponse(request, "admin/patterns/combination/trial.html", context)


def _told(trial: Trial, days: int) -> dict[str, Any]:
    """Return what the page says of a trial: the firings newest first, and how many on which symbol."""
    newest = sorted(trial.firings, key=lambda one: (one.opened_at_ms, one.symbol), reverse=True)
    shown = [
        {"symbol": one.symbol, "at": moment_of(one.opened_at_ms), "confidence": one.confidence, "conditions": one.detail["conditions"]}
        for one in newest
    ]
    by_symbol = Counter(one.symbol for one in trial.firings).most_common(SYMBOLS_SHOWN)
    return {"trial": trial, "a_day": len(trial.firings) / days, "firings": shown[:FIRINGS_SHOWN], "by_symbol": by_symbol}


@admin.register(MarketSurvey)
class MarketSurveyAdmin(Looking):
    """Surveys of the market, the newest first."""

    list_display = ["universe", "as_of", "kind", "seen", "score", "made_at"]
    list_filter = ["kind", "universe"]
    date_hierarchy = "as_of"
    ordering = ["-as_of", "universe"]
    fields = ["universe", "as_of", "kind", "made_at", "coverage", "breadth", "stage_counts", "regime"]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the rows without their heavy blocks."""
        return super().get_queryset(request).only("universe", "as_of", "kind", "made_at", "coverage", "breadth", "stage_counts", "regime")

    @admin.display(description="symbols")
    def seen(self, survey: MarketSurvey) -> str:
        """Return how many members had a price."""
        return f"{survey.coverage['symbols']} of {survey.coverage['of']}"

    @admin.display(description="regime")
    def score(self, survey: MarketSurvey) -> str:
        """Return the score."""
        return "–" if survey.regime["score"] is None else f"{survey.regime['score']} {survey.regime['label']}"
