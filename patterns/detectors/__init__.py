"""What is looked for: two tables, one entry a pattern, in the order in which people read them."""

from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.detectors.facts import find_gap, find_volume_surge
from patterns.detectors.matches import Detector, Nature, ShapeDetector

EACH = ("5m", "15m", "1d")

DETECTORS: dict[str, Detector] = {detector.pattern_type: detector for detector in CANDLESTICKS}

SHAPES: dict[str, ShapeDetector] = {
    detector.pattern_type: detector
    for detector in (
        ShapeDetector("gap_up", "Gap up", Nature.CONTINUATION, EACH, 20, find_gap(1)),
        ShapeDetector("gap_down", "Gap down", Nature.CONTINUATION, EACH, 20, find_gap(-1)),
        ShapeDetector("volume_surge", "Volume surge", Nature.CONTINUATION, EACH, 20, find_volume_surge),
    )
}


def name_of(pattern_type: str) -> str:
    """Return the human name of a candlestick or a chart pattern; a combination is called by its key: rs_surge is "Rs surge"."""
    known: Detector | ShapeDetector | None = DETECTORS.get(pattern_type) or SHAPES.get(pattern_type)
    return known.name if known else pattern_type.replace("_", " ").capitalize()


__all__ = ["DETECTORS", "SHAPES", "Detector", "ShapeDetector", "name_of"]
