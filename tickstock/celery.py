"""The Celery app, the whole beat table, and how long each task took."""

import os
import socket
import time
import warnings
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import SecurityWarning
from celery.signals import task_postrun, task_prerun, worker_ready

from tickstock import env, tracing
from tickstock.counters import counters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tickstock.settings")  # noqa: TID251 - Celery's own entry, before settings

# Celery warns of root because pickled tasks could run code; ours are JSON only
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("tickstock", task_cls="tickstock.attempts:CountedTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "scan-missed-bars": {"task": "patterns.tasks.scan_missed", "schedule": 20.0, "options": {"expires": 20}},
    "scan-missed-intervals": {"task": "patterns.tasks.scan_missed_intervals", "schedule": 60.0, "options": {"expires": 60}},
    "scan-outdated": {"task": "patterns.tasks.scan_outdated", "schedule": 60.0, "options": {"expires": 60}},
    "scan-missed-day": {"task": "patterns.tasks.scan_missed_day", "schedule": 3600.0, "options": {"expires": 3600}},
    "prune": {"task": "patterns.tasks.prune", "schedule": 3600.0, "options": {"expires": 3600}},
    "survey-missed": {"task": "patterns.tasks.survey_missed", "schedule": 20.0, "options": {"expires": 20}},
    "survey-missed-closes": {"task": "patterns.tasks.survey_missed_closes", "schedule": 30.0, "options": {"expires": 30}},
    "thin-surveys": {"task": "patterns.tasks.thin_surveys", "schedule": 3600.0, "options": {"expires": 3600}},
    "worker-heartbeat": {"task": "marketdata.tasks.beat_heart", "schedule": 5.0, "options": {"expires": 5}},
    "work-jobs": {"task": "patterns.tasks.work_jobs", "schedule": 5.0, "options": {"expires": 5}},
    "measure-disk": {"task": "tickstock.tasks.measure_disk", "schedule": 3600.0, "options": {"expires": 3600}},
    "prune-records": {"task": "marketdata.tasks.prune_records", "schedule": 3600.0, "options": {"expires": 3600}},
}

PULSE_SECONDS = 10


class Pulse(bootsteps.StartStopStep):
    """
    Tell systemd that the worker's consumer lives, where a unit with WatchdogSec asks for it: what falls silent is ended and started again.

    The word comes from the consumer's own timer, so a stopped process and a hung loop give none.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Begin anew with each connection to the broker: its end clears the timer."""
        if address := env.text("NOTIFY_SOCKET"):
            _beat_pulse(address)
            parent.timer.call_repeatedly(PULSE_SECONDS, _beat_pulse, (address,))


def _beat_pulse(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(b"WATCHDOG=1", f"\0{address[1:]}" if address.startswith("@") else address)


app.steps["consumer"].add(Pulse)


@worker_ready.connect
def _measure_disk(**_: Any) -> None:
    """Measure once at a start; beat's first turn is an hour away."""
    app.send_task("tickstock.tasks.measure_disk", expires=3600)


_began: dict[str, tuple[float, Any]] = {}  # running tasks of this process by id: since when, and their span


@task_prerun.connect
def _note_begin(task_id: str, task: Any, **_: Any) -> None:
    _began[task_id] = (time.monotonic(), tracing.begin(task.name))


@task_postrun.connect
def _note_end(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    began, span = _began.pop(task_id, (None, None))
    if began is not None:
        tracing.end(span, failed=state == "FAILURE", messaging_message_id=task_id)
        counters.observe("tickstock_task_seconds", time.monotonic() - began, task=task.name)
        counters.add("tickstock_tasks_total", task=task.name, state=(state or "unknown").lower())
