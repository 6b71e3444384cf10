"""The pages, one file a group. Each is complete as the server renders it; scripts only keep it fresh."""

from dashboards.views.breadth import breadth
from dashboards.views.lists import change_screen, change_watchlist, make_screen, make_watchlist, screens, watchlist, watchlists
from dashboards.views.live import detections, find, messages, streaming
from dashboards.views.operations import operations
from dashboards.views.overview import overview
from dashboards.views.rankings import rankings
from dashboards.views.sectors import rotation, sectors
from dashboards.views.stages import averages, stages
from dashboards.views.symbol import symbol

__all__ = [
    "averages", "breadth", "change_screen", "change_watchlist", "detections", "find", "make_screen", "make_watchlist", "messages", "operations", "overview",
    "rankings", "rotation", "screens", "sectors", "stages", "streaming", "symbol", "watchlist", "watchlists",
]  # fmt: skip
