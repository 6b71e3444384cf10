"""
Who may do what: every route of the URLconf × every role × every method, and every topic of the socket. A route without a row here fails.

A row says what GET and POST answer, POST without a CSRF token: a session's 403 says that no other site can make a browser do it.
`acts` names the least role whose POST *with* its CSRF token is let in: "" nobody, "anonymous", or a role; "away" redirects everybody.
The other methods follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.urls import get_resolver

from accounts.models import ApiToken, Role, User
from dashboards import wire
from dashboards.consumers import find_caller
from dashboards.routing import websocket_urlpatterns
from marketdata.models import Symbol, Universe
from tests.people import EVERY_SCOPE, bearer, make_token, make_user, session_client

pytestmark = pytest.mark.django_db
PEOPLE = list(Role.values)  # viewer, analyst, operator, admin: each may more than the one before
ROLES = ["anonymous", "disabled", *PEOPLE, "token", "token without the scope", "expired token"]
METHODS = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"]
REFUSED = {302, 401, 403, 404, 405}
Answers = dict[str, tuple[int, int]]


def row(
    *,
    nobody: tuple[int, int],
    people: tuple[int, int],
    token: tuple[int, int],
    wrong: tuple[int, int],
    expired: tuple[int, int],
    **roles: tuple[int, int],
) -> Answers:
    """One answer for all roles of people; `operator=(200, 403)` and the like tell one apart."""
    return {
        "anonymous": nobody, "disabled": nobody, **dict.fromkeys(PEOPLE, people),
        "token": token, "token without the scope": wrong, "expired token": expired, **roles,
    }  # fmt: skip


def page(people: tuple[int, int] = (200, 403), *, least: str = "viewer") -> Answers:
    """A page of people from the role `least` on: strangers are sent to the door, and a token is no key to it."""
    below = dict.fromkeys(PEOPLE[: PEOPLE.index(least)], (403, 403))
    return row(nobody=(302, 403), people=people, token=(302, 403), wrong=(302, 403), expired=(302, 403), **below)


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
    acts: str = ""


AGAIN = page((302, 403))  # to the page that asks for the password once more
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
    "operations/": Route("/operations/", page()),
    "live/messages": Route("/live/messages", page()),
    "watchlists/": Route("/watchlists/", page()),
    "watchlists/new/": Route("/watchlists/new/", page((405, 403)), acts="viewer"),
    "watchlists/<int:pk>/": Route("/watchlists/1/", page((404, 403))),
    "watchlists/<int:pk>/change/": Route("/watchlists/1/change/", page((405, 403))),
    "screens/": Route("/screens/", page()),
    "screens/new/": Route("/screens/new/", page((405, 403)), acts="viewer"),
    "screens/<int:pk>/delete/": Route("/screens/1/delete/", page((405, 403)), acts="viewer"),
    "symbols/": Route("/symbols/", page()),
    "symbols/<path:symbol>/": Route("/symbols/AAPL/", page()),
    "accounts/": Route("/accounts/", page()),
    "accounts/login/": Route("/accounts/login/", open_page((200, 403), people=(302, 403)), acts="anonymous"),
    "accounts/login/code/": Route("/accounts/login/code/", open_page((302, 403)), acts="away"),
    "accounts/logout/": Route("/accounts/logout/", page((405, 403)), acts="viewer"),
    "accounts/invitation/<str:secret>/": Route("/accounts/invitation/abc/", open_page((404, 403))),
    "accounts/password/": Route("/accounts/password/", page(), acts="viewer"),
    "accounts/password/reset/": Route("/accounts/password/reset/", open_page((200, 403)), acts="anonymous"),
    "accounts/password/reset/sent/": Route("/accounts/password/reset/sent/", open_page((200, 403))),
    "accounts/password/reset/<uidb64>/<token>/": Route("/accounts/password/reset/MQ/a-b/", open_page((200, 403)), acts="anonymous"),
    "accounts/again/": Route("/accounts/again/", page(), acts="viewer"),
    "accounts/again/code/": Route("/accounts/again/code/", AGAIN, acts="away"),
    "accounts/second-factor/": Route("/accounts/second-factor/", page()),
    "accounts/second-factor/on/": Route("/accounts/second-factor/on/", AGAIN, acts="away"),
    "accounts/second-factor/off/": Route("/accounts/second-factor/off/", page((404, 403))),
    "accounts/second-factor/codes/": Route("/accounts/second-factor/codes/", page((404, 403))),
    "accounts/second-factor/codes/new/": Route("/accounts/second-factor/codes/new/", AGAIN, acts="away"),
    "accounts/sessions/": Route("/accounts/sessions/", page(), acts="viewer"),
    "accounts/tokens/": Route("/accounts/tokens/", page(), acts="away"),
    "accounts/people/": Route("/accounts/people/", page(least="admin"), acts="admin"),
    "accounts/appearance/": Route("/accounts/appearance/", NO_TOKENS, acts="viewer"),
    "api/tokens/": Route(
        "/api/tokens/", row(nobody=(401, 400), people=(200, 400), token=(403, 400), wrong=(403, 400), expired=(401, 400)), acts="anonymous"
    ),
    "api/tokens/<str:prefix>/": Route("/api/tokens/abc/", NO_TOKENS),
    "api/ticks/recent": Route("/api/ticks/recent?symbol=AAPL", READ),
    "api/bars/<path:symbol>/": Route("/api/bars/AAPL/", READ),
    "api/gaps/": Route("/api/gaps/", READ),
    "api/coverage/": Route("/api/coverage/", READ),
    "api/revisions/": Route("/api/revisions/?symbol=AAPL", READ),
    "api/jobs/": Route(
        "/api/jobs/", row(nobody=(401, 401), people=(200, 403), token=(200, 403), wrong=(403, 403), expired=(401, 401)), acts="operator"
    ),
    "api/jobs/<int:number>/": Route(
        "/api/jobs/1/", row(nobody=(401, 401), people=(404, 403), token=(404, 403), wrong=(403, 403), expired=(401, 401))
    ),
    "api/symbols/": Route("/api/symbols/", READ),
    "api/symbols/<path:symbol>/": Route("/api/symbols/AAPL/", READ),
    "api/universes/": Route("/api/universes/", READ),
    "api/universes/<slug:key>/": Route("/api/universes/a_universe/", READ),
    "api/patterns/": Route("/api/patterns/", READ, scope="read:patterns"),
    "api/indicators/<path:symbol>/lines/": Route("/api/indicators/AAPL/lines/?name=ema_20", READ, scope="read:patterns"),
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
    ".well-known/security.txt": Route("/.well-known/security.txt", open_page((404, 403))),
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


@dataclass(frozen=True)
class Crowd:
    """One of each, made once for all routes; what a test does to them is rolled back."""

    sessions: dict[str, str]
    tokens: dict[tuple[str, str], str]

    def clients(self, scope: str, *, csrf: bool = True) -> dict[str, Client]:
        """Return one client a role; each starts without a CSRF token, which is asked for unless `csrf` is false."""
        made = {role: Client(enforce_csrf_checks=csrf, raise_request_exception=False, headers=self.headers(role, scope)) for role in ROLES}
        for role, key in self.sessions.items():
            made[role].cookies["sessionid"] = key
        return made

    def headers(self, role: str, scope: str) -> dict[str, str]:
        text = self.tokens.get((role, scope))
        return bearer(text) if text else {}


def make_crowd() -> Crowd:
    program = make_user("program")
    sessions = {role: session_client(with_role(role)).cookies["sessionid"].value for role in PEOPLE}
    sessions["disabled"] = session_client(make_user("disabled")).cookies["sessionid"].value
    User.objects.filter(username="disabled").update(is_active=False)
    tokens = {}
    for scope in EVERY_SCOPE:
        tokens["token", scope] = make_token(program, scopes=[scope])[1]
        tokens["token without the scope", scope] = make_token(program, scopes=[name for name in EVERY_SCOPE if name != scope])[1]
        tokens["no scope at all", scope] = make_token(program, scopes=[])[1]
        tokens["expired token", scope] = make_token(program, scopes=[scope], days=-1)[1]
    return Crowd(sessions, tokens)


@pytest.fixture(scope="module")
def crowd(django_db_setup, django_db_blocker) -> Iterator[Crowd]:
    with django_db_blocker.unblock():
        User.objects.all().delete()
        made = make_crowd()
        yield made
        User.objects.all().delete()


def with_role(role: str) -> User:
    user = make_user(role)
    user.take_role(role)
    return user


@pytest.fixture(autouse=True)
def _rows():
    Symbol.objects.get_or_create(symbol="AAPL")
    Universe.objects.create(key="a_universe", name="A universe")


@pytest.mark.parametrize("route", OURS)
def test_every_route_answers_every_role_as_the_table_says(route, crowd):
    assert route in TABLE, f"{route!r} is new: add its row to TABLE"
    expected = TABLE[route]

    seen = {}
    for role, client in crowd.clients(expected.scope).items():
        get = client.get(expected.url)
        post = client.post(expected.url, "{}", content_type="application/json")
        seen[role] = (get.status_code, post.status_code)
        if get.status_code == 302 and role == "anonymous" and "login" not in route:
            assert get["Location"].startswith("/accounts/login/?next=/")
        others = {method: client.generic(method, expected.url).status_code for method in METHODS[2:]}
        assert others["HEAD"] == get.status_code, role
        assert others["OPTIONS"] < 500, role
        if get.status_code in {302, 401, 403}:
            assert others["OPTIONS"] in {get.status_code, 405}, role
        if role != "token" or not expected.acts:
            assert {others["PUT"], others["PATCH"], others["DELETE"]} <= REFUSED, (role, others)

    assert seen == expected.answers


@pytest.mark.parametrize("route", [route for route in OURS if route in TABLE])
def test_what_changes_something_is_open_from_the_role_on_that_the_table_names(route, crowd):
    expected = TABLE[route]
    ranks = ["anonymous", *PEOPLE]

    for role, client in crowd.clients(expected.scope, csrf=False).items():
        if role not in ranks and role != "disabled":
            continue
        answer = client.post(expected.url, "{}", content_type="application/json")
        if expected.acts == "away":
            assert answer.status_code == 302, role
            continue
        rank = 0 if role == "disabled" else ranks.index(role)
        let_in = bool(expected.acts) and rank >= ranks.index(expected.acts)
        sent_away = answer.status_code in REFUSED - {302} or "/login/?next=" in answer.get("Location", "")
        assert answer.status_code < 500
        assert sent_away != let_in, (role, answer.status_code)


def filled(route: str) -> str:
    if "?P<app_label>" in route:
        return "/admin/auth/"
    return "/" + route.replace("(?P<url>.*)$", "nothing").replace("<path:content_type_id>", "1").replace("<path:object_id>", "1").replace(
        "<id>", "1"
    )


@pytest.mark.parametrize("route", OF_THE_ADMIN)
def test_the_admin_opens_to_staff_alone_and_changes_nothing_without_a_csrf_token(route, crowd):
    url = filled(route)
    everybody = crowd.clients("read:bars")
    staff = everybody.pop("admin")

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


# ---- The socket

TOPICS = {
    "bars": "read:bars",
    "patterns": "read:patterns",
    "feed": "read:bars",
    "quotes": "read:bars",
    "market": "read:market",
}  # what a token needs; people may see all
SOCKETS = ["ws/live", ""]  # the second refuses whatever is not the first
CALLERS = [*ROLES, "no scope at all"]


def test_every_topic_and_every_socket_stands_in_the_table():
    assert wire.SCOPES == TOPICS, "a topic is new or has another scope: add it to TOPICS"
    assert [str(pattern.pattern) for pattern in websocket_urlpatterns] == SOCKETS


def test_every_topic_opens_to_whom_the_table_says(crowd):
    for topic, scope in TOPICS.items():
        for role in CALLERS:
            headers = [(name.lower().encode(), text.encode()) for name, text in crowd.headers(role, scope).items()]
            if role in crowd.sessions:
                headers = [(b"cookie", f"sessionid={crowd.sessions[role]}".encode())]
            caller = async_to_sync(find_caller)({"headers": headers, "query_string": b""})

            opens = caller is not None and caller.may_watch(topic)
            assert opens == (role in PEOPLE or role == "token"), (topic, role)


def test_the_count_is_told(capsys):
    ours = len(OURS) * (len(ROLES) * len(METHODS) + len(PEOPLE) + 2)
    admin = len(OF_THE_ADMIN) * len(ROLES) * 2
    topics = len(TOPICS) * len(CALLERS)
    with capsys.disabled():
        print(f"\nauthorisation: {len(ALL_ROUTES)} routes and {len(TOPICS)} topics, {ours + admin + topics} cells asserted")
    assert len(ROLES) == 9
