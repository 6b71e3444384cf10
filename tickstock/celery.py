"""The Celery app and the whole beat table."""

import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tickstock.settings")  # noqa: TID251 - Celery's own entry, before settings

# Celery warns of root because pickled tasks could run code; ours are JSON only
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("tickstock")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "scan-missed-bars": {"task": "patterns.tasks.scan_missed", "schedule": 20.0, "options": {"expires": 20}},
    "scan-missed-day": {"task": "patterns.tasks.scan_missed_day", "schedule": 3600.0, "options": {"expires": 3600}},
    "prune": {"task": "patterns.tasks.prune", "schedule": 3600.0, "options": {"expires": 3600}},
    "survey-missed": {"task": "patterns.tasks.survey_missed", "schedule": 20.0, "options": {"expires": 20}},
    "survey-missed-closes": {"task": "patterns.tasks.survey_missed_closes", "schedule": 30.0, "options": {"expires": 30}},
    "thin-surveys": {"task": "patterns.tasks.thin_surveys", "schedule": 3600.0, "options": {"expires": 3600}},
    "worker-heartbeat": {"task": "marketdata.tasks.beat_heart", "schedule": 5.0, "options": {"expires": 5}},
}
