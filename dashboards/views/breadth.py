"""How many take part: seven figures, today minute by minute, sectors now and a month ago, a year in small charts."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboards.drawing import lines
from dashboards.ledes import market
from dashboards.ledes.market import FLOOR
from dashboards.templatetags.boards import signed
from dashboards.templatetags.wording import NEW_YORK
from dashboards.views.board import Board, board_page, session_of
from dashboards.views.overview import advancing, against_close, volume_share
from dashboards.views.stages import month_rules
from marketdata.models import Session
from patterns.models import MarketSurvey

YEAR = 252
SPARK_SESSIONS = 60
USUAL_DAYS = 28
USUAL_FEWEST = 5  # sessions; a band of fewer is no band
USUAL_SHARES = (0.15, 0.85)
DAY_WIDTH, DAY_HEIGHT = 880, 108
SMALL_WIDTH, SMALL_HEIGHT = 270, 150
MONTH = timedelta(days=30)
HALF_HOUR = 1800.0
Read = Callable[[Mapping[str, Any]], float | None]


def _net_highs(breadth: Mapping[str, Any]) -> float | None:
    high, low = breadth.get("new_highs"), breadth.get("new_lows")
    return None if high is None or low is None else high - low


FIGURES: tuple[tuple[str, str, Read, float | None], ...] = (
    ("Advancing", "%", advancing, 50),
    ("Volume in rising", "%", volume_share, 50),
    ("Above 20-day", "%", lambda breadth: breadth.get("above_sma20"), None),
    ("Above 50-day", "%", lambda breadth: breadth.get("above_sma50"), None),
    ("Above 200-day", "%", lambda breadth: breadth.get("above_sma200"), None),
    ("52-week highs less lows", "", _net_highs, 0),
    ("McClellan", "", lambda breadth: breadth.get("mcclellan"), 0),
)
"""Words, unit, how it is read from a breadth block, and the dashed base of its small line."""


def figures(now: Mapping[str, Any], closes: Sequence[Any], before: Any, *, closed: bool) -> list[dict[str, Any]]:
    """Return the strip of figures: now, the difference to the close before, and a line of the last sessions."""
    found = []
    for words, unit, read, base in FIGURES:
        value = read(now)
        then = read(before.breadth) if before else None
        values = [read(row.breadth) for row in closes[-SPARK_SESSIONS:]]
        found.append(
            {"words": words, "unit": unit, "value": value, "moved": None if value is None or then is None else value - then,
             "line": lines.spark(values if closed else [*values, value], width=112, height=30, base=base), "signed": base == 0,
             "highs": (now.get("new_highs"), now.get("new_lows")) if "highs" in words else None}
        )  # fmt: skip
    return found


def usual(rows: Sequence[Any], read: Read, session: Session) -> list[tuple[float, float, float]]:
    """
    Return the usual range at each half hour of the session: (moment of today, lower, upper), the 15th and 85th percentile of earlier sessions.

    A half hour that fewer than `USUAL_FEWEST` sessions know is left out.
    """
    by_clock: dict[float, list[float]] = defaultdict(list)
    opened = session.open.astimezone(NEW_YORK)
    for row in rows:
        value = read(row.breadth)
        at = row.as_of.astimezone(NEW_YORK)
        after = (at.hour * 60 + at.minute) - (opened.hour * 60 + opened.minute)
        if value is not None and after >= 0:
            by_clock[after * 60.0].append(value)
    end = session.close.timestamp() - session.open.timestamp()
    found = []
    for after, values in sorted(by_clock.items()):
        if len(values) >= USUAL_FEWEST and after <= end:
            ordered = sorted(values)
            low, high = (ordered[round(share * (len(ordered) - 1))] for share in USUAL_SHARES)
            found.append((session.open.timestamp() + after, low, high))
    return found


def holes(rows: Sequence[Any], start: float) -> list[tuple[float, float]]:
    """Return the stretches of today that have no survey, or one of too few symbols: (from, until), five minutes or longer."""
    found: list[tuple[float, float]] = []
    last = start
    for row in rows:
        at = row.as_of.timestamp()
        whole = row.coverage["of"] and row.coverage["symbols"] >= FLOOR * row.coverage["of"]
        if whole:
            if at - last > 5 * 60:
                found.append((last, at))
            last = at
    return found


def day_charts(board: Board, session: Session) -> dict[str, Any]:
    """Return today's two lines with what is usual behind them and what is missing hatched; three queries."""
    rows = [row for row in MarketSurvey.objects.today(board.universe, board.day) if row.as_of <= board.survey.as_of]
    earlier = MarketSurvey.objects.half_hours(board.universe, session.open - timedelta(days=USUAL_DAYS), session.open)
    start, end = session.open.timestamp(), session.close.timestamp()
    missing = holes(rows, start)
    across = lines.Scale(start, end, 0, DAY_WIDTH)
    clear = lines.Scale(start, end, 0, 1)
    hours = hour_rules(session)
    charts = []
    for words, read in (("Share of symbols advancing, %", advancing), ("Share of volume in rising symbols, %", volume_share)):
        points: list[tuple[float, float | None]] = []
        for row in rows:
            at = row.as_of.timestamp()
            whole = row.coverage["of"] and row.coverage["symbols"] >= FLOOR * row.coverage["of"]
            if points and any(low < at and points[-1][0] <= low for low, _ in missing):
                points.append((at, None))  # the line is cut where a stretch is missing
            points.append((at, read(row.counts) if whole else None))
        chart = lines.line_chart(
            points, width=DAY_WIDTH, height=DAY_HEIGHT, span=(start, end), include=[30, 70], strong=50, columns=hours,
            usual=usual(earlier, read, session), at_rules=[25, 50, 75],
        )  # fmt: skip
        charts.append((words, chart))
    hatched = [
        (
            lines.place(across.at(low)),
            lines.place(across.at(high) - across.at(low)),
            *(datetime.fromtimestamp(at, NEW_YORK) for at in (low, high)),
        )
        for low, high in missing
    ]
    return {
        "charts": charts,
        "holes": hatched,
        "minutes": len(rows),
        "hours": [(f"{100 * clear.at(at):.2f}%", words) for at, words in hours],
        "rows": [(row.as_of, advancing(row.counts), volume_share(row.counts), row.coverage) for row in rows[::-30][:16]],
    }


def hour_rules(session: Session, *, most: int = 7) -> list[tuple[float, str]]:
    """Return the whole hours of a session, thinned to `most`: (moment, 12:00)."""
    first = session.open.astimezone(NEW_YORK).replace(minute=0, second=0) + timedelta(hours=1)
    room = (session.close - session.open) / 10  # the labels of open and close stand there, also on a phone
    hours = []
    while first < session.close - room:
        if first > session.open + room:
            hours.append(first)
        first += timedelta(hours=1)
    step = -(-len(hours) // most) if hours else 1
    return [(hour.timestamp(), f"{hour.astimezone(NEW_YORK):%H:%M}") for hour in hours[::step]]


def year_charts(closes: Sequence[Any], now: datetime, breadth: Mapping[str, Any], *, closed: bool) -> list[dict[str, Any]]:
    """Return the year's small charts: A/D line, McClellan, share above the 50-day, highs and lows, threshold bars."""
    rows = [(row.as_of.timestamp(), row.breadth) for row in closes]
    if not closed:
        rows.append((now.timestamp(), breadth))
    if len(rows) < 2:
        return []
    span = (rows[0][0], rows[-1][0])
    size: dict[str, Any] = {"width": SMALL_WIDTH, "height": SMALL_HEIGHT, "span": span}
    months = month_rules([at for at, _ in rows], SMALL_WIDTH, most=4)

    def line(read: Read, **options: Any) -> lines.Chart | None:
        return lines.line_chart([(at, read(row)) for at, row in rows], **size, **options)

    def bars(up: str, down: str) -> lines.Chart | None:
        return lines.mirrored_bars([(at, row.get(up), row.get(down)) for at, row in rows], **size)

    mcclellan, fifty = breadth.get("mcclellan"), breadth.get("above_sma50")
    return [
        {"title": "Advance–decline line", "unit": "cumulative", "chart": line(lambda row: row.get("ad_line"), strong=0),
         "months": months, "said": breadth.get("ad_line")},
        {"title": "McClellan oscillator", "unit": f"{signed(mcclellan, 0)}; stretched beyond 70", "months": months, "said": mcclellan,
         "chart": line(lambda row: row.get("mcclellan"), strong=0, include=[-80, 80], at_rules=[-70, 0, 70])},
        {"title": "Above 50-day average", "unit": f"{'–' if fifty is None else f'{fifty:.0f}%'}; thresholds 20 and 80", "months": months, "said": fifty,
         "chart": line(lambda row: row.get("above_sma50"), strong=50, include=[10, 90], at_rules=[20, 50, 80])},
        {"title": "New highs, new lows", "unit": "52 weeks, members", "chart": bars("new_highs", "new_lows"), "months": months, "said": _net_highs(breadth)},
        {"title": "Moved 4% or more", "unit": "members, up and down", "chart": bars("up_4_percent", "down_4_percent"), "months": months,
         "said": (breadth.get("up_4_percent") or 0) - (breadth.get("down_4_percent") or 0)},
    ]  # fmt: skip


def by_sector(now: Sequence[Mapping[str, Any]], then: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each sector's share above the 50-day average, now and a month ago, the largest first; unknown ones last."""
    before = {row["sector"]: row["above_sma50"] for row in then}
    rows = [
        {"sector": row["sector"], "now": row["above_sma50"], "then": before.get(row["sector"]), "symbols": row["symbols"], "of": row["of"]}
        for row in now
        if row["sector"]
    ]
    return sorted(rows, key=lambda row: (row["now"] is None, -(row["now"] or 0), row["sector"]))


@board_page("breadth", "sectors")
def breadth(request: HttpRequest, board: Board) -> HttpResponse:
    """Show breadth as figures, today, by sector, and through the year."""
    survey = board.survey
    closes = [row for row in MarketSurvey.objects.closes(board.universe, YEAR) if row.as_of <= survey.as_of]
    before = against_close(board, closes)
    month_ago = MarketSurvey.objects.standing_at(board.universe, survey.as_of - MONTH, blocks=("sectors",))
    session = session_of(board)
    return render(
        request,
        "dashboards/breadth.html",
        board.context(
            lede=board.lede(lambda: market.breadth(survey.breadth)),
            breadth=survey.breadth,
            figures=figures(survey.breadth, closes, before, closed=board.closed),
            before=before,
            session=session,
            day=day_charts(board, session) if session else None,
            day_size=(DAY_WIDTH, DAY_HEIGHT),
            year=year_charts(closes, survey.as_of, survey.breadth, closed=board.closed),
            small=(SMALL_WIDTH, SMALL_HEIGHT),
            closes=closes,
            year_rows=closes[::-21],
            sectors=by_sector(survey.sectors, month_ago.sectors if month_ago else []),
            month_ago=month_ago,
        ),
    )
