"""What `bench` measures: one module a subject, each a function that yields rows. Every row is a ratio against a limit or a peer of the same run."""

from collections.abc import Callable, Iterator

from tickstock.bench import asking, edge, events, fanout, looking, paint, storing, streaming, survey
from tickstock.bench.rows import Place, Row

SUBJECTS: dict[str, Callable[[Place], Iterator[Row]]] = {
    "events": events.rows,
    "storing": storing.rows,
    "looking": looking.rows,
    "streaming": streaming.rows,
    "asking": asking.rows,
    "fanout": fanout.rows,
    "paint": paint.rows,
    "survey": survey.rows,
    "edge": edge.rows,
}

__all__ = ["SUBJECTS", "Place", "Row"]
