"""
Past bars from Massive's REST, through the official client, as snapshots. Asks and translates; stores nothing.

Raw prices only (`adjusted=false`): splits are applied on read.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

import msgspec
import urllib3
from massive import RESTClient
from massive.exceptions import AuthError, BadResponse

from marketdata.bars.builder import LATE_MS
from marketdata.bars.session import Hours
from marketdata.bars.sizes import BadSizeError, units
from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarSnapshot, DailySnapshot
from marketdata.feed.decode import Rejection
from marketdata.models import Source

EXCHANGE_ZONE = ZoneInfo("America/New_York")
PAGE = 50_000
ACTIONS_PAGE = 1_000
TICKERS_A_QUESTION = 100
FEW_RETRIES = 4  # of 429 and 5xx, at once and after 1, 2, 4 s: for who can come back later
MANY_RETRIES = 8  # up to 30 s: together well over the minute in which the smallest plan gets its requests back
FIRST_WAIT_SECONDS = 0.5  # doubled before each further try, with as much again at random
LONGEST_WAIT_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 120


class _Page(msgspec.Struct):
    """One page of any list that REST gives."""

    results: list[dict[str, Any]] | None = None
    next_url: str | None = None


class _Details(msgspec.Struct):
    results: dict[str, Any]


_PAGES = msgspec.json.Decoder(_Page)
_DETAILS = msgspec.json.Decoder(_Details)


class HistoryError(RuntimeError):
    """REST did not give what was asked; the message says what to do."""


class UnknownSymbolError(HistoryError):
    """REST does not know the symbol."""


class RestHistory:
    """
    The REST side of the feed; answers 429 and 5xx are asked again `retries` times, later each time, or when Retry-After says.

    `rejections` collects bars that came back but cannot be.
    """

    def __init__(self, *, url: str, key: str, retries: int = FEW_RETRIES) -> None:
        if not key:
            raise HistoryError("MASSIVE_API_KEY is not set; put your key into it (or run the twin: `make run` without a key).")
        self.url = url
        self.rejections: list[Rejection] = []
        self._key = key
        self._tries = retries + 1
        strategy = urllib3.Retry(
            total=None,
            connect=2,
            read=3,
            status=retries,
            other=0,
            redirect=0,
            status_forcelist=[413, 429, 499, 500, 502, 503, 504],
            backoff_factor=FIRST_WAIT_SECONDS,
            backoff_max=LONGEST_WAIT_SECONDS,
            backoff_jitter=FIRST_WAIT_SECONDS,
            respect_retry_after_header=True,
            retry_after_max=LONGEST_RETRY_AFTER_SECONDS,
        )
        pool = {"retries": strategy}
        self._client = RESTClient(key, base=url, connect_timeout=10.0, read_timeout=60.0, connection_pool_kw=pool)

    def minutes(self, symbol: str, first: datetime, last: datetime, *, asked_at: datetime) -> Iterator[BarSnapshot]:
        """
        Yield the one-minute bars of [first, last], oldest first.

        A bar asked for inside its late window has the rank of the feed's own aggregate, one asked for later is settled.
        """
        asked_ms = int(asked_at.timestamp() * 1000)
        for row in self._aggregates(symbol, "minute", str(_ms(first)), str(_ms(last))):
            opened_at_ms = row["t"]
            if opened_at_ms + MINUTE_MS > asked_ms:
                continue  # still forming
            settled = asked_ms - (opened_at_ms + MINUTE_MS) > LATE_MS
            volume = self._checked(symbol, row)
            if volume is not None:
                yield BarSnapshot(
                    symbol=symbol,
                    opened_at_ms=opened_at_ms,
                    open=float(row["o"]),
                    high=float(row["h"]),
                    low=float(row["l"]),
                    close=float(row["c"]),
                    volume=volume,
                    vwap=_optional(row, "vw", float),
                    trades=_optional(row, "n", int),
                    source=Source.SETTLED if settled else Source.VENDOR,
                    version=asked_ms if settled else volume // (SHARE // 1_000),
                    complete=True,
                )

    def days(self, symbol: str, first: date, last: date, *, asked_at: datetime, finished: date | None = None) -> Iterator[DailySnapshot]:
        """Yield the daily bars of the exchange days [first, last], oldest first; today is left out unless it is the `finished` day."""
        today = asked_at.astimezone(EXCHANGE_ZONE).date()
        for row in self._aggregates(symbol, "day", first.isoformat(), last.isoformat()):
            day = datetime.fromtimestamp(row["t"] / 1000, EXCHANGE_ZONE).date()
            volume = self._checked(symbol, row)
            if volume is not None and (day < today or day == finished):
                yield DailySnapshot(
                    symbol=symbol,
                    date=day,
                    open=float(row["o"]),
                    high=float(row["h"]),
                    low=float(row["l"]),
                    close=float(row["c"]),
                    volume=volume,
                    vwap=_optional(row, "vw", float),
                    trades=_optional(row, "n", int),
                    source=Source.SETTLED,
                    version=int(asked_at.timestamp() * 1000),
                )

    def splits(self, symbols: Sequence[str], first: date, last: date) -> Iterator[dict[str, Any]]:
        """Yield the splits executed in [first, last] as REST gives them: ticker, execution_date, split_from, split_to."""
        for some in _batches(symbols):
            yield from self._rows(
                "splits",
                lambda some=some: self._client.list_stocks_splits(  # type: ignore[misc]
                    ticker_any_of=some,
                    execution_date_gte=first.isoformat(),
                    execution_date_lte=last.isoformat(),
                    limit=ACTIONS_PAGE,
                    raw=True,
                ),
            )

    def dividends(self, symbols: Sequence[str], first: date, last: date) -> Iterator[dict[str, Any]]:
        """Yield the cash dividends of [first, last] as REST gives them: ticker, ex_dividend_date, cash_amount, pay_date."""
        for some in _batches(symbols):
            yield from self._rows(
                "dividends",
                lambda some=some: self._client.list_stocks_dividends(  # type: ignore[misc]
                    ticker_any_of=some,
                    ex_dividend_date_gte=first.isoformat(),
                    ex_dividend_date_lte=last.isoformat(),
                    limit=ACTIONS_PAGE,
                    raw=True,
                ),
            )

    def details(self, symbol: str) -> dict[str, Any] | None:
        """Return what REST says of a symbol itself: name, type, primary_exchange, sic_code, market_cap …; None where it does not know it."""
        what = f"details of {symbol}"
        try:
            answer = self._answer(what, lambda: self._client.get_ticker_details(quote(symbol, safe=""), raw=True))
        except UnknownSymbolError:
            return None
        try:
            return _DETAILS.decode(answer.data).results
        except msgspec.MsgspecError as error:
            raise HistoryError(f"{self.url} answered for {what} what cannot be read ({error}). Try again.") from None

    def _aggregates(self, symbol: str, timespan: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        """Yield a symbol's bars, each once and in order: pages may overlap at their edges."""
        newest, repeats = -(1 << 63), 0
        for row in self._rows(
            f"bars of {symbol}",
            lambda: self._client.list_aggs(
                quote(symbol, safe=""), 1, timespan, first, last, adjusted=False, sort="asc", limit=PAGE, raw=True
            ),
        ):
            start = row.get("t")
            if not isinstance(start, int):
                raise HistoryError(f"{self.url} sent a bar of {symbol} without its time; nothing after it was taken.")
            if start > newest:
                newest, repeats = start, 0
                yield row
            elif (repeats := repeats + 1) > 2 * PAGE:
                raise HistoryError(f"{self.url} sends the same bars of {symbol} again and again; asked no further.")

    def _rows(self, what: str, ask: Callable[[], Any]) -> Iterator[dict[str, Any]]:
        """
        Yield the rows of all pages. Nothing is lost in silence: an answer that cannot be read is a HistoryError, an empty page is not the end.

        Of `next_url` only path and query are used, on our own host: neither the key nor a request goes elsewhere.
        """
        answer = self._answer(what, ask)
        while True:
            try:
                page = _PAGES.decode(answer.data)
            except msgspec.MsgspecError as error:
                raise HistoryError(f"{self.url} answered for {what} what cannot be read ({error}). Try again.") from None
            yield from page.results or ()
            if not page.next_url:
                return
            address = urlsplit(page.next_url)
            path = f"{address.path}?{address.query}" if address.query else address.path
            if not path.startswith("/"):
                raise HistoryError(f"{self.url} named no usable next page for {what} ({page.next_url[:80]!r}).")
            answer = self._answer(what, lambda path=path: self._client._get(path, raw=True))  # type: ignore[misc]  # the way of the client's own paging

    def _answer(self, what: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except AuthError as error:
            raise HistoryError(f"{self.url} refused the key: {error}. Check MASSIVE_API_KEY.") from None
        except BadResponse as error:
            if '"NOT_FOUND"' in str(error):
                raise UnknownSymbolError(f"{self.url} knows no {what.rpartition(' ')[2]}.") from None
            raise HistoryError(f"{self.url} refused {what}: {str(error)[:200]}. Check MASSIVE_API_KEY and the plan.") from None
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.ResponseError):
                raise HistoryError(
                    f"{self.url} did not give {what} in {self._tries} tries ({error.reason}); the rate limit of the plan, or an outage. "
                    "Run it again later."
                ) from None
            raise self._unreachable(what, error.reason or error) from None
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(what, error) from None

    def _unreachable(self, what: str, error: Exception) -> HistoryError:
        return HistoryError(f"{self.url} cannot be reached for {what} ({type(error).__name__}). Check MASSIVE_REST_URL.")

    def _checked(self, symbol: str, row: dict[str, Any]) -> int | None:
        """Return the bar's volume in 1/SHARE shares, or keep it as a rejection where it cannot be a bar."""
        prices = [row.get(name) for name in "ohlc"]
        try:
            if any(not isinstance(price, int | float) or not 0 < price < 10**7 for price in prices):
                raise BadSizeError("a price is missing or cannot be")
            if not row["l"] <= row["o"] <= row["h"] or not row["l"] <= row["c"] <= row["h"]:
                raise BadSizeError("open and close must lie between low and high")
            decimal, volume = row.get("dv"), row.get("v")
            if not isinstance(decimal, str) and not isinstance(volume, int | float):
                raise BadSizeError("the volume is missing")
            return units(decimal if isinstance(decimal, str) else None, volume if isinstance(volume, int | float) else 0.0)
        except BadSizeError as error:
            raw = msgspec.json.encode(row).decode()
            self.rejections.append(Rejection(reason="bad_value", detail=str(error), kind="agg", symbol=symbol, raw=raw))
            return None

    def twin_calendar(self, first: date, last: date) -> list[tuple[date, Hours]]:
        """Return the twin's own sessions: its market keeps other hours than New York's."""
        try:
            answer = urllib3.request(
                "GET",
                f"{self.url}/v1/twin/calendar?from={first.isoformat()}&to={last.isoformat()}",
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=10.0,
            )
        except urllib3.exceptions.HTTPError as error:
            raise HistoryError(f"{self.url} cannot be reached for its calendar ({type(error).__name__}). Check MASSIVE_REST_URL.") from None
        if answer.status != 200:
            raise HistoryError(f"{self.url} has no calendar (HTTP {answer.status}); is it the twin? Unset USE_SYNTHETIC_DATA for Massive.")
        return [
            (
                date.fromisoformat(row["date"]),
                Hours(*(_ms(datetime.fromisoformat(row[name])) for name in ("pre_open", "open", "close", "post_close"))),
            )
            for row in msgspec.json.decode(answer.data)["results"]
        ]


def exchange_sessions(first: date, last: date) -> list[tuple[date, Hours]]:
    """
    Return New York's sessions of [first, last]: regular hours from exchange_calendars (XNYS), pre-market from 04:00 and post-market to 20:00,
    17:00 after an early close.
    """
    import exchange_calendars  # noqa: PLC0415 - brings pandas: half a second that only this question may cost

    schedule = exchange_calendars.get_calendar("XNYS", start="1990-01-02", end=(last + timedelta(days=10)).isoformat()).schedule
    sessions = []
    for stamp, row in schedule.loc[first.isoformat() : last.isoformat()].iterrows():
        day = stamp.date()
        opens, closes = row["open"].to_pydatetime(), row["close"].to_pydatetime()
        early = closes.astimezone(EXCHANGE_ZONE).hour < 16
        pre_open = datetime(day.year, day.month, day.day, 4, tzinfo=EXCHANGE_ZONE)
        post_close = datetime(day.year, day.month, day.day, 17 if early else 20, tzinfo=EXCHANGE_ZONE)
        sessions.append((day, Hours(_ms(pre_open), _ms(opens), _ms(closes), _ms(post_close))))
    return sessions


def _batches(symbols: Sequence[str]) -> Iterator[str]:
    """Return the symbols joined by commas, some at a time: a list in an address must not grow without end."""
    for start in range(0, len(symbols), TICKERS_A_QUESTION):
        yield ",".join(symbols[start : start + TICKERS_A_QUESTION])


def _optional(row: dict[str, Any], name: str, kind: type) -> Any:
    """Return a value that REST may leave out; 12.0 is the whole number 12, and what is no number counts as left out."""
    value = row.get(name)
    return kind(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
