"""Celery tasks of this app: none writes a bar."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from marketdata.models import Heartbeat


@shared_task(name="marketdata.tasks.beat_heart", ignore_result=True)
def beat_heart() -> None:
    """Leave the worker's sign of life: it took this task from the queue, so beat, broker and worker are alive."""
    now = timezone.now()
    detail: dict[str, Any] = {}
    Heartbeat.objects.update_or_create(
        part="worker",
        defaults={"at": now, "state": "live", "detail": detail},
        create_defaults={"at": now, "started_at": now, "state": "live"},
    )
