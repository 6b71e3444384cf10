"""Tokens: made, used, refused, revoked."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core import serializers
from django.db import connection
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import AuthenticationFailed

from accounts import limits
from accounts.authentication import user_for_token
from accounts.models import TOKEN_FORM, ApiToken
from tests.people import PASSWORD, bearer, make_token, make_user, session_client, stranger, token_client

pytestmark = pytest.mark.django_db


def ask_token(client: Client, username: str = "ada", password: str = PASSWORD, **more):
    return client.post("/api/tokens/", {"username": username, "password": password, **more}, content_type="application/json")


def test_username_and_password_make_a_token_that_opens_the_api():
    make_user()

    answer = ask_token(stranger())

    assert answer.status_code == 201
    made = answer.json()
    assert TOKEN_FORM.fullmatch(made["token"])
    assert made["scopes"] == ["read:bars", "read:market", "read:patterns"]
    assert answer["Cache-Control"] == "no-store"
    assert Client(headers=bearer(made["token"])).get("/api/symbols/").status_code == 200


def test_a_token_lives_ninety_days_unless_told_otherwise_and_never_more_than_a_year():
    make_user()
    client = stranger()

    for days, more in ((90, {}), (3, {"days": 3}), (365, {"days": 365})):
        ask_token(client, **more)
        assert abs(ApiToken.objects.first().expires_at - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)
    answer = ask_token(client, days=366)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "days")


def test_what_the_database_keeps_opens_nothing():
    _, text = make_token(make_user())
    dump = serializers.serialize("json", ApiToken.objects.all())

    assert text not in dump
    assert text.rpartition("_")[2] not in dump
    kept = ApiToken.objects.get()
    for guess in (kept.digest, kept.prefix, f"ts_{kept.prefix}_{kept.digest[:43]}", f"ts_{kept.prefix}_{kept.digest}"):
        assert Client(headers=bearer(guess)).get("/api/symbols/").status_code == 401


def test_every_wrong_name_or_password_gets_the_same_answer():
    make_user("ada")
    make_user("gone", is_active=False)

    answers = [ask_token(stranger(), *pair) for pair in (("ada", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD), ("gone", "wrong"))]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert {answer["WWW-Authenticate"] for answer in answers} == {"Bearer"}


def test_an_unknown_name_costs_a_password_hash_too(monkeypatch):
    from django.contrib.auth.hashers import MD5PasswordHasher

    hashed = []
    encode = MD5PasswordHasher.encode
    monkeypatch.setattr(MD5PasswordHasher, "encode", lambda *args: hashed.append(1) or encode(*args))
    make_user()
    hashed.clear()

    ask_token(stranger(), "ada", "wrong")
    for_known = len(hashed)
    ask_token(stranger(), "nobody", "wrong")

    assert len(hashed) - for_known == for_known == 1


def revoked(token: ApiToken) -> None:
    token.revoke(at=timezone.now())


def expired(token: ApiToken) -> None:
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())


def disabled(token: ApiToken) -> None:
    token.user.is_active = False
    token.user.save()


@pytest.mark.parametrize("end", [revoked, expired, disabled, ApiToken.delete])
def test_a_token_that_ended_gets_the_answer_of_one_that_never_was(end):
    token, text = make_token(make_user())
    end(token)

    answer = Client(headers=bearer(text)).get("/api/symbols/")
    never = Client(headers=bearer("ts_aaaaaaaaaa_" + "a" * 43)).get("/api/symbols/")

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.content == never.content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.text(max_size=80) | st.from_regex(r"ts_[a-z0-9]{10}_[A-Za-z0-9]{43}", fullmatch=True))
def test_no_text_but_a_token_opens(text):
    with pytest.raises(AuthenticationFailed):
        user_for_token(text)


def test_one_wrong_letter_does_not_open():
    _, text = make_token(make_user())
    other = text[:-1] + ("a" if text[-1] != "a" else "b")

    with pytest.raises(AuthenticationFailed):
        user_for_token(other)


def test_use_is_noted_at_most_once_a_minute(django_assert_num_queries):
    token, text = make_token(make_user())

    user_for_token(text)
    first = ApiToken.objects.get().last_used_at
    with django_assert_num_queries(1):
        user_for_token(text)
    assert ApiToken.objects.get().last_used_at == first

    ApiToken.objects.filter(pk=token.pk).update(last_used_at=first - timedelta(minutes=2))
    user_for_token(text)
    assert ApiToken.objects.get().last_used_at >= first


def test_owners_see_and_revoke_their_own_tokens_and_nobody_elses():
    ada, bob = make_user("ada"), make_user("bob")
    mine, text = make_token(ada)
    his, _ = make_token(bob)
    client = session_client(ada)

    listed = client.get("/api/tokens/").json()["tokens"]
    assert [row["prefix"] for row in listed] == [mine.prefix]
    assert set(listed[0]) == {"prefix", "name", "scopes", "created_at", "expires_at", "last_used_at"}

    assert client.delete(f"/api/tokens/{his.prefix}/").status_code == 404
    assert client.delete(f"/api/tokens/{mine.prefix}/").status_code == 204
    assert client.delete(f"/api/tokens/{mine.prefix}/").status_code == 404
    assert Client(headers=bearer(text)).get("/api/symbols/").status_code == 401
    assert ApiToken.objects.standing().get() == his


def test_a_token_can_neither_list_nor_revoke_tokens():
    ada = make_user()
    client = token_client(ada)
    prefix = ApiToken.objects.get().prefix

    assert client.get("/api/tokens/").status_code == 403
    assert client.delete(f"/api/tokens/{prefix}/").status_code == 403


@pytest.mark.parametrize("scopes", [[], ["write:bars"], ["read:bars", "no"], "read:bars", {}, 5])
def test_scopes_that_do_not_exist_are_refused_by_name(scopes):
    make_user()

    answer = ask_token(stranger(), scopes=scopes)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"].startswith("scopes")


@pytest.mark.parametrize(
    "body", ["[]", "null", "5", '"x"', "{}", '{"username": null}', '{"username": "a\\u0000", "password": "\\ud800"}', "{"]
)
def test_a_body_of_any_other_shape_is_a_400(body):
    assert stranger().post("/api/tokens/", body, content_type="application/json").status_code == 400


def test_an_old_token_beside_the_password_does_not_spoil_it():
    make_user()

    client = stranger(headers=bearer("ts_old"))

    assert ask_token(client).status_code == 201


# ---- Limits


def test_after_ten_wrong_tries_even_the_right_password_waits():
    make_user()
    client = stranger()
    for _ in range(limits.TRIES_PER_NAME):
        assert ask_token(client, password="wrong").status_code == 401

    answer = ask_token(client)

    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= limits.WINDOW_SECONDS


def test_a_stranger_cannot_lock_anybody_out():
    make_user()
    attacker = stranger()
    for _ in range(limits.TRIES_PER_NAME + 1):
        ask_token(attacker, password="wrong")

    assert ask_token(stranger()).status_code == 201


def test_many_names_from_one_address_are_counted_too():
    client = stranger()

    answers = [ask_token(client, f"name{number}", "wrong").status_code for number in range(limits.TRIES_PER_ADDRESS + 1)]

    assert answers == [401] * limits.TRIES_PER_ADDRESS + [429]


def test_addresses_of_one_ipv6_network_are_one_address():
    answers = {
        ask_token(Client(REMOTE_ADDR=f"2001:db8:77:77::{number:x}"), "nobody", "wrong").status_code
        for number in range(1, limits.TRIES_PER_NAME + 3)
    }

    assert 429 in answers


def test_the_right_password_forgets_the_wrong_tries():
    make_user()
    client = stranger()

    for _ in range(3):
        for _ in range(limits.TRIES_PER_NAME - 1):
            ask_token(client, password="wrong")
        assert ask_token(client).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_parallel_tries_cannot_slip_past_the_limit():
    make_user()
    client = stranger()

    def attempt(_):
        try:
            return ask_token(client, password="wrong").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(30)))

    assert answers.count(401) == limits.TRIES_PER_NAME


def test_without_a_count_nobody_signs_in(settings):
    make_user()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    limits._client.cache_clear()
    try:
        answer = ask_token(stranger())
        page = stranger().post("/accounts/login/", {"username": "ada", "password": PASSWORD})
    finally:
        limits._client.cache_clear()

    assert (answer.status_code, page.status_code) == (503, 503)
    assert "Try again" in answer.json()["detail"]
