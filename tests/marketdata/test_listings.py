"""Universes from files, details from REST, and the sectors of SIC codes."""

import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from marketdata.feed.industries import RANGES, sector_of
from marketdata.feed.listing import SECTORS
from marketdata.listings import import_details, stale_symbols
from marketdata.models import Membership, Symbol, Universe
from tests.factories import moment

NOW = moment("15:00")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def run(*arguments: object) -> dict:
    out = io.StringIO()
    call_command("import_universe", *map(str, arguments), "--json", stdout=out)
    return json.loads(out.getvalue().splitlines()[-1])


def members(key: str = "mine") -> list[tuple[str, Decimal | None]]:
    return list(Membership.objects.filter(universe_id=key).order_by("position").values_list("symbol_id", "weight"))


@pytest.fixture
def mine(market):
    yield
    Universe.objects.filter(pk="mine").delete()


def test_a_universe_is_made_replaced_and_left_alone(mine, tmp_path):
    first = write(tmp_path / "first.csv", "Symbol,Weight\nMSFT,6.5\nAAPL,7%\nNEWCO,\n")
    second = write(tmp_path / "second.csv", "symbol,weight\nAAPL,7.5\nXOM,1\nMSFT,6.5\n")

    made = run("mine", first, "--kind", "fund", "--name", "My fund")
    again = run("mine", first)
    tried = run("mine", second, "--dry-run")
    kept = members()
    replaced = run("mine", second)

    assert (made["created"], made["added"], made["new_symbols"]) == (True, ["MSFT", "AAPL", "NEWCO"], ["NEWCO"])
    assert (again["created"], again["added"], again["removed"], again["reweighted"], again["unchanged"]) == (False, [], [], [], 3)
    assert kept == [("MSFT", Decimal("6.5")), ("AAPL", Decimal(7)), ("NEWCO", None)]
    assert (replaced["added"], replaced["removed"], replaced["reweighted"], replaced["members"]) == (["XOM"], ["NEWCO"], ["AAPL"], 3)
    assert tried == replaced | {"dry_run": True}
    assert members() == [("AAPL", Decimal("7.5")), ("XOM", 1), ("MSFT", Decimal("6.5"))]
    universe = Universe.objects.get(pk="mine")
    assert (universe.kind, universe.name) == ("fund", "My fund")
    assert Universe.objects.symbols_of("mine:stock_etf_test")[:3] == ["AAPL", "XOM", "MSFT"]


def test_adding_removes_nobody(mine, tmp_path):
    run("mine", write(tmp_path / "a.csv", "symbol,weight\nMSFT,6\nAAPL,7\n"))

    added = run("mine", write(tmp_path / "b.csv", "ticker\nXOM\nMSFT\n"), "--add")

    assert (added["added"], added["removed"], added["reweighted"], added["members"]) == (["XOM"], [], [], 3)
    assert members() == [("MSFT", 6), ("AAPL", 7), ("XOM", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\nAAPL\n", "has no column `symbol`"),
        ("symbol\n\n", "holds no symbol"),
        ("symbol\nAA PL\n", "line 2: 'AA PL' is no symbol"),
        ("symbol\nAAPL\nMSFT\nAAPL\n", "names AAPL twice"),
        ("symbol,weight\nAAPL,much\n", "line 2: weight 'much' is no share in percent"),
        ("symbol,weight\nAAPL,NaN\n", "is no share in percent"),
        ("symbol\nZVZZT\n", "ZVZZT is a test ticker"),
    ],
)
def test_a_file_that_is_no_universe_is_refused_and_changes_nothing(mine, tmp_path, text, words):
    with pytest.raises(CommandError, match=words):
        run("mine", write(tmp_path / "bad.csv", text))
    assert not Universe.objects.filter(pk="mine").exists()


def test_a_missing_file_and_a_bad_key_are_said_so(mine, tmp_path):
    with pytest.raises(CommandError, match=r"cannot be read: No such file"):
        run("mine", tmp_path / "nothing.csv")
    with pytest.raises(CommandError, match="cannot be the name of a universe"):
        run("a:b", write(tmp_path / "a.csv", "symbol\nAAPL\n"))


# ---- details


class Told:
    """REST with just these details."""

    def __init__(self, **by_symbol: dict | None) -> None:
        self.by_symbol = by_symbol

    def details(self, symbol: str) -> dict | None:
        return self.by_symbol[symbol]


def test_details_fill_what_is_unknown_and_leave_what_a_person_said(market):
    Symbol.objects.create(symbol="NEWCO")
    Symbol.objects.create(symbol="OTHER", sector="Energy", name="Other")
    Symbol.objects.create(symbol="SHELL")
    told = {
        "name": "New Company",
        "type": "CS",
        "primary_exchange": "XNYS",
        "sic_code": "3674",
        "sic_description": "SEMICONDUCTORS",
        "market_cap": 1.5e9,
    }

    report = import_details(Told(NEWCO=told, OTHER=told, SHELL=None), ["NEWCO", "OTHER", "SHELL"], now=lambda: NOW)

    assert (report.asked, report.changed, report.unknown) == (3, 2, 1)
    new, other, shell = (Symbol.objects.get(pk=symbol) for symbol in ("NEWCO", "OTHER", "SHELL"))
    assert (new.name, new.type, new.exchange, new.sector, new.industry) == ("New Company", "CS", "XNYS", "Technology", "Semiconductors")
    assert (other.sector, other.name, other.market_cap, other.sic_code) == ("Energy", "Other", Decimal(1_500_000_000), "3674")
    assert (shell.sector, shell.market_cap) == ("", None)
    assert stale_symbols(["NEWCO", "AAPL"], now=NOW) == ["AAPL"]


def test_every_range_names_a_sector_and_an_unknown_code_names_none():
    assert {sector for _, _, sector in RANGES} == set(SECTORS)
    assert all(first <= last for first, last, _ in RANGES)
    codes = {
        "3674": "Technology",
        "2834": "Health Care",
        "6798": "Real Estate",
        "6021": "Financials",
        "4911": "Utilities",
        "1311": "Energy",
    }
    assert {code: sector_of(code) for code in codes} == codes
    assert [sector_of(code) for code in ("", "9995", "abc", "²")] == ["", "", "", ""]
