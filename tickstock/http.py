"""Problem details, exact JSON, /health and /ready. Named in settings and urls; imported by no app."""

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from io import BytesIO
from typing import Any, Protocol

import msgspec
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.http import ConditionalGetMiddleware
from django.template.loader import render_to_string
from django.utils.cache import patch_cache_control
from django.views import defaults
from django.views.decorators.http import require_safe
from rest_framework import exceptions
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BaseRenderer

from marketdata.bars.digits import exact_number

AWAY = "The database does not answer. Try again in a moment."
BODY_LIMIT = 1_000_000  # bytes; no request of ours needs more
_encoder = msgspec.json.Encoder()
_AS_IT_IS = {str, int, float, bool, type(None), msgspec.Raw}


# ---- JSON ---------------------------------------------------------------------------------------------------------------------------


def moment(value: datetime) -> str:
    """Return ISO 8601 in UTC with Z; milliseconds only where they are not zero. ValueError without a time zone."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone.")
    at = value.astimezone(UTC).replace(tzinfo=None)
    return at.isoformat(timespec="milliseconds" if at.microsecond >= 1000 else "seconds") + "Z"


def json_bytes(value: Any) -> bytes:
    """Return the value as JSON with exact decimals and moments in UTC."""
    return _encoder.encode(_plain(value))


def _plain(value: Any) -> Any:
    """Return the value in types that the encoder writes as we want them. The commonest first: a page of bars has 5,000 of them."""
    kind = type(value)
    if kind is Decimal:
        return msgspec.Raw(exact_number(value).encode())
    if kind in _AS_IT_IS:
        return value
    if kind is datetime:
        return value if value.tzinfo is UTC and not value.microsecond else moment(value)  # the encoder's own form is then the same
    if kind is dict:
        return {key if type(key) is str else str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float):
        return value
    return str(value)  # str subclasses and lazy text


class ExactJSONRenderer(BaseRenderer):
    """JSON whose numbers are the stored decimals, digit for digit."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:  # noqa: ARG002
        """Return the body; nothing where there is no data."""
        return b"" if data is None else json_bytes(data)


class BodyTooLarge(exceptions.APIException):
    """More bytes than any request of ours needs."""

    status_code = 413
    default_detail = f"The body is larger than {BODY_LIMIT:,} bytes."


class BoundedJSONParser(JSONParser):
    """DRF's parser, which would read a body of any size and nests without end."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the value. ParseError where it is not JSON, BodyTooLarge where it is too long."""
        body = stream.read(BODY_LIMIT + 1)
        if len(body) > BODY_LIMIT:
            raise BodyTooLarge
        try:
            return super().parse(BytesIO(body), media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError("The JSON is nested too deeply.") from None


class Revalidation(ConditionalGetMiddleware):
    """
    Every answer of the API to a GET has an ETag; asked again with `If-None-Match`, an unchanged one is an empty 304.

    The answer's own bytes make the tag: nothing that changes the answer can be forgotten in it.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Tag it. What says `no-store` stays as it is."""
        if not request.path.startswith("/api/") or request.method != "GET" or response.status_code != HTTPStatus.OK:
            return response
        if not response.has_header("Cache-Control"):
            patch_cache_control(response, private=True, no_cache=True)
        return super().process_response(request, response)


# ---- Problem details (RFC 9457) --------------------------------------------------------------------------------------------------------


def problem(status: int, detail: str, *, errors: list[dict[str, str]] | None = None) -> HttpResponse:
    """Return an answer of type application/problem+json."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    return HttpResponse(json_bytes(body), status=status, content_type="application/problem+json")


def problem_details(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Return what DRF answers to an exception; None hands it on to Django, which logs it and answers 500."""
    if isinstance(error, Http404):
        error = exceptions.NotFound(*error.args)
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied(*error.args)
    elif isinstance(error, OperationalError | InterfaceError):
        return _with_headers(problem(503, AWAY), {"Retry-After": "5"})
    if not isinstance(error, exceptions.APIException):
        return None
    if isinstance(error, exceptions.PermissionDenied | exceptions.NotAuthenticated):
        error = _counted(error, context)
    errors = list(_field_errors(error.detail)) if isinstance(error, exceptions.ValidationError) else []
    detail = " ".join(f"{one['field']}: {one['message']}" if one["field"] else one["message"] for one in errors) or str(error.detail)
    headers = {}
    if authenticate := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = authenticate
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return _with_headers(problem(error.status_code, detail, errors=errors), headers)


def _counted(refusal: exceptions.APIException, context: dict[str, Any]) -> exceptions.APIException:
    """Return what to answer to a request that was refused: DRF asks for permission before it counts, and whoever is refused may not ask for ever."""
    try:
        context["view"].check_throttles(context["request"])
    except exceptions.Throttled as throttled:
        return throttled
    return refusal


def _with_headers(response: HttpResponse, headers: dict[str, str]) -> HttpResponse:
    for name, value in headers.items():
        response[name] = value
    return response


def _field_errors(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    """Walk DRF's nested error detail; `field` is a dotted path, empty where the whole request is meant."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            name = "" if key == "non_field_errors" else str(key)
            yield from _field_errors(inner, ".".join(part for part in (field, name) if part))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _field_errors(inner, field)
    else:
        yield {"field": field, "message": str(detail)}


class ErrorPage(Protocol):
    """One of Django's own error views."""

    def __call__(self, request: HttpRequest, exception: Exception) -> HttpResponseBase:
        """Return the page."""


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 400: what Django itself refused before any view."""
    return _error_page(request, exception, 400, "The request cannot be understood.", defaults.bad_request)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 403."""
    return _error_page(request, exception, 403, "You may not do this.", defaults.permission_denied)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 404."""
    return _error_page(request, exception, 404, "Nothing is at this address. The list of addresses: /api/schema/", defaults.page_not_found)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer 500; the log says why, the answer does not. Where the database is away, 503: the fault is not the page's, and it passes."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        away = problem(503, AWAY) if request.path.startswith("/api/") else HttpResponse(render_to_string("503.html"), status=503)
        return _with_headers(away, {"Retry-After": "5"})
    if request.path.startswith("/api/"):
        return problem(500, "Something broke on our side; the log says what.")
    return defaults.server_error(request)


def _error_page(request: HttpRequest, exception: Exception, status: int, detail: str, page: ErrorPage) -> HttpResponseBase:
    return problem(status, detail) if request.path.startswith("/api/") else page(request, exception)


# ---- Whom to tell of a weakness (RFC 9116) --------------------------------------------------------------------------------------------

CONTACT_HOLDS = timedelta(days=180)


@login_not_required
@require_safe
def security_txt(request: HttpRequest) -> HttpResponse:
    """Say whom to tell; 404 where whoever runs this stack has not said it."""
    if not settings.SECURITY_CONTACT:
        raise Http404("Nobody is named; set SECURITY_CONTACT.")
    expires = (datetime.now(UTC) + CONTACT_HOLDS).strftime("%Y-%m-%dT00:00:00Z")
    here = request.build_absolute_uri()
    lines = [f"Contact: {settings.SECURITY_CONTACT}", f"Expires: {expires}", "Preferred-Languages: en", f"Canonical: {here}", ""]
    return HttpResponse("\n".join(lines), content_type="text/plain; charset=utf-8")


# ---- The OpenAPI description --------------------------------------------------------------------------------------------------------

PROBLEM_SCHEMA = {
    "type": "object",
    "description": "Problem details, RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def describe_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say at every operation of the description how it fails. A post-processing hook of drf-spectacular."""
    schemas = {**result.get("components", {}).get("schemas", {}), "Problem": PROBLEM_SCHEMA}
    failure = {
        "description": "What is wrong, and with which field.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    paths = {
        path: {method: {**operation, "responses": {**operation["responses"], "default": failure}} for method, operation in methods.items()}
        for path, methods in result["paths"].items()
    }
    return {**result, "paths": paths, "components": {**result.get("components", {}), "schemas": schemas}}
