"""Django's entry to this app."""

from django.apps import AppConfig


class PatternsConfig(AppConfig):
    """stored bars to what they say."""

    name = "patterns"

    def ready(self) -> None:
        """Plug in."""
        from patterns import receivers  # noqa: F401 - importing connects
