"""Django's handler of HTTP under ASGI, with few threads and few changes between them. What is served stands in asgi.py."""

from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Full, LifoQueue
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase

IDLE_THREADS = 12


class Http(ASGIHandler):
    """
    Django's handler with the whole chain of middleware and view in one thread of the request.

    Ours are synchronous; Django would go back and forth between the event loop and a thread for nearly each of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._idle: LifoQueue[ThreadPoolExecutor] = LifoQueue(IDLE_THREADS)

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002 - Django's signature
        """Build the synchronous chain; an asynchronous view still runs in the event loop."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request in one thread, which an earlier request has left, or a new one: Django would start two for each."""
        try:
            thread = self._idle.get_nowait()
        except Empty:
            thread = ThreadPoolExecutor(1, thread_name_prefix="request")
        try:
            async with ThreadSensitiveContext(executor=thread):
                await super().__call__(scope, receive, send)
        finally:
            thread.submit(self._leave, thread)  # behind what a cancelled request may still be doing there

    def _leave(self, thread: ThreadPoolExecutor) -> None:
        try:
            self._idle.put_nowait(thread)
        except Full:
            thread.shutdown(wait=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        return await sync_to_async(self.get_response, thread_sensitive=True)(request)
