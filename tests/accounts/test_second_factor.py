"""The second factor: turned on, asked for, never twice with one code, demanded of administrators where the stack is not the embedded one."""

import re

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import Role
from dashboards.consumers import find_caller
from tests.people import PASSWORD, code_of, make_user, session_client, stranger

pytestmark = pytest.mark.django_db


def sign_in(client: Client, username: str = "ada", password: str = PASSWORD, query: str = ""):
    return client.post(f"/accounts/login/{query}", {"username": username, "password": password})


def turn_on(client: Client) -> tuple[str, list[str]]:
    """Go the way of a person; return the secret and the recovery codes."""
    asked_again = client.get("/accounts/second-factor/on/", follow=True)
    assert asked_again.redirect_chain[-1][0].startswith("/accounts/again/")
    page = client.post(asked_again.redirect_chain[-1][0], {"password": PASSWORD, "next": "/accounts/second-factor/on/"}, follow=True)
    secret = re.search(r'class="key">([A-Z2-7]+)<', page.content.decode())[1]
    codes = client.post("/accounts/second-factor/on/", {"code": code_of(secret)}, follow=True)
    return secret, re.findall(r"<li><code>(\d+)</code>", codes.content.decode())


@pytest.fixture
def ada() -> Client:
    cache.clear()
    make_user()
    client = stranger()
    sign_in(client)
    return client


def test_the_password_alone_no_longer_opens_and_the_code_does(ada):
    secret, recovery = turn_on(ada)
    assert len(recovery) == 10
    client = stranger()

    stage = sign_in(client, query="?next=/streaming/")
    assert stage["Location"].startswith("/accounts/login/code/")
    assert client.get("/api/symbols/").status_code == 401
    assert client.post("/accounts/login/code/", {"code": "000000"}).status_code == 200
    assert client.get("/api/symbols/").status_code == 401

    inside = client.post("/accounts/login/code/", {"code": code_of(secret)})
    assert inside["Location"] == "/streaming/"
    assert client.get("/api/symbols/").status_code == 200


def test_one_code_opens_once(ada):
    secret, _ = turn_on(ada)
    code = code_of(secret)
    first, second = stranger(), stranger()
    sign_in(first)
    sign_in(second)

    assert first.post("/accounts/login/code/", {"code": code}).status_code == 302
    cache.clear()  # allauth forgets it after half a minute, while it still holds
    assert second.post("/accounts/login/code/", {"code": code}).status_code == 200
    assert second.get("/api/symbols/").status_code == 401


def test_a_recovery_code_opens_once(ada):
    _, recovery = turn_on(ada)

    answers = []
    for _ in range(2):
        client = stranger()
        sign_in(client)
        answers.append(client.post("/accounts/login/code/", {"code": recovery[0]}).status_code)

    assert answers == [302, 200]


def test_guessing_codes_ends_after_five(ada):
    secret, _ = turn_on(ada)
    client = stranger()
    sign_in(client)
    for guess in range(5):
        client.post("/accounts/login/code/", {"code": f"{guess:06}"})

    client.post("/accounts/login/code/", {"code": code_of(secret)})

    assert client.get("/api/symbols/").status_code == 401


def test_what_the_database_keeps_of_it_opens_nothing(ada):
    secret, recovery = turn_on(ada)

    dump = serializers.serialize("json", Authenticator.objects.all())

    assert secret not in dump
    assert not any(code in dump for code in recovery)


def test_a_token_wants_the_code_too(ada):
    secret, recovery = turn_on(ada)
    client = stranger()
    code = code_of(secret)
    wish = {"username": "ada", "password": PASSWORD}

    without = client.post("/api/tokens/", wish, content_type="application/json")
    wrong = client.post("/api/tokens/", wish | {"code": "000000"}, content_type="application/json")
    right = client.post("/api/tokens/", wish | {"code": code}, content_type="application/json")
    cache.clear()
    again = client.post("/api/tokens/", wish | {"code": code}, content_type="application/json")
    recovered = client.post("/api/tokens/", wish | {"code": recovery[1]}, content_type="application/json")

    assert (without.status_code, without.json()["errors"][0]["field"]) == (400, "code")
    assert [answer.status_code for answer in (wrong, right, again, recovered)] == [401, 201, 401, 201]


def test_turning_it_off_wants_the_password_and_ends_the_recovery_codes(ada):
    turn_on(ada)

    answer = ada.post("/accounts/second-factor/off/")

    assert answer["Location"] == "/accounts/second-factor/"
    assert not Authenticator.objects.exists()
    assert sign_in(stranger())["Location"] == "/"


def test_nobody_sees_codes_of_a_session_left_open_for_long(ada):
    turn_on(ada)
    session = ada.session
    session["account_authentication_methods"] = [
        record | {"at": record["at"] - 3600} for record in session["account_authentication_methods"]
    ]
    session.save()

    assert ada.get("/accounts/second-factor/codes/")["Location"].startswith("/accounts/again/")


@pytest.fixture
def demanded(settings):
    settings.SECOND_FACTOR_FOR_ADMINS = True


def test_where_it_is_demanded_an_admin_reaches_only_the_page_that_turns_it_on(demanded):
    cache.clear()
    make_user().take_role(Role.ADMIN)
    client = stranger()
    sign_in(client)

    for page in ("/", "/admin/", "/accounts/people/", "/accounts/tokens/"):
        assert client.get(page)["Location"] == "/accounts/second-factor/on/"
    refused = client.get("/api/symbols/")
    assert (refused.status_code, refused["Content-Type"]) == (403, "application/problem+json")
    token = client.post("/api/tokens/", {"username": "ada", "password": PASSWORD}, content_type="application/json")
    assert token.status_code == 403

    turn_on(client)

    assert client.get("/admin/").status_code == 200
    assert client.get("/api/symbols/").status_code == 200
    client.post("/accounts/second-factor/off/")
    assert Authenticator.objects.filter(type="totp").exists()


@pytest.mark.django_db(transaction=True)
def test_where_it_is_demanded_the_socket_knows_no_admin_without_it(demanded):
    user = make_user()
    user.take_role(Role.ADMIN)
    cookie = f"sessionid={session_client(user).cookies['sessionid'].value}".encode()
    scope = {"headers": [(b"cookie", cookie)], "query_string": b""}

    assert async_to_sync(find_caller)(scope) is None
    TOTP.activate(user, "JBSWY3DPEHPK3PXP")
    assert async_to_sync(find_caller)(scope).user_id == user.pk


def test_others_may_do_without(demanded):
    make_user("oscar").take_role(Role.OPERATOR)
    client = stranger()
    sign_in(client, "oscar")

    assert client.get("/api/symbols/").status_code == 200


def test_the_machine_s_owner_can_take_it_from_someone_who_lost_the_phone(ada):
    turn_on(ada)

    call_command("remove_second_factor", "ada")

    assert not Authenticator.objects.exists()
    with pytest.raises(CommandError, match="nobody"):
        call_command("remove_second_factor", "nobody")
