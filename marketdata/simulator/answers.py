"""The twin's REST as a client meets it: what `twin.rest` says, and what a fault makes of it; and the faults' own door."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

from marketdata.twin.faults import FaultError, Faults, parse
from marketdata.twin.rest import Answer, refused_key

FAULTS_PATH = "/v1/twin/faults"
_TWIN = "/v1/twin/"
_EXCEEDED = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. https://massive.com/pricing"
)


async def answer(target: str, bearer: str, faults: Faults, *, ask: Callable[[], Answer]) -> Response:
    """Return the response to a GET: of the faults' door, or what `ask`, called on a thread of its own, answers, as the faults leave it."""
    path = urlsplit(target).path
    if path == FAULTS_PATH:
        return _control(target, bearer, faults)
    if path.startswith(_TWIN):
        return response(await asyncio.get_running_loop().run_in_executor(None, ask))
    if refusal := await _refusal(faults):
        return refusal
    return response(_spoilt(path, await asyncio.get_running_loop().run_in_executor(None, ask), faults))


def response(said: Answer, *headers: tuple[str, str]) -> Response:
    """Return an answer as HTTP."""
    fixed = [("Content-Type", "application/json"), ("Content-Length", str(len(said.body))), ("Connection", "close")]
    return Response(said.status, HTTPStatus(said.status).phrase, Headers([*fixed, *headers]), said.body)


def _control(target: str, bearer: str, faults: Faults) -> Response:
    """Add, remove or clear faults as the parameters say; answer what is at work."""
    asked = parse_qsl(urlsplit(target).query, keep_blank_values=True)
    if error := refused_key(bearer or dict(asked).get("apiKey", "")):
        return _said(401, {"status": "ERROR", "error": error})
    try:
        for name, text in asked:
            if name == "add":
                faults.add(parse(text))
            elif name == "remove":
                faults.remove(text)
            elif name == "clear":
                faults.clear()
    except FaultError as error:
        return _said(400, {"status": "ERROR", "error": str(error)})
    return _said(200, {"status": "OK"} | faults.report())


async def _refusal(faults: Faults) -> Response | None:
    """Return what a fault says before anything is looked up, after the wait that another asks for."""
    if (slow := faults.find("rest_slow")) and faults.feel("rest_slow"):
        await asyncio.sleep(slow.number)
    if (limited := faults.find("rest_429")) and faults.feel("rest_429"):
        after = [("Retry-After", f"{limited.number:g}")] if limited.number else []
        return _said(429, {"status": "ERROR", "error": _EXCEEDED}, *after)
    if faults.too_many_requests(time.monotonic()):
        return _said(429, {"status": "ERROR", "error": _EXCEEDED})
    if faults.chance("rest_500"):
        return _said(500, {"status": "ERROR", "error": "Internal server error."})
    return None


def _spoilt(path: str, said: Answer, faults: Faults) -> Answer:
    """Return an answer as the faults leave it."""
    if said.status != HTTPStatus.OK or path.startswith("/v1/marketstatus"):
        return said
    if faults.feel("rest_bad_json"):
        return Answer(200, said.body[: len(said.body) // 2])
    if faults.feel("rest_empty"):
        return Answer(200, b'{"status":"OK","request_id":"empty","count":0,"queryCount":0,"resultsCount":0,"results":[]}')
    if (foreign := faults.find("rest_foreign_next_url")) and faults.feel("rest_foreign_next_url"):
        body = msgspec.json.decode(said.body)
        return Answer(200, msgspec.json.encode(body | {"next_url": f"{foreign.word}{path}?cursor=foreign"}))
    return said


def _said(status: int, body: object, *headers: tuple[str, str]) -> Response:
    return response(Answer(status, msgspec.json.encode(body)), *headers)
