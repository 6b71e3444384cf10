"""Signing in and out by hand, and what follows."""

import asyncio
import contextlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.sessions.models import Session
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import connection
from django.utils import timezone

from accounts import limits
from tests.people import PASSWORD, make_token, make_user, session_client, stranger, token_client

pytestmark = pytest.mark.django_db


def sign_in(client, username="ada", password=PASSWORD, query=""):
    return client.post(f"/accounts/login/{query}", {"username": username, "password": password})


def test_the_right_password_leads_on_inside_this_site_only():
    make_user()

    assert sign_in(stranger(), query="?next=/streaming/")["Location"] == "/streaming/"
    assert sign_in(stranger(), query="?next=https://evil.example/")["Location"] == "/"
    assert sign_in(stranger(), query="?next=//evil.example/")["Location"] == "/"


def test_signing_in_gives_a_new_session_key():
    make_user()
    client = stranger()
    client.session["x"] = 1
    before = client.session.session_key

    sign_in(client)

    assert client.session.session_key != before


def test_every_failure_of_the_form_says_the_same():
    make_user("ada")
    make_user("gone", is_active=False)

    pages = [sign_in(stranger(), *pair) for pair in (("ada", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD))]

    messages = {str(page.context["form"].errors[NON_FIELD_ERRORS]) for page in pages}
    assert len(messages) == 1
    assert {page.status_code for page in pages} == {200}


def test_form_and_api_share_one_count():
    make_user()
    client = stranger()
    for _ in range(limits.TRIES_PER_NAME // 2):
        sign_in(client, password="wrong")
        client.post("/api/tokens/", {"username": "ADA", "password": "wrong"}, content_type="application/json")

    assert sign_in(client).status_code == 429


@pytest.mark.django_db(transaction=True)
def test_of_fifty_wrong_tries_at_once_no_more_than_ten_reach_the_password():
    make_user()
    client = stranger()
    place = client.defaults["REMOTE_ADDR"]

    def attempt(_):
        try:
            return sign_in(stranger(REMOTE_ADDR=place), password="wrong").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = [status for _ in range(5) for status in pool.map(attempt, range(10))]

    assert (answers.count(200), answers.count(429)) == (limits.TRIES_PER_NAME, 40)
    assert sign_in(client).status_code == 429


def fail_from_everywhere(name, times):
    for number in range(times):
        with contextlib.suppress(limits.TooManyTriesError):
            limits.take_try(name, f"203.0.{number // 250}.{number % 250}")


def test_guessing_from_many_addresses_ends_too_but_not_for_whom_the_place_knows():
    name = f"ada{secrets.token_hex(4)}"
    make_user(name)
    here, elsewhere = stranger(), stranger()
    sign_in(here, name)
    here.post("/accounts/logout/")

    fail_from_everywhere(name, limits.TRIES_FROM_EVERYWHERE)

    assert sign_in(elsewhere, name).status_code == 429
    assert sign_in(here, name)["Location"] == "/"


def test_the_form_wants_its_csrf_token():
    make_user()

    assert sign_in(stranger(enforce_csrf_checks=True)).status_code == 403


def test_signing_out_needs_a_post_and_ends_the_session():
    client = session_client(make_user())

    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/")["Location"] == "/accounts/login/"
    assert client.get("/api/symbols/").status_code == 401


def test_the_admin_has_no_door_of_its_own():
    viewer = session_client(make_user("viewer"))
    staff = session_client(make_user("staff", is_staff=True, is_superuser=True))

    assert stranger().get("/admin/", follow=True).redirect_chain[-1][0] == "/accounts/login/?next=/admin/"
    assert viewer.get("/admin/", follow=True).status_code == 403
    assert staff.get("/admin/").status_code == 200


def test_the_choice_of_colours_is_kept_and_what_is_not_sent_stays():
    user = make_user(palette="classic")
    client = session_client(user)

    assert client.post("/accounts/appearance/", {"theme": "light"}, content_type="application/json").status_code == 204
    user.refresh_from_db()
    assert (user.theme, user.palette) == ("light", "classic")

    assert client.post("/accounts/appearance/", "palette=", content_type="application/x-www-form-urlencoded").status_code == 204
    user.refresh_from_db()
    assert (user.theme, user.palette) == ("light", "")


def test_colours_that_do_not_exist_are_refused_by_name():
    answer = session_client(make_user()).post("/accounts/appearance/", {"theme": "pink"}, content_type="application/json")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "theme")


def test_the_switch_of_colours_wants_a_csrf_token_and_no_token_of_a_program():
    user = make_user()

    guarded = session_client(user, enforce_csrf_checks=True)
    assert guarded.post("/accounts/appearance/", {"theme": "dark"}, content_type="application/json").status_code == 403
    assert token_client(user).post("/accounts/appearance/", {"theme": "dark"}, content_type="application/json").status_code == 403


async def heard_by_sockets_of(user_id, act):
    """Return what a socket of this user hears while `act` runs in a thread, as a view does."""
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(f"user-{user_id}", channel)
    try:
        await asyncio.to_thread(act)
        return await asyncio.wait_for(layer.receive(channel), 5)
    finally:
        await layer.group_discard(f"user-{user_id}", channel)


def sign_out(user, client):
    client.post("/accounts/logout/")


def disable(user, client):
    user.is_active = False
    user.save()


def revoke(user, client):
    client.delete(f"/api/tokens/{user.api_tokens.get().prefix}/")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", [sign_out, disable, revoke])
def test_the_end_of_an_identity_is_told_to_its_open_sockets(end):
    user = make_user()
    make_token(user)
    client = session_client(user)

    def act():
        try:
            end(user, client)
        finally:
            connection.close()

    assert async_to_sync(heard_by_sockets_of)(user.pk, act) == {"type": "session.ended"}


def test_signing_out_works_while_redis_is_away(settings, monkeypatch):
    from channels import layers

    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]}}
    }
    monkeypatch.setattr(layers.channel_layers, "backends", {})

    assert session_client(make_user()).post("/accounts/logout/").status_code == 302


def test_the_security_log_has_one_line_a_failure_whatever_the_name(caplog):
    sign_in(stranger(), "eve\nsign-in: root", "wrong")

    lines = [record.getMessage() for record in caplog.records if record.name == "accounts.receivers"]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert "wrong" not in lines[0]


# ---- a session that nobody uses


def rewind(client, **seconds) -> None:
    """Let the session's times lie in the past, as its row would say by then."""
    session = client.session
    for name, ago in seconds.items():
        session[name] = session[name] - ago
    session.save()


def test_a_session_without_a_request_ends_after_the_idle_time(settings):
    client = session_client(make_user())
    row = Session.objects.get(pk=client.session.session_key)
    idle = row.expire_date - timezone.now()
    assert timedelta(seconds=settings.SESSION_IDLE_SECONDS) - idle < timedelta(minutes=1)

    Session.objects.filter(pk=row.pk).update(expire_date=timezone.now() - timedelta(seconds=1))
    assert client.get("/accounts/sessions/")["Location"].startswith("/accounts/login/")


def test_a_request_renews_the_session_once_in_five_minutes():
    client = session_client(make_user())
    before = client.session["seen_at"]
    client.get("/health")
    assert client.session["seen_at"] == before

    rewind(client, seen_at=400)
    client.get("/health")
    assert client.session["seen_at"] >= before


def test_no_use_carries_a_session_beyond_its_whole_age(settings):
    client = session_client(make_user())
    rewind(client, seen_at=400, began_at=settings.SESSION_COOKIE_AGE - 600)

    client.get("/health")

    left = Session.objects.get(pk=client.session.session_key).expire_date - timezone.now()
    assert timedelta(minutes=8) < left < timedelta(minutes=11)


def test_a_token_makes_no_session():
    client = token_client(make_user())
    client.get("/api/universes/")

    assert not Session.objects.exists()
