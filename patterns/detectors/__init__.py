"""What is looked for: two tables, one entry a pattern, in the order in which people read them."""

from patterns.detectors import breakouts, cups, facts, flags, reversals, spikes
from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.detectors.corridors import CLOSING, FALLING, FLAT_LID, OPENING, PARALLEL, find_corridor
from patterns.detectors.matches import Detector, Nature, ShapeDetector
from patterns.detectors.once import once

DETECTORS: dict[str, Detector] = {detector.pattern_type: detector for detector in CANDLESTICKS}

EACH = ("5m", "15m", "1d")
REVERSAL, CONTINUATION = Nature.REVERSAL, Nature.CONTINUATION
TURNS, FLAGS, SPIKES, FACTS = reversals.LOOK_BACK, flags.LOOK_BACK, spikes.LOOK_BACK, facts.LOOK_BACK
HEADS, TRIANGLE, RIM = reversals.find_head_and_shoulders, "symmetrical_triangle", cups.LOOK_BACK

# stored and human name, nature, intervals, bars before the end that its finder reads, the finder, what it is on mirrored prices
_SHAPES = (
    ShapeDetector("head_and_shoulders", "Head and shoulders", REVERSAL, EACH, TURNS, HEADS(-1), "inverse_head_and_shoulders"),
    ShapeDetector("inverse_head_and_shoulders", "Inverse head and shoulders", REVERSAL, EACH, TURNS, HEADS(1), "head_and_shoulders"),
    ShapeDetector("double_top", "Double top", REVERSAL, EACH, TURNS, reversals.find_double(-1), "double_bottom"),
    ShapeDetector("double_bottom", "Double bottom", REVERSAL, EACH, TURNS, reversals.find_double(1), "double_top"),
    ShapeDetector("ascending_triangle", "Ascending triangle", CONTINUATION, EACH, TURNS, find_corridor(FLAT_LID, (1,)), "descending_triangle"),
    ShapeDetector("descending_triangle", "Descending triangle", CONTINUATION, EACH, TURNS, find_corridor(FLAT_LID, (-1,)), "ascending_triangle"),
    ShapeDetector(TRIANGLE, "Symmetrical triangle", CONTINUATION, EACH, TURNS, find_corridor(CLOSING, (1, -1)), TRIANGLE),
    ShapeDetector("rectangle", "Rectangle", CONTINUATION, EACH, TURNS, find_corridor(PARALLEL, (1, -1)), "rectangle"),
    ShapeDetector("broadening", "Broadening formation", REVERSAL, EACH, TURNS, find_corridor(OPENING, (1, -1)), "broadening"),
    ShapeDetector("rising_wedge", "Rising wedge", REVERSAL, EACH, TURNS, find_corridor(FALLING, (-1,)), "falling_wedge"),
    ShapeDetector("falling_wedge", "Falling wedge", REVERSAL, EACH, TURNS, find_corridor(FALLING, (1,)), "rising_wedge"),
    ShapeDetector("bull_flag", "Bull flag", CONTINUATION, EACH, FLAGS, flags.find_flag(1), "bear_flag"),
    ShapeDetector("bear_flag", "Bear flag", CONTINUATION, EACH, FLAGS, flags.find_flag(-1), "bull_flag"),
    ShapeDetector("bull_pennant", "Bull pennant", CONTINUATION, EACH, FLAGS, flags.find_pennant(1), "bear_pennant"),
    ShapeDetector("bear_pennant", "Bear pennant", CONTINUATION, EACH, FLAGS, flags.find_pennant(-1), "bull_pennant"),
    ShapeDetector("cup_and_handle", "Cup and handle", CONTINUATION, EACH, RIM, cups.find_cup(1), "inverse_cup_and_handle"),
    ShapeDetector("inverse_cup_and_handle", "Inverse cup and handle", CONTINUATION, EACH, RIM, cups.find_cup(-1), "cup_and_handle"),
    ShapeDetector("v_top", "V-top", REVERSAL, EACH, SPIKES, spikes.find_spike(-1), "v_bottom"),
    ShapeDetector("v_bottom", "V-bottom", REVERSAL, EACH, SPIKES, spikes.find_spike(1), "v_top"),
    ShapeDetector("range_breakout", "Range breakout", CONTINUATION, EACH, breakouts.LOOK_BACK, breakouts.find_range_breakout, "range_breakout",
                  fact=True),
    ShapeDetector("gap_up", "Gap up", CONTINUATION, EACH, FACTS, facts.find_gap(1), "gap_down", fact=True),
    ShapeDetector("gap_down", "Gap down", CONTINUATION, EACH, FACTS, facts.find_gap(-1), "gap_up", fact=True),
    ShapeDetector("volume_surge", "Volume surge", CONTINUATION, EACH, FACTS, facts.find_volume_surge, "volume_surge", fact=True),
)  # fmt: skip
SHAPES: dict[str, ShapeDetector] = {detector.pattern_type: detector if detector.fact else once(detector) for detector in _SHAPES}


def name_of(pattern_type: str) -> str | None:
    """Return the human name of a candlestick or a chart pattern, None of what is neither: a combination, whose name is a row's."""
    known: Detector | ShapeDetector | None = DETECTORS.get(pattern_type) or SHAPES.get(pattern_type)
    return known.name if known else None


__all__ = ["DETECTORS", "SHAPES", "Detector", "ShapeDetector", "name_of"]
