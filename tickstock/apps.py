"""Django's entry to the assembly: its commands, the rights after a migration, and what it listens to."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class TickstockConfig(AppConfig):
    """The assembly."""

    name = "tickstock"

    def ready(self) -> None:
        """Connect."""
        from tickstock import audit  # noqa: F401 - its receivers connect themselves

        post_migrate.connect(_grant, dispatch_uid="grant roles")


def _grant(app_config: AppConfig, using: str, **given: Any) -> None:
    """New tables need their rights before a process of another role looks at them. Once a migration: after the last app; a flush changes no table."""
    from tickstock.roles import make_roles

    if settings.DATABASE_ROLES and using == "default" and app_config.label == "marketdata" and "plan" in given:
        make_roles(settings.DATABASE_ROLE_PASSWORDS)
