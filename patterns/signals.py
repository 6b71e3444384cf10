"""
Outlets of this app, sent after commit.

`patterns_detected` and `patterns_retracted` carry `detections: list[dict]` (id, symbol, pattern_type, name, timeframe, timestamp,
detection_timestamp, confidence, direction, status, news; times as aware datetimes). `news` is what happened: `found` (a new row),
`returned` (it was retracted), `confirmed` (it stands on its bar's new revision, or its confidence changed), `retracted`.
`bars_scanned` carries `report: dict` (timeframe, bars, detections, indicators, seconds, newest: datetime).
`market_surveyed` carries `surveys: list[dict]` (universe, as_of: datetime, kind, coverage): which rows of `market_surveys` are new or changed.
"""

from django.dispatch import Signal

patterns_detected = Signal()
patterns_retracted = Signal()
bars_scanned = Signal()
market_surveyed = Signal()
