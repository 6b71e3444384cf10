"""Administrators without a second factor reach only the page that turns it on, wherever it is demanded."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse

from accounts.authentication import lacks_second_factor
from accounts.models import User

OPEN = ("/accounts/", "/static/", "/health", "/ready", "/.well-known/")
CLOSED = ("/accounts/people/", "/accounts/tokens/")  # of those
WORDS = "Administrators need a second factor here. Turn it on at /accounts/second-factor/on/."


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
