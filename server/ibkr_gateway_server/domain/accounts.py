"""Balances, positions and P&L. Amounts are Decimals in the named currency; None is what IBKR has not said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ibkr_gateway_server.domain.instruments import Instrument


def is_paper_account(account_id: str) -> bool:
    """True for paper and simulated accounts: IBKR numbers them DU…, DF… (advisor) or DUP…, live ones U…, F…, I…."""
    return account_id.startswith("D")


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """Balances and margin in the account's base currency. Source: TWS API, accountSummary tags."""

    account_id: str
    currency: str
    as_of_time: datetime
    net_liquidation: Decimal | None = None
    cash: Decimal | None = None
    buying_power: Decimal | None = None
    margin_excess: Decimal | None = None
    maintenance_margin: Decimal | None = None
    initial_margin: Decimal | None = None
    available_funds: Decimal | None = None
    gross_position_value: Decimal | None = None
    cushion: Decimal | None = None


@dataclass(frozen=True, slots=True)
class AccountValue:
    """One raw value under IBKR's tag."""

    tag: str
    value: str
    currency: str


@dataclass(frozen=True, slots=True)
class Position:
    """Holdings of one contract in one account. `average_cost` is IBKR's: with commissions, times the multiplier."""

    account_id: str
    instrument: Instrument
    quantity: Decimal
    average_cost: Decimal
    currency: str
    market_price: float | None = None
    market_value: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PnlDetail:
    """P&L of one position."""

    instrument: Instrument
    quantity: Decimal
    daily_pnl: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    market_value: Decimal | None = None


@dataclass(frozen=True, slots=True)
class AccountPnl:
    """P&L of one account in its base currency: of the day, of what is open, of what was closed today."""

    account_id: str
    currency: str
    as_of_time: datetime
    daily_pnl: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    details: tuple[PnlDetail, ...] = ()
