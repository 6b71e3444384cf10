"""The rankings grid: any filter and order of it is an address."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from dashboards.grid import filters
from dashboards.grid.columns import COLUMNS, SETS, columns_of
from dashboards.ledes import market
from dashboards.models import SavedScreen, Watchlist
from dashboards.templatetags.wording import raw
from dashboards.views.board import Board, board_page, close_before, day_lines, page_of, session_of, user_of

PRESETS: tuple[tuple[str, dict[str, str]], ...] = (
    ("All", {}),
    ("Stage 2", {"stage": "2"}),
    ("RS at least 80", {"rs_min": "80"}),
    ("RVOL at least 2", {"rvol_min": "2"}),
    ("Falling 2% or more", {"day_max": "-2"}),
)
RESERVED = {"universe", "as_of", "format", "page"}
Rows = list[dict[str, Any]]


def grid_rows(board: Board) -> Rows:
    """Return the survey's rows with the weeks in their stage."""
    weeks = {row["symbol"]: row.get("weeks") for row in board.survey.stages}
    return [{**row, "weeks": weeks.get(row["symbol"])} for row in board.survey.rankings]


def grid(request: HttpRequest, board: Board, rows: Rows, state: filters.State) -> dict[str, Any]:
    """Return what the grid's template needs for these rows in their order; two queries for the lines of the day."""
    lines = day_lines(board, session_of(board), rows)
    columns = columns_of(state.columns)
    links = filters.sort_links(state)
    order = dict(state.sort)
    return {
        "rows": [{**row, "today": lines.line(row), "previous": raw(close_before(row))} for row in rows],
        "columns": columns,
        "heads": [
            {
                "column": column,
                "link": _query(request, sort=links.get(column.key), page=None) if column.kind != "today" else None,
                "aria": ("descending" if order[column.key] else "ascending") if column.key in order else "none",
            }
            for column in columns
        ],
        "state": state,
        "sets": [(key, words, _query(request, set=key)) for key, (words, _) in SETS.items()],
    }


def _query(request: HttpRequest, **changes: str | None) -> str:
    """Return this address's query with some parameters changed or, with None, taken away."""
    kept = {name: value for name, value in request.GET.items() if value}
    return "?" + urlencode({name: value for name, value in {**kept, **changes}.items() if value})


def presets(request: HttpRequest, rows: Rows) -> list[tuple[str, str, int, bool]]:
    """Return (words, address, how many rows, whether chosen) of the filters most asked for."""
    kept = {name: value for name, value in request.GET.items() if value and name in {"universe", "as_of", "set", "sort"}}
    asked = {name: value for name, value in request.GET.items() if value and name not in {*RESERVED, "set", "sort"}}
    found = []
    for words, wanted in PRESETS:
        state = filters.read(wanted)
        count = sum(1 for row in rows if filters.matches(row, state))
        found.append((words, "?" + urlencode({**kept, **wanted}), count, asked == wanted))
    return found


def choices(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what the sector, industry and type of these rows can be."""
    found: dict[str, list[str]] = {}
    for name, key in filters.CHOICES.items():
        values = sorted({row.get(key) or "" for row in rows})
        found[name] = [value for value in values if value] + ([filters.UNKNOWN_SECTOR] if "" in values else [])
    return found


@board_page("rankings", "stages")
def rankings(request: HttpRequest, board: Board) -> HttpResponse:
    """Show every symbol of the universe, strongest first, or as the address asks."""
    state = filters.read(request.GET)
    every = grid_rows(board)
    rows = filters.ordered([row for row in every if filters.matches(row, state)], state.sort)
    if request.GET.get("format") == "csv":
        return as_csv(board, rows)
    shown, page = page_of(request, rows)
    told = (lambda: market.filtered(len(rows), len(every), state.words)) if state.filtered else (lambda: market.rankings(every))
    query = urlencode({name: value for name, value in request.GET.items() if value and name not in {"as_of", "format", "page"}})
    return render(
        request,
        "dashboards/rankings.html",
        board.context(
            lede=board.lede(told),
            of=len(every),
            choices=choices(every),
            presets=presets(request, every),
            query=query,
            as_csv=_query(request, format="csv", page=None),
            cleared=_query(request, **dict.fromkeys({"page", "q", "stage", *filters.NUMBERS, *filters.CHOICES})),
            asked={name: request.GET.get(name, "") for name in ("q", "stage", "type", "sector", "industry", *filters.NUMBERS)},
            watchlists=list(Watchlist.objects.filter(user_id=user_of(request)).order_by("id")),
            saved=SavedScreen.objects.filter(user_id=user_of(request), query=query).first() if query else None,
            page=page,
            **grid(request, board, shown, state),
        ),
    )


def as_csv(board: Board, rows: Rows) -> HttpResponse:
    """Return the rows of a state as a CSV file, numbers as stored."""
    keys = [column.key for column in COLUMNS.values() if column.kind != "today"]
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"rankings-{board.survey.as_of:%Y%m%dT%H%MZ}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(answer)
    writer.writerow(["as_of", *keys, "substage"])
    for row in rows:
        writer.writerow([board.survey.as_of.isoformat(), *(_told(row.get(key)) for key in keys), row.get("substage")])
    return answer


def _told(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
