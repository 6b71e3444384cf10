"""Weinstein's stages: how many, who, who moved and why; and the matrix of averages."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboards.drawing.lines import stacked
from dashboards.ledes import market
from dashboards.templatetags.wording import NEW_YORK
from dashboards.views.board import ROWS_A_PAGE, Board, board_page, page_of
from patterns.models import MarketSurvey

Rows = list[dict[str, Any]]
SESSIONS_SHOWN = 504
LISTED = 12
CHANGES_SHOWN = 6
STAGES = ("2", "1", "3", "4")
AREA_WIDTH, AREA_HEIGHT = 760, 330
REACH_ATR = 12.0
AVERAGES = (("ema10", "10"), ("sma20", "20"), ("sma50", "50"), ("sma200", "200"))
BUCKETS = {
    "extended": "7 ATRs or more above the 50-day", "hold": "above 10, 20 and 50", "pullback": "above 50, below 10 or 20",
    "broken": "below 50, above 200", "below": "below 50 and 200",
}  # fmt: skip


def moved_at(text: str) -> datetime:
    """Return when a change happened; a bare date is that exchange day's end."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(hour=23, tzinfo=NEW_YORK)


def moves(stages: Rows, changes: Rows) -> list[dict[str, Any]]:
    """Return the matrix of this week's moves: a row a stage left, a cell a stage reached; on the diagonal those that stayed."""
    moved = Counter((str(row["from"])[:1], str(row["to"])[:1]) for row in changes)
    now = Counter(str(row["stage"]) for row in stages if row["stage"])
    arrived = Counter(to for _, to in moved.elements())
    return [
        {"stage": before, "cells": [(to, now[to] - arrived[to] if to == before else moved[before, to]) for to in "1234"]}
        for before in "1234"
    ]


@board_page("stages", "stage_counts", "stage_changes", "rankings")
def stages(request: HttpRequest, board: Board) -> HttpResponse:
    """Show counts through time, this week's moves with their reasons, and four lists."""
    survey = board.survey
    closes = [row for row in MarketSurvey.objects.closes(board.universe, SESSIONS_SHOWN) if row.as_of <= survey.as_of]
    week_ago = next((row for row in reversed(closes) if row.as_of <= survey.as_of - timedelta(days=7)), None)
    monday = survey.as_of.astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    monday -= timedelta(days=monday.weekday())
    week = [row for row in survey.stage_changes if moved_at(row["at"]) >= monday]
    names = {row["symbol"]: row["name"] for row in survey.rankings}
    columns = [(row.as_of.timestamp(), row.stage_counts) for row in closes if any(row.stage_counts.get(key) for key in STAGES)]
    if not board.closed:
        columns.append((survey.as_of.timestamp(), survey.stage_counts))
    history = (
        stacked(columns, above=("2", "1"), below=("3", "4"), width=AREA_WIDTH, height=AREA_HEIGHT, span=(columns[0][0], columns[-1][0]))
        if len(columns) > 1 else None
    )  # fmt: skip
    whole = request.GET.get("all", "")
    lists = []
    for key in STAGES:
        rows = [row for row in survey.stages if str(row["stage"] or "") == key]
        rows.sort(key=lambda row: (row["distance_atr"] is None, -(row["distance_atr"] or 0) if key in "21" else (row["distance_atr"] or 0)))
        lists.append(
            {
                "stage": key,
                "count": len(rows),
                "rows": rows[: ROWS_A_PAGE if whole == key else LISTED],
                "more": max(0, len(rows) - LISTED),
                "open": whole == key,
            }
        )
    return render(
        request,
        "dashboards/stages.html",
        board.context(
            lede=board.lede(lambda: market.stages(survey.stage_counts, week_ago.stage_counts if week_ago else None, week)),
            history=history,
            size=(AREA_WIDTH, AREA_HEIGHT),
            sessions=len(columns),
            months=month_rules([at for at, _ in columns], AREA_WIDTH) if len(columns) > 1 else [],
            history_rows=[(row.as_of, row.stage_counts) for row in closes[::-21]],
            matrix=moves(survey.stages, week),
            changes=survey.stage_changes[:CHANGES_SHOWN],
            older=survey.stage_changes[CHANGES_SHOWN:],
            this_week=len(week),
            names=names,
            lists=lists,
            unknown=[row for row in survey.stages if not row["stage"]],
            staged=sum(1 for row in survey.stages if row["stage"]),
            reach=REACH_ATR,
            monday=monday,
        ),
    )  # fmt: skip


def month_rules(moments: list[float], width: int, *, most: int = 6) -> list[tuple[str, str]]:
    """Return (x, label) of the first moments of months, thinned to `most`; January carries its year."""
    if len(moments) < 2 or moments[-1] <= moments[0]:
        return []
    found = []
    before = None
    for moment in moments:
        at = datetime.fromtimestamp(moment, NEW_YORK)
        if before is not None and at.month != before:
            x = (moment - moments[0]) / (moments[-1] - moments[0]) * width
            found.append((f"{x:.1f}", f"{at:%b %Y}" if at.month == 1 else f"{at:%b}"))
        before = at.month
    step = -(-len(found) // most) if found else 1
    return found[::step]


@board_page("averages", "rankings")
def averages(request: HttpRequest, board: Board) -> HttpResponse:
    """Show each symbol's distance from its 10-, 20-, 50- and 200-day averages, in ATRs or percent."""
    unit = "percent" if request.GET.get("unit") == "percent" else "atr"
    sort = request.GET.get("sort", "")
    bucket = request.GET.get("bucket", "")
    known = {row["symbol"]: row for row in board.survey.rankings}
    rows = [with_cells(row, known.get(row["symbol"], {}), unit) for row in board.survey.averages if not bucket or row["bucket"] == bucket]
    ordered = [row for _, group in grouped(rows, sort, unit) for row in group]
    shown, page = page_of(request, ordered)
    groups = grouped(shown, sort, unit)
    counts = Counter(row["bucket"] for row in board.survey.averages)
    return render(
        request,
        "dashboards/averages.html",
        board.context(
            lede=board.lede(lambda: market.averages(board.survey.averages, [name for name, _ in AVERAGES])),
            groups=groups,
            columns=AVERAGES,
            unit=unit,
            scale=1.0 if unit == "atr" else 3.0,
            sort=sort,
            sort_key=sort.removeprefix("-"),
            bucket=bucket,
            buckets=[(name, words, counts[name]) for name, words in BUCKETS.items()],
            of=len(board.survey.averages),
            shown=len(rows),
            page=page,
        ),
    )


def with_cells(row: dict[str, Any], ranked: dict[str, Any], unit: str) -> dict[str, Any]:
    """Return a row with its change of the day and one cell an average: (name, distance, value, crossing)."""
    cells = [
        (name, (row.get(name) or {}).get(unit), (row.get(name) or {}).get("value"), crossed(row, name, ranked)) for name, _ in AVERAGES
    ]
    stop = row.get("stop") or {}
    return {
        **row,
        "change_day": ranked.get("change_day"),
        "name": ranked.get("name", ""),
        "cells": cells,
        "stops": (stop.get("sma20"), stop.get("chandelier")),
    }


def crossed(row: dict[str, Any], name: str, ranked: dict[str, Any]) -> str:
    """Return whether the price crossed an average today: up, down or nothing; against today's value of the average."""
    value, last, change = (row.get(name) or {}).get("value"), row.get("last"), ranked.get("change_day")
    if value is None or last is None or change is None or change <= -100:
        return ""
    before = last / (1 + change / 100)
    return "up" if before <= value < last else "down" if before >= value > last else ""


def grouped(rows: Rows, sort: str, unit: str) -> list[tuple[str, Rows]]:
    """Return rows by sector in the order of the alphabet, or as one group where an order is asked for; unknown values last."""
    key, down = sort.removeprefix("-"), sort.startswith("-")
    if key in {name for name, _ in AVERAGES} or key in {"alignment", "change_day", "bucket", "symbol"}:

        def value(row: dict[str, Any]) -> Any:
            return (row.get(key) or {}).get(unit) if key in {name for name, _ in AVERAGES} else row.get(key)

        found = sorted((row for row in rows if value(row) is not None), key=lambda row: (value(row), row["symbol"]), reverse=down)
        return [("", found + [row for row in rows if value(row) is None])] if rows else []
    by_sector: dict[str, Rows] = {}
    for row in sorted(rows, key=lambda row: (not row["sector"], row["sector"], row["symbol"])):
        by_sector.setdefault(row["sector"] or "No sector", []).append(row)
    return list(by_sector.items())
