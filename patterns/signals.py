"""
Outlets of this app, sent after commit.

`patterns_detected` and `patterns_retracted` carry `detections: list[dict]` (id, symbol, pattern_type, name, timeframe, timestamp,
detection_timestamp, confidence, direction, status; times as aware datetimes). `bars_scanned` carries `report: dict` (bars, detections, indicators,
seconds, timeframe, newest: datetime).
"""

from django.dispatch import Signal

patterns_detected = Signal()
patterns_retracted = Signal()
bars_scanned = Signal()
