"""Servers of our own, which a test may stop and start without taking another test's away."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection
from psycopg.conninfo import make_conninfo

from dashboards import receivers
from tickstock import env
from tickstock.embedded import Valkey


def use_redis(settings, url: str) -> None:
    settings.REDIS_URL = url
    layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [url], "prefix": "tickstock-test"}}
    settings.CHANNEL_LAYERS = {"default": layer}
    receivers.announcer.cache_clear()


@pytest.fixture
def valkey(tmp_path: Path, settings) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    use_redis(settings, server.start())
    yield server
    server.stop()
    receivers.announcer.cache_clear()


@dataclass
class Web:
    """A web process on a port of its own, with the test database and a Valkey."""

    process: subprocess.Popen[bytes]
    port: int
    valkey: Valkey
    redis_url: str
    errors: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def web_process(django_db_setup, django_db_blocker) -> Iterator[Web]:
    with tempfile.TemporaryDirectory(prefix="ts-web-") as folder:
        valkey, port, errors = Valkey(Path(folder)), free_port(), Path(folder) / "stderr"
        redis_url = valkey.start()
        with django_db_blocker.unblock():
            parts = connection.settings_dict
        database = make_conninfo(
            dbname=parts["NAME"], user=parts["USER"] or None, password=parts["PASSWORD"] or None, host=parts["HOST"] or None,
            port=parts["PORT"] or None,
        )  # fmt: skip
        variables = env.inherited() | {"DATABASE_URL": database, "REDIS_URL": redis_url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        variables["WEBSOCKET_MAX_CONNECTIONS"] = "60"
        with errors.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "tickstock.asgi:application"],
                cwd=django_settings.BASE_DIR, env=variables, stderr=log,
            )  # fmt: skip
        wait_for(port, process)
        yield Web(process, port, valkey, redis_url, errors)
        process.terminate()
        process.wait(20)
        valkey.stop()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the web process does not listen")


@pytest.fixture
def web(web_process: Web, transactional_db, settings) -> Iterator[Web]:
    use_redis(settings, web_process.redis_url)
    yield web_process
    receivers.announcer.cache_clear()
