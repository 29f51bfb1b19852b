"""The catalogue: what the simulated gateway lists, and how it matches what a client asks for.

Contract ids of well-known instruments are IBKR's; those of expiring contracts are invented but stable: the same
contract has the same id in every process and on every day.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

ORDER_TYPES = (
    "ACTIVETIM,AD,ADDONT,ADJUST,ALERT,ALGO,ALLOC,AON,AVGCOST,BASKET,BENCHPX,CASHQTY,COND,CONDORDER,DARKONLY,DARKPOLL,"
    "DAY,DEACT,DEACTDIS,DEACTEOD,DIS,DUR,GAT,GTC,GTD,GTT,HID,IBKRATS,ICE,IMB,IOC,LIT,LMT,LOC,MIDPX,MIT,MKT,MOC,MTL,"
    "NGCOMB,NODARK,NONALGO,OCA,OPG,OPGREROUT,PEGBENCH,PEGMID,POSTATS,POSTONLY,PREOPGRTH,PRICECHK,REL,REL2MID,RELPCTOFS,"
    "RPI,RTH,SCALE,SCALEODD,SCALERST,SIZECHK,SNAPMID,SNAPMKT,SNAPREL,STP,STPLMT,SWEEP,TRAIL,TRAILLIT,TRAILLMT,TRAILMIT,"
    "WHATIF"
)
STOCK_EXCHANGES = (
    "SMART,AMEX,NYSE,CBOE,PHLX,ISE,CHX,ARCA,NASDAQ,DRCTEDGE,BEX,BATS,EDGEA,BYX,IEX,EDGX,FOXRIVER,PEARL,NYSENAT,LTSE,"
    "MEMX,IBEOS,OVERNIGHT,TPLUS0,PSX,T24X"
)

# Price steps by market rule id: (low edge, increment). Source: reqMarketRule answers as documented and published.
MARKET_RULES: dict[int, tuple[tuple[float, float], ...]] = {
    26: ((0.0, 0.01),),
    67: ((0.0, 0.25),),
    32: ((0.0, 0.01), (3.0, 0.05)),
    239: ((0.0, 0.00005),),
}


@dataclass(frozen=True)
class Listing:
    """One contract. Prices are per unit; `scale` times the root's price is its own; margins are per unit of value."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    primary_exchange: str
    local_symbol: str
    trading_class: str
    long_name: str
    currency: str = "USD"
    expiry: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    min_tick: float = 0.01
    market_rule: int = 26
    valid_exchanges: str = "SMART"
    market_name: str = ""
    contract_month: str = ""
    industry: str = ""
    category: str = ""
    subcategory: str = ""
    time_zone: str = "US/Eastern"
    hours: tuple[str, str] = ("0400-2000", "0930-1600")
    isin: str = ""
    under_con_id: int = 0
    under_symbol: str = ""
    under_sec_type: str = ""
    stock_type: str = ""
    agg_group: str = "1"
    sizes: tuple[str, str, str] = ("1", "1", "1")
    root: str = ""
    scale: float = 1.0
    spread_ticks: int = 1
    margin_rate: float = 0.25
    is_subscribed: bool = True

    @property
    def units(self) -> float:
        """Units of the underlying in one contract."""
        return float(self.multiplier or 1)

    @property
    def is_tradable(self) -> bool:
        """False for an index."""
        return self.sec_type != "IND"


@dataclass(frozen=True)
class Root:
    """A price process that one or more contracts follow: its level and its volatility per year."""

    name: str
    level: float
    volatility: float


ROOTS = {
    root.name: root
    for root in (
        Root("AAPL", 257.95, 0.26),
        Root("MSFT", 471.60, 0.23),
        Root("AMZN", 228.15, 0.30),
        Root("TSLA", 402.30, 0.55),
        Root("NVDA", 181.40, 0.45),
        Root("IBM", 301.20, 0.24),
        Root("SPX", 6724.0, 0.14),
        Root("NDX", 24480.0, 0.19),
        Root("VIX", 17.9, 0.90),
        Root("EUR", 1.1523, 0.075),
        Root("GBP", 1.3174, 0.08),
    )
}


def _stock(
    con_id: int, symbol: str, name: str, listed: str, isin: str, sector: tuple[str, str, str], **more: object
) -> Listing:
    base = Listing(
        con_id=con_id,
        symbol=symbol,
        sec_type="STK",
        exchange="SMART",
        primary_exchange=listed,
        local_symbol=symbol,
        trading_class="NMS" if listed == "NASDAQ" else symbol,
        long_name=name,
        valid_exchanges=STOCK_EXCHANGES,
        market_name="NMS" if listed == "NASDAQ" else symbol,
        industry=sector[0],
        category=sector[1],
        subcategory=sector[2],
        isin=isin,
        stock_type="COMMON",
        sizes=("0.0001", "0.0001", "100"),
        root=symbol,
    )
    return replace(base, **more)  # type: ignore[arg-type]  # the keys are Listing's own


_TECH = ("Technology", "Computers", "Computers")
_FUND = ("", "", "")

FIXED = (
    _stock(265598, "AAPL", "APPLE INC", "NASDAQ", "US0378331005", _TECH),
    _stock(
        272093, "MSFT", "MICROSOFT CORP", "NASDAQ", "US5949181045", ("Technology", "Software", "Applications Software")
    ),
    _stock(
        3691937,
        "AMZN",
        "AMAZON.COM INC",
        "NASDAQ",
        "US0231351067",
        ("Communications", "Internet", "E-Commerce/Products"),
    ),
    _stock(
        76792991,
        "TSLA",
        "TESLA INC",
        "NASDAQ",
        "US88160R1014",
        ("Consumer, Cyclical", "Auto Manufacturers", "Auto-Cars/Light Trucks"),
    ),
    _stock(
        4815747,
        "NVDA",
        "NVIDIA CORP",
        "NASDAQ",
        "US67066G1040",
        ("Technology", "Semiconductors", "Electronic Compo-Semicon"),
    ),
    _stock(
        8314,
        "IBM",
        "INTL BUSINESS MACHINES CORP",
        "NYSE",
        "US4592001014",
        ("Technology", "Computers", "Computer Services"),
        is_subscribed=False,
    ),
    _stock(
        756733,
        "SPY",
        "SS SPDR S&P 500 ETF TRUST-US",
        "ARCA",
        "US78462F1030",
        _FUND,
        stock_type="ETF",
        root="SPX",
        scale=0.0998,
    ),
    _stock(
        320227571,
        "QQQ",
        "INVESCO QQQ TRUST SERIES 1",
        "NASDAQ",
        "US46090E1038",
        _FUND,
        stock_type="ETF",
        root="NDX",
        scale=0.02435,
    ),
    Listing(
        416904,
        "SPX",
        "IND",
        "CBOE",
        "",
        "SPX",
        "SPX",
        "S&P 500 Stock Index",
        root="SPX",
        market_name="SPX",
        valid_exchanges="CBOE",
        industry="Indices",
        category="Broad Range Equity Index",
        subcategory="*",
        time_zone="US/Central",
        hours=("0830-1500", "0830-1500"),
        agg_group="2147483647",
    ),
    Listing(
        13455763,
        "VIX",
        "IND",
        "CBOE",
        "",
        "VIX",
        "VIX",
        "CBOE Volatility Index",
        root="VIX",
        market_name="VIX",
        valid_exchanges="CBOE",
        industry="Indices",
        category="Volatility Index",
        subcategory="*",
        time_zone="US/Central",
        hours=("0215-1515", "0830-1515"),
        agg_group="2147483647",
    ),
    Listing(
        12087792,
        "EUR",
        "CASH",
        "IDEALPRO",
        "",
        "EUR.USD",
        "EUR.USD",
        "European Monetary Union Euro",
        root="EUR",
        market_name="EUR.USD",
        min_tick=0.00005,
        market_rule=239,
        valid_exchanges="IDEALPRO",
        hours=("1715-1700", "1715-1700"),
        agg_group="4",
        margin_rate=0.03,
    ),
    Listing(
        12087797,
        "GBP",
        "CASH",
        "IDEALPRO",
        "",
        "GBP.USD",
        "GBP.USD",
        "British pound",
        root="GBP",
        market_name="GBP.USD",
        min_tick=0.00005,
        market_rule=239,
        valid_exchanges="IDEALPRO",
        hours=("1715-1700", "1715-1700"),
        agg_group="4",
        margin_rate=0.03,
    ),
)

_MONTH_CODES = "FGHJKMNQUVXZ"
_FUTURES = {
    # symbol: (name, multiplier, con_id base, margin as a share of value)
    "ES": ("E-mini S&P 500", "50", 700_000_000, 0.056),
    "MES": ("Micro E-mini S&P 500", "5", 701_000_000, 0.056),
}
_OPTION_ROOTS = {"AAPL": (265598, 5.0), "SPY": (756733, 5.0)}
_STRIKES_EACH_SIDE = 10


def third_friday(year: int, month: int) -> date:
    """The last trading day of monthly options and quarterly futures."""
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


@dataclass
class Catalogue:
    """Everything listed on one day."""

    today: date
    _by_id: dict[int, Listing] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for listing in (*FIXED, *self._futures(), *self._options()):
            self._by_id[listing.con_id] = listing

    def __iter__(self) -> Iterator[Listing]:
        return iter(self._by_id.values())

    def by_id(self, con_id: int) -> Listing | None:
        """The contract with this id."""
        return self._by_id.get(con_id)

    def match(self, query: ContractQuery) -> list[Listing]:
        """Every contract that a request's contract fits, in the catalogue's order."""
        return [listing for listing in self if query.fits(listing)]

    def search(self, pattern: str) -> list[Listing]:
        """Stocks, indices and pairs whose symbol begins with the pattern or whose name contains it."""
        wanted = pattern.upper()
        found = [
            listing for listing in FIXED if listing.symbol.startswith(wanted) or wanted in listing.long_name.upper()
        ]
        return sorted(found, key=lambda listing: (not listing.symbol.startswith(wanted), listing.symbol))

    def options_of(self, con_id: int) -> list[Listing]:
        """The options on an underlying."""
        return [listing for listing in self if listing.sec_type == "OPT" and listing.under_con_id == con_id]

    @cached_property
    def quarters(self) -> list[date]:
        """Last trading days of the front quarter and the three after it."""
        days = (third_friday(self.today.year + ahead, month) for ahead in (0, 1, 2) for month in (3, 6, 9, 12))
        return [day for day in days if day >= self.today][:4]

    @cached_property
    def months(self) -> list[date]:
        """Last trading days of the next three monthly options."""
        days = (third_friday(self.today.year + ahead, month) for ahead in (0, 1) for month in range(1, 13))
        return [day for day in days if day >= self.today][:3]

    def _futures(self) -> Iterator[Listing]:
        for symbol, (name, multiplier, base, margin) in _FUTURES.items():
            for day in self.quarters:
                local = f"{symbol}{_MONTH_CODES[day.month - 1]}{day.year % 10}"
                years = (day - self.today).days / 365
                yield Listing(
                    con_id=base + day.year * 100 + day.month,
                    symbol=symbol,
                    sec_type="FUT",
                    exchange="CME",
                    primary_exchange="",
                    local_symbol=local,
                    trading_class=symbol,
                    long_name=name,
                    expiry=day.strftime("%Y%m%d"),
                    multiplier=multiplier,
                    min_tick=0.25,
                    market_rule=67,
                    valid_exchanges="CME,QBALGO",
                    market_name=symbol,
                    contract_month=day.strftime("%Y%m"),
                    time_zone="US/Central",
                    hours=("1700-1600", "0830-1600"),
                    under_con_id=416904,
                    under_symbol=symbol,
                    under_sec_type="IND",
                    agg_group="2147483647",
                    root="SPX",
                    # Carry: a future stands above its index by interest less dividends until expiry.
                    scale=1.0 + 0.028 * years,
                    margin_rate=margin,
                )

    def _options(self) -> Iterator[Listing]:
        for symbol, (under, step) in _OPTION_ROOTS.items():
            stock = next(listing for listing in FIXED if listing.con_id == under)
            middle = round(ROOTS[stock.root].level * stock.scale / step) * step
            strikes = [middle + step * offset for offset in range(-_STRIKES_EACH_SIDE, _STRIKES_EACH_SIDE + 1)]
            for day in self.months:
                for strike in strikes:
                    for right in "CP":
                        yield self._option(stock, symbol, day, strike, right)

    @staticmethod
    def _option(stock: Listing, symbol: str, day: date, strike: float, right: str) -> Listing:
        local = f"{symbol:<6}{day:%y%m%d}{right}{round(strike * 1000):08d}"
        return Listing(
            con_id=800_000_000 + zlib.crc32(local.encode()) % 100_000_000,
            symbol=symbol,
            sec_type="OPT",
            exchange="SMART",
            primary_exchange="",
            local_symbol=local,
            trading_class=symbol,
            long_name=stock.long_name,
            expiry=day.strftime("%Y%m%d"),
            strike=strike,
            right=right,
            multiplier="100",
            market_rule=32,
            valid_exchanges="SMART,AMEX,CBOE,CBOE2,PHLX,ISE,BOX,BATS,NASDAQOM,GEMINI,MIAX,PEARL,EMERALD,MERCURY",
            market_name=symbol,
            contract_month=day.strftime("%Y%m"),
            hours=("0930-1600", "0930-1600"),
            industry=stock.industry,
            category=stock.category,
            subcategory=stock.subcategory,
            under_con_id=stock.con_id,
            under_symbol=symbol,
            under_sec_type="STK",
            root=stock.root,
            scale=stock.scale,
            margin_rate=1.0,
        )


@dataclass(frozen=True)
class ContractQuery:
    """A contract as a client sends it: the twelve fields, most of them empty."""

    con_id: int = 0
    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""

    def fits(self, listing: Listing) -> bool:
        """Whether a contract is what was asked for. With a con_id nothing else but the exchange counts."""
        if not self._exchange_fits(listing):
            return False
        if self.con_id:
            return self.con_id == listing.con_id
        if not self.symbol and not self.local_symbol:
            return False
        return (
            self.symbol in ("", listing.symbol)
            and self.sec_type in ("", listing.sec_type)
            and self.currency in ("", listing.currency)
            and self.local_symbol in ("", listing.local_symbol)
            and self.trading_class in ("", listing.trading_class)
            and listing.expiry.startswith(self.expiry)
            and self.strike in (0.0, listing.strike)
            and self.right[:1] in ("", "?", "0", listing.right)
            and self.multiplier in ("", listing.multiplier)
            and (self.primary_exchange in ("", listing.primary_exchange) or listing.sec_type != "STK")
        )

    def _exchange_fits(self, listing: Listing) -> bool:
        return not self.exchange or self.exchange in listing.valid_exchanges.split(",")


def hours_text(listing: Listing, now: float, *, regular: bool, days: int = 6) -> str:
    """Opening hours of the coming days as contract details spell them."""
    opening, closing = listing.hours[1 if regular else 0].split("-")
    today = datetime.fromtimestamp(now, UTC).date()
    spans = []
    for ahead in range(days):
        day = today + timedelta(days=ahead)
        # A session that ends earlier on the clock than it begins has begun the evening before.
        begin = day - timedelta(days=1) if closing <= opening else day
        if day.weekday() >= 5:
            spans.append(f"{day:%Y%m%d}:CLOSED")
        else:
            spans.append(f"{begin:%Y%m%d}:{opening}-{day:%Y%m%d}:{closing}")
    return ";".join(spans)
