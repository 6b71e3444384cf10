"""Celery tasks of this app: none writes a bar."""

import logging
from datetime import timedelta
from typing import Any

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from marketdata.models import AuditEntry, DeadTask, Heartbeat, Job, LoggedError, RejectedEvent

log = logging.getLogger(__name__)


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


@shared_task(name="marketdata.tasks.prune_records", ignore_result=True)
def prune_records() -> None:
    """Delete records of running that are older than the settings keep them; bars and evidence are no such records."""
    now = timezone.now()
    old = now - timedelta(days=settings.ERROR_DAYS)
    deleted = [
        LoggedError.objects.filter(last_at__lt=old).delete()[0],
        DeadTask.objects.filter(last_at__lt=old).delete()[0],
        RejectedEvent.objects.filter(received_at__lt=old).delete()[0],
        Job.objects.filter(finished_at__lt=now - timedelta(days=settings.AUDIT_DAYS)).delete()[0],
        AuditEntry.objects.filter(at__lt=now - timedelta(days=settings.AUDIT_DAYS)).delete()[0],
    ]
    if any(deleted):
        log.info("Pruned %d errors, %d dead tasks, %d rejected events, %d jobs, %d audit entries.", *deleted)
