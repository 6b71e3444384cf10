"""
The least that can send a message to many sockets: asyncio's transports, one write each. The peer of `fanout`.

A program of its own. Each line on its input is the data of one message; the bytes on the wire are those of the product.
"""

import asyncio
import sys
from typing import cast

from dashboards.wire import frame, message

_SHAKE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Line(asyncio.Protocol):
    """One socket: a handshake, a snapshot of nothing, and what is published."""

    def __init__(self, lines: "set[Line]") -> None:
        self._lines = lines
        self._shaken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Forget it."""
        self._lines.discard(self)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - whatever it asks, there is one thing to be had
        """Answer the handshake, then the wish."""
        if not self._shaken:
            self._shaken = True
            self.transport.write(_SHAKE)
        elif self not in self._lines:
            self.transport.write(frame(message("bars", seq=0, prev=None, kind="snapshot", at="", data='{"bars":[]}').encode()))
            self._lines.add(self)


async def main(port: int) -> None:
    """Listen, and send every line of the input (`AT DATA`) to everybody."""
    loop, lines, seq = asyncio.get_running_loop(), set[Line](), 0
    server = await loop.create_server(lambda: Line(lines), "127.0.0.1", port, backlog=1024)
    while text := await loop.run_in_executor(None, sys.stdin.readline):
        at, _, data = text.rstrip("\n").partition(" ")
        whole = frame(message("bars", seq=seq + 1, prev=seq, kind="update", at=at, data=data).encode())
        seq += 1
        for line in lines:
            line.transport.write(whole)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
