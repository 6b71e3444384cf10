"""
Many browsers in one process, for `fanout`: sockets that watch one topic, note how old each message is, and miss none unseen.

A program of its own, so that what it costs is not the server's. It is told what to do by lines of JSON, and answers with lines of JSON.
"""

import asyncio
import json
import re
import socket
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from statistics import quantiles
from typing import Any, cast

_HEAD = re.compile(rb'"seq":(\d+),"prev":(\d+|null),"type":"(\w+)","at":"([^"]*)"(?:,"skipped":(\d+))?')
AT_ONCE = 50
FROZEN_BUFFER = 4096
OPEN_SECONDS = 60


@lru_cache(maxsize=64)
def _seconds(text: bytes) -> float:
    return datetime.fromisoformat(text.decode()).timestamp()


@dataclass
class Tally:
    """What the crowd has heard since it was last asked. `broken`: a message that does not follow the one before, without a mark."""

    received: int = 0
    marked: int = 0
    broken: int = 0
    ages: list[float] = field(default_factory=list)


class Listener(asyncio.Protocol):
    """One browser: asks for a topic and reads, or asks and never reads again."""

    def __init__(self, order: dict[str, Any], token: str, tally: Tally, *, frozen: bool) -> None:
        self.seq = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order, self._token, self._tally, self._frozen = order, token, tally, frozen
        self._waiting = b""
        self._shaken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the socket."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(
            f"GET /ws/live HTTP/1.1\r\nHost: 127.0.0.1:{self._order['port']}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """A listener that is sent away before it hears anything is a fault of the run."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("closed before the first message"))

    def data_received(self, data: bytes) -> None:
        """Take what came: whole frames, and the beginning of the next."""
        self._waiting += data
        if not self._shaken:
            head, found, rest = self._waiting.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:
                raise ConnectionError(head[:80])
            self._shaken, self._waiting = True, rest
            self._transport.write(_masked(json.dumps({"action": "watch", "topics": [self._order["topic"]]}).encode()))
            if self._frozen:
                self._transport.pause_reading()
                self.ready.set_result(None)
        begin = 0
        while (ends := _frame(self._waiting, begin)) is not None:
            payload, begin = ends
            self._take(payload)
        self._waiting = self._waiting[begin:]

    def _take(self, payload: bytes) -> None:
        found = _HEAD.search(payload, 0, 300)
        if found is None:  # a sign of life, a ping
            return
        seq, prev, kind, at, skipped = found.groups()
        if kind != b"snapshot":
            self._tally.received += 1
            self._tally.ages.append(time.time() - _seconds(at))
            self._tally.marked += bool(skipped) or kind == b"gap"
            self._tally.broken += prev != b"%d" % self.seq
        elif not self.ready.done():
            self.ready.set_result(None)
        self.seq = int(seq)


def _frame(data: bytes, begin: int) -> tuple[bytes, int] | None:
    """Return the payload of the frame that begins there and where it ends, None where it is not whole."""
    have = len(data) - begin
    if have < 2:
        return None
    size, head = data[begin + 1] & 0x7F, 2
    if size > 125:
        head = 4 if size == 126 else 10
        if have < head:
            return None
        size = int.from_bytes(data[begin + 2 : begin + head])
    return None if have < head + size else (data[begin + head : begin + head + size], begin + head + size)


def _masked(payload: bytes) -> bytes:
    """Return a client's text frame below 126 bytes; a mask of zeros leaves it as it is."""
    return bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


async def _join(order: dict[str, Any], number: int, tally: Tally) -> Listener:
    frozen = number < order["frozen"]
    line = socket.socket()
    if frozen:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FROZEN_BUFFER)
    line.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(line, ("127.0.0.1", order["port"]))
    token = order["tokens"][number % len(order["tokens"])]
    _, listener = await loop.create_connection(lambda: Listener(order, token, tally, frozen=frozen), sock=line)
    await listener.ready
    return listener


async def main() -> None:
    """Open the sockets of the first line, then answer each further one with what was heard since."""
    loop = asyncio.get_running_loop()
    order = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    tally, listeners = Tally(), list[Listener]()
    async with asyncio.timeout(OPEN_SECONDS):
        for first in range(0, order["sockets"], AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, order["sockets"]))
            listeners += await asyncio.gather(*(_join(order, number, tally) for number in numbers))
    _say({"open": len(listeners)})
    while await loop.run_in_executor(None, sys.stdin.readline):
        places = {listener.seq for number, listener in enumerate(listeners) if number >= order["frozen"]}
        cuts = quantiles(tally.ages, n=100) if len(tally.ages) > 1 else [0.0] * 99
        _say({
            "received": tally.received, "marked": tally.marked, "broken": tally.broken, "places": sorted(places)[:3],
            "p50": cuts[49], "p99": cuts[98], "longest": max(tally.ages, default=0.0),
        })  # fmt: skip
        tally.received = tally.marked = tally.broken = 0
        tally.ages.clear()


def _say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
