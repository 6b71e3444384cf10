"""What tests of scans share."""

from collections.abc import Iterator

import pytest
from django.test import Client

from accounts.models import Scope
from marketdata.models import Session
from tests.factories import DAY, moment
from tests.people import make_user, token_client


@pytest.fixture
def market(market: None) -> Iterator[None]:
    """The market of all tests, with the day's session as the exchange has it."""
    _set_hours()
    yield
    _set_hours()


@pytest.fixture
def reader(market: None) -> Iterator[Client]:
    """Who may read the market's state."""
    user = make_user("market-reader")
    yield token_client(user, scopes=[Scope.READ_MARKET])
    user.delete()


def _set_hours() -> None:
    hours = {"pre_open": moment("09:00"), "open": moment("14:30"), "close": moment("21:00"), "post_close": moment("01:00", "2026-11-21")}
    Session.objects.update_or_create(date=DAY, defaults={"calendar": "XNYS", **hours})
