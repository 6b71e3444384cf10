"""
What follows when somebody comes or goes: open sockets close, and the security log has a line.

Sockets of a user stand in the channel-layer group `user-<id>`; the word to them is `session.ended`. They ask again for themselves
every minute, so a message lost with Redis delays their end, no more.
"""

import asyncio
import logging
from typing import Any

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.models import ApiToken, User

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
    """End the sockets of a user who may no longer sign in."""
    if not created and not instance.is_active:
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
    """Write a line of the security log."""
    log.info("user %s signed in from %s", user.pk, _address(request))


@receiver(user_login_failed)
def note_failure(credentials: dict[str, Any], request: HttpRequest | None, **_: Any) -> None:
    """Write a line of the security log; %r keeps a line break in the name from making a second one."""
    log.warning("sign-in refused for %.60r from %s", credentials.get("username"), _address(request))


def _address(request: HttpRequest | None) -> str:
    return str(request.META.get("REMOTE_ADDR") or "unknown") if request is not None else "a program"
