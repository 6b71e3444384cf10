"""What mypy's Django plugin loads: the settings without any server."""

import sys

sys.argv = ["manage.py", "version"]

from tickstock.settings import *  # noqa: E402, F403

DATABASES = {"default": {"ENGINE": "marketdata.timescale_backend", "NAME": "none"}}
