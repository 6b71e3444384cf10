"""What holds for every operation of the API, old and new: revalidation, limits, examples, errors."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import jsonschema
import pytest
from django.db import connection
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from marketdata.models import Symbol, Universe
from tests.people import EVERY_SCOPE, make_user, session_client, stranger, token_client
from tickstock.examples import ANSWERS

DESCRIPTION = SchemaGenerator().get_schema(request=None, public=True)
PLACES = {"symbol": "AAPL", "key": "a_universe"}
WITH_ROWS = {
    f"/api/{name}"
    for name in ("ticks/recent", "bars/{symbol}/", "symbols/", "symbols/{symbol}/", "universes/", "universes/{key}/", "gaps/", "tokens/")
}
GETS = sorted(path for path, item in DESCRIPTION["paths"].items() if "get" in item)


@pytest.fixture
def rows(db):
    Symbol.objects.get_or_create(symbol="AAPL")
    Universe.objects.get_or_create(key="a_universe", name="A universe")


def address_of(path: str) -> str:
    """Fill what a path demands: with what is there where this test knows it, else with a number or a word that leads nowhere."""
    rows = DESCRIPTION["paths"][path]["get"].get("parameters", [])
    values = {row["name"]: PLACES.get(row["name"], 1 if row["schema"].get("type") == "integer" else "nothing") for row in rows}
    query = {row["name"]: values[row["name"]] for row in rows if row["in"] == "query" and row.get("required")}
    return f"{path.format(**values)}?{urlencode(query)}"


@pytest.mark.parametrize("path", GETS)
def test_an_unchanged_answer_is_an_empty_304(path, rows):
    by_session = not any("token" in way for way in DESCRIPTION["paths"][path]["get"]["security"])
    client = session_client(make_user()) if by_session else token_client(make_user(), scopes=EVERY_SCOPE)
    address = address_of(path)

    first = client.get(address)
    if first.status_code in {400, 404} and path not in WITH_ROWS:  # nothing is there yet, or more must be named, and the answer says so
        assert first["Content-Type"] == "application/problem+json"
        return
    second = client.get(address, headers={"If-None-Match": first["ETag"]})

    assert first.status_code == 200, first.content
    assert first["Cache-Control"] == "private, no-cache"
    assert (second.status_code, second.content) == (304, b"")


def test_a_changed_answer_comes_whole(rows):
    client = token_client(make_user())
    first = client.get("/api/symbols/")
    Symbol.objects.create(symbol="ZZZZ")

    second = client.get("/api/symbols/", headers={"If-None-Match": first["ETag"]})

    assert (second.status_code, second["ETag"] != first["ETag"]) == (200, True)


def test_what_says_no_store_gets_no_tag(db):
    make_user()
    wish = {"username": "ada", "password": "a long enough passphrase"}
    made = stranger().post("/api/tokens/", wish, content_type="application/json")

    assert (made.status_code, made["Cache-Control"], made.has_header("ETag")) == (201, "no-store", False)


# ---- Limits


def test_one_user_s_requests_are_counted_over_all_tokens_and_sessions(rows, settings):
    settings.API_REQUESTS_PER_USER = 3
    user, other = make_user(), make_user("bob")
    clients = [token_client(user), token_client(user), session_client(user)]

    assert [client.get("/api/symbols/").status_code for client in clients] == [200] * 3
    refused = clients[0].get("/api/symbols/")

    assert (refused.status_code, refused["Content-Type"]) == (429, "application/problem+json")
    assert 0 < int(refused["Retry-After"]) <= 60
    assert token_client(other).get("/api/symbols/").status_code == 200


def test_one_address_has_a_limit_of_its_own(rows, settings):
    settings.API_REQUESTS_PER_ADDRESS = 2
    client = stranger()
    for name in ("ada", "bob"):
        client.force_login(make_user(name))
        assert client.get("/api/symbols/").status_code == 200
    client.force_login(make_user("eve"))

    assert client.get("/api/symbols/").status_code == 429


def test_refused_requests_are_counted_too(db, settings):
    settings.API_REQUESTS_PER_USER = 3
    viewer = session_client(make_user())

    assert [viewer.post("/api/jobs/", {"kind": "repair"}, content_type="application/json").status_code for _ in range(4)] == [403] * 3 + [
        429
    ]
    settings.API_REQUESTS_PER_ADDRESS = 5
    nobody = stranger()
    assert [nobody.get("/api/symbols/").status_code for _ in range(7)] == [401] * 5 + [429] * 2


@pytest.mark.django_db(transaction=True)
def test_parallel_requests_cannot_slip_past_the_limit(settings):
    settings.API_REQUESTS_PER_USER = 10
    client = token_client(make_user(f"parallel{id(settings)}"))

    def ask(_):
        try:
            return client.get("/api/symbols/").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))

    assert (answers.count(200), answers.count(429)) == (10, 14)


def test_reading_goes_on_while_the_counting_server_is_away(rows, settings):
    from accounts import limits

    settings.API_REQUESTS_PER_USER = 1
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    limits._client.cache_clear()
    client = token_client(make_user())
    try:
        answers = [client.get("/api/symbols/").status_code for _ in range(2)]
    finally:
        limits._client.cache_clear()

    assert answers == [200, 200]


# ---- The description


def test_every_example_is_what_the_description_says():
    for name, answer in ANSWERS.items():
        schema = DESCRIPTION["components"]["schemas"].get(name)
        assert schema is not None, f"{name} is an answer no more: take its example away"
        assert schema["examples"] == [answer]
        root = {"$ref": f"#/components/schemas/{name}", "components": DESCRIPTION["components"]}
        jsonschema.Draft202012Validator(root, format_checker=jsonschema.FormatChecker()).validate(answer)


def test_only_making_a_token_is_open_to_strangers_and_every_operation_says_how_it_fails():
    operations = {(path, method): operation for path, item in DESCRIPTION["paths"].items() for method, operation in item.items()}

    assert [key for key, operation in operations.items() if not operation.get("security")] == [("/api/tokens/", "post")]
    assert all("application/problem+json" in operation["responses"]["default"]["content"] for operation in operations.values())
    assert all(operation.get("description") and operation.get("operationId") for operation in operations.values())


def test_every_list_has_a_cursor_or_a_bound():
    for path in GETS:
        names = {parameter["name"] for parameter in DESCRIPTION["paths"][path]["get"].get("parameters", [])}
        assert "cursor" not in names or "limit" in names, path


def test_what_no_view_answers_is_a_problem_too():
    for path in ("/api/", "/api/nothing/", "/api/symbols", "/api/bars/"):
        answer = Client().get(path)
        assert answer.status_code in {301, 404}
        assert answer.status_code == 301 or answer["Content-Type"] == "application/problem+json"
