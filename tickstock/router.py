"""Where a question to the database goes: with DATABASE_READONLY_URL the web's questions about the market go there, all else to the owner's."""

from typing import Any

from django.conf import settings
from django.db.models import Model

from tickstock.roles import READ, granted

READ_ONLY = "readonly"


class ReadonlyRouter:
    """
    Send the web process's reads of the market to the alias `readonly`.

    Never those of stream and workers, which read in the transaction in which they write, and never tables that the web itself writes.
    """

    def db_for_read(self, model: type[Model], **_: Any) -> str | None:
        """Return the alias, None where the default is right."""
        if settings.DATABASE_ROLE != "app_web" or not settings.DATABASE_READONLY_URL:
            return None
        table, label = model._meta.db_table, model._meta.app_label
        is_read_only = granted("app_web", table, label) == READ and granted("app_readonly", table, label) == READ
        return READ_ONLY if is_read_only else None

    def allow_relation(self, first: Model, second: Model, **_: Any) -> bool:  # noqa: ARG002 - Django's signature
        """Return True: both aliases are the same database."""
        return True

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:  # noqa: ARG002 - Django's signature
        """Return whether this alias is the owner's."""
        return db != READ_ONLY
