"""The tape for REST: /v3/trades, between two moments, a page at a time, either way. Pure."""

from datetime import timedelta
from typing import Any, NamedTuple

from marketdata.twin.days import DAYS, MINUTE_MS, day_starts
from marketdata.twin.market import Market
from marketdata.twin.messages import Event, trade_events
from marketdata.twin.requests import BadRequestError, Query, day, midnight_ms
from marketdata.twin.securities import Security

_MS_NS = 1_000_000
_FIRST_NS, _END_NS = 0, 2**62


class Range(NamedTuple):
    """What is asked: trades with [first_ms, end_ms), `skip` (minute, trades already given of it) to go on with, or None."""

    first_ms: int
    end_ms: int
    limit: int
    descending: bool
    skip: tuple[int, int] | None


class Page(NamedTuple):
    """Trades in the order asked for, and where the next page begins, if there is one."""

    rows: list[dict[str, Any]]
    next_place: str | None


def page(market: Market, security: Security, asked: Range) -> Page:
    """Return one page of trades."""
    first = max(asked.first_ms, int(day_starts()[0]))
    end = min(asked.end_ms, int(day_starts()[DAYS]))
    minutes = range(first // MINUTE_MS, -(-end // MINUTE_MS))
    done = 0
    if asked.skip:
        minute, done = asked.skip
        minutes = range(minutes.start, minute + 1) if asked.descending else range(minute, minutes.stop)
    rows: list[dict[str, Any]] = []
    for minute in reversed(minutes) if asked.descending else minutes:
        inside = [event for event in trade_events(market, security, minute) if first <= event["t"] < end]
        if asked.descending:
            inside.reverse()
        room = asked.limit - len(rows)
        rows.extend(_row(event) for event in inside[done : done + room])
        if len(inside) - done > room:
            return Page(rows, f"{minute}.{done + room}")
        done = 0
    return Page(rows, None)


def span_ns(query: Query) -> tuple[int, int]:
    """
    Return the half-open span of the `timestamp` filters in ns; a date stands for its whole day in New York.

    BadRequestError where a filter is neither.
    """
    first, end = _FIRST_NS, _END_NS
    for suffix in ("", ".gte", ".gt", ".lte", ".lt"):
        if text := query.get(f"timestamp{suffix}"):
            starts, ends = _moment_ns(text, f"timestamp{suffix}")
            if suffix in ("", ".gte", ".gt"):
                first = max(first, ends if suffix == ".gt" else starts)
            if suffix in ("", ".lte", ".lt"):
                end = min(end, starts if suffix == ".lt" else ends)
    return first, max(first, end)


def place(query: Query) -> tuple[int, int] | None:
    """Return where a page goes on. BadRequestError where that is not one of ours."""
    text = query.get("place", "")
    if not text:
        return None
    minute, _, done = text.partition(".")
    if not (minute.isascii() and minute.isdigit() and done.isascii() and done.isdigit()):
        raise BadRequestError("cursor is not one that this server gave; follow next_url as it stands.")
    return int(minute), int(done)


def _moment_ns(text: str, name: str) -> tuple[int, int]:
    """Return the first ns of what a text means, and the first after it."""
    if text.isascii() and text.isdigit() and len(text) <= 19:
        return int(text), int(text) + 1
    date = day(text, name)
    return midnight_ms(date, name) * _MS_NS, midnight_ms(date + timedelta(days=1), name) * _MS_NS


def _row(event: Event) -> dict[str, Any]:
    """Return a T event as REST shows it."""
    row: dict[str, Any] = {
        "exchange": event["x"],
        "id": event["i"],
        "participant_timestamp": int(event["trft"] if "trft" in event else event["t"]) * _MS_NS,
        "price": event["p"],
        "sequence_number": event["q"],
        "sip_timestamp": event["t"] * _MS_NS,
        "size": event["s"],
        "decimal_size": event.get("ds", f"{event['s']}.0"),
        "tape": event["z"],
    }
    if "c" in event:
        row["conditions"] = event["c"]
    if "trfi" in event:
        row |= {"trf_id": event["trfi"], "trf_timestamp": event["trft"] * _MS_NS}
    return row
