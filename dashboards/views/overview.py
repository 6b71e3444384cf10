"""The market at a glance."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboards.views.live import MINUTE, Quote, _exchange_day, _quote, _strength
from marketdata.models import Bar, Session, Symbol
from patterns.models import Detection

INDEX_FUNDS = ("SPY", "QQQ", "IWM", "DIA", "GLD")
FOUND_ON_OVERVIEW = 18
FOUND_LOOKED_AT = 400


@dataclass
class Sector:
    """One row of the map: the symbols of a sector, in alphabetical order for the whole day."""

    name: str
    quotes: list[Quote] = field(default_factory=list)

    @property
    def up(self) -> int:
        """Return how many rise."""
        return sum(1 for quote in self.quotes if quote.change is not None and round(quote.change, 2) > 0)

    @property
    def of(self) -> int:
        """Return how many have a change at all."""
        return sum(1 for quote in self.quotes if quote.change is not None)


def _sectors(quotes: Iterable[Quote]) -> list[Sector]:
    """Return the map's rows: the largest sector first, funds and the rest without a sector last."""
    rows: dict[str, Sector] = {}
    for quote in sorted(quotes, key=lambda quote: quote.symbol):
        name = quote.sector or "No sector"
        rows.setdefault(name, Sector(name)).quotes.append(quote)
    return sorted(rows.values(), key=lambda row: (row.name == "No sector", -len(row.quotes), row.name))


def _sparkline(closes: list[Decimal], *, base: Decimal | None, of: int) -> dict[str, Any] | None:
    """
    Return an SVG path in a box of 140 × 32 for closes five minutes apart.

    The box is as long as the whole session (`of` closes), so that the line's length tells the time. None for fewer than two closes.
    """
    if len(closes) < 2:
        return None
    known = [float(close) for close in closes] + ([float(base)] if base else [])
    low, high = min(known), max(known)

    def height(value: float) -> float:
        return round(29 - 26 * (value - low) / ((high - low) or 1), 1)

    step = 140 / max(of, len(closes))
    places = [(round(index * step, 1), height(float(close))) for index, close in enumerate(closes)]
    return {
        "path": "M" + "L".join(f"{x} {y}" for x, y in places),
        "end": places[-1],
        "base": height(float(base)) if base else None,
    }


def _index_strip(quotes: dict[str, Quote], now: datetime) -> list[dict[str, Any]]:
    """Return the first four index funds of the universe, with the line of the session's day in steps of five minutes."""
    chosen = [quotes[symbol] for symbol in INDEX_FUNDS if symbol in quotes][:4]
    session = Session.objects.open_or_next(now)
    if session is None:
        return [{"quote": quote, "line": None} for quote in chosen]
    closes: dict[str, list[Decimal]] = defaultdict(list)
    for symbol, close in Bar.objects.every_five_minutes([quote.symbol for quote in chosen], session.open, session.close):
        closes[symbol].append(close)
    whole = int((session.close - session.open) / (5 * MINUTE))
    return [{"quote": quote, "line": _sparkline(closes[quote.symbol], base=quote.previous, of=whole)} for quote in chosen]


@dataclass(frozen=True)
class FoundBar:
    """What was found on one bar: the best detection, and how many more."""

    best: Detection
    more: int


def _found_by_bar(found: list[Detection]) -> list[FoundBar]:
    """Return one entry a bar, the newest bar first and the best shape first."""
    by_bar: dict[tuple[str, str, datetime], list[Detection]] = defaultdict(list)
    for detection in found:
        by_bar[detection.symbol_id, detection.timeframe, detection.timestamp].append(detection)
    rows = [FoundBar(max(group, key=_strength), len(group) - 1) for group in by_bar.values()]
    return sorted(rows, key=lambda row: (row.best.timestamp, *_strength(row.best)), reverse=True)


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the market now, from stored bars."""
    now = timezone.now()
    symbols = Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).with_last_bar().with_close_before(_exchange_day(now))
    quotes = [_quote(symbol) for symbol in symbols]
    moves = Counter(
        "none" if quote.change is None else "flat" if not round(quote.change, 2) else "up" if quote.change > 0 else "down"
        for quote in quotes
    )
    newest = max((quote.at for quote in quotes if quote.at), default=None)
    return render(
        request,
        "dashboards/overview.html",
        {
            "quotes": sorted(quotes, key=lambda quote: (quote.change is None, -(quote.change or 0), quote.symbol)),
            "sectors": _sectors(quotes),
            "indices": _index_strip({quote.symbol: quote for quote in quotes}, now),
            "moves": moves,
            "newest": newest,
            "count": sum(1 for quote in quotes if quote.at == newest) if newest else 0,
            "found": _found_by_bar(list(Detection.objects.newest_first()[:FOUND_LOOKED_AT]))[:FOUND_ON_OVERVIEW],
            "found_limit": FOUND_ON_OVERVIEW,
            "initial": {"closes": {quote.symbol: float(quote.previous) for quote in quotes if quote.previous}},
        },
    )
