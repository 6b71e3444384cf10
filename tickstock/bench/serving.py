"""The web process of a measurement: a daphne of its own on a free port, and what a process has used."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def daphne(**variables: str) -> Iterator[tuple[int, int]]:
    """Serve the product with these variables beside ours; gives its port and process id. TimeoutError where it does not answer."""
    port = free_port()
    command = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), "tickstock.asgi:application"]
    process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: TID251 - a child's
    try:
        wait_for(process, port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_for(process: "subprocess.Popen[bytes] | subprocess.Popen[str]", port: int) -> None:
    """Return as soon as the process listens. TimeoutError where it does not."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"{process.args!r} did not answer within {START_SECONDS} s")


def cpu_seconds(pid: int) -> float:
    """Return the seconds a process has spent, its own and the kernel's for it."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
