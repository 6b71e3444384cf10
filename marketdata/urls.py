"""Addresses under /api/."""

from django.urls import path

from marketdata import api

urlpatterns = [
    path("ticks/recent", api.RecentTicks.as_view(), name="api-ticks-recent"),
    path("bars/<path:symbol>/", api.Bars.as_view(), name="api-bars"),
    path("symbols/", api.Symbols.as_view(), name="api-symbols"),
    path("symbols/<path:symbol>/", api.OneSymbol.as_view(), name="api-symbol"),
    path("universes/", api.Universes.as_view(), name="api-universes"),
    path("universes/<slug:key>/", api.OneUniverse.as_view(), name="api-universe"),
    path("gaps/", api.Gaps.as_view(), name="api-gaps"),
    path("revisions/", api.Revisions.as_view(), name="api-revisions"),
    path("coverage/", api.CoverageOfDay.as_view(), name="api-coverage"),
    path("jobs/", api.Jobs.as_view(), name="api-jobs"),
    path("jobs/<int:number>/", api.OneJob.as_view(), name="api-job"),
]
