#!/usr/bin/env python
"""Django's door: `python manage.py COMMAND`."""

import os
import sys


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"TickStock needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tickstock.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - after the version check

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
