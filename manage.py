#!/usr/bin/env python
"""Django's door: `python manage.py COMMAND`."""

import os
import sys


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"TickStock needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tickstock.settings")
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415 - after the version check
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - after the version check

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"TickStock: {error}")  # a traceback would hide the one sentence that matters


if __name__ == "__main__":
    main()
