"""One socket on `/ws/live`: who it is, what it asks, how much it may. What it is told comes from the hub."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import redis
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth import get_user
from django.db import Error as DatabaseError
from django.http import HttpRequest, parse_cookie
from django.http.request import split_domain_port, validate_host
from rest_framework.exceptions import AuthenticationFailed

from accounts.authentication import lacks_second_factor, user_for_token
from accounts.models import User
from dashboards import wire
from dashboards.hub import Hub, hub_of_this_process
from dashboards.outbox import Line, Outbox

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MESSAGE_BYTES = 16 * 1024
MESSAGES_A_SECOND = 20
TOPICS_A_SOCKET = 200
SOCKETS_A_USER = 20
SECONDS_TO_SAY_IT = 0.1
SECONDS_TO_TAKE = 5.0  # a socket that takes nothing for so long is closed
SECONDS_OF_SILENCE = 10.0
SECONDS_BETWEEN_CHECKS = 60.0
SECONDS_BETWEEN_TRIES = 2.0

LINE = "tickstock.line"  # the ASGI extension that gives an `outbox.Line`, where the server has one

# Close codes. Those of 4xxx are ours and say what HTTP would
POLICY, TOO_LARGE, RESTART, TRY_LATER = 1008, 1009, 1012, 1013
NOBODY, ENDED, TOO_SLOW, TOO_MANY = 4401, 4403, 4408, 4429


@dataclass(frozen=True)
class Caller:
    """Who opened the socket, and by what: a session may see everything, a token what its scopes name."""

    user_id: int
    session_key: str = ""
    token: str = ""
    scopes: frozenset[str] | None = None

    def may_watch(self, topic: str) -> bool:
        """Return whether the topic is open to this caller."""
        return self.scopes is None or wire.SCOPES[wire.kind_of(topic)] in self.scopes


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _bearer(scope: Scope) -> str:
    method, _, text = _header(scope, b"authorization").partition(" ")
    return text.strip() if method.lower() == "bearer" else ""


def comes_from_here(scope: Scope) -> bool:
    """
    Return whether the page that opens the socket is one of ours.

    Browsers send cookies along from any page, so the Origin must name the very host that is asked, port included (channels' own
    validator lets every port of a host in), or a trusted origin. Only a program with a token may have none.
    """
    origin, host = _header(scope, b"origin"), _header(scope, b"host")
    if not origin:
        return bool(_bearer(scope))
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    name = split_domain_port(host)[0]
    with contextlib.suppress(ValueError):  # an Origin that is no URL
        return bool(name) and validate_host(name, settings.ALLOWED_HOSTS) and urlsplit(origin).netloc.lower() == host.lower()
    return False


def _secret_in_address(scope: Scope) -> bool:
    """An address stands in logs and histories: whoever puts a token there is refused, also with a good one."""
    names = {name.lower() for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)}
    return any(word in name for name in names for word in ("token", "key", "auth", "bearer"))


def _user_of_session(key: str) -> int | None:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = get_user(request)
    return user.pk if isinstance(user, User) and not lacks_second_factor(user) else None


def _user_of_token(text: str) -> Caller | None:
    try:
        user, token = user_for_token(text)
    except AuthenticationFailed:
        return None
    return Caller(user.pk, token=text, scopes=frozenset(token.scopes))


async def _in_thread(question: Callable[[str], Answer], text: str) -> Answer:
    """Ask the database. Not thread-sensitive: a thousand sockets that come back at once ask side by side, and no page waits behind them."""
    answer: Answer = await database_sync_to_async(question, thread_sensitive=False)(text)
    return answer


async def find_caller(scope: Scope) -> Caller | None:
    """Return who asks, by token or by session; None for nobody."""
    if _secret_in_address(scope):
        return None
    if token := _bearer(scope):
        return await _in_thread(_user_of_token, token)
    key = parse_cookie(_header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME)
    user_id = await _in_thread(_user_of_session, key) if key else None
    return Caller(user_id, session_key=key or "") if user_id is not None else None


async def _still_calls(caller: Caller) -> bool:
    """Return whether the session or token holds; a database that is away ends nobody's."""
    try:
        if caller.token:
            return await _in_thread(_user_of_token, caller.token) is not None
        return await _in_thread(_user_of_session, caller.session_key) == caller.user_id
    except DatabaseError:
        return True


def _now() -> str:
    return wire.iso(datetime.now(UTC))


async def live(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one socket from its handshake to its end."""
    await receive()  # websocket.connect
    if not comes_from_here(scope):
        await send({"type": "websocket.close"})  # before the handshake ends: HTTP 403
        return
    await send({"type": "websocket.accept"})  # before we know who it is: only then a browser learns the code, and no handshake runs out
    hub = hub_of_this_process(settings.REDIS_URL, _now)
    try:
        caller = await find_caller(scope)
        code = _refusal(hub, caller)
    except DatabaseError as error:
        log.warning("A socket is sent away for now, the database does not say who it is: %s", error)
        caller, code = None, TRY_LATER
    if caller is None or code is not None:
        await send({"type": "websocket.close", "code": code})
        return
    await LiveSocket(hub, caller, receive, send, line=scope.get("extensions", {}).get(LINE)).run()


def _refusal(hub: Hub, caller: Caller | None) -> int | None:
    if caller is None:
        return NOBODY
    full = hub.sockets >= settings.WEBSOCKET_MAX_CONNECTIONS or hub.sockets_of(caller.user_id) >= SOCKETS_A_USER
    return TOO_MANY if full else None


class LiveSocket:
    """An open socket of a known caller. Each of its four loops ends with the close code, or None where the client left."""

    def __init__(self, hub: Hub, caller: Caller, receive: Receive, send: Send, *, line: Line | None) -> None:
        self._hub = hub
        self._caller = caller
        self._receive = receive
        self._send = send
        self._outbox: Outbox = hub.join(caller.user_id, line)
        self._outbox.told_at = asyncio.get_running_loop().time()
        self._heard: deque[float] = deque(maxlen=MESSAGES_A_SECOND)

    async def run(self) -> None:
        """Serve until something ends it, and close."""
        loops = [asyncio.create_task(loop()) for loop in (self._read, self._write, self._wait_for_word, self._check_again)]
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            code = next(iter(done)).result()
            if code is not None:
                await self._send({"type": "websocket.close", "code": code})
        except asyncio.CancelledError:
            await self._send({"type": "websocket.close", "code": RESTART})  # the server stops
            await asyncio.sleep(SECONDS_TO_SAY_IT)
            raise
        finally:
            self._hub.leave(self._outbox)
            await _end(set(loops))

    async def _read(self) -> int | None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return None
            code = self._obey(event.get("text") or event.get("bytes") or "")
            if code is not None:
                return code

    def _obey(self, message: str | bytes) -> int | None:
        """Do what a message asks. Returns the close code where it breaks a limit; other faults are answered."""
        now = asyncio.get_running_loop().time()
        if len(self._heard) == MESSAGES_A_SECOND and now - self._heard[0] < 1:
            return TOO_MANY
        self._heard.append(now)
        if len(message if isinstance(message, bytes) else message.encode()) > MESSAGE_BYTES:
            return TOO_LARGE
        try:
            request = wire.read_request(message)
        except ValueError as fault:
            self._outbox.reply(wire.error(None, str(fault), at=_now()))
            return None
        self._follow(request)
        return POLICY if len(self._outbox.topics) > TOPICS_A_SOCKET else None

    def _follow(self, request: wire.Request) -> None:
        for topic in [request.topic] if isinstance(request, wire.Resume) else request.topics:
            fault = wire.topic_fault(topic)
            if fault is None and not self._caller.may_watch(topic):
                fault = f"The token lacks the scope {wire.SCOPES[wire.kind_of(topic)]}; make one that has it."
            if fault is not None:
                self._outbox.reply(wire.error(topic, fault, at=_now()))
            elif isinstance(request, wire.Resume):
                self._outbox.resume(topic, request.after)
            elif isinstance(request, wire.Watch):
                self._outbox.watch(topic)
            else:
                self._outbox.unwatch(topic)

    async def _write(self) -> int:
        """Send what the outbox owes, a sign of life after silence, and at once when the line behind us breaks or is back."""
        told, loop = True, asyncio.get_running_loop()
        try:
            while True:
                if self._hub.live is not None and self._hub.live != told:
                    told = self._hub.live
                    await self._tell(wire.heartbeat(at=_now(), live=told))
                for message in self._outbox.messages(_now):
                    await self._tell(message.text)
                try:
                    async with asyncio.timeout_at(self._outbox.told_at + SECONDS_OF_SILENCE):
                        await self._outbox.wake.wait()
                except TimeoutError:
                    if loop.time() >= self._outbox.told_at + SECONDS_OF_SILENCE:  # the hub may have spoken meanwhile
                        await self._tell(wire.heartbeat(at=_now(), live=bool(self._hub.live)))
                self._outbox.wake.clear()
        except _TakesNothing:
            return TOO_SLOW

    async def _tell(self, message: str) -> None:
        try:
            async with asyncio.timeout(SECONDS_TO_TAKE):
                await self._send({"type": "websocket.send", "text": message})
        except TimeoutError:
            raise _TakesNothing from None
        self._outbox.told_at = asyncio.get_running_loop().time()

    async def _wait_for_word(self) -> int:
        """Return when the user's session is said to be over. While Redis is away nothing is heard; `_check_again` stands in."""
        while True:
            await self._hub.up.wait()
            with contextlib.suppress(redis.RedisError, OSError):
                await self._hear_word()
                return ENDED
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)

    async def _hear_word(self) -> None:
        layer, group = get_channel_layer(), f"user-{self._caller.user_id}"
        channel = await layer.new_channel()
        try:
            await layer.group_add(group, channel)
            while (await layer.receive(channel)).get("type") != "session.ended":
                pass
        finally:
            with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(SECONDS_BETWEEN_TRIES):
                    await layer.group_discard(group, channel)

    async def _check_again(self) -> int:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_CHECKS)
            if not await _still_calls(self._caller):
                return ENDED


async def _end(loops: set[asyncio.Task[int | None]]) -> None:
    """Cancel until all are over: before Python 3.12 `asyncio.wait_for`, with which redis-py sends, may swallow a cancellation."""
    while loops:
        for loop in loops:
            loop.cancel()
        _, loops = await asyncio.wait(loops, timeout=2 * SECONDS_BETWEEN_TRIES)


class _TakesNothing(Exception):  # noqa: N818 - it is what happened, no programming error
    """The client has not taken a message in time."""
