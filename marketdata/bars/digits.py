"""Decimals as JSON writes numbers here: digit for digit. Pure."""

from decimal import Decimal


def exact_number(value: Decimal) -> str:
    """Return the decimal's digits without exponent or needless zeros; nothing is rounded. `null` where it is not finite."""
    if not value.is_finite():
        return "null"
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
