"""The only reader of the environment: typed readers whose errors name the variable and the cure."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """Return the variable without surrounding space; an empty one counts as unset."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool) -> bool:
    """Return a yes/no variable. ImproperlyConfigured on any other word."""
    value = text(name).lower()
    if not value:
        return default
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no; write 1 or 0.")


def integer(name: str, default: int, *, low: int, high: int) -> int:
    """Return a whole number in [low, high]. ImproperlyConfigured otherwise."""
    value = text(name)
    try:
        number = int(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from None
    if not low <= number <= high:
        raise ImproperlyConfigured(f"{name}={number} must lie between {low} and {high}.")
    return number


def seconds(name: str, default: float, *, low: float, high: float) -> float:
    """Return a duration in seconds in [low, high]. ImproperlyConfigured otherwise."""
    value = text(name)
    try:
        number = float(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a number of seconds.") from None
    if not low <= number <= high:
        raise ImproperlyConfigured(f"{name}={value} must lie between {low} and {high} seconds.")
    return number


def words(name: str, default: str = "") -> list[str]:
    """Return a comma-separated list, trimmed, without empty parts."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def path(name: str, default: Path) -> Path:
    """Return an absolute path; a relative one counts from the current folder."""
    return Path(text(name) or default).expanduser().resolve()


def choice(name: str, default: str, options: tuple[str, ...]) -> str:
    """Return one of `options`, case ignored. ImproperlyConfigured otherwise."""
    value = text(name, default).lower()
    if value not in options:
        raise ImproperlyConfigured(f"{name}={value!r} is not one of {', '.join(options)}.")
    return value


def inherited() -> dict[str, str]:
    """Return a copy of the whole environment, to hand on to a child process."""
    return dict(os.environ)
