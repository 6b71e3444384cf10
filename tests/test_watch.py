"""Who is suspected of living and doing nothing, and who is not."""

import pytest

from tickstock.watch import PATIENCE, Suspicion, silent_parts, suspected

WELL = {"ok": True}
SILENT = {"ok": False, "reason": "no sign of life for 40 s"}


def parts(**changes) -> dict:
    return {"parts": dict.fromkeys(("database", "redis", "feed", "worker"), WELL) | changes}


@pytest.mark.parametrize(
    ("answer", "silent"),
    [
        (None, {"web"}),
        (parts(), set()),
        (parts(worker=SILENT), {"worker"}),
        (parts(worker=SILENT, feed=SILENT), {"worker", "feed"}),
        (parts(feed={"ok": False, "reason": "stream 1/1 is connecting"}), set()),
        (parts(worker=SILENT, redis={"ok": False, "reason": "does not answer"}), set()),
        ({"parts": {"database": WELL, "redis": WELL}}, set()),
    ],
)
def test_silent_is_who_gives_no_sign_of_life_while_the_servers_answer(answer, silent):
    assert silent_parts(answer) == silent


def test_a_part_is_suspected_only_when_its_silence_lasts():
    suspicion = Suspicion()
    suspicion.hear({"feed"}, now=0)
    suspicion.hear({"feed"}, now=20)
    assert suspected(suspicion, lambda: True, now=20) == set()

    suspicion.hear(set(), now=25)
    suspicion.hear({"feed"}, now=30)
    assert suspected(suspicion, lambda: True, now=50) == set()
    assert suspected(suspicion, lambda: True, now=30 + PATIENCE["feed"]) == {"feed"}


def test_what_was_started_anew_has_time_to_speak():
    suspicion = Suspicion()
    suspicion.hear({"feed"}, now=0)
    suspicion.excuse("feed", until=90)
    suspicion.hear({"feed"}, now=60)

    assert suspected(suspicion, lambda: True, now=119) == set()
    assert suspected(suspicion, lambda: True, now=120) == {"feed"}


def test_a_worker_that_answers_is_busy_until_beat_is_silent_too_long():
    suspicion = Suspicion()
    suspicion.hear({"worker", "beat"}, now=0)

    assert suspected(suspicion, lambda: False, now=PATIENCE["worker"]) == {"worker"}
    assert suspected(suspicion, lambda: True, now=PATIENCE["worker"]) == set()
    assert suspected(suspicion, lambda: True, now=PATIENCE["beat"]) == {"worker", "beat"}
