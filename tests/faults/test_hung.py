"""Parts of the one-command stack that live and do nothing: stopped by a signal, as a hang or a debugger does it."""

import contextlib
import os
import signal

import pytest

from tests.processes import wait_until
from tests.test_up import Stack, pid_of, processes_of

pytestmark = pytest.mark.faults
PARTS = ("stream_ticks", "celery --quiet -A tickstock worker")


def test_up_ends_a_stopped_stream_and_a_stopped_worker_and_starts_them_again(tmp_path):
    stack = Stack(tmp_path / "data")
    try:
        stack.wait_until_ready()
        stopped = {part: pid_of(stack.data, part) for part in PARTS}
        for pid in stopped.values():
            os.kill(pid, signal.SIGSTOP)
        for part, pid in stopped.items():
            wait_until(lambda part=part, pid=pid: pid_of(stack.data, part) not in (None, pid), 240)
        stack.wait_until_ready()
        assert stack.log.read_text().count("gives no sign of life") == 2
    finally:
        stack.process.terminate()
        stack.process.wait(90)
        for pid in processes_of(stack.data):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
