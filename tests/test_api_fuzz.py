"""
Ask every operation of the description what nobody thought of: nothing breaks, nothing opens, every answer is what the description says.

The operations come from the views, so a new one is asked by itself. `make test ARGS=tests/test_api_fuzz.py API_EXAMPLES=200` asks longer.
"""

import os
from collections.abc import Iterator

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from marketdata.models import Symbol, Universe
from tests.people import EVERY_SCOPE, make_token, make_user, session_client

EXAMPLES = int(os.environ.get("API_EXAMPLES", "25"))
NOT_ASKED = {
    "negative_data_rejection",  # by our rule an unknown parameter is ignored, and an empty one counts as absent
    "positive_data_acceptance",  # a description cannot say which symbols exist, nor that `to` lies after `from`
}
METHODS = {"get", "post", "put", "patch", "delete"}

load_all_checks()
CHECKED = [check for name, check in zip(CHECKS.get_all_names(), CHECKS.get_all(), strict=True) if name not in NOT_ASKED]
DESCRIPTION = SchemaGenerator().get_schema(request=None, public=True)
API = schemathesis.openapi.from_dict(DESCRIPTION)
API.app = get_wsgi_application()
OPERATIONS = [(path, method) for path, item in DESCRIPTION["paths"].items() for method in item if method in METHODS]


@pytest.fixture
def caller(db) -> Iterator[dict[str, dict[str, str]]]:
    """Headers of a caller by token and by session. The connection stays open, as in Django's own test client: it holds the transaction."""
    Symbol.objects.get_or_create(symbol="AAPL")
    Universe.objects.get_or_create(key="a_universe", name="A universe")
    user = make_user("fuzz")
    for ends in (request_started, request_finished):
        ends.disconnect(close_old_connections)
    yield {
        "token": {"Authorization": f"Bearer {make_token(user, scopes=EVERY_SCOPE)[1]}"},
        "session": {"Cookie": f"sessionid={session_client(user).cookies['sessionid'].value}"},
    }
    for ends in (request_started, request_finished):
        ends.connect(close_old_connections)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_no_operation_breaks_or_opens_whatever_it_is_asked(path, method, mode, caller):
    operation = API[path][method]
    ways = {name for way in operation.definition.raw.get("security", []) for name in way}
    headers = caller["token" if "token" in ways else "session"] if ways else {}
    asked = []

    @settings(
        max_examples=(EXAMPLES + 1) // 2,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        asked.append(case.call_and_validate(headers=headers, checks=CHECKED))

    ask()
    assert asked
