"""Our own commands as real processes against the test database."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import connection
from psycopg.conninfo import make_conninfo

ROOT = Path(__file__).resolve().parents[1]


def database_url() -> str:
    """Return the test database's address."""
    values = connection.settings_dict
    return make_conninfo(
        "", host=values["HOST"], port=values["PORT"], user=values["USER"], password=values["PASSWORD"], dbname=values["NAME"]
    )


def command_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a command that shall use the test's servers."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DATABASE_ROLES": "1",  # as the one-command stack runs them: each with no more rights than it needs
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_SETTINGS_MODULE": "tickstock.settings",
        "PYTHONUNBUFFERED": "1",
        **changes,
    }


def run_command(*arguments: str, check: bool = True, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=command_environment(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr[-2000:]
    return done


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until the condition holds; fail with its name when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.05)
