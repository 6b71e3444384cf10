"""REST paths of this app, mounted under /api/."""

from django.urls import path

from patterns import api

urlpatterns = [
    path("patterns/", api.Patterns.as_view(), name="api-patterns"),
    path("indicators/<path:symbol>/lines/", api.Lines.as_view(), name="api-indicator-lines"),
    path("indicators/<path:symbol>/", api.Indicators.as_view(), name="api-indicators"),
]
