"""The pages, one file a group. Each is complete as the server renders it; scripts only keep it fresh."""

from dashboards.views.live import detections, find, messages, streaming
from dashboards.views.operations import operations
from dashboards.views.overview import overview
from dashboards.views.symbol import symbol

__all__ = ["detections", "find", "messages", "operations", "overview", "streaming", "symbol"]
