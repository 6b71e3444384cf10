"""Servers and processes that a test may kill: a Redis of its own with an append-only file, Celery workers, beats."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from celery import current_app

from tests.processes import ROOT, command_environment, wait_until
from tickstock.embedded import Valkey


class KillableRedis:
    """A Redis with an append-only file, as production has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}?db=0"
        self.broker = f"redis+socket://{self.path}?virtual_host=0"
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        command = [
            Valkey(self.folder)._binary, "--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec", "--dir", str(self.folder),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, 60)

    def _answers(self) -> bool:
        with suppress(redis.RedisError, OSError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def waiting(self) -> int:
        """Tasks that wait or were taken and not finished."""
        return int(self.client.llen("celery:celery")) + int(self.client.hlen("celery:unacked"))

    def send(self, task, batches) -> None:
        """Queue one message for each tuple of arguments."""
        with current_app.connection_for_write(self.broker) as connection, current_app.amqp.Producer(connection) as producer:
            for arguments in batches:
                task.apply_async(args=arguments, producer=producer)


@contextmanager
def killable_redis(folder: Path) -> Iterator[KillableRedis]:
    server = KillableRedis(folder)
    try:
        yield server
    finally:
        server.client.close()
        server.kill()


class Part:
    """A process of ours in a session of its own: killed as a whole, as the kernel kills what eats too much."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self._arguments, self._environment, self.log = arguments, environment, log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *self._arguments], cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


def worker(server: KillableRedis, log: Path, *, name: str, pool: str = "prefork", hands: int = 1, include: str = "") -> Part:
    """Start a real worker on this broker and the test's database."""
    arguments = [
        "-m", "celery", "--quiet", "-A", "tickstock", "worker", "-P", pool, "-c", str(hands), "-n", f"{name}@test", "-l", "WARNING",
        "--without-gossip", "--without-mingle", *(["-I", include] if include else []),
    ]  # fmt: skip
    return Part(arguments, environment(server), log)


def beat(server: KillableRedis, folder: Path, *, name: str) -> Part:
    """Start a real beat."""
    arguments = ["-m", "celery", "--quiet", "-A", "tickstock", "beat", "-l", "WARNING", "-s", str(folder / name), "--pidfile="]
    return Part(arguments, environment(server), folder / f"{name}.log")


def environment(server: KillableRedis) -> dict[str, str]:
    broker = os.environ.get("FAULTS_BROKER_URL", server.broker)  # another broker beside the Redis of the test: amqp://…
    return command_environment(REDIS_URL=server.url, CELERY_BROKER_URL=broker, LOG_DB_ENABLED="1")


def settled(value, seconds: float = 120, quiet: float = 3.0):
    """Wait until `value()` has not changed for a while; return it."""
    end, seen, since = time.monotonic() + seconds, value(), time.monotonic()
    while time.monotonic() - since < quiet and time.monotonic() < end:
        time.sleep(0.2)
        now = value()
        if now != seen:
            seen, since = now, time.monotonic()
    return seen
