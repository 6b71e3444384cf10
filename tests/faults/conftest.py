"""Minutes of the design pass in seconds: cool-downs, watchdogs and heal times are arguments."""

import pytest

from tests.marketdata.test_caretaker import open_now, quick

__all__ = ["open_now", "quick"]


@pytest.fixture
def hurried(open_now, quick, monkeypatch) -> None:
    """A session around now, and a stream that looks often and forgives soon."""
    monkeypatch.setattr("marketdata.feed.protocol.HEALTHY_SECONDS", 1.0)
    monkeypatch.setattr("marketdata.connection.POLL_SECONDS", 0.1)
    monkeypatch.setattr("marketdata.gaps.FIRST_RETRY_SECONDS", 0.5)
    monkeypatch.setattr("marketdata.history.FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr("marketdata.gaps.LONGEST_RETRY_SECONDS", 5.0)
