"""
A bad network between two programs of a test: a TCP proxy whose faults are switched while it runs.

The faults are those that Toxiproxy names: latency, down, bandwidth, slow_close, timeout (a black hole), reset_peer, slicer, limit_data.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Listens on a port of its own and hands bytes on to `host:port`; attributes are faults, `heal` ends them all."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.connections = 0
        self._upstream = (host, port)
        self._dice = random.Random(seed)
        self._open: set[asyncio.StreamWriter] = set()
        self.heal()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def heal(self) -> None:
        """No fault from now on; bytes that a black hole swallowed stay gone."""
        self.latency = 0.0  # seconds before each piece, with as much again at random
        self.down = False  # refuse whoever comes
        self.bandwidth = 0  # bytes a second; 0: no limit
        self.slow_close = 0.0  # seconds between one side's end and telling the other
        self.timeout = False  # swallow everything, end nothing
        self.slicer = 0  # bytes of a piece at most
        self.limit_data = 0  # reset a connection after so many bytes from the server

    def reset_peer(self) -> None:
        """Reset every connection now."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def close(self) -> None:
        """End the proxy."""
        self._loop.call_soon_threadsafe(self._reset_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _reset_all(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self.down:
                return
            their_reader, their_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            return
        finally:
            if self.down:
                _reset(writer)
        self._open.add(their_writer)
        await asyncio.gather(self._hand_on(reader, their_writer, None), self._hand_on(their_reader, writer, writer), return_exceptions=True)
        for one in (writer, their_writer):
            self._open.discard(one)
            one.close()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limited: asyncio.StreamWriter | None) -> None:
        handed = 0
        while True:
            try:
                piece = await reader.read(65_536)
            except (ConnectionError, OSError):
                piece = b""
            if not piece:
                await asyncio.sleep(self.slow_close)
                with suppress(ConnectionError, OSError, RuntimeError):
                    writer.close()
                return
            if self.timeout:
                continue
            if self.latency:
                await asyncio.sleep(self.latency * (1 + self._dice.random()))
            size = self.slicer or len(piece)
            for start in range(0, len(piece), size):
                part = piece[start : start + size]
                if limited is not None and self.limit_data and handed + len(part) > self.limit_data:
                    writer.write(part[: self.limit_data - handed])
                    _reset(limited)
                    return
                handed += len(part)
                writer.write(part)
                with suppress(ConnectionError):
                    await writer.drain()
                if self.bandwidth:
                    await asyncio.sleep(len(part) / self.bandwidth)
                elif self.slicer:
                    await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def proxy(port: int, *, seed: int = 0, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """A proxy to a port of this machine, for the length of a test."""
    made = Proxy(host, port, seed=seed)
    try:
        yield made
    finally:
        made.close()
