"""What was found, to look at in the admin. Nothing here is edited by hand."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from patterns.detectors import DETECTORS
from patterns.models import Detection, IndicatorValue, MarketSurvey, ScanFailure, SweepMark


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
        return sorted(((kind, detector.name) for kind, detector in DETECTORS.items()), key=lambda choice: choice[1])

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
        detector = DETECTORS.get(detection.pattern_type)
        return detector.name if detector else detection.pattern_type


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
