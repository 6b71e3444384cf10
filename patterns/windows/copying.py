"""PostgreSQL's binary COPY as an array."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db import connection

_HEADER_BYTES, _TRAILER_BYTES = 19, 2


def row_of(fields: Sequence[tuple[str, str]]) -> np.dtype[Any]:
    """Return the layout of a row of (name, type) columns, none of which may be NULL: each value stands behind its size."""
    sized = [field for name, kind in fields for field in ((f"{name}_bytes", ">i4"), (name, kind))]
    return np.dtype([("", ">i2"), *sized])


def copied(statement: str, parameters: dict[str, Any], row: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return the rows of a COPY … TO STDOUT (FORMAT BINARY)."""
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        data = b"".join(copy)
    return np.frombuffer(data[_HEADER_BYTES : len(data) - _TRAILER_BYTES], dtype=row)
