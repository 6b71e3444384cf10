"""Connections that the web process keeps for its next requests, and what they read."""

from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection

from marketdata.timescale_backend import base

pytestmark = pytest.mark.django_db


@pytest.fixture
def kept():
    wrapper = connection.copy("kept")
    wrapper.settings_dict["KEPT_CONNECTIONS"] = 1
    wrapper.inc_thread_sharing()
    yield wrapper
    wrapper.close()
    while base._kept["kept"]:
        base._kept["kept"].pop()[0].close()


def pid_of(wrapper) -> int:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_the_next_request_gets_the_connection_of_the_last(kept):
    first = pid_of(kept)
    kept.close()

    assert pid_of(kept) == first


def test_without_the_setting_each_request_has_its_own(kept):
    kept.settings_dict["KEPT_CONNECTIONS"] = 0
    first = pid_of(kept)
    kept.close()

    assert pid_of(kept) != first


def test_one_that_the_server_has_ended_is_replaced_unseen(kept):
    first = pid_of(kept)
    kept.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [first])

    assert pid_of(kept) != first


def test_one_in_a_broken_transaction_is_not_kept(kept):
    first = pid_of(kept)
    kept.set_autocommit(False)
    with pytest.raises(DatabaseError), kept.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")
    kept.close()

    assert pid_of(kept) != first


def test_no_more_are_kept_than_the_setting_says_and_none_for_long(kept, monkeypatch):
    second = connection.copy("kept")
    second.settings_dict["KEPT_CONNECTIONS"] = 1
    first = pid_of(kept)
    assert pid_of(second) != first
    kept.close()
    second.close()
    assert len(base._kept["kept"]) == 1

    monkeypatch.setattr(base, "KEPT_SECONDS", 0.0)
    assert pid_of(kept) != first


def test_a_moment_is_read_in_utc_and_is_the_same_where_the_session_has_another_zone():
    moment = datetime(2026, 11, 20, 14, 30, 0, 123456, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz, NULL::timestamptz", [moment])
        read = cursor.fetchone()
        cursor.execute("SET LOCAL timezone = 'Asia/Tokyo'")
        cursor.execute("SELECT %s::timestamptz", [moment])
        read_elsewhere = cursor.fetchone()

    assert read == (moment, None)
    assert read[0].tzinfo is UTC
    assert read_elsewhere == (moment,)
