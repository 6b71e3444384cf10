"""
PostgreSQL's answers as arrays: one COPY in binary form whose single row holds one array a column.

A message a row costs more than all that is in it: a window of 70 symbols has some ten thousand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db import connection

_HEADER_BYTES = 19
_ARRAY_HEADER_BYTES = 20  # dimensions, flags, type, length, lower bound; nothing but the first where the array is empty

Field = tuple[str, str]
"""Name and NumPy type of a column, of which no value may be NULL."""


def copied(select: str, parameters: dict[str, Any], fields: Sequence[Field]) -> np.ndarray[Any, Any]:
    """Return the rows of a SELECT as a structured array, in no promised order."""
    names = ", ".join(f"c{place}" for place in range(len(fields)))
    arrays = ", ".join(f"array_agg(c{place})" for place in range(len(fields)))
    statement = f"COPY (SELECT {arrays} FROM ({select}) AS answer({names})) TO STDOUT (FORMAT BINARY)"  # noqa: S608 - our own statements
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        data = b"".join(copy)
    columns, at = [], _HEADER_BYTES + 2
    for _, kind in fields:
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        columns.append(_column(data, at + 4, size, kind))
        at += 4 + max(size, 0)
    rows = np.empty(len(columns[0]), dtype=[(name, np.dtype(kind).newbyteorder("=")) for name, kind in fields])
    for (name, _), column in zip(fields, columns, strict=True):
        rows[name] = column
    return rows


def _column(data: bytes, start: int, size: int, kind: str) -> np.ndarray[Any, Any]:
    """Return the elements of an array, each of which stands behind its size; none where the array is NULL."""
    element = np.dtype([("size", ">i4"), ("value", np.dtype(kind).newbyteorder(">"))])
    if size < 0:
        return np.empty(0, dtype=element)["value"]
    count = (size - _ARRAY_HEADER_BYTES) // element.itemsize
    return np.frombuffer(data, dtype=element, count=count, offset=start + _ARRAY_HEADER_BYTES)["value"]
