"""Tasks that misbehave; a worker takes them in with -I."""

import os
import signal
from pathlib import Path

from celery import shared_task


@shared_task(name="tests.poison.kill", ignore_result=True)
def kill_the_worker(notes: str) -> None:
    """Write down that it ran, and take the process with it."""
    with Path(notes).open("a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
