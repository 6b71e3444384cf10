"""
Massive's REST for the same market: bars, tickers, conditions, status, and the twin's own calendar. Pure: a request in, an answer out.

Unknown parameters are ignored, as Massive ignores them. `next_url` is absolute, on the server's own host, without a key.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec
import numpy as np

from marketdata.feed.conditions import HIGH_LOW, OPEN_CLOSE, RULES, VOLUME
from marketdata.twin import aggregates
from marketdata.twin.days import DAYS, NEW_YORK, day_at, day_of, day_starts, sessions
from marketdata.twin.market import Market
from marketdata.twin.requests import BadRequestError, Query, cursor, day, resumed, whole, word
from marketdata.twin.securities import Security

_CONDITION_NAMES = {
    0: "Regular Sale",
    2: "Average Price Trade",
    10: "Derivatively Priced",
    12: "Form T/Extended Hours",
    14: "Intermarket Sweep",
    15: "Market Center Official Close",
    16: "Market Center Official Open",
    37: "Odd Lot Trade",
    41: "Trade Thru Exempt",
    52: "Contingent Trade",
    53: "Qualified Contingent Trade",
}


class Request(NamedTuple):
    """One GET: path parts, parameters, market time and the address that the client used."""

    path: str
    parts: tuple[str, ...]
    query: Query
    now_ms: int
    base: str


class Answer(NamedTuple):
    """An HTTP status and a JSON body."""

    status: int
    body: bytes


class _NotFoundError(LookupError):
    """There is no such thing; the message is Massive's."""


class Rest:
    """The REST side of one market. Not thread-safe, like the market."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._sorted = sorted(market.securities, key=lambda security: security.symbol)
        self._routes: tuple[tuple[re.Pattern[str], Callable[[Request], Any]], ...] = (
            (re.compile(r"/v2/aggs/ticker/([^/]+)/range/([^/]+)/([^/]+)/([^/]+)/([^/]+)"), self._aggregates),
            (re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/([^/]+)"), self._grouped),
            (re.compile(r"/v3/reference/tickers"), self._tickers),
            (re.compile(r"/v3/reference/tickers/([^/]+)"), self._details),
            (re.compile(r"/v3/reference/conditions"), self._conditions),
            (re.compile(r"/v1/marketstatus/now"), self._status),
            (re.compile(r"/v1/marketstatus/upcoming"), self._holidays),
            (re.compile(r"/v1/twin/calendar"), self._calendar),
        )

    def answer(self, target: str, *, bearer: str, now_ms: int, base: str) -> Answer:
        """Return the answer to a GET of `target`; `bearer` is the key of the Authorization header, empty without one."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        request_id = blake2b(f"{target} {now_ms}".encode(), digest_size=16).hexdigest()
        key = bearer or query.get("apiKey", "")
        if not key or key.startswith("bad"):
            error = "Unknown API Key" if key else "API Key was not provided"
            return _answer(401, {"status": "ERROR", "request_id": request_id, "error": error})
        try:
            result = self._result(url.path, query, now_ms=now_ms, base=base)
        except BadRequestError as error:
            return _answer(400, {"status": "ERROR", "request_id": request_id, "error": str(error)})
        except _NotFoundError as error:
            return _answer(404, {"status": "NOT_FOUND", "request_id": request_id, "message": str(error)})
        return _answer(200, result | {"status": "OK", "request_id": request_id} if isinstance(result, dict) else result)

    def _result(self, path: str, query: Query, *, now_ms: int, base: str) -> Any:
        """Return what the route of a path says."""
        for pattern, answer in self._routes:
            if match := pattern.fullmatch(path):
                parts = tuple(unquote(part) for part in match.groups())
                return answer(Request(path, parts, resumed(query), now_ms, base))
        raise _NotFoundError("The requested resource was not found.")

    def _aggregates(self, request: Request) -> dict[str, Any]:
        """Bars of one ticker; one that the market does not have has none."""
        ticker, multiplier, timespan, first, last = request.parts
        query = request.query
        asked = aggregates.Range(
            multiplier=whole({"multiplier": multiplier}, "multiplier", 1, high=10_000),
            timespan=word({"timespan": timespan}, "timespan", aggregates.TIMESPANS),
            first_ms=_moment(first, "from", end=False),
            last_ms=_moment(last, "to", end=True),
            limit=whole(query, "limit", 5_000, high=50_000),
            descending=word(query, "sort", ("asc", "desc")) == "desc",
        )
        if asked.last_ms < asked.first_ms:
            raise BadRequestError(f"to ({last}) must not lie before from ({first}).")
        adjusted = word(query, "adjusted", ("true", "false", "True", "False")).lower() == "true"
        security = self._market.by_symbol.get(ticker)
        page = aggregates.page(self._market, security, asked, now_ms=request.now_ms) if security else aggregates.Page([], None)
        result: dict[str, Any] = {
            "ticker": ticker,
            "queryCount": len(page.rows) * asked.multiplier,
            "resultsCount": len(page.rows),
            "adjusted": adjusted,
            "count": len(page.rows),
        }
        if page.rows:
            result["results"] = page.rows
        if page.next_ms is not None:
            ends = (first, str(page.next_ms)) if asked.descending else (str(page.next_ms), last)
            place = f"/v2/aggs/ticker/{quote(ticker)}/range/{multiplier}/{timespan}/{ends[0]}/{ends[1]}"
            kept = {name: query[name] for name in ("adjusted", "limit", "sort") if name in query}
            result["next_url"] = f"{request.base}{place}?cursor={cursor(kept | {'limit': str(asked.limit)})}"
        return result

    def _grouped(self, request: Request) -> dict[str, Any]:
        """All tickers' bars of one finished day; `t` is its last millisecond."""
        number = day_of(day(request.parts[0], "date"))
        results: list[aggregates.Row] = []
        if 0 <= number < DAYS and (close_ms := int(day_starts()[number + 1])) + aggregates.SETTLING_MS <= request.now_ms:
            times = np.array([close_ms - 1])
            for security in self._market.securities:
                bar = self._market.days(security, number, number + 1)
                results.append({"T": security.symbol, **aggregates.rows(bar, times, scale=security.scale)[0]})
        counts = {"queryCount": len(results), "resultsCount": len(results), "count": len(results), "adjusted": True}
        return counts | ({"results": results} if results else {})

    def _tickers(self, request: Request) -> dict[str, Any]:
        """All tickers by name, filtered."""
        query = request.query
        found = [_ticker(security) for security in self._sorted if _matches(security, query)]
        if word(query, "order", ("asc", "desc")) == "desc":
            found.reverse()
        return _paged(found, request, default=100)

    def _details(self, request: Request) -> dict[str, Any]:
        """One ticker."""
        security = self._market.by_symbol.get(request.parts[0])
        if security is None:
            raise _NotFoundError("Ticker not found.")
        industry = {"sic_description": security.listing.industry.upper()} if security.listing.industry else {}
        return {"results": _ticker(security) | industry | {"round_lot": 100}}

    def _conditions(self, request: Request) -> dict[str, Any]:
        """Conditions of stock trades with their rules."""
        query = request.query
        stocks = query.get("asset_class", "stocks") == "stocks" and query.get("data_type", "trade") == "trade"
        wanted = [number for number in sorted(RULES) if query.get("id", str(number)) == str(number)]
        return _paged([_condition(number) for number in wanted] if stocks else [], request, default=10)

    def _status(self, request: Request) -> dict[str, Any]:
        """Whether the market is open, which it is in all its years."""
        is_open = 0 <= day_at(request.now_ms) < DAYS
        state = "open" if is_open else "closed"
        server_time = datetime.fromtimestamp(request.now_ms // 1000, UTC).astimezone(NEW_YORK)
        return {
            "market": state,
            "earlyHours": False,
            "afterHours": False,
            "exchanges": {"nasdaq": state, "nyse": state, "otc": state},
            "currencies": {"crypto": state, "fx": state},
            "serverTime": server_time.isoformat(),
        }

    def _holidays(self, request: Request) -> list[Any]:  # noqa: ARG002 - a route like the others
        """No holidays: a bare array, as Massive's."""
        return []

    def _calendar(self, request: Request) -> dict[str, Any]:
        """The sessions of the twin, which Massive does not have: a day of one regular session."""
        first, last = (day(request.query.get(name, ""), name) for name in ("from", "to"))
        return {
            "results": [
                {
                    "date": session.date.isoformat(),
                    "pre_open": _utc(session.open_ms),
                    "open": _utc(session.open_ms),
                    "close": _utc(session.close_ms),
                    "post_close": _utc(session.close_ms),
                }
                for session in sessions(first, last)
            ]
        }


def _answer(status: int, body: Any) -> Answer:
    return Answer(status, msgspec.json.encode(body))


def _moment(text: str, name: str, *, end: bool) -> int:
    """Return Unix ms, or a date's first or last ms in New York. BadRequestError otherwise."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    moment = day(text, name)
    if not date(1900, 1, 1) <= moment <= date(2200, 1, 1):
        raise BadRequestError(f"{name} must lie between 1900 and 2200, not at {text!r}.")
    after = (moment + timedelta(days=1)) if end else moment
    start = datetime(after.year, after.month, after.day, tzinfo=NEW_YORK)
    return int(start.timestamp()) * 1000 - (1 if end else 0)


def _utc(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ticker(security: Security) -> dict[str, Any]:
    listing = security.listing
    return {
        "ticker": listing.symbol,
        "name": listing.name,
        "market": "stocks",
        "locale": "us",
        "primary_exchange": listing.exchange,
        "type": listing.type,
        "active": True,
        "currency_name": "usd",
    }


def _matches(security: Security, query: Query) -> bool:
    """Tell whether a ticker fits the filters that Massive knows by equality, and `search`."""
    listing = security.listing
    facts = {"market": "stocks", "active": "true", "ticker": listing.symbol, "type": listing.type, "exchange": listing.exchange}
    words = f"{listing.symbol} {listing.name}".lower()
    return (
        all((query.get(name) or fact).lower() == fact.lower() for name, fact in facts.items()) and query.get("search", "").lower() in words
    )


def _condition(number: int) -> dict[str, Any]:
    flags = RULES[number]
    return {
        "id": number,
        "name": _CONDITION_NAMES.get(number, f"Condition {number}"),
        "type": "sale_condition",
        "asset_class": "stocks",
        "data_types": ["trade"],
        "update_rules": {
            "consolidated": {
                "updates_high_low": bool(flags & HIGH_LOW),
                "updates_open_close": bool(flags & OPEN_CLOSE),
                "updates_volume": bool(flags & VOLUME),
            }
        },
    }


def _paged(rows: Sequence[dict[str, Any]], request: Request, *, default: int) -> dict[str, Any]:
    """Return one page of rows, with the address of the next."""
    limit = whole(request.query, "limit", default, high=1_000)
    offset = whole(request.query, "page", 1, high=1_000_000) - 1
    chosen = rows[offset * limit : (offset + 1) * limit]
    result: dict[str, Any] = {"results": chosen, "count": len(chosen)}
    if (offset + 1) * limit < len(rows):
        kept = {name: text for name, text in request.query.items() if name != "apiKey"}
        result["next_url"] = f"{request.base}{request.path}?cursor={cursor(kept | {'page': str(offset + 2)})}"
    return result
