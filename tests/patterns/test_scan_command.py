import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from patterns.models import Detection, IndicatorValue, ScannedBar
from tests.patterns.market import everything, random_bars, store

pytestmark = pytest.mark.usefixtures("market")


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("scan_patterns", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_it_scans_everything_that_is_stored_and_says_how_much(writer):
    store(writer, random_bars("AAPL", 50, seed=1) + random_bars("MSFT", 50, seed=2))

    answer = json.loads(run("--json").splitlines()[-1])

    assert set(answer) == {"bars", "detections", "indicators", "seconds"}
    assert (answer["bars"], answer["detections"], answer["indicators"]) == (100, Detection.objects.count(), IndicatorValue.objects.count())


def test_again_it_says_the_same_and_changes_no_row(writer):
    store(writer, random_bars("AAPL", 50, seed=1))
    first = run()
    stored = everything()

    second = run()

    assert first.rsplit(" in ", 1)[0] == second.rsplit(" in ", 1)[0] != ""
    assert everything() == stored


def test_a_range_and_a_choice_of_symbols(writer):
    store(writer, random_bars("AAPL", 50, seed=1) + random_bars("MSFT", 50, seed=2))

    run("--from", "2026-11-20T15:00:00+00:00", "--to", "2026-11-20T15:10", "--symbols", "MSFT")

    assert {(row.symbol_id, row.timestamp.minute) for row in ScannedBar.objects.all()} == {("MSFT", minute) for minute in range(10)}
    assert IndicatorValue.objects.filter(indicator_name="sma_20").count() == 10  # the windows reach back beyond --from


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--interval", "7m"), "--interval is one of 1m, 5m, 15m, 1h, 1d"),
        (("--from", "tomorrow"), "--from 'tomorrow' is not a moment"),
        (("--from", "2026-11-20", "--to", "2026-11-20"), "--from must lie before --to"),
        (("--symbols", "AAPL,aapl,NOBODY"), "No symbol is called NOBODY, aapl"),
        (("--symbols", ","), "No symbol is called nothing"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)
