"""
Count what HTTP answers, and how long it took, by route: never by address, which anybody can make up. Note who was refused what.

An app that answers from a cache says so in `Cache-Status` (RFC 9211), and that is counted here: apps know nothing of the counters.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.decorators import sync_and_async_middleware

from accounts.models import ApiToken, User
from tickstock import audit, tracing
from tickstock.counters import counters

log = logging.getLogger(__name__)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


@sync_and_async_middleware
def count_requests(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Wrap the whole chain, static files included."""
    if iscoroutinefunction(get_response):

        async def counted(request: HttpRequest) -> HttpResponseBase:
            began, span = time.monotonic(), tracing.begin("request")
            answer: Awaitable[HttpResponseBase] = get_response(request)
            response = await answer
            _count(request, response, time.monotonic() - began, span)
            return response

        return counted

    def counted_sync(request: HttpRequest) -> HttpResponseBase:
        began, span = time.monotonic(), tracing.begin("request")
        response: HttpResponseBase = get_response(request)
        _count(request, response, time.monotonic() - began, span)
        return response

    return counted_sync


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float, span: Any) -> None:
    match = request.resolver_match
    route = f"/{match.route}" if match is not None else "none"
    method = request.method if request.method in METHODS else "other"
    counters.add("tickstock_http_requests_total", route=route, method=str(method), status=str(response.status_code))
    counters.observe("tickstock_http_seconds", seconds, route=route)
    if status := response.headers.get("Cache-Status"):
        cache, _, rest = status.partition("; ")
        counters.add("tickstock_cache_answers_total", cache=cache, result="hit" if rest == "hit" else "miss")
    code = response.status_code
    tracing.end(span, name=f"{method} {route}", failed=code >= 500, http_route=route, http_response_status_code=code)


def note_denials(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Write a line of the security log for each 403, and a row of the audit log where somebody known wanted to change something."""

    def noted(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if response.status_code == HTTPStatus.FORBIDDEN:
            _note_denial(request)
        return response

    return noted


def _note_denial(request: HttpRequest) -> None:
    """The route says what: an address may hold a secret, such as an invitation's."""
    user, token = getattr(request, "user", AnonymousUser()), getattr(request, "auth", None)
    route = _route_of(request)
    method = request.method if request.method in METHODS else "other"
    who = f"user {user.pk}" if isinstance(user, User) else "nobody known"
    way = f" with token {token.prefix}" if isinstance(token, ApiToken) else ""
    log.warning("%s%s may not %s %s, from %s", who, way, method, route, request.META.get("REMOTE_ADDR") or "unknown")
    if isinstance(user, User) and method not in {"GET", "HEAD", "OPTIONS"}:
        audit.note_denial(user, request, f"{method} {route}{way}")


def _route_of(request: HttpRequest) -> str:
    """Return the route, also where a middleware answered before Django looked for it."""
    try:
        match = request.resolver_match or resolve(request.path_info)
    except Resolver404:
        return "no route"
    return f"/{match.route}"
