"""The pages, one file a group. Each is complete as the server renders it; scripts only keep it fresh."""

from dashboards.views.live import detections, find, streaming, symbol
from dashboards.views.overview import overview

__all__ = ["detections", "find", "overview", "streaming", "symbol"]
