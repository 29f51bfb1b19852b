"""Instruments: what a caller names, and the contract that IBKR knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from ibkr_gateway_server.domain.errors import Violations


class SecurityType(StrEnum):
    """IBKR's security types, under IBKR's own codes."""

    STK = "STK"
    FUT = "FUT"
    OPT = "OPT"
    FOP = "FOP"
    IND = "IND"
    CASH = "CASH"
    BAG = "BAG"
    WAR = "WAR"
    BOND = "BOND"
    CMDTY = "CMDTY"
    FUND = "FUND"
    CFD = "CFD"
    CRYPTO = "CRYPTO"


class OptionRight(StrEnum):
    """IBKR's codes of an option's right."""

    CALL = "C"
    PUT = "P"


@dataclass(frozen=True, slots=True)
class Instrument:
    """Names one contract, in part (a request) or wholly (an answer, with con_id).

    `expiry` is YYYY-MM-DD, or YYYY-MM in a request; `strike` in the contract's currency; `multiplier` units of the
    underlying in one contract. Empty text, None and con_id 0 mean: not said.
    """

    con_id: int = 0
    symbol: str = ""
    security_type: SecurityType | None = None
    exchange: str = ""
    currency: str = ""
    primary_exchange: str = ""
    expiry: str = ""
    strike: Decimal | None = None
    right: OptionRight | None = None
    multiplier: Decimal | None = None
    local_symbol: str = ""
    trading_class: str = ""

    def label(self) -> str:
        """A short name for people: "AAPL STK", "MES FUT 2026-12-18"."""
        parts = [self.symbol or f"con_id {self.con_id}", self.security_type, self.expiry, self.right]
        if self.strike is not None:
            parts.append(f"{self.strike.normalize():f}")
        return " ".join(part for part in parts if part)

    def violations(self, found: Violations) -> None:
        """Note what keeps this from naming a contract."""
        if self.con_id < 0:
            found.add("con_id", f"{self.con_id} is negative; use IBKR's contract id, or leave it out")
        if self.con_id == 0 and not self.symbol and not self.local_symbol:
            found.add("symbol", "name the instrument by con_id, or by symbol and security_type")
        if self.con_id == 0 and (self.symbol or self.local_symbol) and self.security_type is None:
            found.add("security_type", "is needed beside a symbol: STK, FUT, OPT, IND, CASH, …")


@dataclass(frozen=True, slots=True)
class TradingSession:
    """One span of trading, UTC."""

    open_time: datetime
    close_time: datetime


@dataclass(frozen=True, slots=True)
class TradingSchedule:
    """Sessions from today on, earliest first; of days after `last_date`, at the exchange, nothing is known."""

    time_zone: str
    regular_sessions: tuple[TradingSession, ...]
    trading_sessions: tuple[TradingSession, ...]
    last_date: date


@dataclass(frozen=True, slots=True)
class ContractDetails:
    """What IBKR knows of a contract. `min_tick` is a price; sizes are units. Source: TWS API, ContractDetails."""

    instrument: Instrument
    long_name: str = ""
    min_tick: Decimal = Decimal("0.01")
    order_types: tuple[str, ...] = ()
    valid_exchanges: tuple[str, ...] = ()
    market_rule_ids: tuple[int, ...] = ()
    time_zone: str = ""
    trading_sessions: tuple[TradingSession, ...] = ()
    regular_sessions: tuple[TradingSession, ...] = ()
    hours_last_date: date | None = None
    """The last day, at the exchange, that the sessions are told of; None: nothing is told."""
    min_size: Decimal = Decimal(1)
    size_increment: Decimal = Decimal(1)
    underlying_con_id: int = 0
    industry: str = ""
    category: str = ""
    stock_type: str = ""
    contract_month: str = ""


@dataclass(frozen=True, slots=True)
class SymbolMatch:
    """A contract that a search found, and the kinds of derivatives on it. Source: TWS API, ContractDescription."""

    instrument: Instrument
    description: str = ""
    derivative_types: tuple[SecurityType, ...] = ()


@dataclass(frozen=True, slots=True)
class OptionChain:
    """What is listed at one exchange under one trading class. Not every strike exists at every expiry.

    `expiries` are YYYY-MM-DD and `strikes` in the underlying's currency, both rising; `multiplier` is units of the
    underlying in one option, None: not said. Source: TWS API, securityDefinitionOptionParameter.
    """

    exchange: str
    trading_class: str
    multiplier: Decimal | None
    expiries: tuple[str, ...]
    strikes: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class PriceLadder:
    """The price steps of a contract: from each low edge on, its increment. Source: TWS API, reqMarketRule."""

    steps: tuple[tuple[Decimal, Decimal], ...] = field(default=((Decimal(0), Decimal("0.01")),))

    def increment(self, price: Decimal) -> Decimal:
        """The step that applies at a price; negative prices take that of their absolute value."""
        applying = [step for edge, step in self.steps if edge <= abs(price)]
        return applying[-1] if applying else self.steps[0][1]

    def neighbours(self, price: Decimal) -> tuple[Decimal, Decimal] | None:
        """The valid prices below and above, or None when the price is valid itself."""
        step = self.increment(price)
        remainder = price % step
        if not remainder:
            return None
        below = (price - remainder if remainder > 0 else price - remainder - step).quantize(step)
        return below, below + step
