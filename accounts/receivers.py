"""
What follows when somebody comes, goes or changes: open sockets close, roles stay whole, and the security log has a line.

Sockets of a user stand in the channel-layer group `user-<id>`; the word to them is `session.ended`. They ask again for themselves
every minute, so a message lost with Redis delays their end, no more.
"""

import asyncio
import logging
import time
from typing import Any

import redis
from allauth.mfa.signals import authenticator_added, authenticator_removed, authenticator_reset, authenticator_used
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.apps import AppConfig, apps
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.db.models.signals import m2m_changed, post_migrate, post_save
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.middleware import renew
from accounts.models import ROLE_PERMISSIONS, ApiToken, Role, User

log = logging.getLogger(__name__)
SECONDS_FOR_REDIS = 2.0


def end_sockets(user_id: int) -> None:
    """Tell the open sockets of a user that their session is over."""
    try:
        async_to_sync(_send_end)(user_id)
    except (redis.RedisError, OSError, TimeoutError) as error:
        log.warning("sockets of user %s close late, Redis does not answer: %s", user_id, error)


async def _send_end(user_id: int) -> None:
    layer = get_channel_layer()
    async with asyncio.timeout(SECONDS_FOR_REDIS):
        await layer.group_send(f"user-{user_id}", {"type": "session.ended"})


@receiver(user_logged_out)
def close_after_sign_out(user: User | None, **_: Any) -> None:
    """End the sockets of the session, and with them the user's others: those come back by themselves."""
    if user is not None:
        log.info("user %s signed out", user.pk)
        end_sockets(user.pk)


@receiver(post_save, sender=User)
def close_after_disabling(instance: User, created: bool, **_: Any) -> None:
    """End the sockets of a user who may no longer sign in, or has another password."""
    if instance.has_new_password and not created:
        log.info("user %s has a new password", instance.pk)
    if not created and (instance.has_new_password or not instance.is_active):
        instance.has_new_password = False
        transaction.on_commit(lambda: end_sockets(instance.pk))


@receiver(post_save, sender=ApiToken)
def close_after_revoking(instance: ApiToken, created: bool, **_: Any) -> None:
    """End the sockets that a revoked token opened."""
    if created:
        log.info("user %s made token %s for %s", instance.user_id, instance.prefix, instance.scopes)
    elif instance.revoked_at is not None:
        log.info("token %s of user %s is revoked", instance.prefix, instance.user_id)
        transaction.on_commit(lambda: end_sockets(instance.user_id))


@receiver(user_logged_in)
def note_sign_in(user: User, request: HttpRequest | None, **_: Any) -> None:
    """Start the session's clock, and write a line of the security log."""
    if request is not None and hasattr(request, "session"):
        request.session.pop("began_at", None)  # of whoever used this session before
        renew(request.session, now=time.time())
    log.info("user %s signed in from %s", user.pk, _address(request))


@receiver(user_login_failed)
def note_failure(credentials: dict[str, Any], request: HttpRequest | None, **_: Any) -> None:
    """Write a line of the security log; %r keeps a line break in the name from making a second one."""
    log.warning("sign-in refused for %.60r from %s", credentials.get("username"), _address(request))


def _address(request: HttpRequest | None) -> str:
    return str(request.META.get("REMOTE_ADDR") or "unknown") if request is not None else "a program"


@receiver(post_migrate)
def make_roles(app_config: AppConfig, using: str, **_: Any) -> None:
    """
    Give each role its group and each group its permissions, after every migration: new tables are the admin's too.

    Sent once an app; acts at the last one, when every permission is there.
    """
    if app_config is not [config for config in apps.get_app_configs() if config.models_module is not None][-1]:
        return
    permissions = {
        f"{row.content_type.app_label}.{row.codename}": row for row in Permission.objects.using(using).select_related("content_type")
    }
    if "accounts.administer" not in permissions:
        return  # a partial or a backward migration: the permissions are not there yet
    for role, names in ROLE_PERMISSIONS.items():
        group, _created = Group.objects.using(using).get_or_create(name=role)
        group.permissions.set(permissions.values() if role == Role.ADMIN else [permissions[name] for name in names if name in permissions])


@receiver(m2m_changed, sender=User.groups.through)
def follow_role(instance: User | Group, action: str, pk_set: set[int] | None, reverse: bool, **_: Any) -> None:
    """Open the admin site to whoever becomes an admin, close it to whoever no longer is; the superuser keeps it."""
    if action not in {"post_add", "post_remove", "post_clear"}:
        return
    users = User.objects.filter(pk__in=pk_set or []) if reverse else User.objects.filter(pk=instance.pk)
    for user in users:
        staff = user.role == Role.ADMIN
        if user.is_staff != staff:
            User.objects.filter(pk=user.pk).update(is_staff=staff)
        log.info("user %s has the role %s", user.pk, user.role or "none")
    if isinstance(instance, User):
        instance.is_staff = User.objects.filter(pk=instance.pk, is_staff=True).exists()


@receiver(authenticator_added)
@receiver(authenticator_removed)
@receiver(authenticator_reset)
@receiver(authenticator_used)
def note_second_factor(user: User, authenticator: Any, signal: Any, **_: Any) -> None:
    """Write a line of the security log."""
    log.info("%s of user %s is %s", authenticator.type, user.pk, SECOND_FACTOR_EVENTS[id(signal)])


SECOND_FACTOR_EVENTS = {
    id(authenticator_added): "added",
    id(authenticator_removed): "removed",
    id(authenticator_reset): "made anew",
    id(authenticator_used): "used",
}
