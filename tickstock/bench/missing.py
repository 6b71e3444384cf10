"""What the table must hold and no subject measures yet, each with the reason. A row leaves this list when it is measured."""

from collections.abc import Iterator

from tickstock.bench.rows import Place, Row, not_measured

_MISSING = (
    ("minute edge, whole market", "the sum of its parts", 1.5, "no run with workers and a broker of its own is written"),
    ("memory of stream_ticks over a day", "150 MB", 1.0, "no run of a whole simulated day is written"),
    ("100 symbols × 100 ticks/s for 60 s", "half a core", 1.0, "no run against the simulator is written"),
)


def rows(place: Place) -> Iterator[Row]:  # noqa: ARG001 - every subject gets it
    """Yield a row without a figure for each."""
    for name, against, goal, why in _MISSING:
        yield not_measured(name, against, goal, why, at_least=False)
