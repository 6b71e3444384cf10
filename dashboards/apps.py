"""Django's entry to this app."""

from django.apps import AppConfig


class DashboardsConfig(AppConfig):
    """what people see."""

    name = "dashboards"

    def ready(self) -> None:
        """Plug the receivers in."""
        from dashboards import receivers  # noqa: F401 - connecting is its effect
