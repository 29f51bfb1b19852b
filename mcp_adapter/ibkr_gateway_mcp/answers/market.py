"""Quotes, bars and contracts."""

from __future__ import annotations

from ibkr_gateway_mcp.answers.common import Answer, Failure, Instrument, MarketDataType, SecurityType, Untrusted


class Greeks(Answer):
    """Option sensitivities by IBKR's model, each per unit of the underlying."""

    implied_volatility: float | None = None
    """Fraction per year: 0.25 is 25 %."""
    delta: float | None = None
    """Change of the option's price for 1.00 in the underlying."""
    gamma: float | None = None
    """Change of delta for 1.00 in the underlying."""
    vega: float | None = None
    """Change of price for one volatility point."""
    theta: float | None = None
    """Change of price for one day."""
    option_price: float | None = None
    """Model price of the option."""
    underlying_price: float | None = None
    """Underlying price the model used."""


class Quote(Answer):
    """Prices and sizes at one moment, in the instrument's currency per unit; prices may be negative."""

    instrument: Instrument
    """Whose prices."""
    bid_price: float | None = None
    """Best bid."""
    ask_price: float | None = None
    """Best ask."""
    last_price: float | None = None
    """Last trade."""
    bid_size: float | None = None
    """Units at the bid."""
    ask_size: float | None = None
    """Units at the ask."""
    last_size: float | None = None
    """Units of the last trade."""
    open_price: float | None = None
    """First price of the session."""
    high_price: float | None = None
    """Highest price of the session."""
    low_price: float | None = None
    """Lowest price of the session."""
    close_price: float | None = None
    """Closing price of the session before."""
    volume: float | None = None
    """Units traded in the session."""
    market_data_type: MarketDataType | None = None
    """How fresh the prices are: DELAYED ones are 10 to 20 minutes old, FROZEN ones of a closed market."""
    exchange_time: str | None = None
    """Exchange's time of the last trade."""
    receive_time: str | None = None
    """When the gateway received the newest of these values."""
    source: str | None = None
    """IBKR or SIMULATOR."""
    is_snapshot: bool = False
    """True when the request was for one snapshot."""
    is_stale: bool = False
    """True when nothing has arrived for so long that the feed may be dead."""
    halted: bool | None = None
    """True when trading in it is halted. Missing: not said."""
    greeks: Greeks | None = None
    """Only of options."""


class QuoteResult(Answer):
    """A quote, or why there is none."""

    symbol: str
    """As it was asked for."""
    quote: Quote | None = None
    """Missing: see error."""
    error: Failure | None = None
    """Missing: there is a quote."""


class Quotes(Answer):
    """A result for each symbol, in the order asked."""

    results: list[QuoteResult]
    """One for each symbol."""


class Bar(Answer):
    """Prices over one span of time, in the instrument's currency per unit."""

    start_time: str | None = None
    """Start of the bar. Missing: see date."""
    date: str | None = None
    """Trading day, YYYY-MM-DD, of daily, weekly and monthly bars."""
    open: float
    """First price."""
    high: float
    """Highest price."""
    low: float
    """Lowest price."""
    close: float
    """Last price."""
    volume: float | None = None
    """Units traded. Missing where the prices are not trades."""
    wap: float | None = None
    """Volume-weighted average price. Missing where the prices are not trades."""
    trade_count: int | None = None
    """Number of trades. Missing where the prices are not trades."""
    is_complete: bool = False
    """False while the bar's span has not ended."""


class Bars(Answer):
    """Historical bars, sorted by time."""

    instrument: Instrument | None = None
    """Whose bars. Missing when they were asked for by start_time."""
    bars: list[Bar]
    """Oldest first."""
    time_zone: str | None = None
    """IANA name of the exchange's time zone, where its days begin."""
    is_cached: bool | None = None
    """True when they are those of the same request within the last 15 s."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""


class SymbolMatch(Answer):
    """One symbol found."""

    instrument: Instrument
    """The contract; only its primary_exchange is told."""
    description: Untrusted | None = None
    """Its name."""
    derivative_types: list[SecurityType] = []
    """Kinds of derivatives on it."""


class SymbolMatches(Answer):
    """Symbols found, best first."""

    matches: list[SymbolMatch]
    """Empty: none."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""


class TradingSession(Answer):
    """One span of trading."""

    open_time: str
    """Opens."""
    close_time: str
    """Closes."""


class ContractDetails(Answer):
    """What IBKR knows of a contract."""

    instrument: Instrument
    """The contract."""
    long_name: Untrusted | None = None
    """Name of the company, fund or product."""
    min_tick: str | None = None
    """Smallest price step, decimal."""
    order_types: list[str] = []
    """Kinds of orders that IBKR takes for it, under IBKR's codes."""
    valid_exchanges: list[str] = []
    """Exchanges where it can be traded."""
    market_rule_ids: list[int] = []
    """Market rule of each valid exchange, in the same order."""
    time_zone: str | None = None
    """IANA name of the exchange's time zone."""
    trading_sessions: list[TradingSession] = []
    """Sessions of the coming days, with pre- and post-market."""
    regular_sessions: list[TradingSession] = []
    """Regular sessions of the coming days."""
    min_size: str | None = None
    """Smallest quantity of an order, decimal."""
    size_increment: str | None = None
    """Quantities are multiples of it, decimal."""
    underlying_con_id: int | None = None
    """con_id of the underlying."""
    industry: Untrusted | None = None
    """Industry."""
    category: Untrusted | None = None
    """Category within the industry."""
    stock_type: str | None = None
    """COMMON, ETF, ADR. Missing: not a stock."""
    contract_month: str | None = None
    """Month of the contract, YYYY-MM."""


class ContractDetailsList(Answer):
    """Details of every contract that matches, by expiry, strike, con_id."""

    details: list[ContractDetails]
    """At least one."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""


class OptionChain(Answer):
    """What is listed at one exchange under one trading class. Not every strike exists at every expiry."""

    exchange: str | None = None
    """Exchange."""
    trading_class: str | None = None
    """Trading class."""
    multiplier: str | None = None
    """Units of the underlying in one option, decimal."""
    expiries: list[str] = []
    """YYYY-MM-DD, earliest first."""
    strikes: list[str] = []
    """Decimals, lowest first."""


class OptionChains(Answer):
    """Option chains by exchange, trading class and multiplier."""

    chains: list[OptionChain]
    """Empty: no options."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""
