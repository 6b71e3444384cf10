"""Django's entry to the assembly: it stands in INSTALLED_APPS for its commands only."""

from django.apps import AppConfig


class TickstockConfig(AppConfig):
    """The assembly."""

    name = "tickstock"
