"""The market at a glance."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboards.drawing import lines
from dashboards.drawing.treemap import Group, treemap
from dashboards.ledes import market
from dashboards.views.board import LARGE, SMALL, Board, board_page, close_before, day_lines, session_of
from marketdata.models import Session
from patterns.models import Detection, MarketSurvey

INDEX_FUNDS = ("SPY", "QQQ", "IWM", "DIA", "GLD")
INDICES_SHOWN = 4
MOVERS_A_SIDE = 6
SESSIONS_SHOWN = 60
FOUND_SHOWN = 9
FOUND_LOOKED_AT = 200
TILES = 300  # more would be too small to point at
MAP_WIDTH, MAP_HEIGHT = 720, 300
PHONE_WIDTH, PHONE_HEIGHT = 358, 420
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class FoundBar:
    """What was found on one bar: the best detection, and how many more."""

    best: Detection
    more: int


def _strength(detection: Detection) -> tuple[float, bool, int]:
    return detection.confidence, detection.direction != "neutral", -detection.id


def found_by_bar(found: Sequence[Detection]) -> list[FoundBar]:
    """Return one entry a bar, the newest bar first and the best shape first."""
    by_bar: dict[tuple[str, str, datetime], list[Detection]] = defaultdict(list)
    for detection in found:
        by_bar[detection.symbol_id, detection.timeframe, detection.timestamp].append(detection)
    rows = [FoundBar(max(group, key=_strength), len(group) - 1) for group in by_bar.values()]
    return sorted(rows, key=lambda row: (row.best.timestamp, *_strength(row.best)), reverse=True)


def movers(rows: Rows) -> tuple[Rows, Rows]:
    """Return the largest rises and the largest falls of the day, the largest first; nothing that rounds to zero."""
    known = sorted((row for row in rows if row["change_day"] is not None), key=lambda row: (-row["change_day"], row["symbol"]))
    rising = [row for row in known[:MOVERS_A_SIDE] if round(row["change_day"], 2) > 0]
    falling = [row for row in known[: -MOVERS_A_SIDE - 1 : -1] if round(row["change_day"], 2) < 0]
    return rising, falling


@dataclass(frozen=True)
class Heatmap:
    """The map: groups of tiles for a wide and a narrow screen, rows by symbol, and who has no place on it."""

    groups: list[Group]
    narrow: list[Group]
    rows: Mapping[str, dict[str, Any]]
    without: list[str]
    equal: bool
    of: int


def heatmap(rows: Rows) -> Heatmap:
    """
    Return the map of the symbols that have a sector and are no fund, grouped by sector, areas by market value.

    Where no market value is known at all the areas are equal; where some are, those without one are listed instead of drawn.
    """
    stocks = [row for row in rows if row["sector"] and row["type"] != "ETF"] or [row for row in rows if row["sector"]]
    equal = not any(row["market_cap"] for row in stocks)
    groups: dict[str, list[tuple[str, float]]] = defaultdict(list)
    drawn = sorted(stocks, key=lambda row: (-(row["market_cap"] or 0), row["symbol"]))[:TILES]
    for row in drawn:
        weight = 1.0 if equal else row["market_cap"]
        if weight:
            groups[row["sector"]].append((row["symbol"], float(weight)))
    return Heatmap(
        groups=treemap(list(groups.items()), width=MAP_WIDTH, height=MAP_HEIGHT),
        narrow=treemap(list(groups.items()), width=PHONE_WIDTH, height=PHONE_HEIGHT),
        rows={row["symbol"]: {**row, "previous": close_before(row)} for row in drawn},
        without=[] if equal else sorted(row["symbol"] for row in drawn if not row["market_cap"]),
        equal=equal,
        of=len(stocks),
    )


def advancing(breadth: Mapping[str, Any]) -> float | None:
    """Return the share of members that advance, in percent of those that have a change."""
    counted = sum(breadth.get(name) or 0 for name in ("advancers", "decliners", "unchanged"))
    return 100 * (breadth.get("advancers") or 0) / counted if counted else None


def balance(breadth: Mapping[str, Any]) -> dict[str, float]:
    """Return the lengths of the bar of rising and falling members, in percent."""
    counted = sum(breadth.get(name) or 0 for name in ("advancers", "decliners", "unchanged")) or 1
    up, down = (100 * (breadth.get(name) or 0) / counted for name in ("advancers", "decliners"))
    return {"up": round(up, 2), "down": round(down, 2), "start": round(100 - down, 2)}


def day_line(board: Board, session: Session | None, *, width: int, height: int) -> lines.Chart | None:
    """Return the share advancing, minute by minute over the whole session; two queries."""
    if session is None:
        return None
    start, end = session.open.timestamp(), session.close.timestamp()
    points = [
        (row.as_of.timestamp(), advancing(row.counts))
        for row in MarketSurvey.objects.today(board.universe, board.day)
        if row.as_of <= board.survey.as_of
    ]
    return lines.line_chart(points, width=width, height=height, span=(start, end), include=[30, 70], strong=50, at_rules=[50])


def volume_share(breadth: Mapping[str, Any]) -> float | None:
    """Return the share of volume in rising members, in percent."""
    up, down = breadth.get("up_volume"), breadth.get("down_volume")
    return 100 * up / (up + down) if up is not None and down is not None and up + down else None


def against_close(board: Board, closes: Sequence[Any]) -> Any:
    """Return the last close before the survey, None where none is stored."""
    return next((row for row in reversed(closes) if row.as_of < board.survey.as_of), None)


def _difference(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else now - then


def _state_rows(breadth: Mapping[str, Any], before: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Return the lines of the breadth panel: words, percent now, and the change in points since the close before."""
    names = (("Above 20-day average", "above_sma20"), ("Above 50-day", "above_sma50"), ("Above 200-day", "above_sma200"))
    rows = [(words, breadth.get(name), _difference(breadth.get(name), before.get(name))) for words, name in names]
    return [*rows, ("Volume in rising symbols", volume_share(breadth), _difference(volume_share(breadth), volume_share(before)))]


@board_page("rankings", "sectors", "rotation", "breadth", "regime", "stage_counts")
def overview(request: HttpRequest, board: Board) -> HttpResponse:
    """Show regime, breadth, stages, sectors, the map, movers, indices and detections."""
    survey = board.survey
    rows: Rows = survey.rankings
    by_symbol = {row["symbol"]: row for row in rows}
    indices = [by_symbol[symbol] for symbol in INDEX_FUNDS if symbol in by_symbol][:INDICES_SHOWN]
    rising, falling = movers(rows)
    closes = [row for row in MarketSurvey.objects.closes(board.universe, SESSIONS_SHOWN) if row.as_of <= survey.as_of]
    before = against_close(board, closes)
    before_parts = {part["name"]: part["score"] for part in before.regime["parts"]} if before else {}
    scores = [row.regime.get("score") for row in closes]
    session = session_of(board)
    lined = day_lines(board, session, [*indices, *rising, *falling])

    def drawn(chosen: Rows, size: tuple[int, int] = SMALL) -> Rows:
        return [{**row, "line": lined.line(row, size), "previous": close_before(row)} for row in chosen]

    found = Detection.objects.newest_first()
    if board.asked_at:
        found = found.filter(detection_timestamp__lte=survey.as_of).order_by("-detection_timestamp", "-id")
    if board.universe != board.streamed:
        found = found.filter(symbol_id__in=by_symbol)
    sectors = sorted(
        (row for row in survey.sectors if row["sector"]), key=lambda row: (row["change_day"] is None, -(row["change_day"] or 0))
    )
    return render(
        request,
        "dashboards/overview.html",
        board.context(
            lede=board.lede(lambda: market.overview(survey.breadth, survey.sectors)),
            indices=drawn(indices, LARGE),
            movers=[drawn(rising), drawn(falling)],
            sessions=len(closes),
            regime=survey.regime,
            regime_line=lines.spark(scores if board.closed else [*scores, survey.regime.get("score")], width=84, height=32),
            before=before,
            parts=[(part, _difference(part["score"], before_parts.get(part["name"]))) for part in survey.regime["parts"]],
            breadth=survey.breadth,
            balance=balance(survey.breadth),
            share=advancing(survey.breadth),
            day_line=day_line(board, session, width=270, height=56),
            session=session,
            breadth_rows=_state_rows(survey.breadth, before.breadth if before else {}),
            stages=[
                (
                    key,
                    survey.stage_counts.get(key, 0),
                    _difference(survey.stage_counts.get(key, 0), before.stage_counts.get(key, 0) if before else None),
                )
                for key in "2134"
            ],
            staged=sum(survey.stage_counts.get(key, 0) for key in "1234"),
            stages_most=max([*(survey.stage_counts.get(key, 0) for key in "1234"), 1]),
            map=heatmap(rows),
            map_size=(MAP_WIDTH, MAP_HEIGHT, PHONE_WIDTH, PHONE_HEIGHT),
            sectors=sectors,
            reach=max([abs(row["change_day"]) for row in sectors if row["change_day"] is not None] or [1]),
            quadrants={row["sector"]: row for row in survey.rotation if row.get("fund") and row.get("quadrant")},
            rising=rising,
            falling=falling,
            found=found_by_bar(list(found[:FOUND_LOOKED_AT]))[:FOUND_SHOWN],
        ),
    )
