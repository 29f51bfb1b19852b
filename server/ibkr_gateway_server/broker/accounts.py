"""Accounts: balances, positions and P&L, kept from TWS's subscriptions.

Everything is subscribed once per connection and shared by all callers. An answer is complete or an error: a list
whose end marker has not come is never taken for an empty account.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.callbacks import Sink
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import from_contract
from ibkr_gateway_server.broker.notices import is_notice, request_error
from ibkr_gateway_server.broker.numbers import decimal, number
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.accounts import (
    AccountPnl,
    AccountSummary,
    AccountValue,
    PnlDetail,
    Position,
)
from ibkr_gateway_server.domain.errors import AccountNotFound, AccountRequired, BrokerTimeout, DomainError

# Source: TWS API, account summary tags.
_SUMMARY_FIELDS = {
    "NetLiquidation": "net_liquidation",
    "TotalCashValue": "cash",
    "BuyingPower": "buying_power",
    "ExcessLiquidity": "margin_excess",
    "MaintMarginReq": "maintenance_margin",
    "InitMarginReq": "initial_margin",
    "AvailableFunds": "available_funds",
    "GrossPositionValue": "gross_position_value",
    "Cushion": "cushion",
}


@dataclass(slots=True)
class _Kept:
    """What one connection has told of one account."""

    summary: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: dict[tuple[str, str], AccountValue] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    values_time: datetime | None = None
    positions_time: datetime | None = None
    summary_time: datetime | None = None


class Accounts:
    """Balances, positions and P&L of every account of the login."""

    def __init__(self, session: Session, pacer: Pacer) -> None:
        self._session = session
        self._pacer = pacer
        self._state = _State()
        session.on_sync(self._subscribe)

    def accounts(self) -> tuple[str, ...]:
        """The accounts of this login; none while TWS has not named them."""
        return self._state.accounts

    def account_id(self, requested: str) -> str:
        """The account a request means. Raises AccountRequired, AccountNotFound, BrokerDisconnected, SessionSyncing."""
        accounts = list(self._session.connection().accounts)
        if not requested and len(accounts) > 1:
            raise AccountRequired(len(accounts))
        if requested and requested not in accounts:
            raise AccountNotFound
        return requested or accounts[0]

    async def summary(self, requested: str = "") -> AccountSummary:
        """Balances and margin."""
        account = self.account_id(requested)
        state = self._state
        await self._complete(state.summary_complete, "reqAccountSummary")
        kept = state.of[account]
        amounts = {name: decimal(kept.summary.get(tag, ("", ""))[0]) for tag, name in _SUMMARY_FIELDS.items()}
        return AccountSummary(
            account_id=account,
            currency=_base_currency(kept),
            as_of_time=kept.summary_time or datetime.now(UTC),
            **amounts,
        )

    async def values(self, requested: str = "") -> tuple[tuple[AccountValue, ...], datetime]:
        """Every value under IBKR's own tags, and when the newest arrived."""
        account = self.account_id(requested)
        await self._subscribe_values(account)
        kept = self._state.of[account]
        ordered = sorted(kept.values.values(), key=lambda value: (value.tag, value.currency))
        return tuple(ordered), kept.values_time or datetime.now(UTC)

    async def positions(self, requested: str = "") -> tuple[tuple[Position, ...], datetime]:
        """Positions that are not zero, and when the newest of them changed; marked to market where TWS marks them."""
        account = self.account_id(requested)
        state = self._state
        await self._complete(state.positions_complete, "reqPositions")
        await self._subscribe_values(account)
        kept = state.of[account]
        held = sorted(
            (position for position in kept.positions.values() if position.quantity),
            key=lambda position: (
                position.instrument.symbol,
                position.instrument.expiry,
                position.instrument.strike or Decimal(0),
                position.instrument.con_id,
            ),
        )
        return tuple(held), kept.positions_time or datetime.now(UTC)

    async def pnl(self, requested: str = "") -> AccountPnl:
        """P&L of the account and of each of its positions."""
        account = self.account_id(requested)
        connection = self._session.linked()
        positions, _ = await self.positions(account)
        whole = await self._pnl(connection, account, 0)
        details = [
            PnlDetail(
                instrument=position.instrument,
                quantity=position.quantity,
                daily_pnl=single.daily,
                unrealized_pnl=single.unrealized,
                realized_pnl=single.realized,
                market_value=single.market_value,
            )
            for position in positions
            for single in [await self._pnl(connection, account, position.instrument.con_id)]
        ]
        return AccountPnl(
            account_id=account,
            currency=(await self.summary(account)).currency,
            as_of_time=whole.time or datetime.now(UTC),
            daily_pnl=whole.daily,
            unrealized_pnl=whole.unrealized,
            realized_pnl=whole.realized,
            details=tuple(details),
        )

    # --- subscribing ---------------------------------------------------------------------------------------------

    async def _subscribe(self, connection: Connection) -> None:
        """Part of becoming READY: summary and positions flow from here on, and their first round is complete."""
        state = self._state = _State(connection.accounts)
        connection.callbacks.account_listener = state
        timeout_s = self._session.timings.request_timeout_s
        await self._pacer.take(Priority.ACCOUNT, timeout_s)
        request_id = connection.request_id()
        connection.listen(request_id, _SummarySink(state))
        connection.client.reqAccountSummary(request_id, "All", ",".join(sorted(_SUMMARY_FIELDS)))
        await self._pacer.take(Priority.ACCOUNT, timeout_s)
        connection.client.reqPositions()
        await self._complete(state.summary_complete, "reqAccountSummary")
        await self._complete(state.positions_complete, "reqPositions")

    async def _subscribe_values(self, account: str) -> None:
        """TWS sends one account's values and marks at a time; the subscription follows who was asked for last."""
        state, connection = self._state, self._session.linked()
        if state.values_account != account:
            state.values_account = account
            state.values_complete = asyncio.Event()
            await self._pacer.take(Priority.ACCOUNT, self._session.timings.request_timeout_s)
            connection.client.reqAccountUpdates(True, account)
        await self._complete(state.values_complete, "reqAccountUpdates")

    async def _pnl(self, connection: Connection, account: str, con_id: int) -> _PnlSink:
        """The P&L subscription of an account (con_id 0) or one of its positions, with its first values in."""
        sink = self._state.pnl.get((account, con_id))
        if sink is None:
            sink = self._state.pnl[account, con_id] = _PnlSink()
            await self._pacer.take(Priority.ACCOUNT, self._session.timings.request_timeout_s)
            request_id = connection.request_id()
            connection.listen(request_id, sink)
            if con_id:
                connection.client.reqPnLSingle(request_id, account, "", con_id)
            else:
                connection.client.reqPnL(request_id, account, "")
        await self._complete(sink.arrived, "reqPnL")
        if sink.failure is not None:
            del self._state.pnl[account, con_id]
            raise sink.failure
        return sink

    async def _complete(self, complete: asyncio.Event, request: str) -> None:
        timeout_s = self._session.timings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await complete.wait()
        except TimeoutError:
            raise BrokerTimeout(request, timeout_s) from None


class _State:
    """What the current connection has told; a new one starts empty. Hears the callbacks without a request id."""

    def __init__(self, accounts: tuple[str, ...] = ()) -> None:
        self.accounts = accounts
        self.of: defaultdict[str, _Kept] = defaultdict(_Kept)
        self.pnl: dict[tuple[str, int], _PnlSink] = {}
        self.summary_complete = asyncio.Event()
        self.positions_complete = asyncio.Event()
        self.values_complete = asyncio.Event()
        self.values_account = ""

    def position(self, account: str, contract: ib.Contract, quantity: float, average_cost: float) -> None:
        kept = self.of[account]
        known = kept.positions.get(contract.conId)
        kept.positions[contract.conId] = Position(
            account_id=account,
            instrument=from_contract(contract),
            quantity=decimal(quantity) or Decimal(0),
            average_cost=decimal(average_cost) or Decimal(0),
            currency=contract.currency,
            market_price=known.market_price if known else None,
            market_value=known.market_value if known else None,
            unrealized_pnl=known.unrealized_pnl if known else None,
            realized_pnl=known.realized_pnl if known else None,
        )
        kept.positions_time = datetime.now(UTC)

    def position_end(self) -> None:
        self.positions_complete.set()

    def account_value(self, account: str, tag: str, value: str, currency: str) -> None:
        kept = self.of[account]
        kept.values[tag, currency] = AccountValue(tag, value, currency)
        kept.values_time = datetime.now(UTC)

    def portfolio(
        self,
        account: str,
        contract: ib.Contract,
        quantity: float,
        market_price: float,
        market_value: float,
        average_cost: float,
        unrealized_pnl: float,
        realized_pnl: float,
    ) -> None:
        kept = self.of[account]
        known = kept.positions.get(contract.conId)
        kept.positions[contract.conId] = Position(
            account_id=account,
            instrument=known.instrument if known else from_contract(contract),
            quantity=decimal(quantity) or Decimal(0),
            average_cost=decimal(average_cost) or Decimal(0),
            currency=contract.currency,
            market_price=number(market_price),
            market_value=decimal(market_value),
            unrealized_pnl=decimal(unrealized_pnl),
            realized_pnl=decimal(realized_pnl),
        )
        kept.positions_time = datetime.now(UTC)

    def account_download_end(self, account: str) -> None:
        if account == self.values_account:
            self.values_complete.set()


class _SummarySink(Sink):
    def __init__(self, state: _State) -> None:
        self._state = state

    def account_summary(self, account: str, tag: str, value: str, currency: str) -> None:
        kept = self._state.of[account]
        kept.summary[tag] = (value, currency)
        kept.summary_time = datetime.now(UTC)

    def account_summary_end(self) -> None:
        self._state.summary_complete.set()


class _PnlSink(Sink):
    """P&L as it comes; a figure that TWS has not computed is absent."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.failure: DomainError | None = None
        self.time: datetime | None = None
        self.daily: Decimal | None = None
        self.unrealized: Decimal | None = None
        self.realized: Decimal | None = None
        self.market_value: Decimal | None = None

    def pnl(self, daily: float, unrealized: float, realized: float) -> None:
        self.daily, self.unrealized, self.realized = decimal(daily), decimal(unrealized), decimal(realized)
        self.time = datetime.now(UTC)
        self.arrived.set()

    def pnl_single(self, position: float, daily: float, unrealized: float, realized: float, value: float) -> None:
        self.market_value = decimal(value)
        self.pnl(daily, unrealized, realized)

    def error(self, code: int, text: str) -> None:
        if not is_notice(code):
            self.failure = request_error(code, text, "the account", "reqPnL")
            self.arrived.set()


def _base_currency(kept: _Kept) -> str:
    return next((currency for _, currency in kept.summary.values() if currency), "")
