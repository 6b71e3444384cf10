"""
Sectors of SIC codes, which is all that Massive says of a company's business. Pure data.

Source of the codes: SEC, Division of Corporation Finance, Standard Industrial Classification (SIC) Code List. The SIC of 1987 knows neither
GICS nor the eleven sectors: the ranges are assigned by us, by what the companies filed under them mostly do. First match wins.
"""

from marketdata.feed.listing import SECTORS

(
    _TECHNOLOGY, _HEALTH, _FINANCIALS, _DISCRETIONARY, _COMMUNICATION, _INDUSTRIALS, _STAPLES, _ENERGY, _UTILITIES, _REAL_ESTATE, _MATERIALS,
) = SECTORS  # fmt: skip

RANGES: tuple[tuple[int, int, str], ...] = (
    (100, 999, _STAPLES),  # agriculture, fishing
    (1000, 1099, _MATERIALS),  # metal mining
    (1200, 1399, _ENERGY),  # coal, oil and gas
    (1400, 1499, _MATERIALS),  # quarrying
    (1520, 1539, _DISCRETIONARY),  # builders of homes
    (1500, 1799, _INDUSTRIALS),  # construction
    (2000, 2199, _STAPLES),  # food, beverages, tobacco
    (2200, 2399, _DISCRETIONARY),  # textiles, apparel
    (2400, 2499, _MATERIALS),  # wood
    (2500, 2599, _DISCRETIONARY),  # furniture
    (2600, 2699, _MATERIALS),  # paper
    (2700, 2749, _COMMUNICATION),  # publishing
    (2750, 2799, _INDUSTRIALS),  # printing
    (2833, 2836, _HEALTH),  # drugs
    (2840, 2844, _STAPLES),  # soap, cosmetics
    (2800, 2899, _MATERIALS),  # chemicals
    (2900, 2999, _ENERGY),  # refining
    (3011, 3021, _DISCRETIONARY),  # tyres, footwear
    (3000, 3099, _MATERIALS),  # rubber, plastics
    (3100, 3199, _DISCRETIONARY),  # leather
    (3411, 3411, _MATERIALS),  # cans
    (3200, 3399, _MATERIALS),  # stone, glass, metals
    (3400, 3569, _INDUSTRIALS),  # metal products, machinery
    (3570, 3579, _TECHNOLOGY),  # computers
    (3580, 3629, _INDUSTRIALS),  # machinery, electrical equipment
    (3630, 3659, _DISCRETIONARY),  # appliances, audio
    (3660, 3679, _TECHNOLOGY),  # communication equipment, semiconductors
    (3680, 3699, _INDUSTRIALS),
    (3700, 3719, _DISCRETIONARY),  # motor vehicles
    (3720, 3749, _INDUSTRIALS),  # aircraft, ships, railways
    (3750, 3751, _DISCRETIONARY),  # motorcycles
    (3752, 3789, _INDUSTRIALS),  # missiles
    (3790, 3799, _DISCRETIONARY),  # other vehicles
    (3800, 3819, _INDUSTRIALS),  # navigation
    (3820, 3839, _TECHNOLOGY),  # instruments
    (3840, 3851, _HEALTH),  # medical instruments
    (3852, 3869, _TECHNOLOGY),  # photographic equipment
    (3870, 3999, _DISCRETIONARY),  # watches, jewellery, toys
    (4000, 4799, _INDUSTRIALS),  # transport
    (4800, 4899, _COMMUNICATION),
    (4922, 4922, _ENERGY),  # gas transmission
    (4950, 4959, _INDUSTRIALS),  # waste
    (4900, 4999, _UTILITIES),
    (5045, 5045, _TECHNOLOGY),  # wholesale of computers
    (5047, 5047, _HEALTH),  # wholesale of medical supplies
    (5122, 5122, _HEALTH),  # wholesale of drugs
    (5140, 5159, _STAPLES),  # wholesale of groceries
    (5171, 5172, _ENERGY),  # wholesale of petroleum
    (5000, 5199, _INDUSTRIALS),  # wholesale
    (5331, 5331, _STAPLES),  # variety stores
    (5400, 5499, _STAPLES),  # food stores
    (5912, 5912, _STAPLES),  # drug stores
    (5200, 5999, _DISCRETIONARY),  # retail, restaurants
    (6324, 6324, _HEALTH),  # health plans
    (6500, 6599, _REAL_ESTATE),
    (6798, 6798, _REAL_ESTATE),  # real estate investment trusts
    (6000, 6799, _FINANCIALS),
    (7000, 7299, _DISCRETIONARY),  # hotels, personal services
    (7310, 7319, _COMMUNICATION),  # advertising
    (7370, 7379, _TECHNOLOGY),  # software, data processing
    (7320, 7399, _INDUSTRIALS),  # business services
    (7500, 7699, _INDUSTRIALS),  # rental, repair
    (7800, 7899, _COMMUNICATION),  # motion pictures
    (7900, 7999, _DISCRETIONARY),  # amusement
    (8000, 8099, _HEALTH),
    (8200, 8399, _DISCRETIONARY),  # education, social services
    (8731, 8734, _HEALTH),  # laboratories
    (8100, 8799, _INDUSTRIALS),  # legal, engineering, management services
)


def sector_of(sic_code: str) -> str:
    """Return the sector of a SIC code, empty where it is none that we place: unknown stays unknown."""
    if not (sic_code.isascii() and sic_code.isdigit()):
        return ""
    number = int(sic_code)
    return next((sector for first, last, sector in RANGES if first <= number <= last), "")
