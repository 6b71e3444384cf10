"""One symbol: its price, its chart, what was found on it and why, as it stands now or stood at a moment."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboards.templatetags.wording import NEW_YORK, iso, pattern_name
from dashboards.views.live import Quote, _exchange_day, _near, _quote
from marketdata.bars.interval import INTERVALS as BAR_INTERVALS
from marketdata.bars.interval import INTRADAY, MINUTE, Candle, bucket, exchange_day, midnight
from marketdata.intervals import candles
from marketdata.models import BarRevision, DailyBar, Gap, GapState, Halt, Session, Symbol
from patterns.models import Detection, MarketSurvey

LINES = {
    "ema_20": ("EMA 20", ("ema_20",)),
    "sma_50": ("SMA 50", ("sma_50",)),
    "vwap": ("VWAP", ("vwap",)),
    "bands": ("Bollinger", ("bb_upper", "bb_lower")),
    "rsi": ("RSI 14", ("rsi_14",)),
}
LINES_AT_FIRST = ("ema_20", "sma_50", "vwap")
DETECTIONS_SHOWN = 60
BARS_AS_TABLE = 60
SESSIONS_KNOWN = 45
GAPS_KNOWN = 300
REVISIONS_KNOWN = 500
SHOWN_FIGURES = (
    "rs_rating", "rank", "rank_shift_day", "rvol", "adr", "atr_sma50", "change_open", "change_1w", "change_1m", "change_3m", "change_1y", "stage",
    "substage", "weeks",
)  # fmt: skip
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Asked:
    """What the address asks for, and what of it could not be understood."""

    interval: str
    lines: tuple[str, ...]
    regular: bool
    adjusted: bool
    patterns: bool
    as_of: datetime | None
    fault: str = ""


def _read_moment(text: str) -> datetime:
    """Return the moment of ISO 8601; without an offset it is meant in New York. ValueError on anything else."""
    at = datetime.fromisoformat(text[:40])
    return at if at.tzinfo else at.replace(tzinfo=NEW_YORK)


def _asked(request: HttpRequest, now: datetime) -> Asked:
    chosen = request.GET.get("interval", "1m")
    names = request.GET.get("lines")
    asked = Asked(
        interval=chosen if chosen in BAR_INTERVALS else "1m",
        lines=tuple(name for name in LINES if name in (LINES_AT_FIRST if names is None else names.split(","))),
        regular=request.GET.get("hours") == "regular",
        adjusted=request.GET.get("adjusted") == "1",
        patterns=request.GET.get("patterns") != "0",
        as_of=None,
    )
    text = request.GET.get("as_of", "").strip()
    if not text:
        return asked
    try:
        at = _read_moment(text)
    except ValueError:
        return replace(asked, fault=f"“{text[:40]}” is no moment; write 2026-11-20T10:30, New York time. The page shows now.")
    if not EARLIEST < at < now:
        return replace(asked, fault=f"{at:%Y-%m-%d %H:%M} is not in the past. The page shows now.")
    return replace(asked, as_of=at)


EARLIEST = datetime(1990, 1, 1, tzinfo=NEW_YORK)


@require_safe
def symbol(request: HttpRequest, symbol: str) -> HttpResponse:
    """Show one symbol: price, chart, detections."""
    now = timezone.now()
    asked = _asked(request, now)
    moment = asked.as_of or now
    day = _exchange_day(moment)
    row = Symbol.objects.filter(pk=symbol).with_last_bar().with_close_before(day).first()
    if row is None:
        return render(request, "dashboards/no_symbol.html", {"asked": symbol, "near": _near(symbol)}, status=404)
    bars = candles(
        row.symbol, asked.interval, start=None, end=None, forward=False, limit=BARS_AS_TABLE, now=now, as_of=asked.as_of,
        adjusted=asked.adjusted,
    )  # fmt: skip
    known = Detection.objects.of_symbol(row.symbol).found_by(moment).filter(timeframe=asked.interval)
    found = list(known.order_by("-timestamp", "-confidence")[:DETECTIONS_SHOWN])
    found += _named(request.GET.get("detection", ""), row.symbol, found)
    quote = _quote(row) if asked.as_of is None else _quote_then(row, asked.as_of)
    revised = _revised(row.symbol, asked.as_of)
    told = [_told(detection, moment) for detection in found]
    return render(
        request,
        "dashboards/symbol.html",
        {
            "symbol": row,
            "quote": quote,
            "halt": Halt.objects.lasting_at(moment, symbol=row.symbol, traded_at=quote.at),
            "asked": asked,
            "intervals": BAR_INTERVALS,
            "lines": [(name, words, name in asked.lines) for name, (words, _) in LINES.items()],
            "found": told,
            "retracted": sum(1 for detection in told if detection["status"] == "retracted"),
            "bars": _table(bars, revised, asked.interval),
            "figures": _figures(row.symbol, moment, day),
            "initial": {
                "symbol": row.symbol,
                "interval": asked.interval,
                "regular": asked.regular,
                "adjusted": asked.adjusted,
                "asOf": iso(asked.as_of) or None,
                "lines": {name: {"words": words, "names": names} for name, (words, names) in LINES.items()},
                "previous": float(quote.previous) if quote.previous else None,
                "found": told,
                "sessions": _sessions(moment),
                "gaps": _gaps(row.symbol, asked.as_of),
                "revised": {str(_ms(at)): count for at, count in revised.items()},
            },
        },
    )


def _named(number: str, symbol: str, known: list[Detection]) -> list[Detection]:
    """Return the detection that the address names, where it is one of the symbol's and not among the newest."""
    if not (number.isascii() and number.isdigit() and len(number) < 19) or any(detection.id == int(number) for detection in known):
        return []
    return list(Detection.objects.of_symbol(symbol).filter(pk=int(number)))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _quote_then(row: Any, moment: datetime) -> Quote:
    """Return the price as it stood: the last minute stored by then."""
    last = candles(row.symbol, "1m", start=None, end=moment, forward=False, limit=1, now=moment, as_of=moment)
    then = {"price": last[0].close, "volume": last[0].volume, "at": last[0].start} if last else {"price": None, "volume": None, "at": None}
    return replace(_quote(row), **then)


def _revised(symbol: str, as_of: datetime | None) -> Counter[datetime]:
    """Return how often each of the minutes that were replaced last was replaced."""
    rows = BarRevision.objects.filter(symbol_id=symbol).order_by("-replaced_at")
    if as_of is not None:
        rows = rows.filter(replaced_at__lte=as_of)
    return Counter(rows.values_list("timestamp", flat=True)[:REVISIONS_KNOWN])


def _start_of(minute: datetime, interval: str) -> datetime:
    """Return the start of the bar that a minute belongs to."""
    if interval in INTRADAY:
        return bucket(minute, interval)[0]
    day = exchange_day(minute)
    return midnight(day if interval == "1d" else day - timedelta(days=day.weekday()))


def _table(bars: list[Candle], revised: Counter[datetime], interval: str) -> list[dict[str, Any]]:
    """Return the bars as rows, each with how many of its minutes' values were replaced."""
    counts: Counter[datetime] = Counter()
    for minute, count in revised.items():
        counts[_start_of(minute, interval)] += count
    return [{"bar": bar, "revised": counts[bar.start]} for bar in bars]


def _sessions(moment: datetime) -> list[list[int]]:
    """Return pre-market open, open, close and post-market close of the last sessions that have begun, Unix ms, oldest first."""
    rows = Session.objects.filter(pre_open__lte=moment).order_by("-pre_open")[:SESSIONS_KNOWN]
    return [[_ms(session.pre_open), _ms(session.open), _ms(session.close), _ms(session.post_close)] for session in reversed(rows)]


def _gaps(symbol: str, as_of: datetime | None) -> list[dict[str, Any]]:
    """Return the newest gaps as they stand, or stood: one that was closed later was open then."""
    gaps = Gap.objects.filter(symbol_id=symbol).exclude(state=GapState.EMPTY).order_by("-last_minute")
    if as_of is not None:
        gaps = gaps.filter(opened_at__lte=as_of)
    return [
        {
            "from": _ms(gap.first_minute), "to": _ms(gap.last_minute + MINUTE), "cause": gap.get_cause_display(),
            "open": gap.state == GapState.OPEN or (as_of is not None and gap.closed_at is not None and gap.closed_at > as_of),
        }
        for gap in gaps[:GAPS_KNOWN]
    ]  # fmt: skip


def _told(detection: Detection, moment: datetime) -> dict[str, Any]:
    """Return a detection as the scripts know it from `/api/patterns/`, with the status that it had at the moment."""
    judged_later = detection.status_at > moment
    return {
        "id": detection.id, "symbol": detection.symbol_id, "pattern_type": detection.pattern_type, "name": pattern_name(detection.pattern_type),
        "timeframe": detection.timeframe, "timestamp": iso(detection.timestamp), "detection_timestamp": iso(detection.detection_timestamp),
        "confidence": detection.confidence, "direction": detection.direction, "status": "standing" if judged_later else detection.status,
        "status_at": iso(detection.status_at), "bar_revision": detection.bar_revision, "detail": detection.detail,
        "at": detection.timestamp, "changed_at": detection.status_at,
    }  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """The key figures beside the price; what is not known is None, and `reason` says why."""

    ranking: dict[str, Any]
    stage: dict[str, Any]
    surveyed: bool
    as_of: datetime | None
    reason: str
    low: Decimal | None
    high: Decimal | None


def _figures(symbol: str, moment: datetime, day: date) -> Figures:
    """Return the symbol's rows of the newest survey of the streamed universe, and the range of a year of daily bars."""
    survey = MarketSurvey.objects.standing_at(settings.SYMBOL_UNIVERSE_KEY, moment, blocks=["rankings", "stages"])
    year = DailyBar.objects.filter(symbol_id=symbol, date__lte=day, date__gt=day - YEAR).aggregate(low=Min("low"), high=Max("high"))

    def own(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return next((row for row in rows if row["symbol"] == symbol), {})

    ranking, stage = (own(survey.rankings), own(survey.stages)) if survey else ({}, {})
    why = "" if ranking else f"{symbol} is not in the surveyed universe" if survey else "no market survey yet"
    nothing = dict.fromkeys(SHOWN_FIGURES)
    return Figures(
        nothing | ranking, nothing | stage, bool(ranking), survey.as_of if survey else None, why or ranking.get("reason") or "",
        year["low"], year["high"],
    )  # fmt: skip
