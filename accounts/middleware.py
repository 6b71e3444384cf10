"""What stands between a session and a page: a session that nobody uses ends, and administrators need a second factor where it is demanded."""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse

from accounts.authentication import lacks_second_factor
from accounts.models import User

OPEN = ("/accounts/", "/static/", "/health", "/ready", "/.well-known/")
CLOSED = ("/accounts/people/", "/accounts/tokens/")  # of those
WORDS = "Administrators need a second factor here. Turn it on at /accounts/second-factor/on/."

RENEWED_EVERY = 300  # seconds: a page that asks each moment must not write the session each time


def renew(session: SessionBase, *, now: float) -> None:
    """Let the session live for another idle time, but never longer than its whole age."""
    session["began_at"] = began_at = session.get("began_at", now)
    session["seen_at"] = now
    session.set_expiry(max(1, int(min(settings.SESSION_IDLE_SECONDS, began_at + settings.SESSION_COOKIE_AGE - now))))


class IdleSessionMiddleware:
    """Stands behind the session: each request of somebody signed in renews it. One that expired is no session any more, for sockets too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Renew it where that is due."""
        if settings.SESSION_COOKIE_NAME in request.COOKIES and SESSION_KEY in request.session:
            now = time.time()
            if now - request.session.get("seen_at", 0.0) >= RENEWED_EVERY:
                renew(request.session, now=now)
        return self._get_response(request)


class SecondFactorMiddleware:
    """Stands behind the session's authentication; a token's owner is asked when the token is made."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Let through whoever may pass."""
        user = request.user
        if (
            not isinstance(user, User)
            or (request.path.startswith(OPEN) and not request.path.startswith(CLOSED))
            or not user.is_authenticated
            or not lacks_second_factor(user)
        ):
            return self._get_response(request)
        if request.path.startswith("/api/"):
            body = {"type": "about:blank", "title": "Forbidden", "status": 403, "detail": WORDS}
            return JsonResponse(body, status=403, content_type="application/problem+json")
        return HttpResponseRedirect(reverse("mfa_activate_totp"))
