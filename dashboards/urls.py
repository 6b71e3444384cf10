"""Where each page stands."""

from django.urls import path

from dashboards import api, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("streaming/", views.streaming, name="streaming"),
    path("rankings/", views.rankings, name="rankings"),
    path("sectors/", views.sectors, name="sectors"),
    path("rotation/", views.rotation, name="rotation"),
    path("stages/", views.stages, name="stages"),
    path("breadth/", views.breadth, name="breadth"),
    path("averages/", views.averages, name="averages"),
    path("patterns/", views.detections, name="detections"),
    path("operations/", views.operations, name="operations"),
    path("live/messages", views.messages, name="messages"),
    path("symbols/", views.find, name="find"),
    path("symbols/<path:symbol>/", views.symbol, name="symbol"),
    path("watchlists/", views.watchlists, name="watchlists"),
    path("watchlists/new/", views.make_watchlist, name="make_watchlist"),
    path("watchlists/<int:pk>/", views.watchlist, name="watchlist"),
    path("watchlists/<int:pk>/change/", views.change_watchlist, name="change_watchlist"),
    path("screens/", views.screens, name="screens"),
    path("screens/new/", views.make_screen, name="make_screen"),
    path("screens/<int:pk>/delete/", views.change_screen, name="change_screen"),
    path("api/watchlists/", api.Watchlists.as_view(), name="api_watchlists"),
    path("api/watchlists/<int:pk>/", api.OneWatchlist.as_view(), name="api_watchlist"),
    path("api/screens/", api.Screens.as_view(), name="api_screens"),
]
