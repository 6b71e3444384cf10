"""
Past bars from Massive's REST, through the official client, as snapshots. Asks and translates; stores nothing.

Raw prices only (`adjusted=false`): splits are applied on read.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
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


class HistoryError(RuntimeError):
    """REST did not give what was asked; the message says what to do."""


class RestHistory:
    """
    The REST side of the feed.

    `rejections` collects bars that came back but cannot be.
    """

    def __init__(self, *, url: str, key: str) -> None:
        if not key:
            raise HistoryError("MASSIVE_API_KEY is not set; put your key into it (or run the twin: `make run` without a key).")
        self.url = url
        self.rejections: list[Rejection] = []
        self._key = key
        self._client = RESTClient(key, base=url, retries=4, connect_timeout=10.0, read_timeout=60.0)

    def minutes(self, symbol: str, first: datetime, last: datetime, *, asked_at: datetime) -> Iterator[BarSnapshot]:
        """
        Yield the one-minute bars of [first, last], oldest first.

        A bar asked for inside its late window has the rank of the feed's own aggregate, one asked for later is settled.
        """
        asked_ms = int(asked_at.timestamp() * 1000)
        for row in self._aggregates(symbol, "minute", str(_ms(first)), str(_ms(last))):
            opened_at_ms = row.timestamp
            if opened_at_ms + MINUTE_MS > asked_ms:
                continue  # still forming
            settled = asked_ms - (opened_at_ms + MINUTE_MS) > LATE_MS
            volume = self._checked(symbol, row)
            if volume is not None:
                yield BarSnapshot(
                    symbol=symbol,
                    opened_at_ms=opened_at_ms,
                    open=float(row.open),
                    high=float(row.high),
                    low=float(row.low),
                    close=float(row.close),
                    volume=volume,
                    vwap=row.vwap,
                    trades=row.transactions,
                    source=Source.SETTLED if settled else Source.VENDOR,
                    version=asked_ms if settled else volume // (SHARE // 1_000),
                    complete=True,
                )

    def days(self, symbol: str, first: date, last: date, *, asked_at: datetime) -> Iterator[DailySnapshot]:
        """Yield the daily bars of the exchange days [first, last], oldest first; the running day is left out."""
        today = asked_at.astimezone(EXCHANGE_ZONE).date()
        for row in self._aggregates(symbol, "day", first.isoformat(), last.isoformat()):
            day = datetime.fromtimestamp(row.timestamp / 1000, EXCHANGE_ZONE).date()
            volume = self._checked(symbol, row)
            if volume is not None and day < today:
                yield DailySnapshot(
                    symbol=symbol,
                    date=day,
                    open=float(row.open),
                    high=float(row.high),
                    low=float(row.low),
                    close=float(row.close),
                    volume=volume,
                    vwap=row.vwap,
                    trades=row.transactions,
                    source=Source.SETTLED,
                    version=int(asked_at.timestamp() * 1000),
                )

    def _aggregates(self, symbol: str, timespan: str, first: str, last: str) -> Iterator[Any]:
        try:
            yield from self._client.list_aggs(symbol, 1, timespan, first, last, adjusted=False, sort="asc", limit=PAGE)
        except AuthError as error:
            raise HistoryError(f"{self.url} refused the key: {error}. Check MASSIVE_API_KEY.") from None
        except BadResponse as error:
            raise HistoryError(f"{self.url} refused bars of {symbol}: {str(error)[:200]}. Check MASSIVE_API_KEY and the plan.") from None
        except urllib3.exceptions.HTTPError as error:
            raise HistoryError(
                f"{self.url} cannot be reached for bars of {symbol} ({type(error).__name__}). Check MASSIVE_REST_URL."
            ) from None

    def _checked(self, symbol: str, row: Any) -> int | None:
        """Return the bar's volume in 1/SHARE shares, or keep it as a rejection where it cannot be a bar."""
        prices = (row.open, row.high, row.low, row.close)
        try:
            if any(not isinstance(price, int | float) or not 0 < price < 10**7 for price in prices):
                raise BadSizeError("a price is missing or cannot be")
            if not row.low <= row.open <= row.high or not row.low <= row.close <= row.high:
                raise BadSizeError("open and close must lie between low and high")
            if not isinstance(row.volume, int | float):
                raise BadSizeError("the volume is missing")
            return units(None, row.volume)
        except BadSizeError as error:
            raw = msgspec.json.encode({key: value for key, value in vars(row).items() if value is not None}).decode()
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


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
