"""Who did what: sign-ins, tokens, changes in the admin and jobs become rows of the audit log. Listens only; no app knows of it."""

import logging
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DatabaseError
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from accounts import limits
from accounts.models import ApiToken, User
from marketdata.models import AuditEntry, Job

log = logging.getLogger(__name__)
ADMIN_ACTIONS = {ADDITION: "added", CHANGE: "changed", DELETION: "deleted"}


def _note(
    action: str, *, user: User | None = None, name: str = "", request: HttpRequest | None = None, target: str = "", **detail: Any
) -> None:
    address = str(request.META.get("REMOTE_ADDR") or "") if request is not None else ""
    AuditEntry.objects.create(
        actor=(user.get_username() if user is not None else name)[:150],
        actor_id=user.pk if user is not None else None,
        address=address[:45],
        action=action,
        target=target[:200],
        detail=detail,
    )


@receiver(user_logged_in, dispatch_uid="audit sign-in")
def note_sign_in(user: User, request: HttpRequest | None, **_: Any) -> None:
    """Somebody came in."""
    _note("sign-in", user=user, request=request)


@receiver(user_logged_out, dispatch_uid="audit sign-out")
def note_sign_out(user: User | None, request: HttpRequest | None, **_: Any) -> None:
    """Somebody left."""
    if user is not None:
        _note("sign-out", user=user, request=request)


@receiver(user_login_failed, dispatch_uid="audit refusal")
def note_refusal(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """Somebody was refused; the name is what was typed, never the password."""
    _note("sign-in refused", name=str(credentials.get("username") or "").replace("\0", ""), request=request)


@receiver(post_save, sender=ApiToken, dispatch_uid="audit token")
def note_token(instance: ApiToken, created: bool, **_: Any) -> None:
    """A token was made or revoked."""
    if created:
        _note("token made", user=instance.user, target=instance.prefix, scopes=list(instance.scopes))
    elif instance.revoked_at is not None:
        _note("token revoked", user=instance.user, target=instance.prefix)


@receiver(post_save, sender=LogEntry, dispatch_uid="audit admin")
def note_admin_change(instance: LogEntry, created: bool, **_: Any) -> None:
    """A row was added, changed or deleted in the admin."""
    if created:
        table = instance.content_type.model if instance.content_type else ""
        words = f"admin {ADMIN_ACTIONS.get(instance.action_flag, 'did')}"
        _note(
            words, user=instance.user, target=f"{table} {instance.object_id}: {instance.object_repr}", change=instance.get_change_message()
        )


@receiver(post_save, sender=Job, dispatch_uid="audit job")
def note_job(instance: Job, created: bool, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    """A job was asked for, or asked to end."""
    if created:
        _note("job asked", name=instance.asked_by, target=f"{instance.kind} {instance.pk}", options=instance.options)
    elif update_fields and "cancel_asked_by" in update_fields:
        _note("job cancelled", name=instance.cancel_asked_by, target=f"{instance.kind} {instance.pk}")


def note_denial(user: User, request: HttpRequest, what: str) -> None:
    """Somebody wanted to change what is not theirs to change; one row a minute for the same, so that a program that insists fills no table."""
    try:
        if limits.take_request(f"denied {user.pk} {what}", limit=1, seconds=60) == 0:
            _note("denied", user=user, request=request, target=what)
    except DatabaseError as error:
        log.warning("The denial of %s to user %s could not be noted: %s", what, user.pk, error)
