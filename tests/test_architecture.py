"""What ARCHITECTURE.md says is what is connected; what the environment reads is what .env.example lists."""

import gc
import re
import weakref
from pathlib import Path

from django.dispatch import Signal

ROOT = Path(__file__).resolve().parents[1]
APPS = ("marketdata", "patterns", "accounts", "dashboards", "tickstock")


def named_signals() -> dict[int, str]:
    import django.contrib.auth.signals
    import django.db.models.signals

    import marketdata.signals
    import patterns.signals

    modules = (marketdata.signals, patterns.signals, django.contrib.auth.signals, django.db.models.signals)
    return {id(value): name for module in modules for name, value in vars(module).items() if isinstance(value, Signal)}


def connected() -> set[tuple[str, str]]:
    """Return (signal, module.function) of each receiver of ours."""
    names = named_signals()
    found = set()
    for signal in gc.get_objects():
        if not issubclass(type(signal), Signal) or id(signal) not in names:  # isinstance would wake lazy objects of others
            continue
        for entry in signal.receivers:
            function = entry[1]() if isinstance(entry[1], weakref.ReferenceType) else entry[1]
            module = getattr(function, "__module__", "")
            if module.split(".")[0] in APPS:
                found.add((names[id(signal)], f"{module}.{function.__name__}"))
    return found


def wired() -> set[tuple[str, str]]:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `([\w.]+)` \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    return set(rows)


def test_the_wiring_table_is_what_is_connected():
    assert wired() == connected()


def test_every_variable_that_is_read_is_listed_with_its_name():
    sources = [ROOT / "tickstock" / name for name in ("settings.py", "embedded.py", "env.py")]
    read = set()
    for source in sources:
        read |= set(
            re.findall(r'(?:env\.(?:text|flag|integer|seconds|words|path|choice)|environ\.get)\(\s*"([A-Z_]+)"', source.read_text())
        )
        read |= set(re.findall(r'_server_url\("\w+", "([A-Z_]+)"\)', source.read_text()))
    listed = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read == listed
