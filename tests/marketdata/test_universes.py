"""Universe keys: names, unions, and what is said of an unknown one."""

import pytest

from marketdata.feed.listing import COMBO_TEST, LISTINGS, STOCK_ETF_TEST
from marketdata.models import Membership, Symbol, Universe, UnknownUniverseError

ORDER = """AAPL MSFT GOOGL NVDA META TSLA AMD INTC UNH JNJ PFE ABBV JPM BAC WFC GS AMZN WMT HD NKE DIS NFLX CMCSA XOM CVX SPY QQQ IWM GLD
XRT KRE GDX XHB XBI XTL IBB LABU KBE XLB XLV SMH XLF XLK XLE XLI XLP XME XOP XLY XLU
RSP RSPT RSPG RSPR RSPS RSPU RSPC RSPD RSPH RSPF RSPM RSPN BRK.B V MA LLY AVGO ORCL COST CRM""".split()


@pytest.fixture
def first_rows(market):
    """The default rows, whatever ran before."""


def test_the_default_key_is_the_seventy_symbols_in_their_order(first_rows):
    assert Universe.objects.symbols_of("stock_etf_test:combo_test") == ORDER == [listing.symbol for listing in LISTINGS]
    assert Universe.objects.symbols_of("combo_test") == ORDER[29:62] == list(COMBO_TEST)
    assert Universe.objects.symbols_of("stock_etf_test") == ORDER[:29] + ORDER[62:] == list(STOCK_ETF_TEST)


def test_every_default_symbol_has_its_name_type_and_exchange(first_rows):
    rows = Symbol.objects.filter(symbol__in=ORDER)
    assert rows.count() == 70
    assert not rows.filter(name="").exists()
    assert set(rows.values_list("type", flat=True)) == {"CS", "ETF"}
    assert set(rows.values_list("exchange", flat=True)) <= {"XNAS", "XNYS", "ARCX", "BATS"}
    assert not rows.filter(type="CS", sector="").exists()


@pytest.mark.parametrize("key", ["nothing", "stock_etf_test:nothing", "", ":"])
def test_an_unknown_name_is_refused_with_the_list_of_known_ones(first_rows, key):
    with pytest.raises(UnknownUniverseError, match="Known are: combo_test, stock_etf_test"):
        Universe.objects.symbols_of(key)


def test_a_symbol_of_two_universes_comes_once(first_rows, db):
    own = Universe.objects.create(key="mine", name="Mine")
    Membership.objects.create(universe=own, symbol_id="MSFT", position=0)
    Membership.objects.create(universe=own, symbol_id="AAPL", position=1)
    assert Universe.objects.symbols_of("mine:stock_etf_test")[:3] == ["MSFT", "AAPL", "GOOGL"]
