"""What is looked for: one table, one entry a pattern, in the order in which people read it."""

from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.detectors.matches import Detector

DETECTORS: dict[str, Detector] = {detector.pattern_type: detector for detector in CANDLESTICKS}

__all__ = ["DETECTORS", "Detector"]
