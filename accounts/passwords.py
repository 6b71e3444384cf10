"""
Passwords that are long and still among the first that anybody would try: common ones joined, repeated, or with digits at their ends.

Django's list of 20,000 knows hardly any of 12 letters, the length that we ask for; this reads it as the parts that such passwords are made of.
"""

from functools import lru_cache
from math import inf, log2

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError

BITS_WANTED = 40.0
SHORTEST_PART, LONGEST_PART = 3, 30
DIGIT_BITS, SIGN_BITS = log2(10), log2(32)


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    return frozenset(CommonPasswordValidator().passwords)


def guess_bits(password: str) -> float:
    """
    Return log2 of how many guesses find it by joining common passwords, digits and signs, the cheapest way; infinite where that never does.

    Case counts for nothing; a whole that is one part again and again counts as that part.
    """
    text = _unit(password.casefold())
    part_bits = log2(len(_common()))
    cheapest = [0.0] + [inf] * len(text)
    for end in range(1, len(text) + 1):
        last = text[end - 1]
        if not last.isalpha():
            cheapest[end] = cheapest[end - 1] + (DIGIT_BITS if last.isdecimal() else SIGN_BITS)
        for start in range(max(0, end - LONGEST_PART), end - SHORTEST_PART + 1):
            if cheapest[start] + part_bits < cheapest[end] and text[start:end] in _common():
                cheapest[end] = cheapest[start] + part_bits
    return cheapest[-1]


def _unit(text: str) -> str:
    length = (text + text).find(text, 1)  # a text that repeats is found in its double before its end
    return text[:length] if 0 < length < len(text) else text


class CommonPartsValidator:
    """Refuse what `guess_bits` finds cheap. One of Django's AUTH_PASSWORD_VALIDATORS."""

    def validate(self, password: str, user: object = None) -> None:  # noqa: ARG002 - Django's signature
        """Raise ValidationError where it is cheap."""
        if guess_bits(password) < BITS_WANTED:
            raise ValidationError(
                "This password is made of parts that are tried first. Take several words without connection, or let a program make one up.",
                code="password_of_common_parts",
            )

    def get_help_text(self) -> str:
        """Return what a form says beforehand."""
        return "Common passwords joined, repeated or with digits at their ends are refused."
