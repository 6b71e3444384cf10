"""
The seventy tickers of the default universes, in their order. Pure data: no clock, no I/O, no Django.

Not a security master: `import_universe` brings others. Types are Massive's codes, exchanges ISO 10383, sectors the GICS names;
a fund has the sector that it tracks and no industry.
"""

from collections.abc import Sequence
from typing import NamedTuple

SECTORS = (
    "Technology",
    "Health Care",
    "Financials",
    "Consumer Discretionary",
    "Communication Services",
    "Industrials",
    "Consumer Staples",
    "Energy",
    "Utilities",
    "Real Estate",
    "Materials",
)


class Listing(NamedTuple):
    """One ticker as it is listed."""

    symbol: str
    name: str
    type: str
    exchange: str
    sector: str
    industry: str = ""


_TECHNOLOGY = "Technology"
_HEALTH = "Health Care"
_FINANCIALS = "Financials"
_DISCRETIONARY = "Consumer Discretionary"
_COMMUNICATION = "Communication Services"
_INDUSTRIALS = "Industrials"
_STAPLES = "Consumer Staples"
_ENERGY = "Energy"
_UTILITIES = "Utilities"
_REAL_ESTATE = "Real Estate"
_MATERIALS = "Materials"

LISTINGS: tuple[Listing, ...] = (
    Listing("AAPL", "Apple Inc.", "CS", "XNAS", _TECHNOLOGY, "Consumer electronics"),
    Listing("MSFT", "Microsoft Corporation", "CS", "XNAS", _TECHNOLOGY, "Software"),
    Listing("GOOGL", "Alphabet Inc. Class A", "CS", "XNAS", _COMMUNICATION, "Interactive media"),
    Listing("NVDA", "NVIDIA Corporation", "CS", "XNAS", _TECHNOLOGY, "Semiconductors"),
    Listing("META", "Meta Platforms, Inc. Class A", "CS", "XNAS", _COMMUNICATION, "Interactive media"),
    Listing("TSLA", "Tesla, Inc.", "CS", "XNAS", _DISCRETIONARY, "Automobile manufacturers"),
    Listing("AMD", "Advanced Micro Devices, Inc.", "CS", "XNAS", _TECHNOLOGY, "Semiconductors"),
    Listing("INTC", "Intel Corporation", "CS", "XNAS", _TECHNOLOGY, "Semiconductors"),
    Listing("UNH", "UnitedHealth Group Incorporated", "CS", "XNYS", _HEALTH, "Managed health care"),
    Listing("JNJ", "Johnson & Johnson", "CS", "XNYS", _HEALTH, "Pharmaceuticals"),
    Listing("PFE", "Pfizer Inc.", "CS", "XNYS", _HEALTH, "Pharmaceuticals"),
    Listing("ABBV", "AbbVie Inc.", "CS", "XNYS", _HEALTH, "Biotechnology"),
    Listing("JPM", "JPMorgan Chase & Co.", "CS", "XNYS", _FINANCIALS, "Diversified banks"),
    Listing("BAC", "Bank of America Corporation", "CS", "XNYS", _FINANCIALS, "Diversified banks"),
    Listing("WFC", "Wells Fargo & Company", "CS", "XNYS", _FINANCIALS, "Diversified banks"),
    Listing("GS", "The Goldman Sachs Group, Inc.", "CS", "XNYS", _FINANCIALS, "Investment banking and brokerage"),
    Listing("AMZN", "Amazon.com, Inc.", "CS", "XNAS", _DISCRETIONARY, "Broadline retail"),
    Listing("WMT", "Walmart Inc.", "CS", "XNAS", _STAPLES, "Consumer staples merchandise retail"),
    Listing("HD", "The Home Depot, Inc.", "CS", "XNYS", _DISCRETIONARY, "Home improvement retail"),
    Listing("NKE", "NIKE, Inc. Class B", "CS", "XNYS", _DISCRETIONARY, "Footwear"),
    Listing("DIS", "The Walt Disney Company", "CS", "XNYS", _COMMUNICATION, "Movies and entertainment"),
    Listing("NFLX", "Netflix, Inc.", "CS", "XNAS", _COMMUNICATION, "Movies and entertainment"),
    Listing("CMCSA", "Comcast Corporation Class A", "CS", "XNAS", _COMMUNICATION, "Cable and satellite"),
    Listing("XOM", "Exxon Mobil Corporation", "CS", "XNYS", _ENERGY, "Integrated oil and gas"),
    Listing("CVX", "Chevron Corporation", "CS", "XNYS", _ENERGY, "Integrated oil and gas"),
    Listing("SPY", "SPDR S&P 500 ETF Trust", "ETF", "ARCX", ""),
    Listing("QQQ", "Invesco QQQ Trust", "ETF", "XNAS", ""),
    Listing("IWM", "iShares Russell 2000 ETF", "ETF", "ARCX", ""),
    Listing("GLD", "SPDR Gold Shares", "ETF", "ARCX", ""),
    Listing("XRT", "SPDR S&P Retail ETF", "ETF", "ARCX", _DISCRETIONARY),
    Listing("KRE", "SPDR S&P Regional Banking ETF", "ETF", "ARCX", _FINANCIALS),
    Listing("GDX", "VanEck Gold Miners ETF", "ETF", "ARCX", _MATERIALS),
    Listing("XHB", "SPDR S&P Homebuilders ETF", "ETF", "ARCX", _DISCRETIONARY),
    Listing("XBI", "SPDR S&P Biotech ETF", "ETF", "ARCX", _HEALTH),
    Listing("XTL", "SPDR S&P Telecom ETF", "ETF", "ARCX", _COMMUNICATION),
    Listing("IBB", "iShares Biotechnology ETF", "ETF", "XNAS", _HEALTH),
    Listing("LABU", "Direxion Daily S&P Biotech Bull 3X Shares", "ETF", "ARCX", _HEALTH),
    Listing("KBE", "SPDR S&P Bank ETF", "ETF", "ARCX", _FINANCIALS),
    Listing("XLB", "Materials Select Sector SPDR Fund", "ETF", "ARCX", _MATERIALS),
    Listing("XLV", "Health Care Select Sector SPDR Fund", "ETF", "ARCX", _HEALTH),
    Listing("SMH", "VanEck Semiconductor ETF", "ETF", "XNAS", _TECHNOLOGY),
    Listing("XLF", "Financial Select Sector SPDR Fund", "ETF", "ARCX", _FINANCIALS),
    Listing("XLK", "Technology Select Sector SPDR Fund", "ETF", "ARCX", _TECHNOLOGY),
    Listing("XLE", "Energy Select Sector SPDR Fund", "ETF", "ARCX", _ENERGY),
    Listing("XLI", "Industrial Select Sector SPDR Fund", "ETF", "ARCX", _INDUSTRIALS),
    Listing("XLP", "Consumer Staples Select Sector SPDR Fund", "ETF", "ARCX", _STAPLES),
    Listing("XME", "SPDR S&P Metals & Mining ETF", "ETF", "ARCX", _MATERIALS),
    Listing("XOP", "SPDR S&P Oil & Gas Exploration & Production ETF", "ETF", "ARCX", _ENERGY),
    Listing("XLY", "Consumer Discretionary Select Sector SPDR Fund", "ETF", "ARCX", _DISCRETIONARY),
    Listing("XLU", "Utilities Select Sector SPDR Fund", "ETF", "ARCX", _UTILITIES),
    Listing("RSP", "Invesco S&P 500 Equal Weight ETF", "ETF", "ARCX", ""),
    Listing("RSPT", "Invesco S&P 500 Equal Weight Technology ETF", "ETF", "ARCX", _TECHNOLOGY),
    Listing("RSPG", "Invesco S&P 500 Equal Weight Energy ETF", "ETF", "ARCX", _ENERGY),
    Listing("RSPR", "Invesco S&P 500 Equal Weight Real Estate ETF", "ETF", "ARCX", _REAL_ESTATE),
    Listing("RSPS", "Invesco S&P 500 Equal Weight Consumer Staples ETF", "ETF", "ARCX", _STAPLES),
    Listing("RSPU", "Invesco S&P 500 Equal Weight Utilities ETF", "ETF", "ARCX", _UTILITIES),
    Listing("RSPC", "Invesco S&P 500 Equal Weight Communication Services ETF", "ETF", "ARCX", _COMMUNICATION),
    Listing("RSPD", "Invesco S&P 500 Equal Weight Consumer Discretionary ETF", "ETF", "ARCX", _DISCRETIONARY),
    Listing("RSPH", "Invesco S&P 500 Equal Weight Health Care ETF", "ETF", "ARCX", _HEALTH),
    Listing("RSPF", "Invesco S&P 500 Equal Weight Financials ETF", "ETF", "ARCX", _FINANCIALS),
    Listing("RSPM", "Invesco S&P 500 Equal Weight Materials ETF", "ETF", "ARCX", _MATERIALS),
    Listing("RSPN", "Invesco S&P 500 Equal Weight Industrials ETF", "ETF", "ARCX", _INDUSTRIALS),
    Listing("BRK.B", "Berkshire Hathaway Inc. Class B", "CS", "XNYS", _FINANCIALS, "Multi-sector holdings"),
    Listing("V", "Visa Inc. Class A", "CS", "XNYS", _FINANCIALS, "Transaction and payment processing"),
    Listing("MA", "Mastercard Incorporated Class A", "CS", "XNYS", _FINANCIALS, "Transaction and payment processing"),
    Listing("LLY", "Eli Lilly and Company", "CS", "XNYS", _HEALTH, "Pharmaceuticals"),
    Listing("AVGO", "Broadcom Inc.", "CS", "XNAS", _TECHNOLOGY, "Semiconductors"),
    Listing("ORCL", "Oracle Corporation", "CS", "XNYS", _TECHNOLOGY, "Software"),
    Listing("COST", "Costco Wholesale Corporation", "CS", "XNAS", _STAPLES, "Consumer staples merchandise retail"),
    Listing("CRM", "Salesforce, Inc.", "CS", "XNYS", _TECHNOLOGY, "Software"),
)

# Sector funds that stand in no default universe: streamed beside every universe, as SPY and the other sector funds are
REFERENCES: tuple[Listing, ...] = (
    Listing("XLC", "Communication Services Select Sector SPDR Fund", "ETF", "ARCX", _COMMUNICATION),
    Listing("XLRE", "Real Estate Select Sector SPDR Fund", "ETF", "ARCX", _REAL_ESTATE),
)
BENCHMARK = "SPY"
SECTOR_FUNDS = {
    "XLK": _TECHNOLOGY,
    "XLV": _HEALTH,
    "XLF": _FINANCIALS,
    "XLY": _DISCRETIONARY,
    "XLC": _COMMUNICATION,
    "XLI": _INDUSTRIALS,
    "XLP": _STAPLES,
    "XLE": _ENERGY,
    "XLU": _UTILITIES,
    "XLRE": _REAL_ESTATE,
    "XLB": _MATERIALS,
}

_SYMBOLS = tuple(listing.symbol for listing in LISTINGS)
STOCK_ETF_TEST: tuple[str, ...] = _SYMBOLS[:29] + _SYMBOLS[-8:]
COMBO_TEST: tuple[str, ...] = _SYMBOLS[29:-8]

# Massive's known exchange test tickers: an exact list, for ZTS, ZBRA and CBOE are real
TEST_TICKERS = frozenset(
    {
        "ATEST", "ATEST.A", "ATEST.B", "ATEST.C", "ATEST.H", "ATEST.L", "ATEST.Z", "CBOA", "CBOB", "CBOC", "CBXA", "CBXB", "CBXC",
        "CBXD", "CBXJ", "CBXL", "CBXY", "CTEST", "CTEST.E", "CTEST.G", "CTEST.L", "CTEST.S", "CTEST.V", "IBOT", "MTEST", "NTEST",
        "NTEST.A", "NTEST.B", "NTEST.C", "NTEST.D", "NTEST.E", "NTEST.F", "NTEST.G", "NTEST.H", "NTEST.I", "NTEST.J", "NTEST.K",
        "NTEST.L", "NTEST.M", "NTEST.N", "NTEST.O", "NTEST.P", "NTEST.Q", "NTEST.Y", "NTEST.Z", "PTEST", "ZBZX", "ZBZZT", "ZCZZT",
        "ZEXIT", "ZIEXT", "ZJZZT", "ZTST", "ZVV", "ZVZZT", "ZWZZT", "ZXIET", "ZXZZT", "ZZK", "ZZZ",
    }
)  # fmt: skip


def with_references(symbols: Sequence[str]) -> list[str]:
    """Return the symbols and, behind them, the reference symbols that are missing: SPY and the sector funds, against which all is measured."""
    return list(dict.fromkeys([*symbols, BENCHMARK, *SECTOR_FUNDS]))
