"""Sectors and industries as tables, and their rotation as a picture: the same data, the same selection."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboards.drawing import quadrant
from dashboards.ledes import market
from dashboards.views.board import Board, board_page

Rows = list[dict[str, Any]]
SORTS = ("sector", "industry", "symbols", "change_day", "change_1w", "change_1m", "change_3m", "change_6m", "change_1y", "rs_rating",
         "above_sma50", "above_sma200", "rvol", "new_highs")  # fmt: skip
HEADS = (("change_day", "Day, %", 1.0), ("change_1w", "1 wk", 2.0), ("change_1m", "1 mo", 4.0), ("change_3m", "3 mo", 8.0),
         ("change_6m", "6 mo", 13.0), ("change_1y", "1 yr", 18.0))  # fmt: skip
CENTRE = 100.0
"""Ratio and momentum are stored as 100 + z; people read the z."""
QUADRANTS = ("leading", "weakening", "improving", "lagging")
LENGTHS = (5, 10)
FIELD_WIDTH, FIELD_HEIGHT = 920, 560
FEWEST = 5  # points; a shorter tail is dotted


def sorted_rows(rows: Rows, sort: str, name: str) -> Rows:
    """Return rows in the order asked for, -key is from the largest on; unknown ones come last."""
    key, down = sort.removeprefix("-"), sort.startswith("-")
    if key in {"sector", "industry"}:
        return sorted(rows, key=lambda row: (row[name] == "", row[name]), reverse=down)
    known = [row for row in rows if row.get(key) is not None]
    return sorted(known, key=lambda row: row[key], reverse=down) + [row for row in rows if row.get(key) is None]


@board_page("sectors", "industries", "rotation")
def sectors(request: HttpRequest, board: Board) -> HttpResponse:
    """Show the sectors, and the industries of one or of all."""
    sort = request.GET.get("sort", "-change_day")
    sort = sort if sort.removeprefix("-") in SORTS else "-change_day"
    chosen = request.GET.get("sector", "")
    rows = sorted_rows(board.survey.sectors, sort, "sector")
    industries = [row for row in board.survey.industries if not chosen or row["sector"] == chosen]
    changes = [abs(row["change_day"]) for row in rows if row["change_day"] is not None]
    return render(
        request,
        "dashboards/sectors.html",
        board.context(
            lede=board.lede(lambda: market.sectors(board.survey.sectors)),
            sectors=rows,
            industries=sorted_rows(industries, sort, "industry"),
            chosen=chosen,
            sort=sort,
            sort_key=sort.removeprefix("-"),
            heads=HEADS,
            reach=max(changes, default=1.0) or 1.0,
            industry_reach=max([abs(row["change_day"]) for row in industries if row["change_day"] is not None], default=1.0) or 1.0,
            quadrants={row["sector"]: row for row in board.survey.rotation if row.get("fund")},
        ),
    )


def _tail(row: Mapping[str, Any], name: str, length: int) -> list[dict[str, Any]]:
    """Return the last points of a tail as z-scores."""
    points = [point for point in row.get(name) or [] if point["ratio"] is not None and point["momentum"] is not None]
    return [{"at": point["at"], "ratio": point["ratio"] - CENTRE, "momentum": point["momentum"] - CENTRE} for point in points[-length:]]


def crossings(tails: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Return each symbol's last change of quadrant within its tail, the latest first: symbol, before, now, at, steps ago."""
    found = []
    for symbol, tail in tails:
        places = [quadrant.quadrant(point["ratio"], point["momentum"]) for point in tail]
        for back in range(1, len(places)):
            if places[-back] != places[-back - 1]:
                found.append({"symbol": symbol, "before": places[-back - 1], "now": places[-back], "at": tail[-back]["at"], "steps": back})
                break
    return sorted(found, key=lambda one: (one["steps"], one["symbol"]))


@board_page("rotation", "rankings")
def rotation(request: HttpRequest, board: Board) -> HttpResponse:
    """Show strength against SPY across, its momentum up; sector funds, or every member that has a tail."""
    intraday = request.GET.get("step") == "intraday"
    length = int(request.GET["length"]) if request.GET.get("length") in {str(step) for step in LENGTHS} else LENGTHS[-1]
    members = request.GET.get("of") == "members"
    rows: Rows = [row for row in board.survey.rotation if members or row.get("fund")]
    name = "tail_intraday" if intraday else "tail"
    tails = [(row["symbol"], _tail(row, name, 60 if intraday else length)) for row in rows]
    drawn = [(symbol, tail) for symbol, tail in tails if tail]
    names = {
        row["symbol"]: market.sector_name(row["sector"]) if row.get("fund") and not members and row["sector"] else row["symbol"]
        for row in rows
    }
    crossed = crossings(drawn)
    known = dict(drawn)
    table = []
    for row in rows:
        tail = known.get(row["symbol"], [])
        last = tail[-1] if tail else None
        now = quadrant.quadrant(last["ratio"], last["momentum"]) if last else row.get("quadrant")
        stayed = next((one["steps"] for one in crossed if one["symbol"] == row["symbol"]), None)
        table.append(
            {**row, "label": names[row["symbol"]], "quadrant": now, "last": last, "change_day": row.get("change_day"), "stayed": stayed,
             "steps": len(tail), "heading": quadrant.heading([(point["ratio"], point["momentum"]) for point in tail])}
        )  # fmt: skip
    groups = [
        (place, sorted((row for row in table if row["quadrant"] == place), key=lambda row: -(row["last"] or {"ratio": 0})["ratio"]))
        for place in QUADRANTS
    ]
    moments = [point["at"] for point in max((tail for _, tail in drawn), key=len, default=[])]
    return render(
        request,
        "dashboards/rotation.html",
        board.context(
            lede=board.lede(lambda: market.rotation(table, [(one["symbol"], one["before"], one["now"]) for one in crossed], names)),
            field=quadrant.field(
                [(symbol, [(point["ratio"], point["momentum"]) for point in tail]) for symbol, tail in drawn],
                names=names,
                width=FIELD_WIDTH, height=FIELD_HEIGHT, whole=2 if intraday else min(FEWEST, length),
            ),
            names=names,
            groups=[(place, rows) for place, rows in groups if rows],
            unknown=[row for row in table if not row["quadrant"]],
            crossings=crossed[:6],
            intraday=intraday,
            length=length,
            lengths=LENGTHS,
            members=members,
            moments=moments,
            first=datetime.fromisoformat(moments[0]) if moments else None,
            steps=max(0, len(moments) - 1),
            placed=len(drawn),
            of=len(rows),
            initial={"tails": {symbol: [[point["at"], round(point["ratio"], 4), round(point["momentum"], 4)] for point in tail] for symbol, tail in drawn},
                     "moments": moments, "intraday": intraday},
        ),
    )  # fmt: skip
