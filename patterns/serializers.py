"""What the REST of detections and indicators takes and gives: checked parameters in, JSON out."""

from collections.abc import Sequence
from typing import Any

from rest_framework import serializers

from marketdata.bars.interval import INTERVALS as LENGTHS
from marketdata.serializers import ExactNumber, MomentField, Parameters, SymbolField
from patterns.curves import DRAWN
from patterns.detectors import DETECTORS, SHAPES
from patterns.indicators.catalogue import INTERVALS, NAMES, ON_DEMAND, names_of
from patterns.models import Combination, Detection, Direction, IndicatorValue, Status

TIMEFRAMES = list(INTERVALS)
KNOWN_NAMES = {timeframe: (*NAMES[timeframe], *names_of(ON_DEMAND.get(timeframe, ()))) for timeframe in INTERVALS}
ALL_NAMES = tuple(dict.fromkeys(name for names in KNOWN_NAMES.values() for name in names))


class PatternsQuery(Parameters):
    """GET /api/patterns/."""

    symbol = SymbolField(required=False, help_text="the ticker, case kept")
    pattern = serializers.CharField(
        max_length=40, required=False,
        help_text="`pattern_type`: of a candlestick TA-Lib's name in lower case without cdl, of a chart pattern or a combination its key",
    )  # fmt: skip
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

    def validate_pattern(self, value: str) -> str:
        """Return the name. ValidationError where nothing is called so."""
        if value not in DETECTORS and value not in SHAPES and not Combination.objects.filter(pk=value).exists():
            raise serializers.ValidationError(f"There is no pattern or combination {value!r}.")
        return value


class IndicatorsQuery(Parameters):
    """GET /api/indicators/{symbol}/."""

    timeframe = serializers.ChoiceField(choices=TIMEFRAMES, default="1m", help_text="interval of the bars")
    name = serializers.CharField(max_length=400, required=False, help_text=f"one or several joined by commas: {', '.join(ALL_NAMES)}")
    to = MomentField(required=False, help_text="bars that start before it")
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100, help_text="values; the newest ones where more fit")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add `from`, which Python keeps for itself."""
        return {"from": MomentField(required=False, help_text="bars that start at it or later"), **super().get_fields()}

    def validate_name(self, value: str) -> list[str]:
        """Return the names. ValidationError tells the known ones."""
        names = [name.strip() for name in value.split(",") if name.strip()]
        _ensure_known(names, ALL_NAMES, "No indicator is called")
        return names

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return what was asked. ValidationError where an indicator does not exist on the interval."""
        try:
            _ensure_known(attrs.get("name", ALL_NAMES), KNOWN_NAMES[attrs["timeframe"]], f"On {attrs['timeframe']} there is no")
        except serializers.ValidationError as error:
            if "name" in attrs:
                raise serializers.ValidationError({"name": error.detail}) from None
        checked: dict[str, Any] = super().validate(attrs)
        return checked


class LinesQuery(Parameters):
    """GET /api/indicators/{symbol}/lines/."""

    interval = serializers.ChoiceField(choices=list(LENGTHS), default="1m", help_text="length of a bar")
    name = serializers.CharField(max_length=400, help_text=f"one or several joined by commas: {', '.join(DRAWN)}")
    to = MomentField(required=False, help_text="bars that start before it")
    as_of = MomentField(required=False, help_text="from the bars as they stood at this moment")
    adjusted = serializers.BooleanField(default=False, help_text="from bars as after the splits that followed")
    limit = serializers.IntegerField(min_value=1, max_value=5000, default=500, help_text="bars; the newest ones where more fit")

    def validate_name(self, value: str) -> list[str]:
        """Return the names. ValidationError tells the known ones."""
        names = [name.strip() for name in value.split(",") if name.strip()]
        _ensure_known(names, DRAWN, "No line is called")
        return names


class LinesAnswer(serializers.Serializer[Any]):
    """Indicator lines over the newest bars, oldest first: `values[name]` beside `t`, null where too few bars are stored."""

    symbol = serializers.CharField()
    interval = serializers.CharField()
    t = serializers.ListField(child=serializers.DateTimeField(), help_text="starts of the bars")
    values = serializers.DictField(child=serializers.ListField(child=serializers.FloatField(allow_null=True)))


def _ensure_known(names: Sequence[str], known: Sequence[str], sentence: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise serializers.ValidationError(f"{sentence} {', '.join(unknown) or 'nothing'}. There are: {', '.join(known)}.")


class DetectionRow(serializers.ModelSerializer[Detection]):
    """A detection: one pattern on one bar."""

    symbol = serializers.CharField(source="symbol_id")
    name = serializers.SerializerMethodField(help_text="what people call the pattern")
    timestamp = serializers.DateTimeField(help_text="start of the bar spoken of")
    detection_timestamp = serializers.DateTimeField(help_text="when it was found")
    detail = serializers.DictField(
        help_text="`conditions` (name, measured, relation, threshold, passed), `geometry` (points, lines, level; null of candlesticks), and "
        "of candlesticks the trend before, the measures behind the confidence, TA-Lib's grade, bars looked at"
    )

    class Meta:
        model = Detection
        fields = [
            "id", "symbol", "pattern_type", "name", "timeframe", "timestamp", "detection_timestamp", "confidence", "direction", "status",
            "status_at", "bar_revision", "detail",
        ]  # fmt: skip

    def get_name(self, detection: Detection) -> str:
        """Return the pattern's human name."""
        return str(self.context["names"][detection.pattern_type])


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
