"""How numbers, times and the frame are said on a page. The scripts say the same in `static/js/words.js`."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.conf import settings
from django.utils import timezone

from marketdata.feed.listing import with_references
from marketdata.models import Bar, Gap, GapState, Heartbeat, Reconciliation, Session, Symbol
from patterns.detectors import DETECTORS, SHAPES
from patterns.models import Combination, Detection

register = template.Library()

NEW_YORK = ZoneInfo("America/New_York")
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"  # a missing value is never a zero
MINUTE = timedelta(minutes=1)
HAIR = 0.12  # percent of the strip's width: a gap of one minute is still seen
SPANS_IN_STRIP = 120
FEED_QUIET_SECONDS = 30
HEAT_STEPS = (0.25, 0.75, 1.5, 2.5)
EXCHANGES = {"XNAS": "Nasdaq", "XNYS": "New York", "ARCX": "NYSE Arca", "BATS": "Cboe BZX", "XASE": "NYSE American"}
FEED_WORDS = {
    "live": "live",
    "delayed": "live, delayed by entitlement",
    "connecting": "connecting",
    "down": "down",
    "refused": "refused",
    "cooling": "waiting, too many connections",
    "stopped": "stopped",
}

Number = Decimal | float


@register.filter
def price(value: Number | None) -> str:
    """Say a price: two decimals, four below one dollar, thousands comma."""
    if value is None:
        return NONE
    return f"{value:,.4f}" if abs(float(value)) < 1 else f"{value:,.2f}"


@register.filter
def change(value: Number | None) -> str:
    """Say a signed change with two decimals and a true minus; what rounds to zero has no sign."""
    if value is None:
        return NONE
    text = f"{abs(value):.2f}"
    if float(text) == 0:
        return "0.00"
    return f"{'+' if float(value) > 0 else MINUS}{text}"


@register.filter
def points(value: Number | None) -> str:
    """Say a signed whole number of basis points."""
    if value is None:
        return NONE
    whole = round(value)
    return "0" if whole == 0 else f"{'+' if whole > 0 else MINUS}{abs(whole)}"


@register.filter
def tone(value: Number | None) -> str:
    """Return the class of a change: up, down, or quiet where it rounds to zero."""
    if value is None or round(value, 2) == 0:
        return "quiet"
    return "up" if value > 0 else "down"


@register.filter
def heat(value: Number | None) -> str:
    """Return the heat step of a day's change in percent: n4 … 0 … p4."""
    if value is None:
        return ""
    step = sum(abs(float(value)) >= limit for limit in HEAT_STEPS)
    return "0" if step == 0 else f"{'p' if value > 0 else 'n'}{step}"


@register.filter
def shares(value: Number | None) -> str:
    """Say a volume: 0.98 M, 412 K, 37."""
    if value is None:
        return NONE
    if value >= 950_000:
        return f"{float(value) / 1e6:,.2f} M"
    if value >= 10_000:
        return f"{float(value) / 1e3:.0f} K"
    return f"{value:,.0f}"


@register.filter
def clock(moment: datetime | None) -> str:
    """Say a moment as the hour and minute of New York."""
    return moment.astimezone(NEW_YORK).strftime("%H:%M") if moment else NONE


@register.filter
def clock_seconds(moment: datetime | None) -> str:
    """Say a moment as hour, minute and second of New York."""
    return moment.astimezone(NEW_YORK).strftime("%H:%M:%S") if moment else NONE


@register.filter
def ago(moment: datetime, now: datetime) -> str:
    """Say how long ago a moment was."""
    return span(now - moment)


@register.filter
def from_below(height: float, base: float) -> float:
    """Return where a column of that height begins, measured from above."""
    return round(base - height, 1)


@register.filter
def done_count(steps: Iterable[Any]) -> int:
    """Return how many steps are done."""
    return sum(1 for step in steps if step.done)


@register.filter
def day(moment: datetime | None) -> str:
    """Say the exchange's day of a moment: 19 Nov."""
    return f"{moment.astimezone(NEW_YORK):%-d %b}" if moment else NONE


@register.filter
def iso(moment: datetime | None) -> str:
    """Return the machine text of a moment: ISO 8601, UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment else ""


@register.filter
def span(duration: timedelta) -> str:
    """Say a length of time: m:ss under an hour, then 2 h, 3 d."""
    seconds = max(0, int(duration.total_seconds()))
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02}"
    return f"{seconds // 3600} h" if seconds < 86_400 else f"{seconds // 86_400} d"


@register.filter
def shape_width(confidence: float) -> str:
    """Return the length of a shape's bar in its 66 units."""
    return f"{66 * confidence:.1f}"


@register.filter
def agreement(score: Reconciliation) -> str:
    """Say how many of the compared bars agreed, in percent, cut and not rounded: 99.999 is not 100."""
    return f"{int(10_000 * score.matched / score.compared) / 100:.2f}%" if score.compared else "nothing to compare"


@register.filter
def side(value: float) -> str:
    """Return the class of a tick: rise, fall, or rest where it rounds to zero."""
    whole = round(value)
    return "rest" if whole == 0 else "rise" if whole > 0 else "fall"


@register.filter
def raw(value: Number | None) -> str:
    """Return a number as scripts read it; empty where there is none."""
    return "" if value is None else f"{value}"


@register.filter
def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


@register.filter
def exchange(code: str) -> str:
    """Say an exchange by name where we know it, else by its ISO code."""
    return EXCHANGES.get(code, code)


@register.filter
def pattern_name(pattern_type: str) -> str:
    """Say a pattern by its proper name; that of a combination is asked for."""
    return Combination.objects.name_of(pattern_type)


def pattern_kinds() -> list[tuple[str, str]]:
    """Return every pattern that is looked for, stored and proper name, by proper name."""
    return sorted(((kind, detector.name) for kind, detector in (DETECTORS | SHAPES).items()), key=lambda pair: pair[1])


@register.filter
def range_place(price: Number | None, figures: Any) -> float | None:
    """Return where a price stands between a low and a high, 0 to 100; None where one of the three is not known."""
    if price is None or figures.low is None or figures.high is None or figures.high <= figures.low:
        return None
    return round(100 * min(1.0, max(0.0, float((Decimal(price) - figures.low) / (figures.high - figures.low)))), 2)


@register.filter
def number(value: Number | None, places: int = 2) -> str:
    """Say a number with so many decimals and a true minus."""
    if value is None:
        return NONE
    return f"{value:,.{places}f}".replace("-", MINUS)


@register.filter
def signed(value: Number | None, places: int = 1) -> str:
    """Say a signed number with so many decimals; what rounds to zero has no sign."""
    if value is None:
        return NONE
    text = f"{abs(value):,.{places}f}"
    return text if float(text.replace(",", "")) == 0 else f"{'+' if value > 0 else MINUS}{text}"


@register.filter
def input_moment(moment: datetime | None) -> str:
    """Return a moment as an input of date and time holds it, in New York."""
    return moment.astimezone(NEW_YORK).strftime("%Y-%m-%dT%H:%M") if moment else ""


def _share(moment: datetime, session: Session) -> float:
    """Return where a moment stands in the session's hours, 0 to 100."""
    whole = session.post_close - session.pre_open
    return round(100 * min(1.0, max(0.0, (moment - session.pre_open) / whole)), 3)


def day_strip(session: Session | None, now: datetime) -> dict[str, Any]:
    """
    Return the pieces of the strip: thin before and after the regular hours, tall inside, filled as far as they are gone by.

    Lengths are percents of the strip's width. Without a session the strip is empty.
    """
    if session is None:
        return {"pieces": [], "now": None}
    at = _share(now, session)
    pieces = []
    spans = ((session.pre_open, session.open, False), (session.open, session.close, True), (session.close, session.post_close, False))
    for start, end, tall in spans:
        left, right = _share(start, session), _share(end, session)
        if right > left:
            gone = min(max(at, left), right)
            pieces.append({"left": left, "gone": gone - left, "at": gone, "ahead": right - gone, "tall": tall})
    return {"pieces": pieces, "now": at if session.pre_open <= now else None}


def gap_strips(spans: Iterable[dict[str, Any]], session: Session) -> list[dict[str, Any]]:
    """
    Return the hatched pieces of the strip: spans that touch or overlap are one piece, an open one hides a repaired one.

    `spans` have first_minute, last_minute, state and symbols; lengths are percents, at least the width of a hair.
    """
    pieces: list[dict[str, Any]] = []
    for span in sorted(spans, key=lambda span: (span["state"] != GapState.OPEN, span["first_minute"])):
        first, last, still = span["first_minute"], span["last_minute"] + MINUTE, span["state"] == GapState.OPEN
        near = next((piece for piece in pieces if piece["open"] == still and first <= piece["last"] and last >= piece["first"]), None)
        if near is None:
            pieces.append({"first": first, "last": last, "open": still, "symbols": span["symbols"]})
        else:
            near["first"], near["last"] = min(near["first"], first), max(near["last"], last)
            near["symbols"] = max(near["symbols"], span["symbols"])
    for piece in pieces:
        piece["left"] = _share(piece["first"], session)
        piece["width"] = round(max(HAIR, _share(piece["last"], session) - piece["left"]), 3)
    return sorted(pieces, key=lambda piece: piece["open"])  # open ones are drawn last, on top


def what_next(session: Session | None, now: datetime) -> str:
    """Say what the session does next."""
    if session is None:
        return "no session known"
    if now < session.pre_open:
        return f"Closed until {session.pre_open.astimezone(NEW_YORK):%A %H:%M}"
    steps = (
        (session.open, "Pre-market, opens in"),
        (session.close, "Regular, closes in"),
        (session.post_close, "Post-market, ends in"),
    )
    moment, words = next((moment, words) for moment, words in steps if now < moment)
    minutes = -int((now - moment).total_seconds() // 60)  # rounded up
    return f"{words} {minutes // 60} h {minutes % 60} m" if minutes >= 60 else f"{words} {minutes} m"


def feed_state(now: datetime) -> dict[str, Any]:
    """
    Return what the lines say of themselves, joined: the worst state speaks.

    A line that has not given a sign of life for half a minute is down, whatever it said last.
    """
    lines = list(Heartbeat.objects.filter(part__startswith="stream"))
    if not lines:
        return {"state": "down", "words": "not started", "since": None, "detail": {}}
    order = list(FEED_WORDS)
    states = [line.state if (now - line.at).total_seconds() < FEED_QUIET_SECONDS else "down" for line in lines]
    worst = max(states, key=lambda state: order.index(state) if state in order else order.index("down"))
    newest = max(lines, key=lambda line: line.at)
    return {"state": worst, "words": FEED_WORDS.get(worst, worst), "since": newest.at if worst == "down" else None, "detail": newest.detail}


@register.simple_tag
def frame() -> dict[str, Any]:
    """
    Return what stands on every page: the day, the clock, the status line.

    Eight queries, whatever the page and however large the market.
    """
    now = timezone.now()
    session = Session.objects.open_or_next(now)
    newest = Bar.objects.whole().newest_minute()
    universe = Symbol.objects.in_universe(settings.SYMBOL_UNIVERSE_KEY)
    members = set(universe.values_list("symbol", flat=True))
    last = Detection.objects.newest_first().first()
    spans = list(Gap.objects.spans_since(session.pre_open)[:SPANS_IN_STRIP]) if session else []
    gaps = gap_strips(spans, session) if session else []
    return {
        "now": now,
        "session": session,
        "strip": day_strip(session, now),
        "next": what_next(session, now),
        "in_session": session is not None and session.pre_open <= now,
        "feed": feed_state(now),
        "synthetic": settings.FEED_NAME == "twin",
        "newest": newest,
        "count": Bar.objects.filter(timestamp=newest, symbol__in=universe).count() if newest else 0,
        "of": len(members),
        "beside": " ".join(symbol for symbol in with_references([]) if symbol not in members),
        "last_detection": last,
        "gaps": gaps,
        "open_gaps": [piece for piece in gaps if piece["open"]],
        "reconciled": Reconciliation.objects.filter(finished_at__isnull=False, error="").first(),
    }
