"""Balances, positions, profit and loss, executions."""

from __future__ import annotations

from ibkr_gateway_mcp.answers.common import Answer, Instrument, Money, Side


class AccountSummary(Answer):
    """Balances and margin of one account, decimals in its base currency. Missing: IBKR did not send it."""

    account_id: str | None = None
    """Whose."""
    currency: str | None = None
    """ISO 4217 code of every amount here."""
    net_liquidation: str | None = None
    """Value of everything."""
    cash: str | None = None
    """Cash."""
    buying_power: str | None = None
    """What can be bought on margin."""
    margin_excess: str | None = None
    """Distance to liquidation."""
    maintenance_margin: str | None = None
    """Margin to keep the positions."""
    initial_margin: str | None = None
    """Margin to open the positions."""
    available_funds: str | None = None
    """What can be opened."""
    gross_position_value: str | None = None
    """Sum of the absolute values of the positions."""
    cushion: str | None = None
    """margin_excess / net_liquidation, as a fraction."""
    as_of_time: str | None = None
    """When the newest of these arrived."""
    is_stale: bool = False
    """True while the link to IBKR is lost: these were true when it was lost."""


class Position(Answer):
    """Holdings of one contract in one account."""

    account_id: str | None = None
    """Whose."""
    instrument: Instrument
    """Of what."""
    quantity: str
    """Units, negative when short; decimal."""
    average_cost: str | None = None
    """Paid per unit with commissions, decimal; for derivatives multiplied by the multiplier."""
    market_price: float | None = None
    """Last mark per unit. Missing: none yet."""
    market_value: str | None = None
    """Decimal, in `currency`. Missing: no mark yet."""
    unrealized_pnl: str | None = None
    """Decimal, in `currency`. Missing: no mark yet."""
    realized_pnl: str | None = None
    """Realised today, decimal, in `currency`. Missing: not said."""
    currency: str | None = None
    """ISO 4217 code of the amounts."""


class AccountStatus(Answer):
    """Summary and positions."""

    summary: AccountSummary
    """Balances and margin."""
    positions: list[Position]
    """By symbol, expiry, strike. Empty: the account is flat."""
    is_stale: bool = False
    """True while the link to IBKR is lost: these were true when it was lost."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""


class Positions(Answer):
    """Positions."""

    positions: list[Position]
    """By symbol, expiry, strike. Empty: the account is flat."""
    as_of_time: str | None = None
    """When the newest of them changed."""
    is_stale: bool = False
    """True while the link to IBKR is lost: these were true when it was lost."""


class PnlDetail(Answer):
    """Profit and loss of one position, decimals in the account's base currency."""

    instrument: Instrument
    """Of which contract."""
    quantity: str | None = None
    """Units, decimal."""
    daily_pnl: str | None = None
    """Of the day."""
    unrealized_pnl: str | None = None
    """Of what is open."""
    realized_pnl: str | None = None
    """Of what was closed today."""
    market_value: str | None = None
    """Value of the position."""


class AccountPnl(Answer):
    """Profit and loss of one account, decimals in its base currency. Missing: IBKR has not said."""

    account_id: str | None = None
    """Whose."""
    currency: str | None = None
    """ISO 4217 code of the amounts."""
    daily_pnl: str | None = None
    """Of the day."""
    unrealized_pnl: str | None = None
    """Of what is open."""
    realized_pnl: str | None = None
    """Of what was closed today."""
    details: list[PnlDetail] = []
    """By position."""
    as_of_time: str | None = None
    """When the newest of these arrived."""
    is_stale: bool = False
    """True while the link to IBKR is lost: these were true when it was lost."""
    note: str | None = None
    """What was left out, or is not as asked for. Missing: nothing."""


class Execution(Answer):
    """One fill, as the exchange reported it."""

    execution_id: str
    """IBKR's id; the last part counts corrections."""
    client_order_id: str | None = None
    """The caller's order id. Missing: not placed through this gateway."""
    order_id: int | None = None
    """IBKR's id of the order at its client."""
    perm_id: int | None = None
    """IBKR's id of the order in the account, for ever."""
    account_id: str | None = None
    """Whose."""
    instrument: Instrument
    """Of what."""
    side: Side | None = None
    """Bought or sold."""
    quantity: str
    """Units, decimal."""
    price: str
    """Per unit, decimal."""
    execution_time: str | None = None
    """Exchange's time."""
    exchange: str | None = None
    """Where it was filled."""
    commission: Money | None = None
    """Missing until IBKR reports it."""
    realized_pnl: str | None = None
    """Of the part it closed, decimal, in the commission's currency. Missing: it opened, or is not reported yet."""
    recovered: bool = False
    """True when learned after a disconnect."""


class Executions(Answer):
    """Executions of the gateway's record, newest first."""

    executions: list[Execution]
    """Empty: none."""
    next_page_token: str | None = None
    """Give it as page_token for more. Missing: no more."""
    note: str | None = None
    """What was left out, and how to get it. Missing: nothing was."""
