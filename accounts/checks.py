"""What `manage.py check --database default` says about people."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import DatabaseError

from accounts.models import User, admins


@register(Tags.database)
def staff_are_admins(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Name each user who may enter the admin site without the role, or has it and may not: somebody set the flags by hand."""
    if "default" not in (databases or []):
        return []
    try:
        staff = set(User.objects.filter(is_active=True, is_staff=True).values_list("username", flat=True))
        names = sorted(staff ^ set(admins().values_list("username", flat=True)))
    except DatabaseError:
        return []  # before the first migration there is nobody
    if not names:
        return []
    words = f"Role and access to the admin site differ for {', '.join(names)}."
    return [Warning(words, hint="Give them a role at /accounts/people/; the rest follows.", id="accounts.W001")]
