"""`up` as a user meets it: real processes, killed in every way, and none left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_until
from tickstock.embedded import _short_folder

FOREIGN = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "MASSIVE_", "DJANGO_SETTINGS_MODULE", "PG_BIN", "LOCPATH")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(data: Path, **changes: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return (
        clean
        | {"TICKSTOCK_DATA_DIR": str(data), "TICKSTOCK_ADMIN_PASSWORD": "correct horse battery", "SYNTHETIC_TICKER_COUNT": "70"}
        | changes
    )


def processes_of(data: Path) -> dict[int, str]:
    """Return pid and command line of each process that belongs to this data folder, by its environment or its arguments."""
    found = {}
    places = [str(data), str(_short_folder(data, "ts-redis-"))]  # Valkey writes its title over its environment
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mine = f"TICKSTOCK_DATA_DIR={data}".encode() in (entry / "environ").read_bytes().split(b"\0") or any(
                place in command for place in places
            )
            if mine and command and "Z" not in (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]:
                found[int(entry.name)] = command
    return found


def pid_of(data: Path, words: str) -> int | None:
    return next((pid for pid, command in processes_of(data).items() if words in command), None)


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Stack:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.log = data.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port)], cwd=ROOT, env=environment(data), stdout=log, stderr=log
            )

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_until_ready(self) -> None:
        wait_until(lambda: status_of(self.url("/ready")) == 200 or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def kill_part(self, words: str) -> None:
        """Kill one part the hard way and wait for its successor."""
        old = pid_of(self.data, words)
        assert old is not None, words
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: pid_of(self.data, words) not in (None, old), 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("a path") / "data folder"


@pytest.fixture(scope="module")
def stack(folder) -> Iterator[Stack]:
    running = Stack(folder)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    for pid in processes_of(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def test_one_command_brings_up_all_parts_in_a_path_with_a_space(stack):
    stack.wait_until_ready()
    assert status_of(stack.url("/health")) == 200
    assert status_of(stack.url("/accounts/login/")) == 200
    wait_until(lambda: "Sign in as admin" in stack.log.read_text(), 60)
    assert "correct horse battery" not in stack.log.read_text()


def test_a_second_stack_on_the_same_folder_and_a_taken_port_are_one_sentence_each(stack, tmp_path):
    for data, port, words in (
        (stack.data, free_port(), "A stack already runs on"),
        (tmp_path, stack.port, f"Port {stack.port} cannot be used"),
    ):
        done = subprocess.run(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=ROOT,
            env=environment(data),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert stack.process.poll() is None


@pytest.mark.parametrize("part", ["stream_ticks", "simulate_massive", "celery --quiet -A tickstock worker", "valkey-server", "postgres -D"])
def test_a_part_that_is_killed_comes_back(stack, part):
    stack.wait_until_ready()
    stack.kill_part(part)
    time.sleep(1)
    stack.wait_until_ready()


def test_sigterm_stops_everything_in_order(stack, folder):
    stack.process.terminate()
    assert stack.process.wait(60) == 0, stack.log.read_text()[-2000:]
    assert processes_of(folder) == {}
    assert stack.log.read_text().rstrip().endswith("stopped")


def test_a_second_start_goes_on_and_a_killed_supervisor_leaves_no_process(stack, folder):
    again = Stack(folder)
    again.wait_until_ready()
    wait_until(lambda: "password chosen before" in again.log.read_text().split("stopped")[-1], 60)
    os.kill(again.process.pid, signal.SIGKILL)
    again.process.wait()
    wait_until(lambda: not processes_of(folder), 40)


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for command in (["up"], ["migrate"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=environment(tmp_path / "file" / "data"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, "TICKSTOCK_DATA_DIR" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_embedded_servers_forbidden_and_no_address_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env=environment(tmp_path, TICKSTOCK_EMBEDDED="0", SECRET_KEY="x0y1z2" * 10),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "DATABASE_URL and REDIS_URL must be set" in done.stderr) == (1, True), done.stderr
