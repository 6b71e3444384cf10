"""The stream, the finder, the list of detections, and what is live by HTTP."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from dashboards import wire
from dashboards.hub import hub_of_this_process
from dashboards.outbox import Outbox
from dashboards.templatetags.wording import NEW_YORK, iso, pattern_kinds
from marketdata.bars.interval import INTERVALS as BAR_INTERVALS
from marketdata.models import Bar, Session, Symbol
from patterns.models import Combination, Detection, Status

MINUTE = timedelta(minutes=1)
INTERVALS = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "30m": 30 * MINUTE, "1h": 60 * MINUTE, "4h": 240 * MINUTE}
MINUTES_SHOWN = 10
MINUTES_STILL_OPEN = 2  # bars of these may still arrive while the page loads
LIVE_SECONDS = 30  # what was stored later than this after its minute came from history
FOUND_SHOWN = 3
FOUND_LISTED = 24  # of one kind in a minute; the rest is a count
SYMBOLS_CHOSEN = 40
FOUND_COUNTED = 20_000
STRIP_SCALES = (10, 20, 30, 60, 120, 300, 1000)
LABEL_ROOM = 78  # percent of the strip's width
FINDS = 12
ROWS_A_PAGE = 60
LAST_PAGE = 500  # an offset costs what it skips
KINDS = (("all", "All"), ("bars", "Bars"), ("detection", "Detections"), ("retraction", "Retractions"))
FILTERS = {
    "symbol": "symbol", "pattern": "pattern_type", "interval": "timeframe", "sector": "symbol__sector", "shape": "confidence__gte",
    "direction": "direction", "status": "status",
}  # fmt: skip
SECONDS_FOR_THE_HUB = 3.0
TOPICS_AT_ONCE = 20
LONGEST_NUMBER = 16


@dataclass(frozen=True)
class Quote:
    """A symbol's last stored price against its last daily close."""

    symbol: str
    name: str
    sector: str
    price: Decimal | None
    volume: Decimal | None
    at: datetime | None
    previous: Decimal | None
    previous_date: date | None

    @property
    def difference(self) -> Decimal | None:
        """Return the change in dollars; None without one of the two prices."""
        return self.price - self.previous if self.price is not None and self.previous else None

    @property
    def change(self) -> float | None:
        """Return the change in percent; None without one of the two prices."""
        return float(self.difference / self.previous * 100) if self.difference is not None and self.previous else None


@dataclass(frozen=True)
class Tick:
    """One symbol in the strip of a minute: its return in basis points and where that stands, in percent of the width."""

    symbol: str
    points: float
    place: float
    named: bool

    @property
    def label_left(self) -> bool:
        """Return whether the name stands left of the tick: on the outer side, but near an edge on the inner one."""
        return self.place > LABEL_ROOM if self.points > 0 else self.place > 100 - LABEL_ROOM


@dataclass(frozen=True)
class Minute:
    """One minute of the stream: every stored bar as a tick, and what was found on them."""

    at: datetime
    count: int
    closed_after: float | None
    ticks: list[Tick]
    found: list[Detection]
    standing: int
    retracted: int

    @property
    def beyond(self) -> tuple[int, int]:
        """Return how many standing and retracted ones are counted, but not listed."""
        struck = sum(1 for detection in self.found if detection.status == Status.RETRACTED)
        return self.standing - (len(self.found) - struck), self.retracted - struck


def _exchange_day(now: datetime) -> date:
    """Return the session's date at `now`, or New York's own."""
    session = Session.objects.open_or_next(now)
    return session.date if session and session.pre_open <= now else now.astimezone(NEW_YORK).date()


def _quote(symbol: Any) -> Quote:
    return Quote(
        symbol=symbol.symbol,
        name=symbol.name,
        sector=symbol.sector,
        price=symbol.last_close,
        volume=symbol.last_volume,
        at=symbol.last_at,
        previous=symbol.previous_close,
        previous_date=symbol.previous_date,
    )


def _closed_after(bars: list[Bar], at: datetime) -> float | None:
    """Return how many seconds after its end the minute was stored (median); None where it came later than live."""
    delays = sorted((bar.valued_at - at - MINUTE).total_seconds() for bar in bars if bar.revision == 0)
    middle = delays[len(delays) // 2] if delays else None
    return middle if middle is not None and 0 <= middle < LIVE_SECONDS else None


def _returns(bars: list[Bar]) -> dict[datetime, list[tuple[str, float]]]:
    """
    Return each minute's returns in basis points: close against the close of the minute before, else against the bar's own open.

    `bars` are ordered by symbol and time.
    """
    found: dict[datetime, list[tuple[str, float]]] = defaultdict(list)
    for before, bar in pairwise([None, *bars]):
        assert bar is not None  # only the first place holds None
        follows = before is not None and before.symbol_id == bar.symbol_id and before.timestamp == bar.timestamp - MINUTE
        base = before.close if before is not None and follows else bar.open
        found[bar.timestamp].append((bar.symbol_id, float((bar.close / base - 1) * 10_000)))
    return found


def _scale(returns: Iterable[float]) -> int:
    """Return the strip's half width in basis points: the smallest step that holds 98 of 100 returns."""
    sizes = sorted(abs(value) for value in returns)
    needed = sizes[int(0.98 * (len(sizes) - 1))] if sizes else 0
    return next((step for step in STRIP_SCALES if step >= needed), STRIP_SCALES[-1])


def _ticks(returns: list[tuple[str, float]], scale: int) -> list[Tick]:
    """Return the ticks of one strip; the largest rise and the largest fall are named."""
    outermost = {max(returns, key=lambda pair: pair[1]), min(returns, key=lambda pair: pair[1])} if len(returns) > 2 else set(returns)
    return [
        Tick(symbol, points, round(50 + 47 * max(-1.0, min(1.0, points / scale)), 2), (symbol, points) in outermost and round(points) != 0)
        for symbol, points in returns
    ]


def _last_closes(bars: list[Bar]) -> dict[str, list[tuple[int, float]]]:
    """Return each symbol's last closes, (Unix ms of the minute, close), newest first: what the next minutes' returns start from."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for bar in reversed(bars):  # ordered by symbol and time
        if len(found[bar.symbol_id]) < MINUTES_STILL_OPEN + 1:
            found[bar.symbol_id].append((round(bar.timestamp.timestamp() * 1000), float(bar.close)))
    return found


def _best_first(found: list[Detection]) -> list[Detection]:
    """Order one minute's detections: the best of each symbol, then the second best of each, so that no doji fills the list with its kin."""
    place: Counter[str] = Counter()
    ranked = []
    for detection in sorted(found, key=_strength, reverse=True):
        ranked.append((place[detection.symbol_id], detection))
        place[detection.symbol_id] += 1
    return [detection for _, detection in sorted(ranked, key=lambda pair: pair[0])]


def _listed(found: list[Detection]) -> tuple[list[Detection], int, int]:
    """Return the best of one minute's detections and retractions, and how many there are of each."""
    counts: Counter[bool] = Counter()
    kept = []
    for detection in _best_first(found):
        struck = detection.status == Status.RETRACTED
        counts[struck] += 1
        if counts[struck] <= FOUND_LISTED:
            kept.append(detection)
    return kept, counts[False], counts[True]


def _strength(detection: Detection) -> tuple[float, bool, int]:
    return detection.confidence, detection.direction != "neutral", -detection.id


def _minute_of(detection: Detection) -> datetime:
    """Return the minute with whose end the detection's bar closed."""
    return detection.timestamp + INTERVALS.get(detection.timeframe, MINUTE) - MINUTE


@require_safe
def streaming(request: HttpRequest) -> HttpResponse:
    """Show the last minutes as they came in."""
    newest = Bar.objects.whole().newest_minute()
    first = newest - MINUTES_SHOWN * MINUTE if newest else timezone.now()
    bars = list(Bar.objects.whole().in_universe(settings.SYMBOL_UNIVERSE_KEY).since(first).order_by("symbol", "timestamp"))
    returns = _returns(bars)
    by_minute: dict[datetime, list[Bar]] = defaultdict(list)
    for bar in bars:
        by_minute[bar.timestamp].append(bar)
    found: dict[datetime, list[Detection]] = defaultdict(list)
    chosen = [_ticker(text) for text in request.GET.get("symbols", "")[:200].split(",") if text.strip()][:SYMBOLS_CHOSEN]
    symbols = list(Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY).values_list("symbol", flat=True))
    for detection in Detection.objects.closing_since(first, among=chosen or symbols):
        found[_minute_of(detection)].append(detection)
    shown = sorted(by_minute, reverse=True)[:MINUTES_SHOWN]
    scale = _scale(points for at in shown for _, points in returns[at])
    minutes = [
        Minute(at, len(by_minute[at]), _closed_after(by_minute[at], at), _ticks(returns[at], scale), *_listed(found[at])) for at in shown
    ]
    delays = [minute.closed_after for minute in reversed(minutes) if minute.closed_after is not None]
    return render(
        request,
        "dashboards/streaming.html",
        {
            "minutes": minutes,
            "chosen": {
                "symbols": request.GET.get("symbols", "")[:200],
                "kind": request.GET.get("kind", "all") if request.GET.get("kind") in dict(KINDS) else "all",
                "raw": request.GET.get("raw") == "1",
            },
            "kinds": KINDS,
            "shown": FOUND_SHOWN,
            "scale": scale,
            "axis": [{"place": 50 + 47 * share / 2, "points": scale * share / 2} for share in range(-2, 3)],
            "of": len(symbols),
            "initial": {
                "closes": _last_closes(bars),
                "recent": {iso(at): dict(returns[at]) for at in shown[:MINUTES_STILL_OPEN]},
                "scale": scale,
                "shown": FOUND_SHOWN,
                "listed": FOUND_LISTED,
                "minutes": MINUTES_SHOWN,
                "delays": delays,
            },
        },
    )


def _near(text: str) -> list[Symbol]:
    """Return symbols that someone who typed `text` may have meant."""
    exact = Symbol.objects.named_like(text)[:FINDS]
    return list(exact) or list(Symbol.objects.named_like(text[:2])[:FINDS])


def _ticker(text: str) -> str:
    """Return the ticker meant: all lower case means upper (a mixed one keeps its case), BRK-B and BRK B mean BRK.B."""
    return (text.upper() if text.islower() else text).replace("-", ".").replace(" ", ".")


@require_safe
def find(request: HttpRequest) -> HttpResponse:
    """Go to the symbol asked for, or list those that are near; the answer of the search box where no script runs."""
    asked = request.GET.get("q", "").strip()[:60]
    near = _near(asked) if asked else []
    if any(row.symbol == _ticker(asked) for row in near):
        return HttpResponseRedirect(reverse("symbol", args=[_ticker(asked)]))
    return render(request, "dashboards/find.html", {"asked": asked, "near": near})


def _place(number: str) -> int:
    """Return the page asked for, from 0 on; what is not a number is the first page."""
    return min(int(number), LAST_PAGE) if number.isascii() and number.isdigit() and len(number) < 8 else 0


@require_safe
def detections(request: HttpRequest) -> HttpResponse:
    """List the detections, newest first, filtered by what stands in the address."""
    now = timezone.now()
    chosen = {name: request.GET.get(name, "").strip()[:60] for name in FILTERS}
    chosen["symbol"] = _ticker(chosen["symbol"])
    wanted = {FILTERS[name]: value for name, value in chosen.items() if value}
    fault = ""
    if chosen["shape"] and not _is_share(chosen["shape"]):
        fault = f"“{chosen['shape']}” is no shape; it is a number from 0 to 1. All shapes are shown."
        del wanted[FILTERS["shape"]]
        chosen["shape"] = ""
    page = _place(request.GET.get("page", "0"))
    first = page * ROWS_A_PAGE
    rows = list(Detection.objects.newest_first().filter(**wanted).select_related("symbol")[first : first + ROWS_A_PAGE + 1])
    address = {name: value for name, value in chosen.items() if value}
    return render(
        request,
        "dashboards/patterns.html",
        {
            "rows": rows[:ROWS_A_PAGE],
            "chosen": chosen,
            "filtered": bool(wanted),
            "fault": fault,
            "kinds": [*pattern_kinds(), *Combination.objects.order_by("name").values_list("key", "name")],
            "intervals": list(BAR_INTERVALS),
            "sectors": Symbol.objects.exclude(sector="").order_by("sector").values_list("sector", flat=True).distinct(),
            "statuses": Status.choices,
            "hour": Detection.objects.found_since(
                now - timedelta(hours=1), among=Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY), most=FOUND_COUNTED
            ),
            "counted": FOUND_COUNTED,
            "first_page": page == 0,
            "newer": urlencode({**address, "page": page - 1}) if page else "",
            "older": urlencode({**address, "page": page + 1}) if len(rows) > ROWS_A_PAGE and page < LAST_PAGE else "",
        },
    )


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _iso_now() -> str:
    return wire.iso(timezone.now())


@require_safe
async def messages(request: HttpRequest) -> HttpResponse:
    """
    Give what came on each asked topic (`TOPIC@SEQ`, the number of the last message seen, none at first) in the words of `/ws/live`.

    For pages whose network lets no socket through. 503 while this process hears nothing from the rest of the stack.
    """
    hub = hub_of_this_process(settings.REDIS_URL, _iso_now)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS_FOR_THE_HUB):
            await hub.up.wait()
    if not hub.live:
        return JsonResponse({"detail": "Redis does not answer, so nothing live is known here. The tables are asked instead."}, status=503)
    outbox = Outbox(hub.board)
    try:
        for text in request.GET.getlist("topic")[:TOPICS_AT_ONCE]:
            topic, _, after = text.rpartition("@")
            if wire.topic_fault(topic) is None:
                outbox.resume(topic, int(after)) if after.isdecimal() and len(after) < LONGEST_NUMBER else outbox.watch(topic)
        told = ",".join(message.text for message in outbox.messages(_iso_now))
    finally:
        outbox.leave()
    return HttpResponse(f"[{told}]", content_type="application/json", headers={"Cache-Control": "no-store"})
