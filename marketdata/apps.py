"""Django's entry to this app."""

from django.apps import AppConfig


class MarketdataConfig(AppConfig):
    """provider frame to stored bar."""

    name = "marketdata"
