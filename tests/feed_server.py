"""A feed server that does exactly what a test tells it, over real sockets. Speaks Massive's side of the login; the rest is the test's script."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


class FeedServer:
    """Runs `script(connection, number)` for each connection, the number counting from 1; keeps what clients said."""

    def __init__(self, script: Callable[["Peer", int], None]) -> None:
        self.said: list[dict[str, Any]] = []
        self.connections = 0
        self._script = script
        self._server = serve(self._serve, "127.0.0.1", 0, max_size=None, compression=None)
        self.port = self._server.socket.getsockname()[1]
        self.over = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stocks"

    def _serve(self, connection: ServerConnection) -> None:
        self.connections += 1
        try:
            self._script(Peer(connection, self), self.connections)
        except (ConnectionClosed, OSError):
            pass
        finally:
            connections.close_all()  # a script that looked into the table did so with this thread's own connection

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()


class Peer:
    """One client, as the server sees it."""

    def __init__(self, connection: ServerConnection, server: FeedServer) -> None:
        self.connection = connection
        self._server = server

    def send(self, *events: dict[str, Any]) -> None:
        self.connection.send(json.dumps(list(events)))

    def send_raw(self, frame: str | bytes) -> None:
        self.connection.send(frame)

    def hear(self) -> dict[str, Any]:
        words = json.loads(self.connection.recv(timeout=20))
        self._server.said.append(words)
        return words

    def greet(self) -> None:
        """Greet and hear the key."""
        self.send({"ev": "status", "status": "connected", "message": "Connected Successfully"})
        assert self.hear()["action"] == "auth"

    def refuse(self, message: str = "authentication failed") -> None:
        """Greet, refuse the key and go."""
        self.greet()
        self.send({"ev": "status", "status": "auth_failed", "message": message})
        self.drop()

    def accept(self) -> list[str]:
        """Greet, accept the key, return the pairs that are asked for: none of them is acknowledged."""
        self.greet()
        self.send({"ev": "status", "status": "auth_success", "message": "authenticated"})
        asked: list[str] = self.hear()["params"].split(",")
        return asked

    def log_in(self) -> list[str]:
        """Greet, accept the key, acknowledge every pair; return them."""
        pairs = self.accept()
        self.send(*(subscribed(pair) for pair in pairs))
        return pairs

    def acknowledge(self, changed: Callable[[str, list[str]], None] = lambda action, pairs: None) -> None:
        """Answer changes of the subscription until the test is over; `changed` is told of each."""
        while not self._server.over.is_set():
            try:
                words = json.loads(self.connection.recv(timeout=0.1))
            except TimeoutError:
                continue
            self._server.said.append(words)
            pairs = words["params"].split(",")
            changed(words["action"], pairs)
            self.send(*(subscribed(pair, did=words["action"] + "d") for pair in pairs))

    def stay(self) -> None:
        """Keep the connection open until the test is over."""
        while not self._server.over.wait(0.05):
            pass

    def drop(self) -> None:
        """End the TCP connection without a close frame."""
        self.connection.socket.close()


@contextmanager
def feed_server(script: Callable[[Peer, int], None]) -> Iterator[FeedServer]:
    server = FeedServer(script)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def door(answer: bytes) -> Iterator[str]:
    """A port where every connection gets these bytes and its end; the WebSocket address of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_all() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4_096)
                    peer.sendall(answer)

        threading.Thread(target=serve_all, daemon=True).start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/stocks"


def subscribed(pair: str, *, did: str = "subscribed") -> dict[str, Any]:
    return {"ev": "status", "status": "success", "message": f"{did} to: {pair}"}


def trade(price: float, at_ms: int, q: int, *, symbol: str = "AAPL", size: int = 100) -> dict[str, Any]:
    return {"ev": "T", "sym": symbol, "p": price, "s": size, "t": at_ms, "q": q}
