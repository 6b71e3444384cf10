"""
The market as Massive's WebSocket events: A, AM and T with Massive's keys and quirks. Pure.

`dv`, `dav` and `ds` carry what `v`, `av` and `s` must round down; some events omit them where nothing is lost, as the real feed does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from marketdata.twin.candles import SHARE
from marketdata.twin.days import MINUTE_MS, SECOND_MS
from marketdata.twin.market import Market, Minute
from marketdata.twin.securities import Security
from marketdata.twin.tape import FACILITIES, Tape, fold_seconds

Event = dict[str, Any]

TAPES: Mapping[str, int] = {"XNYS": 1, "XNAS": 3}  # all others: tape 2
PAUSED, BANDS = 17, 21  # indicators of LULD
_OFF_EXCHANGE = 4
_UNSEEN = 10  # one trade in ten is missing from a minute that is sent too early


def minute_event(market: Market, security: Security, minute: int) -> Event:
    """Return the AM of a minute."""
    bar = market.minute(security, minute)
    volume_after, traded_after = bar.volume_before + bar.volume, bar.traded_before + bar.vwap * bar.volume / SHARE
    return _aggregate(
        "AM",
        security,
        bar,
        span=(bar.opened_at_ms, MINUTE_MS),
        prices=(bar.open, bar.high, bar.low, bar.close, bar.vwap),
        volume=bar.volume,
        trades=bar.trades,
        day=(volume_after, traded_after),
    )


def early_minute_event(market: Market, security: Security, minute: int) -> Event:
    """Return the AM of a minute as it looks while its last trades are still unseen; the right one must follow."""
    tape = market.tape(security, minute)
    return partial_minute_event(market, security, minute, tape.first(len(tape.at_ms) - max(2, len(tape.at_ms) // _UNSEEN)))


def partial_minute_event(market: Market, security: Security, minute: int, tape: Tape) -> Event:
    """Return the AM of a minute as the trades of `tape`, some of the minute's own, make it."""
    bar, setting = market.minute(security, minute), tape.price[tape.setting()]
    volume, traded = int(tape.size.sum()), float((tape.price * tape.size).sum()) / SHARE
    return _aggregate(
        "AM",
        security,
        bar,
        span=(bar.opened_at_ms, MINUTE_MS),
        prices=(float(setting[0]), float(setting.max()), float(setting.min()), float(setting[-1]), traded / volume * SHARE),
        volume=volume,
        trades=len(tape.at_ms),
        day=(bar.volume_before + volume, bar.traded_before + traded),
    )


def second_events(market: Market, security: Security, minute: int, tape: Tape | None = None) -> dict[int, Event]:
    """Return the A of each second of a minute that has one, by the second's start in Unix ms; as `tape` makes them, if it is given."""
    bar = market.minute(security, minute)
    if not bar.trades:
        return {}
    seconds = fold_seconds(market.tape(security, minute) if tape is None else tape)
    volume_after = bar.volume_before + np.cumsum(seconds.volume)
    traded_after = bar.traded_before + np.cumsum(seconds.traded)
    vwap = seconds.traded * SHARE / seconds.volume
    return {
        int(opened_at_ms): _aggregate(
            "A",
            security,
            bar,
            span=(int(opened_at_ms), SECOND_MS),
            prices=tuple(float(column[n]) for column in (seconds.open, seconds.high, seconds.low, seconds.close, vwap)),
            volume=int(seconds.volume[n]),
            trades=int(seconds.end[n] - seconds.first[n]),
            day=(int(volume_after[n]), float(traded_after[n])),
        )
        for n, opened_at_ms in enumerate(seconds.opened_at_ms)
    }


def trade_events(market: Market, security: Security, minute: int) -> list[Event]:
    """Return the T of a minute in the order of the tape."""
    tape = market.tape(security, minute)
    return [_trade(security, tape, n) for n in range(len(tape.at_ms))]


def quote_events(market: Market, security: Security, minute: int) -> dict[int, Event]:
    """Return a Q for each second that sets a price, by the second's start in Unix ms: a tick about the last trade, in round lots."""
    tape = market.tape(security, minute)
    places, quotes = np.flatnonzero(tape.setting()), {}
    for place in places.tolist():  # the last of a second stays
        at_ms, price, sequence = int(tape.at_ms[place]), float(tape.price[place]), int(tape.sequence[place])
        ticks = round(price * security.scale)
        quotes[at_ms // SECOND_MS * SECOND_MS] = {
            "ev": "Q",
            "sym": security.symbol,
            "bx": 12,
            "bp": max(ticks - 1, 1) / security.scale,
            "bs": 1 + sequence % 9,
            "ax": 11,
            "ap": (ticks + 1) / security.scale,
            "as": 1 + sequence % 7,
            "c": 1,
            "t": at_ms,
            "q": sequence,
            "z": TAPES.get(security.listing.exchange, 2),
        }
    return quotes


def band_event(market: Market, security: Security, minute: int, *, paused: bool) -> Event:
    """
    Return the LULD of a pause that begins with a minute, or of the reopening that ends before it: the ticker in `T`, `t` in ns.

    No document says which indicator means what: PAUSED and BANDS are ours.
    """
    last = market.minute(security, minute - 1) if paused else market.minute(security, minute)
    price = last.close if paused else last.open
    return {
        "ev": "LULD",
        "T": security.symbol,
        "h": round(price * 1.05, 2),
        "l": round(price * 0.95, 2),
        "i": [PAUSED if paused else BANDS],
        "z": TAPES.get(security.listing.exchange, 2),
        "t": minute * MINUTE_MS * 1_000_000 + 123_456_789,
        "q": minute % 10_000_000,
    }


def shares(thousandths: int) -> str:
    """Return a number of shares as Massive's decimal string."""
    return str(thousandths / SHARE)


def _aggregate(
    kind: str,
    security: Security,
    bar: Minute,
    *,
    span: tuple[int, int],
    prices: tuple[float, ...],
    volume: int,
    trades: int,
    day: tuple[int, float],
) -> Event:
    """Return an A or AM: `prices` are open, high, low, close and vwap; `day` is volume and dollars since the day began."""
    size = round(volume / SHARE / trades)
    event: Event = {"ev": kind, "sym": security.symbol, "v": volume // SHARE, "av": day[0] // SHARE}
    if volume % SHARE or day[0] % SHARE or size % 4:
        event |= {"dv": shares(volume), "dav": shares(day[0])}
    return event | {
        "op": bar.day_open,
        "vw": round(prices[4], 4),
        "o": prices[0],
        "c": prices[3],
        "h": prices[1],
        "l": prices[2],
        "a": round(day[1] / day[0] * SHARE, 4),
        "z": float(size) if size % 16 == 0 else size,
        "s": span[0],
        "e": span[0] + span[1],
    }


def _trade(security: Security, tape: Tape, n: int) -> Event:
    """Return the T of one trade."""
    venue, size, sequence = int(tape.venue[n]), int(tape.size[n]), int(tape.sequence[n])
    event: Event = {
        "ev": "T",
        "sym": security.symbol,
        "x": venue,
        "i": str(sequence),
        "z": TAPES.get(security.listing.exchange, 2),
        "p": float(tape.price[n]),
        "s": size // SHARE,
    }
    if size % SHARE or sequence % 2:
        event["ds"] = shares(size)
    if conditions := tape.conditions(n):
        event["c"] = conditions
    event |= {"t": int(tape.at_ms[n]), "q": sequence}
    if venue == _OFF_EXCHANGE:
        event |= {"trfi": FACILITIES[sequence % len(FACILITIES)], "trft": int(tape.at_ms[n] - tape.latency_ms[n])}
    return event
