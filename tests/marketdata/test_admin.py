"""The admin's pages of the market: what can be edited, what can only be seen, and that bars cannot be written."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib import admin
from django.urls import reverse

from marketdata.backfill import refresh_sessions
from marketdata.models import Bar, BarRevision, Closure, Job, Membership, RejectedEvent, Session, Symbol, Universe
from tests.people import make_token, make_user, session_client

pytestmark = pytest.mark.django_db
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
PRICES = {"open": Decimal("1.50"), "high": Decimal("2"), "low": Decimal("1"), "close": Decimal("1.2500"), "volume": Decimal("10")}


@pytest.fixture
def client():
    return session_client(make_user("staff", is_staff=True, is_superuser=True))


@pytest.mark.parametrize("model", list(admin.site._registry), ids=str)
def test_every_list_opens_and_searches(client, model):
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")

    assert client.get(url).status_code == 200
    assert client.get(url, {"q": "some'thing\" %"}).status_code in {200, 302}


def test_a_symbol_shows_its_twenty_newest_bars_and_no_field_to_change_one(client):
    Symbol.objects.create(symbol="ZZA", name="<script>alert(1)</script>")
    Bar.objects.bulk_create(
        Bar(
            symbol_id="ZZA", timestamp=OPEN + timedelta(minutes=number), source=30, source_version=1, complete=True, writer_epoch=1,
            updated_at=OPEN, **PRICES,
        )
        for number in range(25)
    )  # fmt: skip

    page = client.get(reverse("admin:marketdata_symbol_change", args=["ZZA"])).content.decode()

    assert page.count("2026-11-20 14:") == 20
    assert "2026-11-20 14:54" in page
    assert "<td>1.25</td>" in page or "<td>1.2500</td>" in page
    assert "<script>alert" not in page
    assert 'name="open"' not in page


def test_no_model_of_bars_is_registered():
    assert not {"bar", "dailybar"} & {model._meta.model_name for model in admin.site._registry}


def test_a_symbol_is_edited_but_neither_renamed_nor_deleted(client):
    Symbol.objects.create(symbol="ZZA", sector="Zinc")
    change = reverse("admin:marketdata_symbol_change", args=["ZZA"])

    client.post(change, {"symbol": "ZZB", "name": "Zett", "sector": "Zircon", "active": "on"})

    assert Symbol.objects.get(symbol="ZZA").sector == "Zircon"
    assert not Symbol.objects.filter(symbol="ZZB").exists()
    assert client.post(reverse("admin:marketdata_symbol_delete", args=["ZZA"]), {"post": "yes"}).status_code == 403


def test_a_universe_is_edited_with_the_order_of_its_symbols(client):
    for symbol in ("ZZA", "ZZB"):
        Symbol.objects.create(symbol=symbol)
    members = {"memberships-TOTAL_FORMS": 2, "memberships-INITIAL_FORMS": 0}
    rows = {f"memberships-{n}-{name}": value for n, s in enumerate(("ZZB", "ZZA")) for name, value in (("position", n), ("symbol", s))}

    answer = client.post(reverse("admin:marketdata_universe_add"), {"key": "zz", "name": "Zett", "kind": "theme", **members, **rows})

    assert answer.status_code == 302
    assert list(Membership.objects.filter(universe="zz").values_list("symbol", flat=True)) == ["ZZB", "ZZA"]
    assert Universe.objects.get(key="zz").name == "Zett"


def test_an_ad_hoc_closure_is_edited(client):
    Session.objects.filter(date="2031-01-09").delete()
    moments = dict.fromkeys(("pre_open", "open", "close", "post_close"), OPEN)
    Session.objects.create(date="2031-01-09", calendar="XNYS", **moments)

    assert client.post(reverse("admin:marketdata_session_delete", args=["2031-01-09"]), {"post": "yes"}).status_code == 302
    assert not Session.objects.filter(date="2031-01-09").exists()
    assert Closure.objects.get().date.isoformat() == "2031-01-09"


def test_a_closed_day_gets_no_session_back_when_the_calendar_is_renewed(client):
    friday = date(2026, 11, 20)
    client.post(reverse("admin:marketdata_closure_add"), {"date": "2026-11-20", "note": "a storm"})
    assert not Session.objects.filter(date=friday).exists()

    refresh_sessions("massive", None, now=OPEN)

    assert not Session.objects.filter(date=friday).exists()
    assert Session.objects.filter(date=friday + timedelta(days=3)).exists()


def test_an_operator_asks_for_a_job_and_cancels_it(client):
    asked = {"kind": "repair", "first": "2026-11-19", "last": "2026-11-20", "symbols": "AAPL, MSFT", "timespan": ""}
    client.post(reverse("admin:marketdata_job_add"), asked)
    job = Job.objects.get()
    assert (job.state, job.asked_by) == ("queued", "staff")
    assert job.options == {"from": "2026-11-19", "to": "2026-11-20", "symbols": ["AAPL", "MSFT"]}

    client.post(reverse("admin:marketdata_job_changelist"), {"action": "cancel_jobs", "_selected_action": [job.pk]})

    assert (Job.objects.get().state, Job.objects.get().cancel_asked_by) == ("cancelled", "staff")
    wrong = client.post(reverse("admin:marketdata_job_add"), asked | {"last": "2026-11-18"})
    assert (wrong.status_code, Job.objects.count()) == (200, 1)


def test_what_the_running_parts_write_can_be_seen_and_not_changed(client):
    Symbol.objects.create(symbol="ZZA")
    event = RejectedEvent.objects.create(received_at=OPEN, reason="price", raw="{<b>}")
    revision = BarRevision.objects.create(
        symbol_id="ZZA", timestamp=OPEN, revision=0, source=20, source_version=1, complete=True, stored_at=OPEN, replaced_at=OPEN,
        cause="late", **PRICES,
    )  # fmt: skip

    for row in (event, revision):
        name = f"admin:marketdata_{row._meta.model_name}"
        assert client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200
        assert client.post(reverse(f"{name}_change", args=[row.pk]), {"reason": "x"}).status_code == 403
        assert client.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        assert client.get(reverse(f"{name}_add")).status_code == 403


def test_tokens_are_revoked_in_the_admin_and_their_hash_is_not_shown(client):
    token, _ = make_token(make_user("program"))
    page = client.get(reverse("admin:accounts_apitoken_change", args=[token.pk])).content.decode()
    assert token.prefix in page
    assert token.digest not in page

    client.post(reverse("admin:accounts_apitoken_changelist"), {"action": "revoke", "_selected_action": [token.pk]})

    token.refresh_from_db()
    assert token.revoked_at is not None
