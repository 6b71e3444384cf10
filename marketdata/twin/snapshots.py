"""The day so far of one ticker, as Massive's snapshot shows it. Pure."""

from typing import Any

import numpy as np

from marketdata.twin import aggregates
from marketdata.twin.candles import SHARE, Candles
from marketdata.twin.days import DAYS, MINUTE_MS, day_at, day_starts
from marketdata.twin.market import Market
from marketdata.twin.messages import Event, quote_events, shares, trade_events
from marketdata.twin.securities import Security

_MS_NS = 1_000_000


def snapshot(market: Market, security: Security, *, now_ms: int) -> dict[str, Any] | None:
    """Return a ticker's snapshot, made of its finished minutes; None before the day's first bar and where there is no market."""
    number = day_at(now_ms)
    if not 0 <= number < DAYS:
        return None
    starts, bars = market.minutes(security, number, number + 1)
    known = np.flatnonzero(starts + MINUTE_MS + aggregates.SETTLING_MS <= now_ms)
    traded = known[bars.trades[known] > 0]
    if not len(traded):
        return None
    midnight_ms, last = int(day_starts()[number]), int(traded[-1])
    whole = bars.take(traded).fold(np.zeros(1, dtype=np.int64))
    day = aggregates.rows(whole, np.array([midnight_ms]), scale=security.scale)[0]
    minute = aggregates.rows(bars.take(np.array([last])), starts[last : last + 1], scale=security.scale)[0]
    accumulated = int(bars.volume[: last + 1].sum())
    minute |= {"av": accumulated // SHARE, "dav": shares(accumulated), "dv": shares(int(bars.volume[last]))}
    previous = _previous(market, security, number)
    change = float(minute["c"]) - float(previous["c"]) if previous else 0.0
    return {
        "ticker": security.symbol,
        "day": day,
        "min": minute,
        "prevDay": previous or {},
        "lastTrade": _last_trade(trade_events(market, security, int(starts[last]) // MINUTE_MS)),
        "lastQuote": _last_quote(quote_events(market, security, int(starts[last]) // MINUTE_MS)),
        "todaysChange": round(change, 4),
        "todaysChangePerc": round(100 * change / float(previous["c"]), 4) if previous else 0.0,
        "updated": (int(starts[last]) + MINUTE_MS) * _MS_NS,
    }


def _previous(market: Market, security: Security, number: int) -> aggregates.Row | None:
    """Return the day before, as splits until today leave it."""
    if number == 0:
        return None
    bars: Candles = market.days(security, number - 1, number)
    adjusted, scale = market.adjusted(security, bars, np.array([number - 1]), as_of_day=number)
    return aggregates.rows(adjusted, day_starts()[number - 1 : number], scale=scale)[0]


def _last_trade(trades: list[Event]) -> dict[str, Any]:
    """Return the last trade with the snapshot's short names."""
    trade = trades[-1]
    row = {"T": trade["sym"], "i": trade["i"], "p": trade["p"], "q": trade["q"], "s": trade["s"], "t": trade["t"] * _MS_NS, "x": trade["x"]}
    return row | {"z": trade["z"], "c": trade.get("c", ())}


def _last_quote(quotes: dict[int, Event]) -> dict[str, Any]:
    """Return the last quote with the snapshot's short names: `P` and `S` the ask, `p` and `s` the bid."""
    quote = quotes[max(quotes)]
    return {"P": quote["ap"], "S": quote["as"], "p": quote["bp"], "s": quote["bs"], "t": quote["t"] * _MS_NS}
