"""Django's entry to this app."""

from django.apps import AppConfig


class DashboardsConfig(AppConfig):
    """what people see."""

    name = "dashboards"
