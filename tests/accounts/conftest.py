"""Names are shared by tests, counted tries must not be."""

import pytest

from accounts import limits


@pytest.fixture(autouse=True)
def _no_tries_counted_for_any_name(django_db_setup):
    client = limits._client()
    for key in client.scan_iter(match="sign-in:name:*"):
        client.delete(key)
