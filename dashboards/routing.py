"""Where the sockets stand."""

from typing import Any

from django.urls import path, re_path

from dashboards.consumers import Receive, Scope, Send, live


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """Refuse a socket on an address that is none: HTTP 403, not a traceback in the log."""
    await receive()
    await send({"type": "websocket.close"})


_live: Any = live  # Django's types know views only; channels routes ASGI applications with the same functions
_nothing_here: Any = nothing_here

websocket_urlpatterns = [path("ws/live", _live), re_path("", _nothing_here)]
