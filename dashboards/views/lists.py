"""What one user keeps: watchlists with notes in an order of their own, and screens."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from dashboards.forms import EntryForm, NoteForm, ScreenForm, watchlist_named
from dashboards.grid import filters
from dashboards.ledes import market
from dashboards.models import SavedScreen, Watchlist
from dashboards.views.board import RefusedError, ask, user_of
from dashboards.views.rankings import grid, grid_rows


def _own(request: HttpRequest, pk: int) -> Watchlist:
    found = Watchlist.objects.filter(user_id=user_of(request), pk=pk).first()
    if found is None:
        raise Http404("You have no such list.")
    return found


@require_safe
def watchlists(request: HttpRequest) -> HttpResponse:
    """Go to the first list, or offer to make one."""
    first = Watchlist.objects.filter(user_id=user_of(request)).order_by("id").first()
    if first is not None:
        return HttpResponseRedirect(reverse("watchlist", args=[first.pk]))
    return render(request, "dashboards/watchlist.html", {"lists": [], "chosen": None})


@require_safe
def watchlist(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one list as the rankings grid shows its rows, in the owner's order until another one is asked for."""
    lists = list(Watchlist.objects.of(user_of(request)))
    chosen = next((one for one in lists if one.pk == pk), None)
    if chosen is None:
        raise Http404("You have no such list.")
    entries = list(chosen.entries.select_related("symbol"))
    own = "sort" not in request.GET
    asked = filters.read(request.GET)
    state = replace(asked, sort=()) if own else asked
    page: dict[str, Any] = {"lists": lists, "chosen": chosen, "entries": entries, "state": state}
    try:
        board = ask(request, ("rankings", "stages"))
    except RefusedError as error:
        return render(request, "dashboards/refused.html", {"refused": str(error), "universes": error.universes}, status=error.status)
    if isinstance(board, dict):
        return render(request, "dashboards/watchlist.html", {**page, "no_survey": board, "absent": entries})
    notes = {entry.symbol_id: entry.note for entry in entries}
    place = {entry.symbol_id: number for number, entry in enumerate(entries)}
    rows = [{**row, "note": notes[row["symbol"]]} for row in grid_rows(board) if row["symbol"] in notes]
    rows = sorted(rows, key=lambda row: place[row["symbol"]]) if own else filters.ordered(rows, state.sort)
    present = {row["symbol"] for row in rows}
    return render(
        request,
        "dashboards/watchlist.html",
        board.context(
            **page,
            own_order=own,
            absent=[entry for entry in entries if entry.symbol_id not in present],
            lede=market.watchlist(chosen.name, rows or [{} for _ in entries]),
            **{name: value for name, value in grid(request, board, rows, state).items() if name != "state"},
        ),
    )


@require_POST
def make_watchlist(request: HttpRequest) -> HttpResponse:
    """Make a list."""
    made, fault = watchlist_named(user_of(request), request.POST)
    if made is None:
        messages.error(request, fault)
        return HttpResponseRedirect(reverse("watchlists"))
    return HttpResponseRedirect(reverse("watchlist", args=[made.pk]))


@require_POST
def change_watchlist(request: HttpRequest, pk: int) -> HttpResponse:
    """Add, remove, move or note a symbol; rename or delete the list: `do` says which."""
    chosen = _own(request, pk)
    act = request.POST.get("do", "")
    if act == "delete":
        if request.POST.get("typed", "").strip() == chosen.name:
            chosen.delete()
            return HttpResponseRedirect(reverse("watchlists"))
        messages.error(request, f"Type “{chosen.name}” to delete it.")
    elif act == "rename":
        _, fault = watchlist_named(user_of(request), request.POST, instance=chosen)
        if fault:
            messages.error(request, fault)
    elif act in ACTS:
        fault = ACTS[act](chosen, request.POST)
        if fault:
            messages.error(request, fault)
    else:
        messages.error(request, f"A list knows no “{act[:20]}”.")
    return HttpResponseRedirect(reverse("watchlist", args=[pk]))


def _first_fault(form: Any) -> str:
    return str(next(iter(form.errors.values()))[0])


def _add(chosen: Watchlist, data: Any) -> str:
    form = EntryForm(data)
    if not form.is_valid():
        return _first_fault(form)
    symbol = form.cleaned_data["symbol"]
    return "" if chosen.add(symbol) else f"{symbol} is on this list already."


def _remove(chosen: Watchlist, data: Any) -> str:
    form = EntryForm(data)
    if not form.is_valid():
        return _first_fault(form)
    chosen.entries.filter(symbol_id=form.cleaned_data["symbol"]).delete()
    return ""


def _up(chosen: Watchlist, data: Any) -> str:
    chosen.move(data.get("symbol", ""), -1)
    return ""


def _down(chosen: Watchlist, data: Any) -> str:
    chosen.move(data.get("symbol", ""), 1)
    return ""


def _note(chosen: Watchlist, data: Any) -> str:
    form = NoteForm(data)
    if not form.is_valid():
        return _first_fault(form)
    chosen.entries.filter(symbol_id=form.cleaned_data["symbol"]).update(note=form.cleaned_data["note"])
    return ""


ACTS = {"add": _add, "remove": _remove, "up": _up, "down": _down, "note": _note}


@require_safe
def screens(request: HttpRequest) -> HttpResponse:
    """List one's screens, each with its filter in words and how many symbols it finds now."""
    saved = list(SavedScreen.objects.filter(user_id=user_of(request)).order_by("name"))
    try:
        board = ask(request, ("rankings", "stages"))
    except RefusedError as error:
        return render(request, "dashboards/refused.html", {"refused": str(error), "universes": error.universes}, status=error.status)
    if isinstance(board, dict):
        unknown: list[dict[str, Any]] = [
            {"screen": screen, "state": _state(screen), "count": None, "of": None, "first": []} for screen in saved
        ]
        return render(request, "dashboards/screens.html", {"rows": unknown, "no_survey": board})
    every = grid_rows(board)
    rows: list[dict[str, Any]] = []
    for screen in saved:
        state = _state(screen)
        found = filters.ordered([row for row in every if filters.matches(row, state)], state.sort)
        rows.append({"screen": screen, "state": state, "count": len(found), "of": len(every), "first": found[:6]})
    return render(request, "dashboards/screens.html", board.context(rows=rows))


def _state(screen: SavedScreen) -> filters.State:
    return filters.read(dict(parse_qsl(screen.query)))


@require_POST
def make_screen(request: HttpRequest) -> HttpResponse:
    """Keep a state of the rankings under a name."""
    form = ScreenForm(request.POST)
    if not form.is_valid():
        messages.error(request, _first_fault(form))
        return HttpResponseRedirect(reverse("rankings"))
    screen = form.save(commit=False)
    screen.user_id = user_of(request)
    try:
        with transaction.atomic():
            screen.save()
    except IntegrityError:
        messages.error(request, f"You have a screen “{screen.name}” already; choose another name.")
        return HttpResponseRedirect(screen.path)
    return HttpResponseRedirect(reverse("screens"))


@require_POST
def change_screen(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a screen."""
    SavedScreen.objects.filter(user_id=user_of(request), pk=pk).delete()
    return HttpResponseRedirect(reverse("screens"))
