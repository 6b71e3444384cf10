"""
What becomes of a task message that fails or takes its worker with it: three tries, then a row of `dead_tasks` and an error in the log.

The first run of a message costs nothing. A message that comes back did not survive its worker: its attempt is counted before the work, so
that one which kills every worker is run three times and no more. Periodic tasks that raise are not tried again, their next turn comes anyway:
while the database is away they say so in one line.
"""

import logging
from typing import Any

from celery import Task, current_app
from celery.exceptions import Ignore, Retry
from django.db import DatabaseError, OperationalError, connection
from django.utils import timezone

from marketdata.models import DeadTask

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 3
RETRY_SECONDS = 5  # doubled at each try; far below the broker's visibility timeout


class CountedTask(Task):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Every task of ours."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, unless it was tried often enough; try it again later where it raises."""
        if self.request.called_directly or self.request.is_eager:
            return super().__call__(*args, **kwargs)
        came_back = bool((self.request.delivery_info or {}).get("redelivered"))
        if came_back and self._count(args, kwargs, at_least=2) > GIVE_UP_AFTER:
            self._give_up()
            raise Ignore
        try:
            result = self.run(*args, **kwargs)
        except (Retry, Ignore):
            raise
        except Exception as error:
            if self.name not in {entry["task"] for entry in current_app.conf.beat_schedule.values()}:
                self._try_again(error, args, kwargs)
            elif isinstance(error, OperationalError):
                log.warning("%s has to wait for its next turn, the database is away: %s", self.name, str(error).strip().splitlines()[0])
                raise Ignore from error
            raise
        if came_back or self.request.retries:
            DeadTask.objects.filter(pk=self.request.id).delete()
        return result

    def _try_again(self, error: Exception, args: Any, kwargs: Any) -> None:
        """Note why it failed and send it to the queue once more; return where it is given up."""
        try:
            attempts = self._count(args, kwargs, at_least=1, error=f"{type(error).__name__}: {error}")
        except DatabaseError:
            attempts = self.request.retries + 1  # the database is what failed: the broker counts
        if attempts >= GIVE_UP_AFTER:
            self._give_up()
            return
        raise self.retry(exc=error, countdown=RETRY_SECONDS * 2 ** (attempts - 1), max_retries=None)

    def _count(self, args: Any, kwargs: Any, *, at_least: int, error: str = "") -> int:
        """Count an attempt in a statement of its own; return how many there were."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO dead_tasks AS known (task_id, name, arguments, attempts, first_at, last_at, error) "
                "VALUES (%(id)s, %(name)s, %(arguments)s, %(at_least)s, %(now)s, %(now)s, %(error)s) ON CONFLICT (task_id) DO UPDATE SET "
                "attempts = known.attempts + 1, last_at = excluded.last_at, "
                "error = CASE excluded.error WHEN '' THEN known.error ELSE excluded.error END RETURNING attempts",
                {
                    "id": self.request.id,
                    "name": self.name[:100],
                    "arguments": repr((args, kwargs)).replace("\0", "")[:500],
                    "at_least": at_least,
                    "error": error.replace("\0", "")[:300],
                    "now": timezone.now(),
                },
            )
            return int(cursor.fetchone()[0])

    def _give_up(self) -> None:
        try:
            DeadTask.objects.filter(pk=self.request.id, dead_at__isnull=True).update(dead_at=timezone.now())
        except DatabaseError as error:
            log.warning("The end of task %s could not be noted: %s", self.request.id, error)
        log.error(
            "The task %s is given up after %s attempts; its row in dead_tasks says why. (%s)", self.name, GIVE_UP_AFTER, self.request.id
        )
