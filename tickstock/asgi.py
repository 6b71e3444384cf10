"""HTTP and WebSocket, one process."""

import asyncio
import gc
import os
import socket
from typing import Any

import django

from tickstock.handler import Http

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tickstock.settings")  # noqa: TID251 - the server's own entry, before settings
django.setup(set_prefix=False)  # loads the apps, so it stands before what imports models
http = Http()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from dashboards.consumers import LINE, MESSAGE_BYTES, Receive, Scope, Send  # noqa: E402
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


class DirectLine:
    """A connection under daphne on which whole frames are written as they are (a `dashboards.outbox.Line`)."""

    def __init__(self, protocol: Any, tap: Tap) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._tap = tap

    def ready(self) -> bool:
        """Return whether nothing waits in the transport: only then a frame may pass it by."""
        transport, protocol = self._transport, self._protocol
        return bool(
            protocol.state == protocol.STATE_OPEN
            and self._tap.open.is_set()
            and not transport._tempDataBuffer  # what `write` has put aside; Twisted has no public name for it
            and len(transport.dataBuffer) == transport.offset
        )

    def write(self, frame: bytes) -> None:
        """Hand the frame to the kernel at once: `transport.write` would ask the loop to call back for each, at three times the cost."""
        sent = self._transport.writeSomeData(frame)
        rest = frame[sent:] if isinstance(sent, int) else frame  # an error: found again, and dealt with, by the transport's own writing
        if rest:
            self._transport.write(rest)


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

        extensions = {**scope.get("extensions", {}), LINE: DirectLine(protocol, tap)}
        await self._application({**scope, "extensions": extensions}, receive, paced)


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

# What was loaded stays for good: looking through it again would stop every page and socket for some tenths of a second, now and then
gc.collect()
gc.freeze()
