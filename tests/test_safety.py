"""What a stack shows to the world: production settings without a warning, a start that refuses to be unsafe, logs without secrets."""

import logging
import pickle
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import kombu.exceptions
import kombu.serialization
import pytest
from django.conf import settings as live_settings
from django.core.cache import cache
from django.test import Client
from django.utils.log import configure_logging

from tests.people import PASSWORD, bearer, make_token, make_user, stranger
from tests.processes import ROOT, command_environment, run_command
from tickstock.redaction import MASK, NoSecrets
from tickstock.settings import LOGGING

GOOD_KEY = "gK7-vWq2_Xz9LmPdR4tYbN8sJcHfE1uAoT5iVkQ3wZxCyB6nMr0D"
PRODUCTION = {
    "DJANGO_ALLOW_ASYNC_UNSAFE": "",  # browser tests need it in this process; no server does
    "TICKSTOCK_EMBEDDED": "0", "SECRET_KEY": GOOD_KEY, "ALLOWED_HOSTS": "desk.example.com", "MASSIVE_API_KEY": "", "DEBUG": "",
    "USE_SYNTHETIC_DATA": "1",
}  # fmt: skip


@pytest.fixture
def production(db):
    return PRODUCTION


def test_the_shipped_production_settings_leave_no_warning(production):
    done = run_command("check", "--deploy", "--fail-level", "WARNING", **production)

    assert "no issues (0 silenced)" in done.stdout


def test_production_settings_are_https_with_host_bound_cookies(production):
    show = (
        "from django.conf import settings as s; print(s.DEBUG, s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SECURE,"
        " s.SECURE_SSL_REDIRECT, s.SECURE_HSTS_SECONDS >= 31536000, s.SECOND_FACTOR_FOR_ADMINS, s.SECURE_PROXY_SSL_HEADER)"
    )
    seen = []
    for trust in ("", "1"):
        environment = command_environment(**production, TRUST_PROXY=trust)
        done = subprocess.run([sys.executable, "-c", show], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        seen.append(done.stdout.strip())

    same = "False __Host-sessionid __Host-csrftoken True True True True"
    assert seen == [f"{same} None", f"{same} ('HTTP_X_FORWARDED_PROTO', 'https')"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": "short-but-otherwise-random-8f3k2"}, "SECRET_KEY is too weak"),
        ({"SECRET_KEY": "a" * 60}, "SECRET_KEY is too weak"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS is not set"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS=\\*"),
        ({"REDIS_URL": ""}, "REDIS_URL is not set"),
    ],
)
def test_an_unsafe_start_is_refused_in_one_sentence_that_names_the_cure(production, change, words):
    done = run_command("check", check=False, **{**production, **change})

    assert done.returncode != 0
    assert re.match(f"TickStock: {words}", done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


# ---- Logs


def test_secrets_that_were_logged_are_masked_in_message_and_traceback():
    text = "ts_abcdefghij_" + "A" * 43
    line = NoSecrets(["a canary key", "postgres://ada:a%20canary%3Apass@host/db"])
    said = [
        (f"with {text}", f"with {MASK}"),
        ("GET /v2/aggs?apiKey=4u7xx&limit=5", f"GET /v2/aggs?apiKey={MASK}&limit=5"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {MASK}"),
        ("redis://user:pw@host/0 is away", f"redis://{MASK}@host/0 is away"),
        ("it is a canary key", f"it is {MASK}"),
        ("nothing here: http://host:80/path@x", "nothing here: http://host:80/path@x"),
    ]

    for before, after in said:
        record = logging.makeLogRecord({"msg": "%s", "args": (before,)})
        assert line.filter(record)
        assert record.getMessage() == after
    try:
        raise ValueError("a canary key")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
        line.filter(record)
    assert "canary" not in record.exc_text


def test_every_log_handler_masks():
    assert LOGGING["handlers"]
    assert all("no_secrets" in handler["filters"] for handler in LOGGING["handlers"].values())


@pytest.fixture
def shipped_logging(capsys):
    """The product's own handlers, writing to where `capsys` reads."""
    configure_logging("logging.config.dictConfig", live_settings.LOGGING)
    yield
    with capsys.disabled():
        configure_logging("logging.config.dictConfig", live_settings.LOGGING)


def test_the_doors_log_no_password_token_or_session(db, capsys, shipped_logging):
    make_user()
    _, token = make_token(make_user("bob"))
    canary = "canary-4f9a-password"
    client = stranger(raise_request_exception=False)

    client.post("/accounts/login/", {"username": "ada", "password": canary})
    client.post("/api/tokens/", {"username": "ada", "password": canary}, content_type="application/json")
    made = client.post("/api/tokens/", {"username": "ada", "password": PASSWORD}, content_type="application/json").json()["token"]
    client.post("/accounts/login/", {"username": "ada", "password": PASSWORD})
    Client(headers=bearer(token)).get(f"/api/symbols/?token={token}")
    Client(headers=bearer(token)).get(f"/nothing/{token}/")
    Client(headers=bearer(token[:-1])).get("/api/symbols/")
    logging.getLogger("tests").error("a view wrote %s", token)

    said = "".join(capsys.readouterr())
    assert "signed in" in said
    assert "a view wrote" in said
    for secret in (canary, PASSWORD, token, token[14:], made, client.cookies["sessionid"].value):
        assert secret not in said


def test_a_stream_that_cannot_connect_names_neither_key_nor_password(market):
    canary = "canary77key77of77massive"
    environment = command_environment(
        MASSIVE_API_KEY=canary, MASSIVE_WS_URL="ws://127.0.0.1:1/stocks", MASSIVE_REST_URL="http://127.0.0.1:1", USE_SYNTHETIC_DATA="0",
        TICKSTOCK_ADMIN_PASSWORD="canary77password", SECRET_KEY=f"canary77{GOOD_KEY}",
    )  # fmt: skip
    arguments = [sys.executable, "manage.py", "stream_ticks", "--symbols", "AAPL"]
    stream = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in stream.stdout:
        lines.append(line)
        if "refused" in line.lower():
            stream.send_signal(signal.SIGTERM)
            break
    lines += stream.communicate(timeout=60)[0].splitlines()

    assert stream.returncode == 0
    assert "refused" in "".join(lines).lower()
    assert "canary77" not in "".join(lines)


def test_an_unreadable_database_url_is_not_repeated():
    done = run_command("check", check=False, DATABASE_URL="postgres canary77password")

    assert "DATABASE_URL cannot be read" in done.stderr
    assert "canary77" not in done.stderr


# ---- No pickle


def test_nothing_that_redis_or_the_queue_holds_is_unpickled():
    from tickstock.celery import app

    assert set(app.conf.accept_content) == set(app.conf.result_accept_content or ["json"]) == {"json"}
    assert app.conf.task_serializer == app.conf.result_serializer == "json"
    assert live_settings.SESSION_SERIALIZER.endswith("JSONSerializer")
    with pytest.raises(kombu.exceptions.ContentDisallowed):
        kombu.serialization.loads(pickle.dumps({}), "application/x-python-serialize", "binary", accept=app.conf.accept_content)
    ours = [ROOT / name for name in ("tickstock", "marketdata", "patterns", "accounts", "dashboards")]
    for source in [path for folder in ours for path in folder.rglob("*.py")]:
        assert not re.search(r"^\s*(?:import|from) (?:pickle|marshal|shelve|dill)\b", source.read_text(), re.MULTILINE), source


def test_the_cache_refuses_what_json_has_no_form_for_and_reads_no_pickle():
    cache.set("a", {"b": [1, "c", None]})
    assert cache.get("a") == {"b": [1, "c", None]}
    with pytest.raises(TypeError):
        cache.set("a", object())

    client = cache._cache.get_client(write=True)
    client.set(cache.make_and_validate_key("a"), pickle.dumps({"evil": 1}))
    with pytest.raises(ValueError):
        cache.get("a")


def test_emptying_the_cache_leaves_the_queue_beside_it():
    client = cache._cache.get_client(write=True)
    client.set("celery:something", "1")
    cache.set("a", 1)

    cache.clear()

    assert cache.get("a") is None
    assert client.delete("celery:something") == 1


# ---- Headers, errors, contact


def test_every_page_comes_with_the_headers_of_a_closed_house():
    page = Client().get("/accounts/login/")

    policy = page["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self'" in policy
    assert page["X-Frame-Options"] == "DENY"
    assert page["X-Content-Type-Options"] == "nosniff"
    assert page["Referrer-Policy"] == "same-origin"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"
    assert page.cookies["csrftoken"]["httponly"]


def test_no_template_holds_a_script_or_style_of_its_own():
    for template in (ROOT / "templates").rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\b(?:src|type=\"application/json\"))", text), template


def test_the_contact_for_weaknesses_is_named_and_has_not_expired(settings):
    assert Client().get("/.well-known/security.txt").status_code == 404
    settings.SECURITY_CONTACT = "mailto:security@example.com"

    answer = Client().get("/.well-known/security.txt")

    fields = dict(line.split(": ", 1) for line in answer.content.decode().splitlines())
    expires = datetime.fromisoformat(fields["Expires"])
    assert fields["Contact"] == "mailto:security@example.com"
    assert timedelta(days=30) < expires - datetime.now(UTC) < timedelta(days=366)
    assert answer["Content-Type"].startswith("text/plain")


def test_the_policy_on_weaknesses_is_there():
    assert "security.txt" in (ROOT / "SECURITY.md").read_text()
