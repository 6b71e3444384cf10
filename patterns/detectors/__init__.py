"""What is looked for: two tables, one entry a pattern, in the order in which people read them."""

from patterns.detectors.breakouts import find_range_breakout
from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.detectors.corridors import CLOSING, FALLING, FLAT_LID, OPENING, PARALLEL, find_corridor
from patterns.detectors.cups import LOOK_BACK as CUP_LOOK_BACK
from patterns.detectors.cups import find_cup
from patterns.detectors.facts import find_gap, find_volume_surge
from patterns.detectors.flags import find_flag, find_pennant
from patterns.detectors.matches import Detector, Nature, ShapeDetector
from patterns.detectors.reversals import find_double, find_head_and_shoulders
from patterns.detectors.spikes import find_spike

EACH = ("5m", "15m", "1d")

DETECTORS: dict[str, Detector] = {detector.pattern_type: detector for detector in CANDLESTICKS}

SHAPES: dict[str, ShapeDetector] = {
    detector.pattern_type: detector
    for detector in (
        ShapeDetector("head_and_shoulders", "Head and shoulders", Nature.REVERSAL, EACH, 120, find_head_and_shoulders(-1)),
        ShapeDetector("inverse_head_and_shoulders", "Inverse head and shoulders", Nature.REVERSAL, EACH, 120, find_head_and_shoulders(1)),
        ShapeDetector("double_top", "Double top", Nature.REVERSAL, EACH, 120, find_double(-1)),
        ShapeDetector("double_bottom", "Double bottom", Nature.REVERSAL, EACH, 120, find_double(1)),
        ShapeDetector("ascending_triangle", "Ascending triangle", Nature.CONTINUATION, EACH, 120, find_corridor(FLAT_LID, (1,))),
        ShapeDetector("descending_triangle", "Descending triangle", Nature.CONTINUATION, EACH, 120, find_corridor(FLAT_LID, (-1,))),
        ShapeDetector("symmetrical_triangle", "Symmetrical triangle", Nature.CONTINUATION, EACH, 120, find_corridor(CLOSING, (1, -1))),
        ShapeDetector("rectangle", "Rectangle", Nature.CONTINUATION, EACH, 120, find_corridor(PARALLEL, (1, -1))),
        ShapeDetector("broadening", "Broadening formation", Nature.REVERSAL, EACH, 120, find_corridor(OPENING, (1, -1))),
        ShapeDetector("rising_wedge", "Rising wedge", Nature.REVERSAL, EACH, 120, find_corridor(FALLING, (-1,))),
        ShapeDetector("falling_wedge", "Falling wedge", Nature.REVERSAL, EACH, 120, find_corridor(FALLING, (1,))),
        ShapeDetector("bull_flag", "Bull flag", Nature.CONTINUATION, EACH, 60, find_flag(1)),
        ShapeDetector("bear_flag", "Bear flag", Nature.CONTINUATION, EACH, 60, find_flag(-1)),
        ShapeDetector("bull_pennant", "Bull pennant", Nature.CONTINUATION, EACH, 60, find_pennant(1)),
        ShapeDetector("bear_pennant", "Bear pennant", Nature.CONTINUATION, EACH, 60, find_pennant(-1)),
        ShapeDetector("cup_and_handle", "Cup and handle", Nature.CONTINUATION, EACH, CUP_LOOK_BACK, find_cup(1)),
        ShapeDetector("inverse_cup_and_handle", "Inverse cup and handle", Nature.CONTINUATION, EACH, CUP_LOOK_BACK, find_cup(-1)),
        ShapeDetector("v_top", "V-top", Nature.REVERSAL, EACH, 60, find_spike(-1)),
        ShapeDetector("v_bottom", "V-bottom", Nature.REVERSAL, EACH, 60, find_spike(1)),
        ShapeDetector("range_breakout", "Range breakout", Nature.CONTINUATION, EACH, 60, find_range_breakout),
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
