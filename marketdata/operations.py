"""
The tables of running the product: jobs, tasks that were given up, errors, who did what. Part of `models.py`, which names them.

They stand with the market's tables because every part, the pages included, may read them; nothing here belongs to a bar.
"""

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone


class JobKind(models.TextChoices):
    """What an operator may ask for. The first four write bars and are worked off by the stream, the others by a worker."""

    IMPORT = "import", "import past bars from REST"
    REPAIR = "repair", "find and repair gaps"
    RECONCILE = "reconcile", "hold a day against REST"
    END_OF_DAY = "end_of_day", "end of day: daily bars, reconciliation, report"
    SCAN = "scan", "scan stored bars"
    SURVEY = "survey", "survey the market"


WRITING_KINDS = (JobKind.IMPORT, JobKind.REPAIR, JobKind.RECONCILE, JobKind.END_OF_DAY)


class JobState(models.TextChoices):
    """How far a job is."""

    QUEUED = "queued", "queued"
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)


class JobQuerySet(models.QuerySet["Job"]):
    """Questions to the jobs."""

    def open(self) -> "JobQuerySet":
        """Return those that wait or run."""
        return self.filter(state__in=OPEN_STATES)

    def newest_first(self) -> "JobQuerySet":
        """Return them in the order of asking, the last one first."""
        return self.order_by("-id")

    def abandoned(self, *, now: datetime, after: timedelta) -> "JobQuerySet":
        """Return running ones that gave no sign of life for so long: their process is gone."""
        return self.filter(state=JobState.RUNNING, alive_at__lt=now - after)


class Job(models.Model):
    """A piece of work that somebody asked for, with how far it came. The row is the request, the progress and the record."""

    kind = models.CharField(max_length=20, choices=JobKind.choices)
    options = models.JSONField(default=dict, blank=True, help_text="what was asked, by kind: symbols, from, to, date, timespan")
    key = models.CharField(max_length=60, blank=True, default="", help_text="where not empty: at most one job of its kind has it")
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    asked_by = models.CharField(max_length=150, help_text="user name, or the part that asked by itself")
    asked_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    alive_at = models.DateTimeField(null=True, blank=True, help_text="last sign of life of the process that works on it")
    finished_at = models.DateTimeField(null=True, blank=True)
    cancel_asked_by = models.CharField(max_length=150, blank=True, default="")
    done = models.IntegerField(default=0, help_text="steps done")
    total = models.IntegerField(default=0, help_text="steps in all; 0 while unknown")
    step = models.CharField(max_length=100, blank=True, default="", help_text="what it is at")
    attempts = models.SmallIntegerField(default=0, help_text="counted before the work, so that a killed process counts too")
    report = models.JSONField(default=dict, blank=True)
    error = models.CharField(max_length=300, blank=True, default="")

    objects = JobQuerySet.as_manager()

    class Meta:
        db_table = "jobs"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["kind", "key"], condition=~models.Q(key=""), name="job_key_once")]
        indexes = [models.Index(fields=["state", "kind"], name="job_state_idx")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} {self.state}"


class DeadTask(models.Model):
    """A task message that failed or took its worker with it. Tried three times, then `dead_at`: nobody runs it any more."""

    task_id = models.CharField(max_length=64, primary_key=True)
    name = models.CharField(max_length=100)
    arguments = models.CharField(max_length=500, blank=True, default="", help_text="as text, cut")
    attempts = models.SmallIntegerField(help_text="counted before the work")
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    dead_at = models.DateTimeField(null=True, blank=True, db_index=True)
    error = models.CharField(max_length=300, blank=True, default="", help_text="empty where the worker did not live to say")

    class Meta:
        db_table = "dead_tasks"
        ordering = ["-last_at"]

    def __str__(self) -> str:
        return f"{self.name} after {self.attempts} attempts"


class LoggedError(models.Model):
    """A log record of LOG_DB_SEVERITY_THRESHOLD or above. Repeats of one share a row and raise its count."""

    fingerprint = models.CharField(max_length=40, primary_key=True)
    level = models.CharField(max_length=10)
    logger = models.CharField(max_length=100)
    part = models.CharField(max_length=40, help_text="which process: web, worker, stream …")
    message = models.CharField(max_length=500)
    trace = models.TextField(blank=True, default="", help_text="the newest traceback, cut at 4,000 characters")
    count = models.BigIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "logged_errors"
        ordering = ["-last_at"]

    def __str__(self) -> str:
        return f"{self.level} {self.logger}: {self.message[:60]}"


class AuditEntry(models.Model):
    """Who did what, when, from where. Rows are added and never changed; names are copied, so they outlive the user."""

    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=150, help_text="user name, or what was typed as one; empty where a program acted")
    actor_id = models.BigIntegerField(null=True, blank=True)
    address = models.CharField(max_length=45, blank=True, default="")
    action = models.CharField(max_length=40, help_text="sign-in, token made, admin change, job asked …")
    target = models.CharField(max_length=200, blank=True, default="")
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        db_table = "audit_log"
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["-at", "-id"], name="audit_recent_idx"), models.Index(fields=["action"], name="audit_action_idx")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the row. ValidationError on a second time: the past is not edited."""
        if not self._state.adding:
            raise ValidationError("The audit log is added to, never changed.")
        super().save(*args, **kwargs)
