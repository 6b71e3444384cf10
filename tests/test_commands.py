"""What every command says where it cannot work: one sentence, exit status 1."""

import pytest

from tests.processes import database_url, run_command

NOBODY_LISTENS = "host=127.0.0.1 port=1 user=nobody dbname=nothing"


@pytest.mark.parametrize(
    ("database", "words"),
    [
        (NOBODY_LISTENS, "TickStock: the database cannot be reached (connection failed"),
        ("{} dbname=template1", "TickStock: the database has no tables yet, or those of another version. Run `manage.py migrate` first."),
    ],
)
def test_a_database_that_is_away_or_empty_is_one_sentence_with_its_cure(market, database, words):
    done = run_command("survey_market", check=False, DATABASE_URL=database.format(database_url()), DATABASE_ROLES="0")

    assert done.returncode == 1
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1
