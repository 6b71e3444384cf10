"""Why a detection stands, as the JSON that is kept with it. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from patterns.detectors.matches import Condition, Geometry


def conditions_of(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """Return conditions as JSON values."""
    return [
        {
            "name": condition.name,
            "measured": measure(condition.measured),
            "relation": condition.relation,
            "threshold": condition.threshold,
            "passed": bool(condition.passed),
        }
        for condition in conditions
    ]


def geometry_of(geometry: Geometry) -> dict[str, Any]:
    """Return what a chart draws, as JSON values; moments in ISO 8601 UTC."""
    return {
        "points": [{"at": iso(point.at_ms), "price": point.price, "label": point.label} for point in geometry.points],
        "lines": [
            {
                "from": {"at": iso(line.from_at_ms), "price": line.from_price},
                "to": {"at": iso(line.to_at_ms), "price": line.to_price},
                "kind": line.kind,
            }
            for line in geometry.lines
        ],
        "level": geometry.level,
    }


def measure(value: float | None) -> float | None:
    """Return a measured number to four significant digits, None where it could not be measured."""
    return None if value is None or not np.isfinite(value) else float(f"{float(value):.4g}")


def iso(milliseconds: int) -> str:
    """Return a moment from Unix ms as ISO 8601."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat().replace("+00:00", "Z")
