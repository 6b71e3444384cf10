"""Django's entry to this app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """who the user is."""

    name = "accounts"

    def ready(self) -> None:
        """Plug the receivers in."""
        from accounts import receivers  # noqa: F401 - connecting is its effect
