"""The command that holds detectors against what they must be, and the detector that docs/detectors.md tells people to write."""

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from marketdata.twin.plants import drawing
from patterns.detectors import SHAPES, Nature, ShapeDetector
from patterns.detectors.base_rates import BASE_RATES
from patterns.detectors.candlesticks import CANDLESTICKS
from patterns.detectors.trials import ground, try_candlesticks

DOCS = Path(__file__).resolve().parents[2] / "docs" / "detectors.md"
SMALL = ("--walks", "3", "--drawings", "20", "--seed", "5")


def check(*arguments: str) -> str:
    """Run the command; return what it prints."""
    out = StringIO()
    call_command("check_detectors", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def documented(monkeypatch) -> ShapeDetector:
    """The detector of the page, put into the table by the page's own line."""
    module, line = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names = {"ShapeDetector": ShapeDetector, "CONTINUATION": Nature.CONTINUATION, "EACH": ("5m", "15m", "1d")}
    exec(compile(module, str(DOCS), "exec"), names)
    detector = eval(line, names)
    monkeypatch.setitem(SHAPES, detector.pattern_type, detector)
    return detector


def test_the_detector_of_the_page_holds(documented, db):
    printed = check("--pattern", documented.pattern_type, *SMALL)

    assert "1 detectors, nothing wrong" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("narrow_range_7")]
    assert int(row.split()[1].replace(",", "")) > 50


def test_the_page_names_every_family_and_no_more_patterns_than_there_are():
    page = DOCS.read_text()
    families = {detector.find.__module__.rpartition(".")[2] for detector in SHAPES.values()}

    assert all(f"`{family}.py`" in page for family in families)
    assert f"{len(SHAPES)} chart patterns" in page


def test_a_detector_that_looks_ahead_is_found_out(monkeypatch, db):
    honest = SHAPES["gap_up"]

    def peek(window, ends):
        """Keep those after which the price rises."""
        ahead = np.minimum(ends + 1, len(window) - 1)
        return honest.find(window, ends[window.close[ahead] > window.close[ends]])

    monkeypatch.setitem(SHAPES, "gap_up", replace(honest, find=peek))

    with pytest.raises(CommandError, match=r"gap_up: .* answers change with bars that it must not look at"):
        check("--pattern", "gap_up", *SMALL)


def test_a_detector_that_favours_one_side_is_found_out(monkeypatch, db):
    honest = SHAPES["v_top"]
    monkeypatch.setitem(SHAPES, "v_top", replace(honest, find=lambda window, ends: honest.find(window, ends[::2])))

    with pytest.raises(CommandError, match=r"v_top: .* no like on mirrored prices"):
        check("--pattern", "v_top", *SMALL)


def test_real_bars_of_a_file_are_tried_and_the_answer_is_json(recordings, db):
    answer = json.loads(
        check("--pattern", "gap_up", "--pattern", "engulfing", "--json", "--bars", str(recordings / "IWM-day-aggs.csv.gz"), *SMALL)
    )

    assert answer["faults"] == []
    assert [row["pattern_type"] for row in answer["patterns"]] == ["gap_up", "engulfing"]
    assert answer["patterns"][0]["recall"] >= 0.95
    assert answer["patterns"][0]["kept_rate"] == BASE_RATES["gap_up"]
    assert answer["patterns"][1]["parity"] == 0
    assert answer["patterns"][1]["bars"] > 5_000


def test_all_candlesticks_hold():
    trials = try_candlesticks(ground(seed=6, drawings=1, walks=2))

    assert len(trials) == len(CANDLESTICKS)
    assert [trial.faults for trial in trials if trial.faults] == []
    assert sum(trial.found for trial in trials) > 1_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--pattern", "unicorn"), "No pattern is called unicorn"),
        (("--bars", "nowhere.csv"), "nowhere.csv"),
        (("--walks", "0"), "1 or more"),
        (("--write-base-rates", "--pattern", "gap_up"), "all patterns with the usual seed"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(db, arguments, sentence):
    with pytest.raises(CommandError, match=re.escape(sentence)):
        check(*arguments)


def test_a_pattern_without_an_outline_cannot_be_drawn():
    with pytest.raises(KeyError, match="engulfing"):
        drawing("engulfing", seed=1, number=0)
