"""Users, their tokens and the clients they come with."""

import base64
import hmac
import secrets
import struct
import time
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, Scope, User

PASSWORD = "a long enough passphrase"
EVERY_SCOPE = [scope.value for scope in Scope]


def make_user(username: str = "ada", **fields) -> User:
    return User.objects.create_user(username, password=PASSWORD, **fields)


def make_token(user: User, *, scopes=EVERY_SCOPE, days: float = 1) -> tuple[ApiToken, str]:
    return ApiToken.objects.issue(user, scopes=scopes, expires_at=timezone.now() + timedelta(days=days))


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def token_client(user: User, *, scopes=EVERY_SCOPE, days: float = 1) -> Client:
    return Client(headers=bearer(make_token(user, scopes=scopes, days=days)[1]))


def session_client(user: User, **options) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def stranger(**options) -> Client:
    """A client from an address of its own, so that tries counted for other tests do not count for it."""
    return Client(**{"REMOTE_ADDR": f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1", **options})


def code_of(secret: str) -> str:
    """Return what an authenticator shows now: RFC 6238, written down once more."""
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    place = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[place : place + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"
