"""
Who may do what: every route of the URLconf × every role × GET and POST. A route without a row here fails.

POST comes without a CSRF token, so a session's 403 says that no other site can make a browser do it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.test import Client
from django.urls import get_resolver

from accounts.models import ApiToken, User
from marketdata.models import Symbol, Universe
from tests.people import EVERY_SCOPE, make_user, session_client, token_client

pytestmark = pytest.mark.django_db
ROLES = ["anonymous", "disabled", "viewer", "staff", "token", "token without the scope", "expired token"]
Answers = dict[str, tuple[int, int]]


def row(
    *, nobody: tuple[int, int], people: tuple[int, int], token: tuple[int, int], wrong: tuple[int, int], expired: tuple[int, int]
) -> Answers:
    return {
        "anonymous": nobody, "disabled": nobody, "viewer": people, "staff": people,
        "token": token, "token without the scope": wrong, "expired token": expired,
    }  # fmt: skip


def page(people: tuple[int, int] = (200, 403)) -> Answers:
    """A page of people: strangers are sent to the door, and a token is no key to it."""
    return row(nobody=(302, 403), people=people, token=(302, 403), wrong=(302, 403), expired=(302, 403))


def open_page(answer: tuple[int, int], people: tuple[int, int] | None = None) -> Answers:
    return row(nobody=answer, people=people or answer, token=answer, wrong=answer, expired=answer)


READ = row(nobody=(401, 401), people=(200, 403), token=(200, 405), wrong=(403, 403), expired=(401, 401))
NO_SURVEY_YET = row(nobody=(401, 401), people=(404, 403), token=(404, 405), wrong=(403, 403), expired=(401, 401))
NO_TOKENS = row(nobody=(401, 401), people=(405, 403), token=(403, 403), wrong=(403, 403), expired=(401, 401))


OWN = row(nobody=(401, 401), people=(200, 403), token=(200, 403), wrong=(403, 403), expired=(401, 401))
OWN_LIST = row(nobody=(401, 401), people=(404, 403), token=(404, 403), wrong=(403, 403), expired=(401, 401))


@dataclass(frozen=True)
class Route:
    url: str
    answers: Answers
    scope: str = "read:bars"


TABLE = {
    "": Route("/", page()),
    "streaming/": Route("/streaming/", page()),
    "rankings/": Route("/rankings/", page()),
    "sectors/": Route("/sectors/", page()),
    "rotation/": Route("/rotation/", page()),
    "stages/": Route("/stages/", page()),
    "breadth/": Route("/breadth/", page()),
    "averages/": Route("/averages/", page()),
    "patterns/": Route("/patterns/", page()),
    "watchlists/": Route("/watchlists/", page()),
    "watchlists/new/": Route("/watchlists/new/", page((405, 403))),
    "watchlists/<int:pk>/": Route("/watchlists/1/", page((404, 403))),
    "watchlists/<int:pk>/change/": Route("/watchlists/1/change/", page((405, 403))),
    "screens/": Route("/screens/", page()),
    "screens/new/": Route("/screens/new/", page((405, 403))),
    "screens/<int:pk>/delete/": Route("/screens/1/delete/", page((405, 403))),
    "symbols/": Route("/symbols/", page()),
    "symbols/<path:symbol>/": Route("/symbols/AAPL/", page()),
    "accounts/login/": Route("/accounts/login/", open_page((200, 403), people=(302, 403))),
    "accounts/logout/": Route("/accounts/logout/", page((405, 403))),
    "accounts/appearance/": Route("/accounts/appearance/", NO_TOKENS),
    "api/tokens/": Route("/api/tokens/", row(nobody=(401, 400), people=(200, 400), token=(403, 400), wrong=(403, 400), expired=(401, 400))),
    "api/tokens/<str:prefix>/": Route("/api/tokens/abc/", NO_TOKENS),
    "api/ticks/recent": Route("/api/ticks/recent?symbol=AAPL", READ),
    "api/bars/<path:symbol>/": Route("/api/bars/AAPL/", READ),
    "api/gaps/": Route("/api/gaps/", READ),
    "api/coverage/": Route("/api/coverage/", READ),
    "api/jobs/": Route("/api/jobs/", row(nobody=(401, 401), people=(200, 403), token=(200, 403), wrong=(403, 403), expired=(401, 401))),
    "api/jobs/<int:number>/": Route(
        "/api/jobs/1/", row(nobody=(401, 401), people=(404, 403), token=(404, 403), wrong=(403, 403), expired=(401, 401))
    ),
    "api/symbols/": Route("/api/symbols/", READ),
    "api/symbols/<path:symbol>/": Route("/api/symbols/AAPL/", READ),
    "api/universes/": Route("/api/universes/", READ),
    "api/universes/<slug:key>/": Route("/api/universes/a_universe/", READ),
    "api/patterns/": Route("/api/patterns/", READ, scope="read:patterns"),
    "api/indicators/<path:symbol>/": Route("/api/indicators/AAPL/", READ, scope="read:patterns"),
    "api/watchlists/": Route("/api/watchlists/", OWN, scope="read:market"),
    "api/watchlists/<int:pk>/": Route("/api/watchlists/1/", OWN_LIST, scope="read:market"),
    "api/screens/": Route("/api/screens/", OWN, scope="read:market"),
    **{
        f"api/market/{block}/": Route(f"/api/market/{block}/", NO_SURVEY_YET, scope="read:market")
        for block in ("rankings", "sectors", "rotation", "stages", "breadth", "regime", "averages")
    },
    "api/schema/": Route("/api/schema/", row(nobody=(401, 401), people=(200, 403), token=(200, 405), wrong=(200, 405), expired=(401, 401))),
    "api/docs/": Route("/api/docs/", row(nobody=(302, 302), people=(200, 403), token=(302, 302), wrong=(302, 302), expired=(302, 302))),
    "admin/login/": Route("/admin/login/", open_page((302, 403), people=(403, 403))),
    "metrics": Route(
        "/metrics", row(nobody=(401, 401), people=(403, 403), token=(200, 405), wrong=(403, 403), expired=(401, 401)), scope="metrics"
    ),
    "health": Route("/health", open_page((200, 403))),
    "ready": Route("/ready", open_page((503, 403))),
}


def routes(patterns, before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from routes(pattern.url_patterns, route)
        else:
            yield route


ALL_ROUTES = sorted(set(routes(get_resolver().url_patterns)))
OURS = [route for route in ALL_ROUTES if not route.startswith("admin/") or route in TABLE]
OF_THE_ADMIN = [route for route in ALL_ROUTES if route not in OURS]


def clients(scope: str) -> dict[str, Client]:
    """Return one client a role; each starts without a CSRF token."""
    user, others = make_user("program"), [name for name in EVERY_SCOPE if name != scope]
    disabled = session_client(make_user("disabled"))
    User.objects.filter(username="disabled").update(is_active=False)
    made = {
        "anonymous": Client(),
        "disabled": disabled,
        "viewer": session_client(make_user("viewer")),
        "staff": session_client(make_user("staff", is_staff=True, is_superuser=True)),
        "token": token_client(user, scopes=[scope]),
        "token without the scope": token_client(user, scopes=others),
        "expired token": token_client(user, days=-1),
    }
    for client in made.values():
        client.handler.enforce_csrf_checks = True
        client.raise_request_exception = False
    assert list(made) == ROLES
    return made


@pytest.fixture(autouse=True)
def _rows():
    Symbol.objects.get_or_create(symbol="AAPL")
    Universe.objects.create(key="a_universe", name="A universe")


@pytest.mark.parametrize("route", OURS)
def test_every_route_answers_every_role_as_the_table_says(route):
    assert route in TABLE, f"{route!r} is new: add its row to TABLE"
    expected = TABLE[route]

    seen = {}
    for role, client in clients(expected.scope).items():
        get = client.get(expected.url)
        post = client.post(expected.url, "{}", content_type="application/json")
        seen[role] = (get.status_code, post.status_code)
        if get.status_code == 302 and role == "anonymous":
            assert get["Location"].startswith("/accounts/login/?next=/")

    assert seen == expected.answers


def filled(route: str) -> str:
    if "?P<app_label>" in route:
        return "/admin/auth/"
    return "/" + route.replace("(?P<url>.*)$", "nothing").replace("<path:content_type_id>", "1").replace("<path:object_id>", "1").replace(
        "<id>", "1"
    )


@pytest.mark.parametrize("route", OF_THE_ADMIN)
def test_the_admin_opens_to_staff_alone_and_changes_nothing_without_a_csrf_token(route):
    url = filled(route)
    everybody = clients("read:bars")
    staff = everybody.pop("staff")

    for role, client in everybody.items():
        answer = client.get(url)
        assert (role, answer.status_code) == (role, 302)
        assert answer["Location"] == "/admin/" or "/login/?next=" in answer["Location"]
        assert client.post(url).status_code == 403
    assert staff.get(url).status_code in {200, 302, 403, 404, 405}
    assert staff.post(url).status_code == 403


def test_no_row_of_the_table_speaks_of_a_route_that_is_gone():
    assert set(TABLE) - set(ALL_ROUTES) == set()


def test_a_staff_member_without_rights_sees_no_table():
    client = session_client(make_user("clerk", is_staff=True))

    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/marketdata/symbol/").status_code == 403


def test_a_view_that_names_no_scope_is_closed_to_tokens():
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    from accounts.permissions import HasScope

    user = make_user()
    request = APIView().initialize_request(APIRequestFactory().get("/"))
    request.user, request.auth = user, ApiToken(scopes=EVERY_SCOPE)

    assert not HasScope().has_permission(request, APIView())
