"""What a REST request says: parameters read strictly, pages as cursors. Pure: texts in, values out."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import date, datetime
from urllib.parse import parse_qsl, urlencode

from marketdata.twin.days import NEW_YORK

Query = Mapping[str, str]


class BadRequestError(ValueError):
    """The request cannot be answered; the message names the parameter."""


def whole(query: Query, name: str, default: int, *, high: int) -> int:
    """Return a whole number from 1 to `high`. BadRequestError otherwise."""
    text = query.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= high:
        raise BadRequestError(f"{name} must be a whole number from 1 to {high}, not {text!r}.")
    return int(text)


def word(query: Query, name: str, options: tuple[str, ...]) -> str:
    """Return one of `options`, the first where the parameter is missing. BadRequestError otherwise."""
    text = query.get(name) or options[0]
    if text not in options:
        raise BadRequestError(f"{name} must be one of {', '.join(options)}, not {text!r}.")
    return text


def day(text: str, name: str) -> date:
    """Return a date written as YYYY-MM-DD. BadRequestError otherwise."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequestError(f"{name} must be a date written as YYYY-MM-DD, not {text!r}.") from None


def midnight_ms(day: date, name: str) -> int:
    """Return the New York midnight before a date, Unix ms. BadRequestError where nobody would ask for it."""
    if not date(1900, 1, 1) <= day <= date(2200, 1, 2):
        raise BadRequestError(f"{name} must lie between 1900 and 2200, not at {day.isoformat()!r}.")
    return int(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()) * 1000


def cursor(query: Query) -> str:
    """Return parameters as one opaque text, which `resumed` reads."""
    return urlsafe_b64encode(urlencode(query).encode()).decode().rstrip("=")


def resumed(query: Query) -> Query:
    """Return the parameters of a request, those of its cursor where it has one. BadRequestError where the cursor is not ours."""
    text = query.get("cursor", "")
    if not text:
        return query
    try:
        return dict(parse_qsl(b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode(), strict_parsing=True))
    except ValueError:
        raise BadRequestError("cursor is not one that this server gave; follow next_url as it stands.") from None
