"""Count what HTTP answers, and how long it took, by route: never by address, which anybody can make up."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from tickstock import tracing
from tickstock.counters import counters

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
    code = response.status_code
    tracing.end(span, name=f"{method} {route}", failed=code >= 500, http_route=route, http_response_status_code=code)
