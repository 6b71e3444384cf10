"""REST paths of this app, mounted under /api/."""

from django.urls import path

from patterns import api, market_api

urlpatterns = [
    path("patterns/", api.Patterns.as_view(), name="api-patterns"),
    path("indicators/<path:symbol>/lines/", api.Lines.as_view(), name="api-indicator-lines"),
    path("indicators/<path:symbol>/", api.Indicators.as_view(), name="api-indicators"),
    path("market/rankings/", market_api.Rankings.as_view(), name="api-market-rankings"),
    path("market/sectors/", market_api.Sectors.as_view(), name="api-market-sectors"),
    path("market/rotation/", market_api.Rotation.as_view(), name="api-market-rotation"),
    path("market/stages/", market_api.Stages.as_view(), name="api-market-stages"),
    path("market/breadth/", market_api.Breadth.as_view(), name="api-market-breadth"),
    path("market/regime/", market_api.Regime.as_view(), name="api-market-regime"),
    path("market/averages/", market_api.MovingAverages.as_view(), name="api-market-averages"),
]
