"""Who stands in a universe, and what a symbol is: files of holdings, and REST's details of each symbol."""

import csv
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction

from marketdata.feed.industries import sector_of
from marketdata.feed.listing import TEST_TICKERS
from marketdata.history import RestHistory
from marketdata.models import Membership, Symbol, Universe

log = logging.getLogger(__name__)

COLUMNS = ("symbol", "ticker")
FRESH = timedelta(days=7)  # how long a symbol's details are not asked for again
MOST_CAP = Decimal(10) ** 15


class ListingError(ValueError):
    """A file is no list of a universe; the message names the row and the cure."""


@dataclass(frozen=True, slots=True)
class Holding:
    """One row of a file: a symbol, and its share in percent where the file says it."""

    symbol: str
    weight: Decimal | None


class UniverseReport(msgspec.Struct):
    """What an import of a universe changed, or with `dry_run` would change."""

    universe: str
    created: bool
    members: int
    added: list[str]
    removed: list[str]
    reweighted: list[str]
    unchanged: int
    new_symbols: list[str]
    dry_run: bool


def read_holdings(path: Path) -> list[Holding]:
    """Return the rows of a CSV with the columns `symbol[,weight]`. ListingError names the first row that is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            column = next((names[name] for name in COLUMNS if name in names), None)
            if column is None:
                raise ListingError(f"{path} has no column `symbol`; its first line must read symbol or symbol,weight.")
            rows = [(reader.line_num, row[column], row.get(names.get("weight", ""))) for row in reader]
    except OSError as error:
        raise ListingError(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ListingError(f"{path} is no CSV in UTF-8 ({error}).") from None
    found = [_holding(path, line, symbol, weight) for line, symbol, weight in rows if (symbol or "").strip()]
    if not found:
        raise ListingError(f"{path} holds no symbol; a universe without members would leave every page empty.")
    seen: set[str] = set()
    for holding in found:
        if holding.symbol in seen:
            raise ListingError(f"{path} names {holding.symbol} twice; leave one of them.")
        seen.add(holding.symbol)
    return found


def _holding(path: Path, line: int, symbol: str, weight: str | None) -> Holding:
    ticker = symbol.strip()
    try:
        Symbol._meta.get_field("symbol").run_validators(ticker)
    except ValidationError:
        raise ListingError(f"{path}, line {line}: {ticker[:40]!r} is no symbol.") from None
    if ticker in TEST_TICKERS:
        raise ListingError(f"{path}, line {line}: {ticker} is a test ticker of the exchanges; take it out.")
    text = (weight or "").strip().removesuffix("%").strip()
    if not text:
        return Holding(ticker, None)
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not -1_000 <= number <= 1_000:
        raise ListingError(f"{path}, line {line}: weight {text[:40]!r} is no share in percent, such as 6.25.")
    return Holding(ticker, number)


def import_universe(key: str, holdings: Sequence[Holding], *, add: bool, dry_run: bool, details: dict[str, str]) -> UniverseReport:
    """
    Make or replace a universe; with `add` nobody is removed and new members come last. Return what changed.

    `details` are name, kind and description, where they are to be set. All or nothing; with `dry_run` nothing.
    """
    with transaction.atomic():
        universe = Universe.objects.select_for_update().filter(pk=key).first()
        before = {row.symbol_id: row for row in Membership.objects.filter(universe_id=key)}
        wanted = {holding.symbol: holding for holding in holdings}
        removed = [] if add else sorted(before.keys() - wanted.keys())
        added = [symbol for symbol in wanted if symbol not in before]
        kept = [symbol for symbol in wanted if symbol in before]
        reweighted = [
            symbol for symbol in kept if not (add and wanted[symbol].weight is None) and before[symbol].weight != wanted[symbol].weight
        ]
        known = set(Symbol.objects.filter(pk__in=wanted).values_list("pk", flat=True))
        report = UniverseReport(
            universe=key,
            created=universe is None,
            members=len(before) + len(added) - len(removed),
            added=added,
            removed=removed,
            reweighted=reweighted,
            unchanged=len(kept) - len(reweighted),
            new_symbols=sorted(wanted.keys() - known),
            dry_run=dry_run,
        )
        if dry_run:
            return report
        universe = universe or Universe(key=key, name=details.get("name") or key)
        for field, value in details.items():
            setattr(universe, field, value)
        universe.save()
        Symbol.objects.bulk_create([Symbol(symbol=symbol) for symbol in report.new_symbols], ignore_conflicts=True)
        Membership.objects.filter(universe_id=key, symbol_id__in=removed).delete()
        behind = max((row.position for row in before.values()), default=-1) + 1
        rows = []
        for place, holding in enumerate(holdings):
            old = before.get(holding.symbol)
            position = place if not add else old.position if old else behind + place
            weight = old.weight if add and old and holding.weight is None else holding.weight
            rows.append(Membership(universe_id=key, symbol_id=holding.symbol, position=position, weight=weight))
        Membership.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["universe", "symbol"], update_fields=["position", "weight"], batch_size=1_000
        )
    return report


# ---- details --------------------------------------------------------------------------------------------------------------------------------


class DetailsReport(msgspec.Struct):
    """What asking for details brought: symbols asked for, rows that changed, symbols that REST does not know."""

    asked: int = 0
    changed: int = 0
    unknown: int = 0


def stale_symbols(symbols: Sequence[str], *, now: datetime) -> list[str]:
    """Return those of which the details were never asked for, or not for a week."""
    fresh = set(Symbol.objects.filter(pk__in=symbols, details_at__gte=now - FRESH).values_list("pk", flat=True))
    return [symbol for symbol in symbols if symbol not in fresh]


def import_details(
    history: RestHistory,
    symbols: Sequence[str],
    *,
    now: Callable[[], datetime],
    pause: Callable[[], None] = lambda: None,
    stopped: Callable[[], bool] = lambda: False,
) -> DetailsReport:
    """
    Ask REST what each symbol is and keep it. HistoryError where it fails; what was asked before stays.

    Market cap and SIC code follow REST. Name, type, exchange, sector and industry are filled where they are empty: what a person or the
    first rows say stands. The sector is that of the SIC code; without one it stays unknown.
    """
    report = DetailsReport()
    for ticker in symbols:
        if stopped():
            break
        pause()
        told = history.details(ticker)
        report.asked += 1
        report.unknown += told is None
        symbol = Symbol.objects.filter(pk=ticker).first()
        if symbol is None:
            continue
        report.changed += _fill(symbol, told or {})
        symbol.details_at = now()
        symbol.save()
    return report


def _fill(symbol: Symbol, told: dict[str, Any]) -> bool:
    before = {field.attname: getattr(symbol, field.attname) for field in symbol._meta.concrete_fields}
    code = _text(told, "sic_code")[:4]
    if code:
        symbol.sic_code = code
    cap = told.get("market_cap")
    if isinstance(cap, int | float) and not isinstance(cap, bool) and 0 < cap < MOST_CAP:
        symbol.market_cap = Decimal(str(cap))
    symbol.name = symbol.name or _text(told, "name")[:200]
    symbol.type = symbol.type or _text(told, "type")[:20]
    symbol.exchange = symbol.exchange or _text(told, "primary_exchange")[:20]
    symbol.sector = symbol.sector or sector_of(symbol.sic_code)
    symbol.industry = symbol.industry or _text(told, "sic_description")[:100].capitalize()
    return before != {field.attname: getattr(symbol, field.attname) for field in symbol._meta.concrete_fields}


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value.strip() if isinstance(value, str) else ""
