"""HTTP and WebSocket, one process."""

import asyncio
import os
import socket
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tickstock.settings")  # noqa: TID251 - the server's own entry, before settings
http = get_asgi_application()  # loads the apps, so it stands before what imports models

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from dashboards.consumers import MESSAGE_BYTES, Receive, Scope, Send  # noqa: E402
from dashboards.hub import open_sockets  # noqa: E402
from dashboards.routing import websocket_urlpatterns  # noqa: E402
from tickstock.counters import counters  # noqa: E402

KERNEL_BYTES = 128 * 1024  # what the kernel may hold for a client that does not read
LARGEST_MESSAGE = 32 * 1024 * 1024  # a snapshot of the whole market, with room


class Tap:
    """Told by Twisted's transport when its buffer is full and when it is empty again (a push producer)."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Stop: the client does not take what it was sent."""
        self.open.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Go on."""
        self.open.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Go on: the connection is gone, what is written now goes nowhere."""
        self.open.set()


class Paced:
    """
    Give a WebSocket application under daphne what ASGI promises and daphne leaves out.

    `await send()` waits until the client has taken what went before (daphne buffers without bound, so that a frozen browser would eat
    memory and a slow one would see the past), close codes 1008 to 1013 are sent (daphne fails on them), and frames above the limit are
    refused by their header. Another server than daphne does all that by itself and is left alone.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket."""
        protocol: Any = next(iter(getattr(send, "args", ())), None)  # daphne's send is partial(Server.handle_reply, protocol)
        if not hasattr(protocol, "transport"):
            await self._application(scope, receive, send)
            return
        tap = _tapped(protocol)

        async def paced(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.close" and protocol.state == protocol.STATE_OPEN:
                protocol.sendCloseFrame(code=message.get("code", 1000))
                return
            await send(message)
            await tap.open.wait()

        await self._application(scope, receive, paced)


def _tapped(protocol: Any) -> Tap:
    """Put a tap on the connection, and its limits in place."""
    protocol.failByDrop = False  # say why before dropping
    protocol.maxFramePayloadSize = MESSAGE_BYTES
    protocol.maxMessagePayloadSize = LARGEST_MESSAGE  # bounds what goes out as well as what comes in
    tap = Tap()
    protocol.transport.unregisterProducer()  # the HTTP channel's, which no longer speaks here
    protocol.transport.registerProducer(tap, True)
    protocol.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
    return tap


counters.gauge("tickstock_sockets", open_sockets)
application = ProtocolTypeRouter({"http": http, "websocket": Paced(URLRouter(websocket_urlpatterns))})
