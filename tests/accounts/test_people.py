"""Roles, invitations, sessions, passwords, tokens by hand."""

import re
import time
from datetime import timedelta
from threading import Barrier, Thread

import pytest
from django.contrib.auth.models import Group
from django.core import checks, mail
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import ApiToken, Invitation, Role, User
from tests.people import PASSWORD, bearer, make_user, session_client, stranger

pytestmark = pytest.mark.django_db
NEW = "quite another passphrase"


def admin(username: str = "root") -> User:
    user = make_user(username)
    user.take_role(Role.ADMIN)
    return User.objects.get(pk=user.pk)


def with_role(role: str) -> User:
    user = make_user(role)
    user.take_role(role)
    return User.objects.get(pk=user.pk)


# ---- Roles


@pytest.mark.parametrize(
    ("role", "may"), [("viewer", ""), ("analyst", "research"), ("operator", "research operate"), ("admin", "research operate administer")]
)
def test_a_role_may_what_the_ones_before_it_may_and_more(role, may):
    user = with_role(role)

    assert {name for name in ("research", "operate", "administer") if user.has_perm(f"accounts.{name}")} == set(may.split())
    assert user.is_staff == (role == "admin")
    assert user.role == role


def test_an_admin_has_every_permission_of_every_table():
    user = admin()

    assert user.has_perms(["marketdata.change_symbol", "auth.delete_group", "patterns.view_detection"])
    assert not user.is_superuser


def test_the_group_chosen_in_the_admin_opens_and_closes_the_admin_site():
    user = make_user()
    group = Group.objects.get(name=Role.ADMIN)

    group.user_set.add(user)
    assert User.objects.get(pk=user.pk).is_staff
    user.groups.remove(group)
    assert not User.objects.get(pk=user.pk).is_staff


def test_the_last_admin_cannot_give_up_the_role():
    user = admin()

    with pytest.raises(ValueError, match="last administrator"):
        user.take_role(Role.VIEWER)
    admin("second")
    user.take_role(Role.VIEWER)
    assert user.role == Role.VIEWER


def test_roles_are_there_after_every_migration():
    Group.objects.all().delete()

    call_command("migrate", verbosity=0)

    assert set(Group.objects.values_list("name", flat=True)) == set(Role.values)


def test_the_check_names_who_stands_in_the_admin_site_without_the_role():
    make_user("clerk", is_staff=True)
    admin()

    found = [fault for fault in checks.run_checks(databases=["default"], tags=[checks.Tags.database]) if fault.id == "accounts.W001"]

    assert len(found) == 1
    assert "clerk" in found[0].msg
    assert "root" not in found[0].msg


def test_only_an_admin_gives_roles():
    make_user("bob")
    for role in (Role.VIEWER, Role.ANALYST, Role.OPERATOR):
        assert session_client(with_role(role)).post("/accounts/people/", {"user": "bob", "role": "admin"}).status_code == 403

    answer = session_client(admin()).post("/accounts/people/", {"user": "bob", "role": "operator"})

    assert answer.status_code == 302
    assert User.objects.get(username="bob").role == Role.OPERATOR


# ---- Invitations


def invite(client, **fields) -> str:
    page = client.post("/accounts/people/", {"role": "analyst", "email": "", **fields}).content.decode()
    return re.search(r'value="http://testserver(/accounts/invitation/\w+/)"', page)[1]


def test_an_invitation_lets_one_person_in_once_with_the_role():
    link = invite(session_client(admin()), email="eve@example.com")
    guest = stranger()

    assert "analyst" in guest.get(link).content.decode()
    assert guest.post(link, {"username": "eve", "password": "short"}).status_code == 200
    assert guest.post(link, {"username": "root", "password": NEW}).status_code == 200
    assert guest.post(link, {"username": "eve", "password": NEW})["Location"] == "/accounts/login/"

    eve = User.objects.get(username="eve")
    assert (eve.role, eve.email) == (Role.ANALYST, "eve@example.com")
    assert stranger().get(link).status_code == 404
    assert stranger().post(link, {"username": "mallory", "password": NEW}).status_code == 404
    assert not User.objects.filter(username="mallory").exists()


def test_the_table_of_invitations_holds_no_link_that_opens():
    link = invite(session_client(admin()))

    assert Invitation.objects.get().digest not in link
    assert stranger().get(f"/accounts/invitation/{Invitation.objects.get().digest}/").status_code == 404


@pytest.mark.parametrize("end", ["expiry", "withdrawal"])
def test_an_invitation_that_is_over_opens_nothing(end):
    client = session_client(admin())
    link = invite(client)

    if end == "expiry":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        client.post("/accounts/people/", {"withdraw": Invitation.objects.get().pk})

    assert stranger().get(link).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_of_two_who_follow_one_link_at_once_one_is_let_in():
    _, secret = Invitation.objects.issue(by=admin(), role=Role.VIEWER, email="", at=timezone.now())
    made, start = [], Barrier(2)

    def accept(name):
        try:
            start.wait()
            made.append(Invitation.objects.accept(secret, username=name, password=NEW, at=timezone.now()))
        finally:
            connection.close()

    threads = [Thread(target=accept, args=[name]) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [user is None for user in made].count(False) == 1


# ---- Passwords


@pytest.mark.django_db(transaction=True)
def test_a_forgotten_password_is_replaced_by_the_letter_s_link(settings):
    settings.EMAIL_HOST = "mail.example.com"
    make_user(email="ada@example.com")
    client = stranger()

    sent = client.post("/accounts/password/reset/", {"email": "ada@example.com"})
    assert sent["Location"] == "/accounts/password/reset/sent/"
    end = time.monotonic() + 20
    while not mail.outbox and time.monotonic() < end:
        time.sleep(0.01)
    link = re.search(r"http://testserver(\S+)", mail.outbox[0].body)[1]
    form = client.get(link, follow=True)
    done = client.post(form.redirect_chain[-1][0], {"new_password1": NEW, "new_password2": NEW})

    assert done["Location"] == "/accounts/login/"
    assert client.get("/api/symbols/").status_code == 401
    assert stranger().post("/accounts/login/", {"username": "ada", "password": NEW})["Location"] == "/"
    assert "no longer holds" in stranger().get(link, follow=True).content.decode()


def test_who_asks_for_a_letter_learns_nothing(settings):
    make_user(email="ada@example.com")

    answers = [stranger().post("/accounts/password/reset/", {"email": f"{name}@example.com"}) for name in ("ada", "nobody")]

    assert {(answer.status_code, answer["Location"]) for answer in answers} == {(302, "/accounts/password/reset/sent/")}


def test_where_no_mail_server_is_named_the_page_says_where_letters_lie(settings):
    settings.EMAIL_HOST = ""

    assert settings.EMAIL_FILE_PATH in stranger().get("/accounts/password/reset/").content.decode()


def test_another_password_ends_the_other_sessions():
    user = make_user()
    here, there = session_client(user), session_client(user)

    answer = here.post("/accounts/password/", {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW})

    assert answer["Location"] == "/accounts/"
    assert here.get("/api/symbols/").status_code == 200
    assert there.get("/api/symbols/").status_code == 401


# ---- Sessions


def signed_in(username: str = "ada", agent: str = "Firefox"):
    client = stranger(headers={"User-Agent": agent})
    client.post("/accounts/login/", {"username": username, "password": PASSWORD})
    return client


def test_sessions_are_listed_and_each_can_be_ended():
    make_user()
    make_user("bob")
    here, there, his = signed_in(), signed_in(agent="Telephone"), signed_in("bob", agent="Lynx")

    page = here.get("/accounts/sessions/").content.decode()
    assert "Telephone" in page
    assert "Lynx" not in page
    here.post("/accounts/sessions/", {"end": re.search(r'name="end" value="(\d+)"', page)[1]})

    assert there.get("/api/symbols/").status_code == 401
    assert here.get("/api/symbols/").status_code == 200
    his_number = re.search(r'name="end" value="(\d+)"', (signed_in("bob"), his.get("/accounts/sessions/"))[1].content.decode())[1]
    here.post("/accounts/sessions/", {"end": his_number})
    assert his.get("/accounts/sessions/").content.decode().count("Sign out<") >= 1


def test_all_other_sessions_end_with_one_button():
    make_user()
    here, *others = [signed_in() for _ in range(3)]

    here.post("/accounts/sessions/", {"end": "others"})

    assert [client.get("/api/symbols/").status_code for client in (here, *others)] == [200, 401, 401]


# ---- Tokens by hand


def test_a_token_is_made_by_hand_after_the_password_once_more_and_revoked():
    cache.clear()
    make_user()
    client = signed_in()
    wish = {"name": "my script", "scopes": ["read:bars"], "days": "7"}

    again = client.post("/accounts/tokens/", wish)
    assert again["Location"].startswith("/accounts/again/")
    assert not ApiToken.objects.exists()
    page = client.post(again["Location"], {"password": PASSWORD, "next": "/accounts/tokens/"}).content.decode()
    text = re.search(r'value="(ts_\w+)"', page)[1]

    assert stranger(headers=bearer(text)).get("/api/symbols/").status_code == 200
    assert text not in client.get("/accounts/tokens/").content.decode()
    client.post("/accounts/tokens/", {"revoke": ApiToken.objects.get().prefix})
    assert stranger(headers=bearer(text)).get("/api/symbols/").status_code == 401


def test_nobody_revokes_another_s_token_by_hand():
    row, _ = ApiToken.objects.issue(make_user(), scopes=["read:bars"], expires_at=timezone.now() + timedelta(days=1))
    make_user("bob")

    signed_in("bob").post("/accounts/tokens/", {"revoke": row.prefix})

    assert ApiToken.objects.standing().exists()
