"""Splits, dividends and symbol changes: from CSV or REST to rows, checked, safe to repeat. Stored bars stay as they were printed."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.db import models, transaction

from marketdata.files import FileError, text_rows
from marketdata.models import Dividend, Split, Symbol, SymbolChange

REASONS_KEPT = 20
LARGEST = Decimal(10**9)


class ActionsReport(msgspec.Struct):
    """What became of the rows of one kind; `reasons` tells of the first rejected ones."""

    kind: str
    read: int = 0
    inserted: int = 0
    changed: int = 0
    rejected: int = 0
    reasons: list[str] = []


class BadRowError(ValueError):
    """The row is no corporate action; the message says why."""


Row = Mapping[str, Any]


def import_actions(kind: str, rows: Iterable[Row]) -> ActionsReport:
    """
    Store rows of one kind (`splits`, `dividends`, `changes`); of rows with one key the last counts.

    A split: symbol, execution_date, split_from, split_to. A dividend: symbol, ex_date, cash_amount and maybe pay_date. A change: old, new, date.
    """
    report = ActionsReport(kind)
    make, key, fields = _KINDS[kind]
    found: dict[tuple[Any, ...], models.Model] = {}
    for row in rows:
        report.read += 1
        try:
            action = make(row)
        except BadRowError as error:
            report.rejected += 1
            if len(report.reasons) < REASONS_KEPT:
                report.reasons.append(f"row {report.read}: {error}")
            continue
        found[tuple(getattr(action, name) for name in key)] = action
    with transaction.atomic():
        _store(report, list(found.values()), key=key, fields=fields)
    return report


def _store(report: ActionsReport, actions: list[models.Model], *, key: tuple[str, ...], fields: tuple[str, ...]) -> None:
    if not actions:
        return
    model = type(actions[0])
    names = {getattr(row, key[0]) for row in actions}
    if key[0] == "symbol_id":
        Symbol.objects.bulk_create([Symbol(symbol=name) for name in names], ignore_conflicts=True)
    stored = model._default_manager.filter(**{f"{key[0]}__in": names}).values_list(*key, *fields)
    known = {row[: len(key)]: row[len(key) :] for row in stored}
    fresh, other = [], []
    for action in actions:
        values = known.get(tuple(getattr(action, name) for name in key))
        if values is None:
            fresh.append(action)
        elif values != tuple(getattr(action, name) for name in fields):
            other.append(action)
    model._default_manager.bulk_create(
        [*fresh, *other], update_conflicts=True, unique_fields=[name.removesuffix("_id") for name in key], update_fields=list(fields)
    )
    report.inserted, report.changed = len(fresh), len(other)


def csv_rows(kind: str, path: Path) -> Iterable[Row]:
    """Return the rows of a CSV with the columns of its kind. FileError where one is missing."""
    rows = list(text_rows(path))
    needed = _COLUMNS[kind]
    if not rows:
        raise FileError(f"{path} holds no rows.")
    missing = [" or ".join(names) for names in needed if not any(name in rows[0] for name in names)]
    if missing:
        raise FileError(f"{path}: the header lacks {', '.join(missing)}; it has {', '.join(rows[0])[:200]}.")
    return rows


_COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "splits": (("symbol", "ticker"), ("execution_date", "date"), ("split_from",), ("split_to",)),
    "dividends": (("symbol", "ticker"), ("ex_date", "ex_dividend_date", "date"), ("cash_amount", "amount")),
    "changes": (("old",), ("new",), ("date",)),
}


def _split(row: Row) -> models.Model:
    return Split(
        symbol_id=_symbol(row, "symbol", "ticker"),
        execution_date=_day(row, "execution_date", "date"),
        split_from=_number(row, "split_from"),
        split_to=_number(row, "split_to"),
    )


def _dividend(row: Row) -> models.Model:
    return Dividend(
        symbol_id=_symbol(row, "symbol", "ticker"),
        ex_date=_day(row, "ex_date", "ex_dividend_date", "date"),
        cash_amount=_number(row, "cash_amount", "amount"),
        pay_date=_day(row, "pay_date") if row.get("pay_date") else None,
    )


def _change(row: Row) -> models.Model:
    return SymbolChange(old=_symbol(row, "old"), new=_symbol(row, "new"), date=_day(row, "date"))


_KINDS: dict[str, tuple[Callable[[Row], models.Model], tuple[str, ...], tuple[str, ...]]] = {
    "splits": (_split, ("symbol_id", "execution_date"), ("split_from", "split_to")),
    "dividends": (_dividend, ("symbol_id", "ex_date", "cash_amount"), ("pay_date",)),
    "changes": (_change, ("old", "date"), ("new",)),
}


def _text(row: Row, names: tuple[str, ...]) -> str:
    for name in names:
        if row.get(name) not in (None, ""):
            return str(row[name]).strip()
    raise BadRowError(f"{names[0]} is missing")


def _symbol(row: Row, *names: str) -> str:
    text = _text(row, names)
    try:
        Symbol._meta.get_field("symbol").run_validators(text)
    except ValidationError:
        raise BadRowError(f"{text[:40]!r} is no symbol") from None
    return text


def _day(row: Row, *names: str) -> date:
    text = _text(row, names)
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise BadRowError(f"{names[0]} {text[:40]!r} is not a date like 2026-11-20") from None


def _number(row: Row, *names: str) -> Decimal:
    text = _text(row, names)
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 < number < LARGEST:
        raise BadRowError(f"{names[0]} {text[:40]!r} must be a positive number")
    return number
