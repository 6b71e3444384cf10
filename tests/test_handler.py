"""In which thread a request is answered: one of its own, and one after the other in the same."""

import asyncio
import threading
import time
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.http import HttpRequest, HttpResponse

from tickstock.handler import IDLE_THREADS, Http

SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "http_version": "1.1"}
ENOUGH_SECONDS = 10


class Slow(Http):
    """The real handler before a view that notes its thread and waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def get_response(self, request: HttpRequest) -> HttpResponse:
        self.threads.append(threading.get_ident())
        assert self.go_on.wait(ENOUGH_SECONDS)
        return HttpResponse("answered")


async def ask(http: Http) -> ApplicationCommunicator:
    line = ApplicationCommunicator(http, dict(SCOPE))
    await line.send_input({"type": "http.request", "body": b"", "more_body": False})
    return line


async def answer(line: ApplicationCommunicator) -> dict[str, Any]:
    start = await line.receive_output(ENOUGH_SECONDS)
    await line.receive_output(ENOUGH_SECONDS)
    await line.wait(ENOUGH_SECONDS)
    return start


async def until(holds) -> None:
    end = time.monotonic() + ENOUGH_SECONDS
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def test_the_next_request_is_answered_in_the_thread_that_the_last_one_has_left():
    http = Slow()

    for _ in range(3):
        assert (await answer(await ask(http)))["status"] == 200
        await until(lambda: http._idle.qsize() == 1)

    assert len(http.threads) == 3
    assert len(set(http.threads)) == 1


async def test_requests_at_once_have_a_thread_each_and_few_of_those_are_kept():
    http, count = Slow(), IDLE_THREADS + 5

    http.go_on.clear()
    lines = [await ask(http) for _ in range(count)]
    await until(lambda: len(http.threads) == count)
    http.go_on.set()
    for line in lines:
        assert (await answer(line))["status"] == 200
    await until(lambda: alive(http) == http._idle.qsize() == IDLE_THREADS)

    assert len(set(http.threads)) == count


def alive(http: Slow) -> int:
    return len({thread.ident for thread in threading.enumerate()} & set(http.threads))


async def test_a_request_whose_client_has_gone_keeps_its_thread_until_it_is_done():
    http = Slow()

    http.go_on.clear()
    gone = await ask(http)
    await until(lambda: len(http.threads) == 1)
    await gone.send_input({"type": "http.disconnect"})
    other = await ask(http)
    await until(lambda: len(http.threads) == 2)
    http.go_on.set()
    assert (await answer(other))["status"] == 200
    await gone.wait(ENOUGH_SECONDS)
    await until(lambda: http._idle.qsize() == 2)
    assert (await answer(await ask(http)))["status"] == 200

    assert http.threads[0] != http.threads[1]
    assert http.threads[2] in http.threads[:2]
