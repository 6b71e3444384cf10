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
    from django.db import OperationalError, ProgrammingError  # noqa: PLC0415 - after the version check
    from psycopg.errors import UndefinedColumn, UndefinedTable  # noqa: PLC0415 - after the version check

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        sys.exit(f"TickStock: the database cannot be reached ({str(error).strip().splitlines()[0]}). Check DATABASE_URL.")
    except (ProgrammingError, UndefinedColumn, UndefinedTable) as error:
        if not isinstance(error.__cause__ or error, (UndefinedColumn, UndefinedTable)):
            raise
        sys.exit("TickStock: the database has no tables yet, or those of another version. Run `manage.py migrate` first.")
    except ImproperlyConfigured as error:
        sys.exit(f"TickStock: {error}")  # a traceback would hide the one sentence that matters


if __name__ == "__main__":
    main()
