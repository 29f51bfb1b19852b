"""Market scans: the catalogue ranked by what the simulated day has brought."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market, Prices

MAX_ROWS = 50

# Instrument, and the locations that belong to it: a location's listing exchange, or any.
_STOCKS = {"STK.US": "", "STK.US.MAJOR": "", "STK.NYSE": "NYSE", "STK.NASDAQ": "NASDAQ", "STK.ARCA": "ARCA"}
LOCATIONS: dict[str, dict[str, str]] = {
    "STK": _STOCKS,
    "ETF.EQ.US": _STOCKS | {"ETF.EQ.US": "", "ETF.EQ.US.MAJOR": ""},
    "FUT.US": {"FUT.US": "", "FUT.CME": ""},
    "IND.US": {"IND.US": ""},
}
SEC_TYPES = {"STK": "STK", "ETF.EQ.US": "STK", "FUT.US": "FUT", "IND.US": "IND"}


def _change(prices: Prices) -> float:
    return prices.last / prices.close - 1 if prices.close else 0.0


def _gap(prices: Prices) -> float:
    return prices.open / prices.close - 1 if prices.close else 0.0


def _since_opening(prices: Prices) -> float:
    return prices.last / prices.open - 1 if prices.open else 0.0


# Scan codes, their names, and by what they rank, the highest first.
CODES: dict[str, tuple[str, Callable[[Prices], float]]] = {
    "TOP_PERC_GAIN": ("Top % Gainers", _change),
    "TOP_PERC_LOSE": ("Top % Losers", lambda prices: -_change(prices)),
    "MOST_ACTIVE": ("Most Active", lambda prices: float(prices.volume)),
    "MOST_ACTIVE_USD": ("Most Active ($)", lambda prices: prices.volume * prices.last),
    "HOT_BY_VOLUME": ("Hot Contracts by Volume", lambda prices: float(prices.volume)),
    "HOT_BY_PRICE": ("Hot Contracts by Price", lambda prices: abs(_change(prices))),
    "TOP_PRICE_RANGE": ("Top Price Range", lambda prices: (prices.high - prices.low) / prices.last),
    "HIGH_OPEN_GAP": ("Top Close-to-Open % Gainers", _gap),
    "LOW_OPEN_GAP": ("Top Close-to-Open % Losers", lambda prices: -_gap(prices)),
    "TOP_OPEN_PERC_GAIN": ("Top % Gainers Since Open", _since_opening),
    "TOP_OPEN_PERC_LOSE": ("Top % Losers Since Open", lambda prices: -_since_opening(prices)),
}

FILTERS: dict[str, Callable[[Prices], float]] = {
    "price": lambda prices: prices.last,
    "volume": lambda prices: float(prices.volume),
    "changePerc": lambda prices: 100 * _change(prices),
    "changeOpenPerc": lambda prices: 100 * _since_opening(prices),
}


@dataclass(frozen=True, slots=True)
class Scan:
    """What to rank by what, of which instruments; `bounds` are figures with what they must be above and below."""

    instrument: str
    location: str
    code: str
    rows: int
    bounds: tuple[tuple[str, float, float], ...] = ()

    def run(self, catalogue: Iterable[Listing], market: Market, now: float) -> list[Listing]:
        """What is found now, the best first."""
        wanted = [(listing, market.prices(listing, now)) for listing in catalogue if self._is_meant(listing)]
        rank = CODES[self.code][1]
        found = [(rank(prices), listing) for listing, prices in wanted if self._is_within(prices)]
        found.sort(key=lambda row: (-row[0], row[1].con_id))
        return [listing for _, listing in found[: self.rows]]

    def _is_meant(self, listing: Listing) -> bool:
        if listing.sec_type != SEC_TYPES[self.instrument]:
            return False
        if self.instrument == "ETF.EQ.US" and listing.stock_type != "ETF":
            return False
        return LOCATIONS[self.instrument][self.location] in ("", listing.primary_exchange)

    def _is_within(self, prices: Prices) -> bool:
        return all(low <= FILTERS[name](prices) <= high for name, low, high in self.bounds)


def parameters_xml() -> str:
    """What can be scanned, in the elements of IBKR's document that clients read; theirs has two megabytes."""
    instruments = "".join(
        f"<Instrument><name>{kind}</name><type>{kind}</type><secType>{SEC_TYPES[kind]}</secType></Instrument>"
        for kind in LOCATIONS
    )
    locations = "".join(
        f"<Location><displayName>{code}</displayName><locationCode>{code}</locationCode>"
        f"<instruments>{kind}</instruments></Location>"
        for kind, codes in LOCATIONS.items()
        for code in codes
        if code.startswith(kind)
    )
    scans = "".join(
        f"<ScanType><displayName>{name.replace('&', '&amp;')}</displayName><scanCode>{code}</scanCode>"
        f"<instruments>{','.join(LOCATIONS)}</instruments></ScanType>"
        for code, (name, _) in CODES.items()
    )
    filters = "".join(
        f"<RangeFilter><id>{name.upper()}</id><category>High/Low/Volume Filters</category>"
        f"<AbstractField><code>{name}Above</code></AbstractField>"
        f"<AbstractField><code>{name}Below</code></AbstractField></RangeFilter>"
        for name in FILTERS
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ScanParameterResponse>'
        f"<InstrumentList>{instruments}</InstrumentList><LocationTree>{locations}</LocationTree>"
        f"<ScanTypeList>{scans}</ScanTypeList><FilterList>{filters}</FilterList></ScanParameterResponse>"
    )
