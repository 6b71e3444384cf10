"""What the market pages draw and say beyond the plain words: tints, chips, small lines, provenance."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from django import template
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from dashboards.drawing.lines import Spark, place
from dashboards.grid.columns import Column
from dashboards.templatetags.wording import HEAT_STEPS, MINUS, NEW_YORK, NONE, clock, iso, price, raw, shares, tone
from marketdata.models import Session

register = template.Library()

STALE_AFTER = timedelta(minutes=3)
"""A survey is made each minute; one that is older inside a session says so."""
STAGES = {1: ("Basing", "around a flat average, after a decline"), 2: ("Advancing", "above a rising 30-week average"),
          3: ("Topping", "around a flat average, after an advance"), 4: ("Declining", "below a falling average")}  # fmt: skip
SLOPES = {1: "M1 5.5h10", 2: "M1 9Q7 8 11 2", 3: "M1 8Q4 3 11 4.5", 4: "M1 2Q5 3 11 9"}
SHORT_SECTORS = {
    "Technology": "Tech", "Health Care": "Health", "Consumer Discretionary": "Discret.", "Communication Services": "Comms",
    "Consumer Staples": "Staples", "Real Estate": "Real est.", "Discretionary": "Discret.", "Communication": "Comms",
}  # fmt: skip
Number = float | None


def joined(parts: Iterable[SafeString]) -> SafeString:
    """Return drawn parts as one."""
    return format_html_join("", "{}", ((part,) for part in parts))


@register.filter
def one(value: Number) -> str:
    """Say a signed number with one decimal; what rounds to zero has no sign."""
    return signed(value, 1)


@register.filter
def plain(value: Number, digits: int = 1) -> str:
    """Say a number without a plus sign."""
    return NONE if value is None else f"{value:,.{digits}f}".replace("-", MINUS)


@register.filter
def whole(value: Number) -> str:
    """Say a whole number."""
    return NONE if value is None else f"{round(value):,}".replace("-", MINUS)


@register.filter
def times(value: Number) -> str:
    """Say a multiple: 1.7×."""
    return NONE if value is None else f"{value:.1f}×"


@register.filter
def signed(value: Number, digits: int = 2) -> str:
    """Say a signed number; what rounds to zero has no sign."""
    if value is None:
        return NONE
    text = f"{abs(value):,.{digits}f}"
    return text if float(text.replace(",", "")) == 0 else f"{'+' if value > 0 else MINUS}{text}"


@register.filter
def money(value: Number) -> str:
    """Say a market value: 3.42 T, 812 B, 940 M."""
    if value is None:
        return NONE
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.2f} {letter}" if letter == "T" else f"{value / size:,.0f} {letter}"
    return f"{value:,.0f}"


@register.filter
def tint(value: Number, scale: float = 1.0) -> str:
    """Return the step of a change: n4 … 0 … p4; the thresholds of a day times `scale` for longer horizons."""
    if value is None:
        return ""
    step = sum(abs(value) >= limit * scale for limit in HEAT_STEPS)
    return "0" if step == 0 else f"{'p' if value > 0 else 'n'}{step}"


@register.filter
def coord(value: float) -> str:
    """Return a coordinate as SVG takes it."""
    return place(value)


@register.filter
def short_sector(name: str) -> str:
    """Say a sector in a narrow place."""
    return SHORT_SECTORS.get(name, name) or NONE


@register.filter
def get(mapping: Mapping[str, Any], key: Any) -> Any:
    """Return a value by a key that is not known when the template is written."""
    return mapping.get(key) if mapping else None


@register.filter
def day_of(text: str | None) -> str:
    """Say the day of an ISO date or moment: 19 Nov."""
    if not text:
        return NONE
    moment = datetime.fromisoformat(text)
    at = moment.astimezone(NEW_YORK) if moment.tzinfo else moment
    return f"{at:%-d %b}"


@register.filter
def full_day(day: date) -> str:
    """Say a date with its weekday: Friday 20 Nov."""
    return f"{day:%A %-d %b}"


@register.filter
def weekday(moment: datetime) -> str:
    """Say the weekday of the exchange's day that a moment ends: Thursday."""
    return f"{(moment - timedelta(seconds=1)).astimezone(NEW_YORK):%A}"


@register.filter
def session_day(moment: datetime) -> str:
    """Say the exchange's day that a moment ends: 19 Nov."""
    return f"{(moment - timedelta(seconds=1)).astimezone(NEW_YORK):%-d %b}"


@register.filter
def stage_name(stage: Any) -> str:
    """Return a stage's word."""
    return STAGES[int(stage)][0] if stage and int(stage) in STAGES else "Unknown"


@register.filter
def stage_words(stage: Any) -> str:
    """Return what a stage means."""
    return STAGES[int(stage)][1]


@register.simple_tag
def stage_mark(stage: Any) -> SafeString:
    """Draw the stroke of a stage: flat, rising, rounding, falling; nothing for an unknown one."""
    if not stage:
        return mark_safe("")
    return format_html('<svg class="stroke s{}" viewBox="0 0 12 11" aria-hidden="true"><path d="{}"/></svg>', stage, SLOPES[int(stage)])


@register.simple_tag
def stage_chip(row: Mapping[str, Any]) -> SafeString:
    """Say a row's stage: stroke, number, sub-stage, and the weeks in it."""
    stage = row.get("stage")
    if not stage:
        return format_html('<span class="quiet">{}</span>', NONE)
    weeks = format_html(' <span class="quiet wide">{} w</span>', row["weeks"]) if row.get("weeks") is not None else ""
    return format_html(
        '<span class="chip" title="Stage {}, {}">{}<b>{}</b> <span class="sub">{}</span>{}</span>',
        stage, stage_name(stage).lower(), stage_mark(stage), stage, row.get("substage") or "", weeks,
    )  # fmt: skip


@register.simple_tag
def small_line(line: Spark | None, label: str = "") -> SafeString:
    """Draw a small line; empty where there is none."""
    if line is None:
        return mark_safe("")
    named = format_html('role="img" aria-label="{}"', label) if label else mark_safe('aria-hidden="true"')
    base = format_html('<path class="base" d="M0 {}H{}"/>', line.base, line.width) if line.base is not None else ""
    return format_html(
        '<svg class="spark-line {}" viewBox="0 0 {} {}" width="{}" height="{}" {}>{}<path class="line" d="{}"/><circle cx="{}" cy="{}" r="1.8"/></svg>',
        line.tone, line.width, line.height, line.width, line.height, named, base, line.path, line.x, line.y,
    )  # fmt: skip


@register.simple_tag
def rank_shift(value: int | None) -> SafeString:
    """Draw how many places were gained or lost; a rank is no price, so it has no colour."""
    if not value:
        return format_html('<span class="quiet">{}</span>', NONE)
    return format_html('{}<span class="unseen">{} </span>{}', triangle(value > 0), "up" if value > 0 else "down", abs(value))


def triangle(up: bool) -> SafeString:
    """Draw a small triangle in ink."""
    return format_html(
        '<svg class="tri" viewBox="0 0 7 6" aria-hidden="true"><path d="{}"/></svg>', "M3.5 0 7 6H0z" if up else "M3.5 6 0 0h7z"
    )


@register.simple_tag
def share_bar(value: Number, of: float = 100, *, width: int = 50, css: str = "") -> SafeString:
    """Draw a share as a bar on its track."""
    length = 0.0 if value is None else round(max(0.0, min(1.0, value / of)) * width, 1)
    return format_html(
        '<svg class="share {}" width="{}" height="6" viewBox="0 0 {} 6" aria-hidden="true"><rect width="{}" height="6"/>'
        '<rect class="part" width="{}" height="6"/></svg>', css, width, width, width, length,
    )  # fmt: skip


@register.simple_tag
def stage_bar(stages: Mapping[str, int] | None, width: int = 62) -> SafeString:
    """Draw the counts of the stages 2, 1, 3, 4 as one bar, best first."""
    counts = {key: int((stages or {}).get(key, 0) or 0) for key in "2134"}
    total = sum(counts.values())
    if not total:
        return format_html('<span class="quiet">{}</span>', NONE)
    x, parts = 0.0, []
    for key, count in counts.items():
        length = count / total * width
        if count:
            parts.append(format_html('<rect class="f{}" x="{}" width="{}" height="8"/>', key, f"{x:.1f}", f"{max(1.0, length - 1):.1f}"))
        x += length
    words = ", ".join(f"{count} in stage {key}" for key, count in sorted(counts.items()) if count)
    return format_html('<svg class="stages-bar" width="{}" height="8" role="img" aria-label="{}">{}</svg>', width, words, joined(parts))


@register.simple_tag
def diverging_bar(value: Number, reach: float, *, width: int = 92) -> SafeString:
    """Draw a change around a fixed centre line; one that is clipped ends in a notch."""
    middle = width / 2
    parts = [format_html('<rect class="rule" x="{}" width="1" height="9"/>', f"{middle - 0.5:g}")]
    if value is not None and round(value, 2) != 0 and reach:
        length = min(1.0, abs(value) / reach) * (middle - 2)
        x = middle + 1 if value > 0 else middle - 1 - length
        css = "rise" if value > 0 else "fall"
        parts.append(format_html('<rect class="{}" x="{}" width="{}" y="1" height="7"/>', css, f"{x:.1f}", f"{length:.1f}"))
        if abs(value) > reach:
            parts.append(
                format_html('<rect class="notch" x="{}" width="1" y="1" height="7"/>', f"{x + length - 3 if value > 0 else x + 2:.1f}")
            )
    return format_html('<svg class="diverging" width="{}" height="9" aria-hidden="true">{}</svg>', width, joined(parts))


@register.simple_tag
def distance_dot(value: Number, reach: float, stage: str) -> SafeString:
    """Draw a distance from an average in ATRs as a dot beside the average's line; clipped at `reach`."""
    if value is None:
        return format_html('<span class="quiet">{}</span>', NONE)
    x = 48 + max(-1.0, min(1.0, value / reach)) * 44
    return format_html(
        '<svg class="distance s{}" width="96" height="10" role="img" aria-label="{}">'
        '<path class="rule" d="M48 0v10"/><path d="M48 5H{}"/><circle cx="{}" cy="5" r="2.6"/></svg>',
        stage, signed(value, 1), f"{x:.1f}", f"{x:.1f}",
    )  # fmt: skip


@register.simple_tag
def dumbbell(then: Number, now: Number) -> SafeString:
    """Draw two shares in percent on one line: hollow then, full now."""
    if now is None:
        return format_html('<span class="quiet">{}</span>', NONE)
    end = 4 + now * 1.72
    begin = end if then is None else 4 + then * 1.72
    css = "fall-line" if then is not None and now < then else "rise-line"
    hollow = format_html('<circle class="hollow" cx="{}" cy="6" r="2.8"/>', f"{begin:.1f}") if then is not None else ""
    return format_html(
        '<svg class="dumbbell" viewBox="0 0 180 12" aria-hidden="true"><path class="rule" d="M4 0v12M176 0v12"/><path class="rule strong" d="M90 0v12"/>'
        '<path class="{}" d="M{} 6H{}"/>{}<circle class="full {}" cx="{}" cy="6" r="3.2"/></svg>',
        css, f"{begin:.1f}", f"{end:.1f}", hollow, css, f"{end:.1f}",
    )  # fmt: skip


# ---- Provenance -------------------------------------------------------------------------------------------------------------------------


@register.inclusion_tag("dashboards/_provenance.html", takes_context=True)
def provenance(context: Any, symbols: int | None = None, of: int | None = None, *, whole_page: bool = False) -> dict[str, Any]:
    """Say of when a panel's numbers are and of how many: the lamp, the minute, n of N, a bar where they are partial."""
    board = context["board"]
    n = board.coverage["symbols"] if symbols is None else symbols
    total = board.coverage["of"] if of is None else of
    return {
        "board": board, "request": context.get("request"), "n": n, "of": total, "partial": n < total, "share": 34 * n / total if total else 0,
        "whole_page": whole_page,
        "state": state_of(board, context.get("frame")), "age": board.now - board.survey.as_of,
        "bar_age": board.survey.as_of - board.oldest if board.oldest and not board.closed else None,
    }  # fmt: skip


def state_of(board: Any, frame: Mapping[str, Any] | None) -> str:
    """Return what the lamp shows: replay where a moment was asked, closed at a close, stale inside a session, else as the feed."""
    if board.asked_at is not None:
        return "replay"
    session: Session | None = frame["session"] if frame else None
    inside = session is not None and session.open <= board.now < session.close
    if board.closed and not inside:
        return "closed"
    if inside and board.now - board.survey.as_of > STALE_AFTER:
        return "stale"
    return str(frame["feed"]["state"]) if frame and inside else "closed"


# ---- The grid ---------------------------------------------------------------------------------------------------------------------------


def _cell(css: str, text: Any) -> SafeString:
    return format_html('<td class="{}">{}</td>', css, text)


def _symbol(row: Mapping[str, Any], column: Column) -> SafeString:  # noqa: ARG001 - one signature for all cells
    return format_html('<th scope="row"><a href="{}">{}</a></th>', reverse("symbol", args=[row["symbol"]]), row["symbol"])


def _last(row: Mapping[str, Any], column: Column) -> SafeString:
    value = row[column.key]
    return format_html('<td class="num cell c-last" data-last="{}">{}</td>', raw(value), price(value))


def _tint(row: Mapping[str, Any], column: Column) -> SafeString:
    value = row.get(column.key)
    said = signed(value, 2 if column.scale == 1 else 1)
    day = column.key == "change_day"
    live = mark_safe(" data-live-change") if day else ""
    css = f" c-day {tone(value)}" if day else ""
    return format_html('<td class="num tint wide{}" data-tint="{}"{}>{}</td>', css, tint(value, column.scale), live, said)


def _today(row: Mapping[str, Any], column: Column) -> SafeString:
    return format_html('<td class="line-cell wide c-today">{}</td>', small_line(row.get(column.key)))


def _rating(row: Mapping[str, Any], column: Column) -> SafeString:
    value = row.get(column.key)
    if value is None:
        return format_html('<td class="num quiet c-rating" title="{}">{}</td>', row.get("reason") or "", NONE)
    return format_html('<td class="num rating c-rating"><b>{}</b>{}</td>', value, share_bar(value, 99, css="wide"))


def _at(text: str | None) -> SafeString | str:
    if not text:
        return NONE
    moment = datetime.fromisoformat(text)
    return format_html('<time datetime="{}">{}</time>', iso(moment), clock(moment))


CELLS: dict[str, Callable[[Mapping[str, Any], Column], SafeString]] = {
    "rank": lambda row, column: _cell("num quiet c-rank", NONE if row.get("rank") is None else row["rank"]),
    "shift": lambda row, column: _cell("second wide shift c-shift", rank_shift(row.get(column.key))),
    "symbol": _symbol,
    "name": lambda row, column: _cell("quiet wide cut c-name", row["name"]),
    "sector": lambda row, column: _cell("quiet wide", short_sector(row.get("sector") or "")),
    "words": lambda row, column: _cell("quiet wide cut", row.get(column.key) or NONE),
    "last": _last,
    "today": _today,
    "rating": _rating,
    "tint": _tint,
    "plain": lambda row, column: _cell("num second wide", plain(row.get(column.key))),
    "signed": lambda row, column: _cell("num second wide", signed(row.get(column.key), 1)),
    "multiple": lambda row, column: _cell("num second wide", plain(row.get(column.key), 2)),
    "shares": lambda row, column: _cell("num second wide", shares(row.get(column.key))),
    "money": lambda row, column: _cell("num second wide", money(row.get(column.key))),
    "stage": lambda row, column: _cell("stage-cell c-stage", stage_chip(row)),
    "clock": lambda row, column: _cell("num quiet wide", _at(row.get(column.key))),
}


@register.simple_tag
def grid_cells(row: Mapping[str, Any], columns: tuple[Column, ...]) -> SafeString:
    """Draw the cells of one row of the grid: one table of kinds instead of a chain of conditions a cell."""
    return joined(CELLS[column.kind](row, column) for column in columns)
