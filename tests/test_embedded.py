"""The embedded servers as several processes meet them: one server, no process left, nothing committed lost."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.processes import ROOT, wait_until
from tickstock import embedded
from tickstock.embedded import _short_folder

NAMES = ("postgres", "redis")

USER = """
import sys
from pathlib import Path
from tickstock import embedded
print([embedded.ensure(name, Path(sys.argv[1])) for name in sys.argv[2:]], flush=True)
sys.stdin.read()
"""


def start_user(root: Path, *names: str) -> subprocess.Popen[str]:
    """Start a process that uses the servers until its standard input ends."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PG_BIN", "LOCPATH")}
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(root), *(names or NAMES)], cwd=ROOT, env=clean,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def servers_of(root: Path) -> dict[int, str]:
    """Return pid and command line of each holder and server of this folder, the children of PostgreSQL left out."""
    places = [str(root), *(str(_short_folder(*place)) for place in ((root / "pg", "ts-pg-"), (root, "ts-redis-")))]
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            command = " ".join(words)
            program = Path(command.partition(" ")[0]).name
            mine = program.startswith(("valkey-server", "redis-server", "postgres")) or "hold" in words
            if mine and program != "postgres:" and int(entry.name) != os.getpid() and any(place in command for place in places):
                found[int(entry.name)] = command
    return found


def wait_until_gone(root: Path) -> None:
    """Wait until nothing of this folder runs any more."""
    end = time.monotonic() + 30
    while left := servers_of(root):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def pid_of(root: Path, words: str) -> int:
    return next(pid for pid, command in servers_of(root).items() if words in command)


@pytest.fixture(params=["plain", "with a space", "long"])
def root(request, tmp_path) -> Path:
    return {"plain": tmp_path / "data", "with a space": tmp_path / "a b" / "c", "long": tmp_path / ("d" * 90) / ("e" * 90)}[request.param]


@pytest.fixture
def plain(tmp_path) -> Iterator[Path]:
    yield tmp_path / "data"
    for pid in servers_of(tmp_path / "data"):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def test_six_processes_at_once_get_one_server_each_and_none_is_left_after_them(root):
    users = [start_user(root) for _ in range(6)]
    answers = [user.stdout.readline() for user in users]

    assert len(set(answers)) == 1, [user.stderr.read() for user in users if user.poll() is not None]
    postgres, valkey = eval(answers[0])
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with redis.from_url(valkey) as client:
        assert client.ping()
    assert sorted(Path(command.split()[0]).name.split(":")[0] for command in servers_of(root).values() if " hold " not in command) == [
        "postgres", "valkey-server",
    ]  # fmt: skip

    for user in users[:3]:
        user.kill()
    for user in users[3:]:
        user.stdin.close()
    for user in users:
        user.wait()
    wait_until_gone(root)
    assert not list(root.glob("*.json"))
    for folder in (_short_folder(root / "pg", "ts-pg-"), _short_folder(root, "ts-redis-")):
        if root not in (folder, *folder.parents):
            folder.rmdir()  # empty: nothing was left in it


def test_users_that_come_while_the_server_stops_get_a_new_one(plain):
    for _ in range(5):
        user = start_user(plain)
        assert "postgresql://" in user.stdout.readline()
        user.kill()
        user.wait()
    with start_user(plain) as last:
        [postgres, _] = eval(last.stdout.readline())
        with psycopg.connect(postgres) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    wait_until_gone(plain)


@pytest.mark.parametrize("victim", ["postgres -D", " hold postgres"], ids=["server", "holder"])
def test_what_was_committed_survives_a_kill(plain, victim):
    with start_user(plain) as user:
        [postgres, _] = eval(user.stdout.readline())
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        for number in range(3):
            with psycopg.connect(postgres, autocommit=True) as connection:
                connection.execute("INSERT INTO kept VALUES (%s)", (number,))
                os.kill(pid_of(plain, victim), signal.SIGKILL)
            wait_until(lambda: not embedded.holder_runs("postgres", plain) or victim == "postgres -D")
            with start_user(plain, "postgres") as other:
                assert other.stdout.readline(), other.stderr.read()
                wait_until(lambda: answers(postgres))
            assert rows(postgres) == list(range(number + 1))
    wait_until_gone(plain)


def rows(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM kept ORDER BY n")]


def test_a_server_whose_children_outlive_it_is_started_again_when_they_are_gone(plain):
    with start_user(plain, "postgres") as user:
        [postgres] = eval(user.stdout.readline())
        busy = psycopg.connect(postgres, autocommit=True)
        backend = busy.info.backend_pid
        os.kill(backend, signal.SIGSTOP)  # as if deep in a computation
        os.kill(pid_of(plain, "postgres -D"), signal.SIGKILL)
        time.sleep(3)
        os.kill(backend, signal.SIGKILL)
        wait_until(lambda: answers(postgres))
        busy.close()
    wait_until_gone(plain)


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(("name", "program"), [("postgres", "postgres -D"), ("redis", "valkey-server")])
def test_a_server_that_outlives_its_killed_holder_harms_its_successor_in_nothing(plain, name, program):
    with start_user(plain, name) as user:
        user.stdout.readline()
        slow = pid_of(plain, program)
        os.kill(slow, signal.SIGSTOP)
        os.kill(pid_of(plain, f" hold {name}"), signal.SIGKILL)
        wait_until(lambda: not embedded.holder_runs(name, plain))
        with start_user(plain, name) as other:
            time.sleep(2)
            os.kill(slow, signal.SIGCONT)  # it was told to stop, and does so now
            [url] = eval(other.stdout.readline() or "['']")
            assert url, other.stderr.read()
            time.sleep(1)
            assert pid_of(plain, program) != slow
            if name == "postgres":
                assert answers(url)
            else:
                with redis.from_url(url) as client:
                    assert client.ping()
    wait_until_gone(plain)


def test_a_starter_that_is_killed_leaves_nobody_without_an_address(plain):
    first = start_user(plain, "postgres")
    wait_until(lambda: any(" hold " in command for command in servers_of(plain).values()))
    first.kill()
    first.wait()
    with start_user(plain, "postgres") as second:
        line = second.stdout.readline()
        assert "postgresql://" in line, second.stderr.read()
    wait_until_gone(plain)


def test_somebody_who_only_looks_does_not_keep_a_server_from_starting(plain):
    plain.mkdir()
    look = "import sys\nfrom pathlib import Path\nfrom tickstock.embedded import holder_runs\nwhile True: holder_runs('redis', Path(sys.argv[1]))"
    watchers = [subprocess.Popen([sys.executable, "-c", look, str(plain)], cwd=ROOT) for _ in range(2)]
    try:
        for _ in range(3):
            with start_user(plain, "redis") as user:
                line = user.stdout.readline()
                assert "unix://" in line, user.stderr.read()
            wait_until_gone(plain)
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.wait()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(embedded.EmbeddedError, match=r"cannot be written .* Point TICKSTOCK_DATA_DIR at a folder you own"):
        embedded.ensure("redis", tmp_path / "file")
