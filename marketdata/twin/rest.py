"""
Massive's REST for the same market: bars, trades, snapshots, reference data, status, and the twin's own calendar and plants. Pure.

A request comes in, an answer goes out.

Unknown parameters are ignored, as Massive ignores them. `next_url` is absolute, on the server's own host, without a key.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec
import numpy as np

from marketdata.feed.conditions import RULES
from marketdata.twin import aggregates, prints, reference, snapshots
from marketdata.twin.days import DAYS, NEW_YORK, day_at, day_of, day_starts, sessions
from marketdata.twin.market import Market
from marketdata.twin.requests import BadRequestError, Query, cursor, day, midnight_ms, resumed, whole, word
from marketdata.twin.securities import Security


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
    """The REST side of one market; without `prices` nothing of it has ever traded. Not thread-safe, like the market."""

    def __init__(self, market: Market, *, prices: bool = True) -> None:
        self._market = market
        self._prices = prices
        self._sorted = sorted(market.securities, key=lambda security: security.symbol)
        self._routes: tuple[tuple[re.Pattern[str], Callable[[Request], Any]], ...] = (
            (re.compile(r"/v2/aggs/ticker/([^/]+)/range/([^/]+)/([^/]+)/([^/]+)/([^/]+)"), self._aggregates),
            (re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/([^/]+)"), self._grouped),
            (re.compile(r"/v2/aggs/ticker/([^/]+)/prev"), self._previous),
            (re.compile(r"/v1/open-close/([^/]+)/([^/]+)"), self._open_close),
            (re.compile(r"/v3/trades/([^/]+)"), self._trades),
            (re.compile(r"/v2/snapshot/locale/us/markets/stocks/tickers"), self._snapshots),
            (re.compile(r"/v2/snapshot/locale/us/markets/stocks/(gainers|losers)"), self._movers),
            (re.compile(r"/v2/snapshot/locale/us/markets/stocks/tickers/([^/]+)"), self._snapshot),
            (re.compile(r"/v3/reference/tickers"), self._tickers),
            (re.compile(r"/v3/reference/tickers/types"), self._types),
            (re.compile(r"/v3/reference/tickers/([^/]+)"), self._details),
            (re.compile(r"/v3/reference/conditions"), self._conditions),
            (re.compile(r"/v3/reference/exchanges"), self._exchanges),
            (re.compile(r"/stocks/v1/splits"), self._splits),
            (re.compile(r"/stocks/v1/dividends"), self._dividends),
            (re.compile(r"/v3/reference/splits"), self._old_splits),
            (re.compile(r"/v3/reference/dividends"), self._old_dividends),
            (re.compile(r"/v1/marketstatus/now"), self._status),
            (re.compile(r"/v1/marketstatus/upcoming"), self._holidays),
            (re.compile(r"/v1/twin/calendar"), self._calendar),
            (re.compile(r"/v1/twin/planted"), self._planted),
        )

    def answer(self, target: str, *, bearer: str, now_ms: int, base: str) -> Answer:
        """Return the answer to a GET of `target`; `bearer` is the key of the Authorization header, empty without one."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        request_id = blake2b(f"{target} {now_ms}".encode(), digest_size=16).hexdigest()
        if error := refused_key(bearer or query.get("apiKey", "")):
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
            adjusted=_adjusted(query),
        )
        if asked.last_ms < asked.first_ms:
            raise BadRequestError(f"to ({last}) must not lie before from ({first}).")
        security = self._traded(ticker)
        page = aggregates.page(self._market, security, asked, now_ms=request.now_ms) if security else aggregates.Page([], None)
        result: dict[str, Any] = {
            "ticker": ticker,
            "queryCount": len(page.rows) * asked.multiplier,
            "resultsCount": len(page.rows),
            "adjusted": asked.adjusted,
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

    def _traded(self, ticker: str) -> Security | None:
        """Return the security that a ticker names, if it trades."""
        return self._market.by_symbol.get(ticker) if self._prices else None

    def _found(self, ticker: str) -> Security:
        """Return the security that a ticker names, if it trades. _NotFoundError otherwise."""
        if security := self._traded(ticker):
            return security
        raise _NotFoundError("Ticker not found.")

    def _finished_day(self, security: Security, number: int, request: Request) -> aggregates.Row | None:
        """Return a day's bar, its time the day's last millisecond; None for one that is not over or does not exist."""
        if not 0 <= number < DAYS:
            return None
        close_ms = int(day_starts()[number + 1])
        if close_ms + aggregates.SETTLING_MS > request.now_ms:
            return None
        bar, scale = self._market.days(security, number, number + 1), security.scale
        if _adjusted(request.query):
            bar, scale = self._market.adjusted(security, bar, np.array([number]), as_of_day=day_at(request.now_ms))
        return aggregates.rows(bar, np.array([close_ms - 1]), scale=scale)[0]

    def _grouped(self, request: Request) -> dict[str, Any]:
        """All tickers' bars of one finished day; `t` is its last millisecond."""
        number = day_of(day(request.parts[0], "date"))
        days = ((security, self._finished_day(security, number, request)) for security in self._market.securities if self._prices)
        results: list[aggregates.Row] = [{"T": security.symbol, **row} for security, row in days if row]
        counts = {"queryCount": len(results), "resultsCount": len(results), "count": len(results)}
        return counts | {"adjusted": _adjusted(request.query)} | ({"results": results} if results else {})

    def _previous(self, request: Request) -> dict[str, Any]:
        """The last finished day of one ticker."""
        security = self._traded(request.parts[0])
        row = self._finished_day(security, day_at(request.now_ms - aggregates.SETTLING_MS) - 1, request) if security else None
        results = [{"T": request.parts[0], **row}] if row else []
        counts = {"ticker": request.parts[0], "queryCount": len(results), "resultsCount": len(results), "count": len(results)}
        return counts | {"adjusted": _adjusted(request.query)} | ({"results": results} if results else {})

    def _open_close(self, request: Request) -> dict[str, Any]:
        """A finished day of one ticker; the twin's day has neither pre-market nor after-hours."""
        ticker, text = request.parts
        row = self._finished_day(self._found(ticker), day_of(day(text, "date")), request)
        if row is None:
            raise _NotFoundError("Data not found.")
        names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
        return {"from": text, "symbol": ticker, **{name: row[key] for name, key in names.items()}}

    def _trades(self, request: Request) -> dict[str, Any]:
        """The tape of one ticker, newest first by default; one that the market does not have has none."""
        query, security = request.query, self._traded(request.parts[0])
        first_ns, end_ns = prints.span_ns(query)
        asked = prints.Range(
            first_ms=-(-first_ns // 1_000_000),
            end_ms=min(-(-end_ns // 1_000_000), request.now_ms),
            limit=whole(query, "limit", 1_000, high=50_000),
            descending=word(query, "order", ("desc", "asc")) == "desc",
            skip=prints.place(query),
        )
        page = prints.page(self._market, security, asked) if security else prints.Page([], None)
        result: dict[str, Any] = {"results": page.rows}
        if page.next_place:
            # The end stands still while the market goes on, so that no page begins anew
            kept = {name: text for name, text in query.items() if name != "apiKey"} | {"place": page.next_place}
            kept |= {"timestamp.lt": str(min(end_ns, request.now_ms * 1_000_000))}
            result["next_url"] = f"{request.base}{request.path}?cursor={cursor(kept)}"
        return result

    def _snapshots(self, request: Request) -> dict[str, Any]:
        """The day so far of all tickers, or of those that are named."""
        names = request.query.get("tickers", "")
        rows = list(self._snapshot_rows(frozenset(names.split(",")) if names else None, request))
        return {"count": len(rows), "tickers": rows}

    def _movers(self, request: Request) -> dict[str, Any]:
        """The twenty tickers that have risen or fallen most today."""
        rows = sorted(self._snapshot_rows(None, request), key=lambda row: row["todaysChangePerc"], reverse=request.parts[0] == "gainers")
        return {"tickers": rows[:20]}

    def _snapshot(self, request: Request) -> dict[str, Any]:
        """The day so far of one ticker."""
        self._found(request.parts[0])
        for row in self._snapshot_rows(frozenset(request.parts), request):
            return {"ticker": row}
        raise _NotFoundError("Ticker not found.")

    def _snapshot_rows(self, names: frozenset[str] | None, request: Request) -> Iterator[dict[str, Any]]:
        """Yield the snapshots of tickers that have traded today."""
        for security in self._sorted if self._prices else ():
            if names is None or security.symbol in names:
                row = snapshots.snapshot(self._market, security, now_ms=request.now_ms)
                if row is not None:
                    yield row

    def _tickers(self, request: Request) -> dict[str, Any]:
        """All tickers by name, filtered."""
        query = request.query
        found = [reference.ticker(security) for security in self._sorted if reference.matches(security, query)]
        if word(query, "order", ("asc", "desc")) == "desc":
            found.reverse()
        return _paged(found, request, default=100)

    def _details(self, request: Request) -> dict[str, Any]:
        """One ticker."""
        security = self._market.by_symbol.get(request.parts[0])
        if security is None:
            raise _NotFoundError("Ticker not found.")
        return {"results": reference.ticker(security) | reference.company(security) | {"round_lot": 100}}

    def _conditions(self, request: Request) -> dict[str, Any]:
        """Conditions of stock trades with their rules."""
        query = request.query
        stocks = query.get("asset_class", "stocks") == "stocks" and query.get("data_type", "trade") == "trade"
        wanted = [number for number in sorted(RULES) if query.get("id", str(number)) == str(number)]
        return _paged([reference.condition(number) for number in wanted] if stocks else [], request, default=10)

    def _types(self, request: Request) -> dict[str, Any]:  # noqa: ARG002 - a route like the others
        """The types of tickers."""
        return {"results": reference.ticker_types(), "count": len(reference.ticker_types())}

    def _exchanges(self, request: Request) -> dict[str, Any]:  # noqa: ARG002 - a route like the others
        """The exchanges."""
        return {"results": reference.exchanges(), "count": len(reference.exchanges())}

    def _split_rows(self, request: Request) -> list[dict[str, Any]]:
        """The splits that a request asks for."""
        rows = reference.split_rows(self._market, self._sorted, today=day_at(request.now_ms))
        return reference.chosen(rows, request.query, "ticker", "adjustment_type", "execution_date")

    def _dividend_rows(self, request: Request) -> list[dict[str, Any]]:
        """The dividends that a request asks for."""
        rows = reference.dividend_rows(self._market, self._sorted, today=day_at(request.now_ms))
        return reference.chosen(rows, request.query, "ticker", "distribution_type", "ex_dividend_date")

    def _splits(self, request: Request) -> dict[str, Any]:
        return _paged(self._split_rows(request), request, default=100, high=5_000)

    def _dividends(self, request: Request) -> dict[str, Any]:
        return _paged(self._dividend_rows(request), request, default=100, high=5_000)

    def _old_splits(self, request: Request) -> dict[str, Any]:
        return _paged([reference.old_split(row) for row in self._split_rows(request)], request, default=10)

    def _old_dividends(self, request: Request) -> dict[str, Any]:
        return _paged([reference.old_dividend(row) for row in self._dividend_rows(request)], request, default=10)

    def _planted(self, request: Request) -> dict[str, Any]:
        """The chart patterns planted in the days from `from` to `to`, in the past and ahead."""
        first, last = (day_of(day(request.query.get(name, ""), name)) for name in ("from", "to"))
        names = request.query.get("symbols", "")
        wanted = [security for security in self._market.securities if not names or security.symbol in names.split(",")]
        numbers = range(max(first, 0), min(last, DAYS - 1) + 1)
        found = [plant for number in numbers for security in wanted if (plant := self._market.plant(security, number))]
        return {
            "results": [
                {
                    "symbol": plant.symbol,
                    "pattern": plant.pattern,
                    "from": _utc(plant.first_ms),
                    "to": _utc(plant.last_ms),
                    "breaks": _utc(plant.breaks_ms),
                    "turns": [_utc(moment) for moment in plant.turns_ms],
                    "height_percent": round(100 * plant.height, 2),
                }
                for plant in found
            ]
        }

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


def refused_key(key: str) -> str:
    """Return why REST refuses a key, or an empty text."""
    if not key:
        return "API Key was not provided"
    return "Unknown API Key" if key.startswith("bad") else ""


def _adjusted(query: Query) -> bool:
    """Return whether bars are asked for as splits leave them, which is the default."""
    return word(query, "adjusted", ("true", "false", "True", "False")).lower() == "true"


def _answer(status: int, body: Any) -> Answer:
    return Answer(status, msgspec.json.encode(body))


def _moment(text: str, name: str, *, end: bool) -> int:
    """Return Unix ms, or a date's first or last ms in New York. BadRequestError otherwise."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    moment = day(text, name)
    return midnight_ms(moment + timedelta(days=1), name) - 1 if end else midnight_ms(moment, name)


def _utc(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _paged(rows: Sequence[dict[str, Any]], request: Request, *, default: int, high: int = 1_000) -> dict[str, Any]:
    """Return one page of rows, with the address of the next."""
    limit = whole(request.query, "limit", default, high=high)
    offset = whole(request.query, "page", 1, high=1_000_000) - 1
    chosen = rows[offset * limit : (offset + 1) * limit]
    result: dict[str, Any] = {"results": chosen, "count": len(chosen)}
    if (offset + 1) * limit < len(rows):
        kept = {name: text for name, text in request.query.items() if name != "apiKey"}
        result["next_url"] = f"{request.base}{request.path}?cursor={cursor(kept | {'page': str(offset + 2)})}"
    return result
