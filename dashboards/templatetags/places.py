"""Where a reader can go: one list for the bar, the tabs, the search and the keys. Only pages that this installation has."""

from dataclasses import dataclass
from functools import cache

from django import template
from django.http import HttpRequest
from django.urls import Resolver404, resolve

register = template.Library()


@dataclass(frozen=True)
class Place:
    """
    A page: its address, how it is called, the key that leads there after G, and whether it stands in the bar, under Desk, or apart.

    One that `keeps` takes the chosen universe and moment along.
    """

    address: str
    name: str
    key: str
    group: str
    staff: bool = False
    keeps: bool = False


PLACES = (
    Place("/", "Overview", "o", "market", keeps=True),
    Place("/streaming/", "Stream", "s", "market"),
    Place("/rankings/", "Rankings", "r", "market", keeps=True),
    Place("/sectors/", "Sectors", "e", "market", keeps=True),
    Place("/rotation/", "Rotation", "q", "market", keeps=True),
    Place("/stages/", "Stages", "t", "market", keeps=True),
    Place("/breadth/", "Breadth", "b", "market", keeps=True),
    Place("/averages/", "Averages", "a", "market", keeps=True),
    Place("/patterns/", "Patterns", "p", "market"),
    Place("/watchlists/", "Watchlists", "w", "desk"),
    Place("/screens/", "Screens", "c", "desk"),
    Place("/alerts/", "Alerts", "l", "desk"),
    Place("/backtests/", "Backtests", "k", "desk"),
    Place("/replay/", "Replay", "y", "desk"),
    Place("/api/docs/", "API", "i", "desk"),
    Place("/admin/", "Admin", "d", "desk", staff=True),
    Place("/operations/", "Operations", "x", "apart"),
)


@cache
def _stands(address: str) -> bool:
    try:
        resolve(address)
    except Resolver404:
        return False
    return True


@register.simple_tag
def places(request: HttpRequest) -> dict[str, list[dict[str, object]]]:
    """Return the pages that `request.user` may open, by group, each with whether it is the present one."""
    staff = bool(getattr(request.user, "is_staff", False))
    found: dict[str, list[dict[str, object]]] = {"market": [], "desk": [], "apart": [], "all": []}
    for place in PLACES:
        if (place.staff and not staff) or not _stands(place.address):
            continue
        here = request.path == place.address or (place.address != "/" and request.path.startswith(place.address))
        entry = {"address": place.address, "name": place.name, "key": place.key, "here": here, "keeps": place.keeps}
        found[place.group].append(entry)
        found["all"].append(entry)
    return found
