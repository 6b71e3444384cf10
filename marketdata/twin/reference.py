"""
Massive's reference data for the twin's market: tickers, conditions, exchanges, types, splits and dividends as rows. Pure.

Prices do not fall by the dividends that are listed; only splits move them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from marketdata.feed.conditions import HIGH_LOW, OPEN_CLOSE, RULES, VOLUME
from marketdata.twin.days import date_of
from marketdata.twin.market import Market
from marketdata.twin.noise import streams, uniforms
from marketdata.twin.requests import BadRequestError, Query
from marketdata.twin.scenarios import SPLIT_RATIO, dividend_days, price_factor, split_days, splits
from marketdata.twin.securities import Security

Row = dict[str, Any]

ANNOUNCED_DAYS = 10  # a split or dividend is listed so long before its day
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
_EXCHANGES = (
    (1, "NYSE American, LLC", "XASE", "exchange"),
    (2, "Nasdaq Texas, LLC", "XBOS", "exchange"),
    (3, "NYSE National, Inc.", "XCIS", "exchange"),
    (4, "FINRA Alternative Display Facility", "XADF", "TRF"),
    (7, "Cboe EDGA", "EDGA", "exchange"),
    (8, "Cboe EDGX", "EDGX", "exchange"),
    (10, "New York Stock Exchange", "XNYS", "exchange"),
    (11, "NYSE Arca, Inc.", "ARCX", "exchange"),
    (12, "Nasdaq", "XNAS", "exchange"),
    (15, "Investors Exchange", "IEXG", "exchange"),
    (17, "Nasdaq Philadelphia Exchange LLC", "XPHL", "exchange"),
    (18, "Cboe BYX", "BATY", "exchange"),
    (19, "Cboe BZX", "BATS", "exchange"),
    (20, "MIAX Pearl", "EPRL", "exchange"),
    (21, "Members Exchange", "MEMX", "exchange"),
    (201, "FINRA NYSE TRF", "FINY", "TRF"),
    (202, "FINRA Nasdaq TRF Carteret", "FINN", "TRF"),
    (203, "FINRA Nasdaq TRF Chicago", "FINC", "TRF"),
)
_TYPES = (("CS", "Common Stock"), ("ETF", "Exchange Traded Fund"))


def ticker(security: Security) -> Row:
    """Return a ticker as the list and the details show it."""
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


# One code of each sector that reads back as that sector (marketdata.feed.industries)
_SIC = {
    "Technology": "3674",
    "Health Care": "2834",
    "Financials": "6021",
    "Consumer Discretionary": "5700",
    "Communication Services": "4899",
    "Industrials": "3560",
    "Consumer Staples": "2000",
    "Energy": "1311",
    "Utilities": "4911",
    "Real Estate": "6798",
    "Materials": "2810",
}
_DAYS_TO_TURN_OVER = 200  # a company's shares, at its usual volume


def company(security: Security) -> Row:
    """Return what the details say of a company besides; of a fund nothing."""
    listing = security.listing
    if listing.type != "CS":
        return {}
    shares = security.volume * _DAYS_TO_TURN_OVER
    industry = {"sic_code": _SIC[listing.sector]} if listing.sector in _SIC else {}
    industry |= {"sic_description": listing.industry.upper()} if listing.industry else {}
    return industry | {"share_class_shares_outstanding": shares, "market_cap": round(shares * security.price, 2)}


def matches(security: Security, query: Query) -> bool:
    """Tell whether a ticker fits the filters that Massive knows by equality, and `search`."""
    listing = security.listing
    facts = {"market": "stocks", "active": "true", "ticker": listing.symbol, "type": listing.type, "exchange": listing.exchange}
    words = f"{listing.symbol} {listing.name}".lower()
    return (
        all((query.get(name) or fact).lower() == fact.lower() for name, fact in facts.items()) and query.get("search", "").lower() in words
    )


def condition(number: int) -> Row:
    """Return the rules of one condition of stock trades."""
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


def exchanges() -> list[Row]:
    """Return the exchanges and reporting facilities that the tape names, and their neighbours."""
    return [
        {"id": number, "type": kind, "asset_class": "stocks", "locale": "us", "name": name, "mic": mic, "operating_mic": mic}
        for number, name, mic, kind in _EXCHANGES
    ]


def ticker_types() -> list[Row]:
    """Return the types that the market's tickers have."""
    return [{"code": code, "description": words, "asset_class": "stocks", "locale": "us"} for code, words in _TYPES]


def split_rows(market: Market, securities: Iterable[Security], *, today: int) -> list[Row]:
    """Return the splits until `today`, a day's number, and the announced ones."""
    return [row for security in securities if splits(market.scenario, security) for row in _splits_of(market, security, today)]


def _splits_of(market: Market, security: Security, today: int) -> list[Row]:
    rows = []
    days = split_days(market.seed, security)
    for place, number in enumerate(days[days <= today + ANNOUNCED_DAYS].tolist()):
        forward = place % 2 == 0
        before, now = price_factor(market.scenario, market.seed, security, np.array([number - 1, max(today, number)])).tolist()
        rows.append(
            {
                "id": f"S-{security.symbol}-{number}",
                "ticker": security.symbol,
                "execution_date": date_of(number).isoformat(),
                "split_from": 1 if forward else SPLIT_RATIO,
                "split_to": SPLIT_RATIO if forward else 1,
                "adjustment_type": "forward_split" if forward else "reverse_split",
                "historical_adjustment_factor": round(now / before, 8),
            }
        )
    return rows


def dividend_rows(market: Market, securities: Iterable[Security], *, today: int) -> list[Row]:
    """Return the dividends until `today`, a day's number, and the announced ones: a third of a percent each quarter, or near it."""
    rows = []
    for security in securities:
        days = dividend_days(market.scenario, market.seed, security)
        days = days[days <= today + ANNOUNCED_DAYS]
        draws = uniforms(streams(market.seed, f"dividend of {security.symbol}"), days)[0]
        factors = price_factor(market.scenario, market.seed, security, days)
        now = price_factor(market.scenario, market.seed, security, np.array([today]))[0]
        for number, draw, factor in zip(days.tolist(), draws.tolist(), factors.tolist(), strict=True):
            amount = round(security.price * (0.002 + 0.002 * draw) * factor, 2)
            rows.append(
                {
                    "id": f"D-{security.symbol}-{number}",
                    "ticker": security.symbol,
                    "cash_amount": amount,
                    "currency": "USD",
                    "declaration_date": date_of(number - ANNOUNCED_DAYS).isoformat(),
                    "distribution_type": "recurring",
                    "ex_dividend_date": date_of(number).isoformat(),
                    "frequency": 4,
                    "historical_adjustment_factor": 1.0,
                    "pay_date": date_of(number + 14).isoformat(),
                    "record_date": date_of(number).isoformat(),
                    "split_adjusted_cash_amount": round(amount * int(now) / factor, 6),
                }
            )
    return rows


_OLD_SPLIT = ("id", "execution_date", "split_from", "split_to", "ticker")
_OLD_DIVIDEND = ("id", "cash_amount", "currency", "declaration_date", "ex_dividend_date", "frequency", "pay_date", "record_date", "ticker")


def old_split(row: Row) -> Row:
    """Return a split as /v3/reference/splits, which is deprecated, shows it."""
    return {name: row[name] for name in _OLD_SPLIT}


def old_dividend(row: Row) -> Row:
    """Return a dividend as /v3/reference/dividends, which is deprecated, shows it."""
    return {name: row[name] for name in _OLD_DIVIDEND} | {"dividend_type": "CD"}


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "": lambda value, text: value == text,
    ".any_of": lambda value, text: value in text.split(","),
    ".gt": lambda value, text: value > text,
    ".gte": lambda value, text: value >= text,
    ".lt": lambda value, text: value < text,
    ".lte": lambda value, text: value <= text,
}


def chosen(rows: Sequence[Row], query: Query, *names: str) -> list[Row]:
    """
    Return the rows that fit the filters on columns of text, in the order asked for; by the last of `names`, newest first, by default.

    Both spellings of an order are read: `sort=ticker&order=asc` and `sort=ticker.asc`. BadRequestError where a column is unknown.
    """
    for name in names:
        for suffix, fits in _COMPARISONS.items():
            if text := query.get(name + suffix):
                rows = [row for row in rows if fits(row[name], text)]
    column, _, way = (query.get("sort") or names[-1]).partition(".")
    way = way or query.get("order") or "desc"
    if column not in names or way not in ("asc", "desc"):
        raise BadRequestError(f"sort must name one of {', '.join(names)}, and the order is asc or desc.")
    return sorted(rows, key=lambda row: (row[column], row["id"]), reverse=way == "desc")
