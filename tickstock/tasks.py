"""Celery tasks of what belongs to no app."""

from dataclasses import asdict

from celery import shared_task
from django.core.cache import cache
from django.utils import timezone

from tickstock import disk

KEPT_SECONDS = 3 * 3600  # three turns: what is older is not shown as if it were today's


@shared_task(name="tickstock.tasks.measure_disk", ignore_result=True)
def measure_disk() -> None:
    """Leave what `doctor --disk` says where pages find it: they may not count a day of rows at each look."""
    cache.set("disk", {"at": timezone.now().timestamp(), **asdict(disk.forecast())}, KEPT_SECONDS)
