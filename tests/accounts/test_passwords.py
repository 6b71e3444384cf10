"""Which long passwords are refused as common, and which are not."""

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from accounts.passwords import BITS_WANTED, _common, guess_bits
from tests.people import PASSWORD


@pytest.mark.parametrize(
    "password",
    ["password1234", "Password1234", "123456789012", "iloveyou2026", "passwordpassword", "abcabcabcabc", "dragonmonkey", "qwertyuiop12", "111111111111"],
)  # fmt: skip
def test_what_is_tried_first_is_refused_however_long(password):
    with pytest.raises(ValidationError) as refused:
        validate_password(password)
    assert {"password_of_common_parts", "password_too_common", "password_entirely_numeric"} & {one.code for one in refused.value.error_list}


@pytest.mark.parametrize("password", [PASSWORD, "correct horse battery", "tJ4-qkL0vvZp", "monkey dragon master shadow", "зеленый крокодил"])
def test_words_without_connection_and_made_up_letters_pass(password):
    validate_password(password)


def test_far_more_than_the_3000_that_asvs_asks_for_are_refused_at_the_length_that_is_demanded():
    refused = sum(guess_bits(f"{word}{'2026' * 3}"[: max(12, len(word))]) < BITS_WANTED for word in _common())

    assert refused > 10_000
