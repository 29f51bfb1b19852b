"""The tables of what is listed: contracts that do not expire, the price processes they follow, price steps.

Contract ids are IBKR's but where it is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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

# Price steps by market rule id: (low edge, increment). Source: reqMarketRule answers as documented and published; the
# numbers above 2000 are invented, their steps are not.
MARKET_RULES: dict[int, tuple[tuple[float, float], ...]] = {
    26: ((0.0, 0.01),),
    67: ((0.0, 0.25),),
    32: ((0.0, 0.01), (3.0, 0.05)),
    239: ((0.0, 0.00005),),
    2001: ((0.0, 0.0001), (1.0, 0.0005), (5.0, 0.002), (10.0, 0.005), (50.0, 0.01), (100.0, 0.02), (500.0, 0.1)),
    2002: ((0.0, 0.005),),
    2003: ((0.0, 0.0001),),
}


@dataclass(frozen=True)
class Bond:
    """What only a bond has. Dates are YYYYMMDD; the coupon is in percent a year."""

    cusip: str
    coupon: float
    maturity: str
    issued: str
    kind: str
    coupon_kind: str
    description: str
    ratings: str = ""


@dataclass(frozen=True)
class Fund:
    """What only a mutual fund has. Loads and fees are in percent."""

    family: str
    kind: str
    management_fee: str
    least_purchase: str
    least_further_purchase: str
    distribution: str = "Y"
    asset: str = "004"


@dataclass(frozen=True)
class Listing:
    """One contract. Prices are per unit; `scale` times the root's price is its own.

    Its maintenance margin is a share of its value (`margin_rate`) or an amount for each contract (`contract_margin`).
    """

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
    order_types: str = ORDER_TYPES
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
    contract_margin: float = 0.0
    is_subscribed: bool = True
    bond: Bond | None = None
    fund: Fund | None = None

    @property
    def is_quoted(self) -> bool:
        """False for what has one price at a time and no bid and ask: an index, a mutual fund."""
        return self.sec_type not in ("IND", "FUND")

    @property
    def units(self) -> float:
        """Units of the underlying in one contract."""
        return float(self.multiplier or 1)

    @property
    def is_tradable(self) -> bool:
        """False for an index, and for bonds and funds, whose orders are not simulated."""
        return self.sec_type not in ("IND", "BOND", "FUND")


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
        Root("SAP", 236.4, 0.25),
        Root("US-T", 98.42, 0.05),
        Root("EUR", 1.1523, 0.075),
        Root("GBP", 1.3174, 0.08),
        Root("AUD", 0.6478, 0.095),
        Root("JPY", 154.62, 0.09),
        Root("CHF", 0.8064, 0.08),
        Root("CAD", 1.4087, 0.06),
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


def _pair(con_id: int, name: str, long_name: str, **more: object) -> Listing:
    symbol, _, currency = name.partition(".")
    base = Listing(
        con_id=con_id,
        symbol=symbol,
        sec_type="CASH",
        exchange="IDEALPRO",
        primary_exchange="",
        local_symbol=name,
        trading_class=name,
        long_name=long_name,
        currency=currency,
        root=currency if symbol == "USD" else symbol,
        market_name=name,
        min_tick=0.00005,
        market_rule=239,
        valid_exchanges="IDEALPRO",
        hours=("1715-1700", "1715-1700"),
        agg_group="4",
        margin_rate=0.03,
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
        416843,
        "NDX",
        "IND",
        "NASDAQ",
        "",
        "NDX",
        "NDX",
        "NASDAQ 100 Stock Index",
        root="NDX",
        market_name="NDX",
        valid_exchanges="NASDAQ",
        industry="Indices",
        category="Broad Range Equity Index",
        subcategory="*",
        hours=("0930-1600", "0930-1600"),
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
    # Its number is invented; the rest is as IBKR lists it.
    _stock(
        900_000_001,
        "SAP",
        "SAP SE",
        "IBIS",
        "DE0007164600",
        ("Technology", "Software", "Enterprise Software/Serv"),
        currency="EUR",
        exchange="SMART",
        trading_class="XETRA",
        market_name="XETRA",
        valid_exchanges="SMART,IBIS,IBIS2,FWB,SWB,TGATE,EUIBSI,BATEEN,CHIXEN",
        time_zone="MET",
        hours=("0900-1730", "0900-1730"),
        spread_ticks=2,
        market_rule=2001,
        min_tick=0.02,
        sizes=("1", "1", "1"),
    ),
    # A bond and a fund to look at; their numbers and the bond's CUSIP are invented.
    Listing(
        900_000_002,
        "US-T",
        "BOND",
        "SMART",
        "",
        "IBCID900000002",
        "US-T",
        "United States Treasury Note/Bond",
        root="US-T",
        market_name="US-T",
        min_tick=0.0001,
        market_rule=2003,
        valid_exchanges="SMART,ABSCAUSFI,BONDDESKFI,FOXRIVER,TMCBONDFI",
        hours=("0800-1700", "0800-1700"),
        sizes=("1", "1", "1"),
        spread_ticks=100,
        bond=Bond("91282CZZ9", 4.125, "20341115", "20241115", "GOVT", "FIXED", "US-T 4 1/8 11/15/34", "AA1/AA+"),
    ),
    Listing(
        900_000_003,
        "VTSAX",
        "FUND",
        "FUNDSERV",
        "",
        "VTSAX",
        "VTSAX",
        "Vanguard Total Stock Market Index Fund Admiral Shares",
        root="SPX",
        scale=0.0238,
        market_name="VTSAX",
        valid_exchanges="FUNDSERV",
        hours=("0930-1600", "0930-1600"),
        isin="US9229087286",
        sizes=("0.001", "0.001", "0.001"),
        fund=Fund("Vanguard", "Equity", "0.04", "3000", "1"),
    ),
    _pair(12087792, "EUR.USD", "European Monetary Union Euro"),
    _pair(12087797, "GBP.USD", "British pound"),
    _pair(14433401, "AUD.USD", "Australian dollar"),
    _pair(15016059, "USD.JPY", "United States dollar", min_tick=0.005, market_rule=2002),
    _pair(12087820, "USD.CHF", "United States dollar"),
    _pair(15016062, "USD.CAD", "United States dollar"),
)

# What accounts can count in: the currencies of the listed pairs.
CURRENCIES = tuple(sorted({name for pair in FIXED if pair.sec_type == "CASH" for name in (pair.symbol, pair.currency)}))
