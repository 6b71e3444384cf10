"""Who is asking: a token in the Authorization header, a session cookie, a name with a password. DRF's defaults, named in settings only."""

import logging
from datetime import timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth import authenticate
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts import limits
from accounts.models import TOKEN_FORM, ApiToken, User

log = logging.getLogger(__name__)
REFUSED = "The token is not valid: it is unknown, expired or revoked. Make a new one with POST /api/tokens/."
NOTE_USE_EVERY = timedelta(minutes=1)


def user_for_token(text: str) -> tuple[User, ApiToken]:
    """Return whose token this is, and its row. AuthenticationFailed, always with the same words, whatever is wrong."""
    form = TOKEN_FORM.fullmatch(text)
    token = ApiToken.objects.of_prefix(form[1]) if form else None
    now = timezone.now()
    if token is None or not token.opens(text, at=now) or not token.user.is_active:
        raise AuthenticationFailed(REFUSED)
    if token.last_used_at is None or token.last_used_at < now - NOTE_USE_EVERY:
        ApiToken.objects.filter(pk=token.pk).not_used_since(now - NOTE_USE_EVERY).update(last_used_at=now)
    return token.user, token


def user_for_password(request: HttpRequest | Request, name: str, password: str) -> User | None:
    """
    Return the user, or None whatever is wrong with name or password, after the same work.

    TooManyTriesError and CountUnavailableError of `limits`, before the password is looked at.
    """
    address = request.META.get("REMOTE_ADDR", "")
    _take_try(name, address)
    # Django hashes the password also where nobody has that name, and refuses the disabled after it
    user = authenticate(request, username=name, password=password)
    if isinstance(user, User):
        limits.forgive_tries(name, address)
        return user
    return None


def has_second_factor(user: User) -> bool:
    """Return whether signing in asks this user for a code."""
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())


def must_have_second_factor(user: User) -> bool:
    """Return whether this user may do nothing without a second factor."""
    return bool(settings.SECOND_FACTOR_FOR_ADMINS) and user.has_perm("accounts.administer")


def lacks_second_factor(user: User) -> bool:
    """Return whether a second factor is demanded of this user who has none."""
    return must_have_second_factor(user) and not has_second_factor(user)


def second_factor_fits(request: HttpRequest | Request, user: User, code: str) -> bool:
    """
    Return whether `code` is the authenticator's of this moment or an unused recovery code; either is used up by it.

    TooManyTriesError and CountUnavailableError of `limits`, before the code is looked at.
    """
    name, address = f"second factor of {user.pk}", request.META.get("REMOTE_ADDR", "")
    _take_try(name, address)
    fits = any(factor.wrap().validate_code(code) for factor in Authenticator.objects.filter(user=user)) and limits.use_code(user.pk, code)
    if fits:
        limits.forgive_tries(name, address)
    else:
        log.warning("second factor of user %s refused from %s", user.pk, address)
    return fits


def _take_try(name: str, address: str) -> None:
    try:
        limits.take_try(name, address)
    except limits.TooManyTriesError:
        log.warning("sign-in of %.60r from %s waits: too many tries", name, address)
        raise


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer ts_…`; any other scheme is not ours."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return user and token, None without a Bearer header. AuthenticationFailed."""
        scheme, _, text = authentication.get_authorization_header(request).decode("latin-1").partition(" ")
        return user_for_token(text.strip()) if scheme.lower() == "bearer" else None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return what WWW-Authenticate says on a 401."""
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session; DRF asks every unsafe request that has one for its CSRF token."""


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped upstream
    """How the OpenAPI description names the token."""

    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002 - drf-spectacular's signature
        """Return the security scheme object."""
        return {"type": "http", "scheme": "bearer", "description": "A token of POST /api/tokens/."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped upstream
    """How the OpenAPI description names the browser's session."""

    target_class = SessionAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002 - drf-spectacular's signature
        """Return the security scheme object."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The session of the signed-in browser.",
        }
