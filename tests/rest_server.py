"""A REST server with just the bars that a test gives it, and the faults that it asks for; over real HTTP."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from marketdata.history import EXCHANGE_ZONE

AGGREGATES = re.compile(r"/v2/aggs/ticker/([^/]+)/range/1/(minute|day)/([\d-]+)/([\d-]+)")


class RestServer:
    """
    `bars[symbol]` (`days[symbol]` of daily bars) is a list of (start ms, close, volume).

    `fault(number of the request)` may return (status, headers, body) instead.
    """

    def __init__(self) -> None:
        self.bars: dict[str, list[tuple[int, float, float]]] = {}
        self.days: dict[str, list[tuple[int, float, float]]] = {}
        self.requests: list[str] = []
        self.keys: list[str | None] = []
        self.fault: Callable[[int], tuple[int, dict[str, str], bytes] | None] = lambda number: None
        self.page = 50_000
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # headers and body in one packet: a second one would wait 40 ms for the acknowledgement of the first

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.keys.append(self.headers["Authorization"])
                status, headers, body = outer.fault(len(outer.requests)) or outer.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()  # its end waits for a poll

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        found = AGGREGATES.match(path)
        if found is None:
            return 404, {}, b'{"status":"ERROR"}'
        symbol = found[1]
        first, last = (int(text) if text.isdecimal() else _midnight_ms(text) for text in (found[3], found[4]))
        kept = self.bars if found[2] == "minute" else self.days
        rows = [bar for bar in kept.get(symbol, []) if first // 60_000 * 60_000 <= bar[0] <= last]
        results = [
            {"t": start, "o": close, "h": close, "l": close, "c": close, "v": volume, "n": 1} for start, close, volume in rows[: self.page]
        ]
        body: dict[str, Any] = {"status": "OK", "ticker": symbol, "resultsCount": len(results)}
        if results:
            body["results"] = results
        if len(rows) > self.page:
            body["next_url"] = f"{self.url}/v2/aggs/ticker/{symbol}/range/1/minute/{rows[self.page][0]}/{last}"
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _midnight_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=EXCHANGE_ZONE).timestamp() * 1000)


@contextmanager
def rest_server() -> Iterator[RestServer]:
    server = RestServer()
    try:
        yield server
    finally:
        server.stop()
