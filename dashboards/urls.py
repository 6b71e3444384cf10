"""Where each page stands."""

from django.urls import path

from dashboards import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("streaming/", views.streaming, name="streaming"),
    path("patterns/", views.detections, name="detections"),
    path("operations/", views.operations, name="operations"),
    path("live/messages", views.messages, name="messages"),
    path("symbols/", views.find, name="find"),
    path("symbols/<path:symbol>/", views.symbol, name="symbol"),
]
