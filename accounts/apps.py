"""Django's entry to this app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """who the user is."""

    name = "accounts"

    def ready(self) -> None:
        """Plug the receivers in."""
        from accounts import checks, receivers  # noqa: F401 - connecting and registering is their effect
