"""Fixtures that every test may use."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import setup_databases, teardown_databases

from marketdata.models import Universe
from marketdata.writer import Writer, line_name

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

MARKET_TABLES = (
    "ohlcv_1min, bar_revisions, ohlcv_daily, rejected_events, heartbeats, writer_leases, feed_origin, intraday_patterns, "
    "intraday_indicators, scanned_bars, scan_failures, sweep_marks, judged_splits, feed_spans, gaps, reconciliations, splits, dividends, symbol_changes, "
    "imported_files, closures, halts, jobs, dead_tasks, logged_errors, audit_log, market_surveys"
)


def load_first_rows() -> None:
    """Load the default universes, sessions and combinations again, as the migrations did."""
    importlib.import_module("marketdata.migrations.0002_first_rows").load(apps, None)
    importlib.import_module("patterns.migrations.0002_definitions_and_combinations").ship(apps, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare what `make faults` turns up."""
    group = parser.getgroup("faults")
    group.addoption("--full", action="store_true", help="faults at their full size and number, the tests marked `faults` among them")
    group.addoption("--runs", type=int, metavar="N", help="seeded fault runs (default 200, with --full 400)")
    group.addoption("--seed", type=int, default=1, metavar="N", help="the first seed (default 1)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Run browser tests last: Playwright keeps an event loop in the main thread until the session ends.

    What is marked `faults` runs in `make faults` only.
    """
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if not config.getoption("full"):
        slow = [item for item in items if item.get_closest_marker("faults") is not None]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item.get_closest_marker("faults") is None]


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment, django_db_blocker, django_db_keepdb, django_db_createdb) -> Iterator[None]:
    """
    The test database, in every run.

    pytest-django makes one only where a collected test carries its own mark; without it `market` would empty the user's database.
    """
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, keepdb=django_db_keepdb and not django_db_createdb)
    yield
    if not django_db_keepdb:
        with django_db_blocker.unblock():
            teardown_databases(made, verbosity=0)


@pytest.fixture
def market(django_db_setup, django_db_blocker) -> Iterator[None]:
    """
    The real database with nothing but the default rows, committed and seen by every connection and process.

    For what has a connection of its own; tests of one connection use `db`.
    """
    with django_db_blocker.unblock():
        if not Universe.objects.exists():  # a transactional test has flushed them
            load_first_rows()
        _empty()
        yield
        _empty()
        connection.close()


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {MARKET_TABLES} RESTART IDENTITY")
        cursor.execute("DELETE FROM symbols s WHERE NOT EXISTS (SELECT 1 FROM universe_memberships m WHERE m.symbol_id = s.symbol)")


@pytest.fixture
def writer(market) -> Iterator[Writer]:
    """A writer that holds the live line."""
    writer = Writer(line_name(1, 1))
    writer.acquire_within(10)  # the server may still be taking leave of the test before
    yield writer
    writer.close()


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings beside the checkout; without it (a user's machine) the test says so and is skipped."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI must have the real recordings beside the checkout (../shared/data)", pytrace=False)
        pytest.skip("the real recordings (../shared/data) are not on this machine")
    return SHARED_DATA
