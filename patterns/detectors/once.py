"""
A formation is confirmed once: by the bar that breaks it out, not again by a later one. Pure.

A finder judges each bar by itself, so that price which falls back over the line and leaves it again would confirm twice, and the same turns seen a
little wider three bars later would be a second formation. One is known by its turning points. Two shapes of one pattern that break out the same way
are the same formation where the stretches from their first to their last turning point meet, and the later one has no turning point that is newer
than the bar which confirmed the earlier one: all of it stood there when it was told of. A flag that did not go and grew on is another one.
"""

from dataclasses import replace
from functools import wraps

import numpy as np

from marketdata.bars.window import BarWindow, Integers
from patterns.detectors.matches import Shape, ShapeDetector


def once(detector: ShapeDetector) -> ShapeDetector:
    """
    Return the detector that leaves out what an earlier bar confirmed already; it may look back twice as far.

    An earlier shape of the same formation ends no earlier than the later one's last turning point, so the finder is asked about those bars too.
    What it says of them is a function of the bars before them: whether a bar confirms depends on nothing after it, and on no bar more than twice
    the finder's look-back before it.
    """

    @wraps(detector.find)
    def find(window: BarWindow, ends: Integers) -> list[Shape]:
        shapes = detector.find(window, ends)
        if not shapes:
            return shapes
        spans = [_span(window, shape) for shape in shapes]
        before = np.concatenate([np.arange(last, shape.end) for (_, last), shape in zip(spans, shapes, strict=True)])
        missing = np.setdiff1d(before, ends)
        known = [*zip(spans, shapes, strict=True), *((_span(window, shape), shape) for shape in detector.find(window, missing))]
        known.sort(key=lambda one: one[1].end)
        ends_known = np.array([shape.end for _, shape in known])

        def is_told(shape: Shape, first: int, last: int) -> bool:
            earlier = known[int(np.searchsorted(ends_known, last)) : int(np.searchsorted(ends_known, shape.end))]
            return any(other.direction == shape.direction and newest >= first and oldest <= last for (oldest, newest), other in earlier)

        return [shape for (first, last), shape in zip(spans, shapes, strict=True) if not is_told(shape, first, last)]

    return replace(detector, look_back=2 * detector.look_back, find=find)


def _span(window: BarWindow, shape: Shape) -> tuple[int, int]:
    """Return the places of a shape's first and last turning point; its own bar twice where it has none."""
    moments = [point.at_ms for point in shape.geometry.points]
    if not moments:
        return shape.end, shape.end
    run = int(np.searchsorted(window.starts, shape.end, side="right")) - 1
    start = int(window.starts[run])
    first, last = np.searchsorted(window.opened_at_ms[start : shape.end + 1], [min(moments), max(moments)])
    return start + int(first), start + int(last)
