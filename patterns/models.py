"""What bars say: detections, indicator values, and which bars were looked at."""

from django.db import models
from marketdata.models import Numeric, Symbol


class Direction(models.TextChoices):
    """Which way a detection points."""

    BULLISH = "bullish", "bullish"
    BEARISH = "bearish", "bearish"
    NEUTRAL = "neutral", "neutral"


class Status(models.TextChoices):
    """Whether a detection still stands on its bar's present revision."""

    STANDING = "standing", "standing"
    RETRACTED = "retracted", "retracted"


class Detection(models.Model):
    """One pattern on one bar. Judged again when its bar is revised, never deleted by that."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="detections")
    pattern_type = models.CharField(max_length=40, help_text="TA-Lib's name in lower case without cdl")
    timeframe = models.CharField(max_length=4)
    timestamp = models.DateTimeField(help_text="start of the bar spoken of")
    detection_timestamp = models.DateTimeField(help_text="when it was found")
    confidence = models.FloatField(help_text="quality of the shape, 0 to 1")
    direction = models.CharField(max_length=8, choices=Direction.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.STANDING)
    status_at = models.DateTimeField(help_text="when the status became what it is")
    bar_revision = models.IntegerField(help_text="revision of the bar that was judged")
    detail = models.JSONField(default=dict, help_text="measures, trend context, geometry")

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


class IndicatorValue(models.Model):
    """One value of one indicator at one bar."""

    symbol = models.ForeignKey(Symbol, on_delete=models.PROTECT, db_column="symbol", db_index=False, related_name="indicator_values")
    indicator_name = models.CharField(max_length=30)
    timeframe = models.CharField(max_length=4)
    timestamp = models.DateTimeField(help_text="start of the bar spoken of")
    calculation_timestamp = models.DateTimeField()
    value = Numeric()
    bar_revision = models.IntegerField()

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

    class Meta:
        db_table = "scanned_bars"
        constraints = [models.UniqueConstraint(fields=["symbol", "timeframe", "timestamp"], name="scanned_once")]
        indexes = [models.Index(fields=["timestamp"], name="scanned_ts_idx")]

    def __str__(self) -> str:
        return f"{self.symbol_id} {self.timestamp:%Y-%m-%d %H:%M} r{self.bar_revision}"
