"""What the REST of detections and indicators takes and gives: checked parameters in, JSON out."""

from typing import Any

from rest_framework import serializers

from marketdata.bars.interval import INTERVALS
from marketdata.serializers import ExactNumber, MomentField, Parameters, SymbolField
from patterns.detectors import DETECTORS
from patterns.indicators.minute import NAMES
from patterns.models import Detection, Direction, IndicatorValue, Status

TIMEFRAMES = ["1m"]


def known_indicators(text: str) -> list[str]:
    """Return the names in a text that joins them by commas. ValidationError tells the known ones."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise serializers.ValidationError(f"No indicator is called {', '.join(unknown) or 'nothing'}. There are: {', '.join(NAMES)}.")
    return names


class PatternsQuery(Parameters):
    """GET /api/patterns/."""

    symbol = SymbolField(required=False, help_text="the ticker, case kept")
    pattern = serializers.ChoiceField(
        choices=list(DETECTORS), required=False, help_text="`pattern_type`: TA-Lib's name in lower case without cdl"
    )
    timeframe = serializers.ChoiceField(choices=TIMEFRAMES, required=False, help_text="interval of the bar")
    direction = serializers.ChoiceField(choices=Direction.choices, required=False)
    status = serializers.ChoiceField(
        choices=Status.choices, required=False, help_text="retracted: its bar was revised, it no longer stands"
    )
    since = MomentField(required=False, help_text="only what was found after it: ISO 8601, Unix seconds or milliseconds")
    min_confidence = serializers.FloatField(min_value=0, max_value=1, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    cursor = serializers.RegexField(
        r"^\d{1,18}\Z", required=False, help_text="`next` of the answer before", error_messages={"invalid": "Not a cursor."}
    )


class IndicatorsQuery(Parameters):
    """GET /api/indicators/{symbol}/."""

    timeframe = serializers.ChoiceField(choices=TIMEFRAMES, default="1m", help_text="interval of the bars")
    name = serializers.CharField(max_length=400, required=False, help_text=f"one or several joined by commas: {', '.join(NAMES)}")
    to = MomentField(required=False, help_text="bars that start before it")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100, help_text="values; the newest ones where more fit")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add `from`, which Python keeps for itself."""
        return {"from": MomentField(required=False, help_text="bars that start at it or later"), **super().get_fields()}

    def validate_name(self, value: str) -> list[str]:
        """Return the names. ValidationError tells the known ones."""
        return known_indicators(value)


class LinesQuery(Parameters):
    """GET /api/indicators/{symbol}/lines/."""

    interval = serializers.ChoiceField(choices=list(INTERVALS), default="1m", help_text="length of a bar")
    name = serializers.CharField(max_length=400, help_text=f"one or several joined by commas: {', '.join(NAMES)}")
    to = MomentField(required=False, help_text="bars that start before it")
    as_of = MomentField(required=False, help_text="from the bars as they stood at this moment")
    adjusted = serializers.BooleanField(default=False, help_text="from bars as after the splits that followed")
    limit = serializers.IntegerField(min_value=1, max_value=5000, default=500, help_text="bars; the newest ones where more fit")

    def validate_name(self, value: str) -> list[str]:
        """Return the names. ValidationError tells the known ones."""
        return known_indicators(value)


class LinesAnswer(serializers.Serializer[Any]):
    """Indicator lines over the newest bars, oldest first: `values[name]` beside `t`, null where too few bars are stored."""

    symbol = serializers.CharField()
    interval = serializers.CharField()
    t = serializers.ListField(child=serializers.DateTimeField(), help_text="starts of the bars")
    values = serializers.DictField(child=serializers.ListField(child=serializers.FloatField(allow_null=True)))


class DetectionRow(serializers.ModelSerializer[Detection]):
    """A detection: one pattern on one bar."""

    symbol = serializers.CharField(source="symbol_id")
    name = serializers.SerializerMethodField(help_text="what people call the pattern")
    timestamp = serializers.DateTimeField(help_text="start of the bar spoken of")
    detection_timestamp = serializers.DateTimeField(help_text="when it was found")
    detail = serializers.DictField(help_text="trend before the pattern, measures behind the confidence, TA-Lib's grade, bars looked at")

    class Meta:
        model = Detection
        fields = [
            "id", "symbol", "pattern_type", "name", "timeframe", "timestamp", "detection_timestamp", "confidence", "direction", "status",
            "status_at", "bar_revision", "detail",
        ]  # fmt: skip

    def get_name(self, detection: Detection) -> str:
        """Return the pattern's human name; the stored one where this version no longer knows it."""
        detector = DETECTORS.get(detection.pattern_type)
        return detector.name if detector else detection.pattern_type


class PatternsAnswer(serializers.Serializer[Any]):
    """A page of detections, the last found first."""

    next = serializers.CharField(allow_null=True, help_text="send it as `cursor`; null where this is the last page")
    patterns = DetectionRow(many=True)


class ValueRow(serializers.Serializer[IndicatorValue]):
    """One value of one indicator at one bar."""

    timestamp = serializers.DateTimeField(help_text="start of the bar spoken of")
    name = serializers.CharField(source="indicator_name")
    value = ExactNumber()


class IndicatorsAnswer(serializers.Serializer[Any]):
    """The newest values of a symbol, oldest first."""

    symbol = serializers.CharField()
    timeframe = serializers.CharField()
    count = serializers.IntegerField()
    values = ValueRow(many=True)
