"""Accounts: balances, positions and P&L, kept from TWS's subscriptions.

Everything is subscribed once per connection and shared by all callers. An answer is complete or an error: a list
whose end marker has not come is never taken for an empty account.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
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
from ibkr_gateway_server.domain.errors import (
    AccountNotFound,
    AccountRequired,
    BrokerLinkDown,
    BrokerTimeout,
    DomainError,
)

log = logging.getLogger(__name__)

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

# How long P&L waits for its positions once the account's own is there; one that TWS cannot price never comes.
SINGLES_S = 2.0


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
        self._state = _State(None)
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
        await self._complete(state, state.summary_complete, "reqAccountSummary")
        if state.summary_failure is not None:
            raise state.summary_failure
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
        await self._complete(state, state.positions_complete, "reqPositions")
        try:
            await self._subscribe_values(account)
        except (BrokerLinkDown, BrokerTimeout) as error:
            # What is held is known; what it is worth stays as it was last marked, or absent.
            log.warning("positions are not marked now", extra={"reason": error.reason})
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
        """P&L of the account and of each of its positions; a position that TWS does not price is without figures."""
        account = self.account_id(requested)
        self._session.linked()
        positions, _ = await self.positions(account)
        state = self._state
        whole = await self._pnl(state, account, 0)
        singles = [(held, await self._pnl(state, account, held.instrument.con_id)) for held in positions]
        state.end_pnl_of_others(account, {held.instrument.con_id for held in positions})
        await self._complete(state, whole.arrived, "reqPnL")
        if whole.failure is not None:
            raise whole.failure
        with suppress(TimeoutError):
            async with asyncio.timeout(SINGLES_S):
                for _, single in singles:
                    await single.arrived.wait()
        return AccountPnl(
            account_id=account,
            currency=(await self.summary(account)).currency,
            as_of_time=whole.time or datetime.now(UTC),
            daily_pnl=whole.daily,
            unrealized_pnl=whole.unrealized,
            realized_pnl=whole.realized,
            details=tuple(
                PnlDetail(
                    instrument=held.instrument,
                    quantity=held.quantity,
                    daily_pnl=single.daily,
                    unrealized_pnl=single.unrealized,
                    realized_pnl=single.realized,
                    market_value=single.market_value,
                )
                for held, single in singles
            ),
        )

    # --- subscribing ---------------------------------------------------------------------------------------------

    async def _subscribe(self, connection: Connection) -> None:
        """Part of becoming READY: summary and positions flow from here on, and their first round is complete."""
        state = self._state = _State(connection)
        connection.callbacks.account_listener = state
        timeout_s = self._session.timings.request_timeout_s
        try:
            await self._pacer.take(Priority.ACCOUNT, timeout_s)
            request_id = connection.request_id()
            connection.listen(request_id, _SummarySink(state))
            connection.client.reqAccountSummary(request_id, "All", ",".join(sorted(_SUMMARY_FIELDS)))
            await self._pacer.take(Priority.ACCOUNT, timeout_s)
            connection.client.reqPositions()
        except ConnectionError:
            # Lost while it waited for its turn.
            raise connection.disconnected() from None
        await self._complete(state, state.summary_complete, "reqAccountSummary")
        if state.summary_failure is not None:
            # Two programs of the login may follow balances at a time; without them the session is of use all the same.
            log.warning("balances cannot be followed", extra={"reason": state.summary_failure.reason})
        await self._complete(state, state.positions_complete, "reqPositions")

    async def _subscribe_values(self, account: str) -> None:
        """TWS sends one account's values and marks at a time; the subscription follows who was asked for last."""
        state, timeout_s = self._state, self._session.timings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s), state.values_turn:
                if state.values_account == account and state.values_complete.is_set():
                    return
                self._session.linked()
                await self._pacer.take(Priority.ACCOUNT, timeout_s)
                connection = self._linked(state)
                state.values_account, state.values_complete = account, asyncio.Event()
                connection.client.reqAccountUpdates(True, account)
                await self._complete(state, state.values_complete, "reqAccountUpdates")
        except TimeoutError:
            raise BrokerTimeout("reqAccountUpdates", timeout_s) from None

    async def _pnl(self, state: _State, account: str, con_id: int) -> _PnlSink:
        """The P&L subscription of an account (con_id 0) or of one of its positions; begun when there is none."""
        key = (account, con_id)
        if key not in state.pnl:
            await self._pacer.take(Priority.ACCOUNT, self._session.timings.request_timeout_s)
        if key not in state.pnl:
            state.begin_pnl(self._linked(state), account, con_id)
        return state.pnl[key]

    def _linked(self, state: _State) -> Connection:
        """The connection this state is of. Raises BrokerDisconnected when another has followed, BrokerLinkDown."""
        connection = self._session.linked()
        if connection is not state.connection:
            raise connection.disconnected()
        return connection

    async def _complete(self, state: _State, complete: asyncio.Event, request: str) -> None:
        """Returns when TWS has ended its answer. Raises BrokerTimeout, BrokerDisconnected when it no longer can."""
        if complete.is_set():
            return
        connection, timeout_s = state.connection or self._session.connection(), self._session.timings.request_timeout_s
        waits = [asyncio.ensure_future(event.wait()) for event in (complete, connection.closed)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not complete.is_set():
            raise connection.disconnected() if connection.closed.is_set() else BrokerTimeout(request, timeout_s)


class _State:
    """What the current connection has told; a new one starts empty. Hears the callbacks without a request id."""

    def __init__(self, connection: Connection | None) -> None:
        self.connection = connection
        self.accounts = connection.accounts if connection is not None else ()
        self.of: defaultdict[str, _Kept] = defaultdict(_Kept)
        self.pnl: dict[tuple[str, int], _PnlSink] = {}
        self.summary_complete = asyncio.Event()
        self.summary_failure: DomainError | None = None
        self.positions_complete = asyncio.Event()
        self.values_complete = asyncio.Event()
        self.values_account = ""
        self.values_turn = asyncio.Lock()

    def begin_pnl(self, connection: Connection, account: str, con_id: int) -> None:
        sink = self.pnl[account, con_id] = _PnlSink(
            connection.request_id(), lambda: self.pnl.pop((account, con_id), None)
        )
        connection.listen(sink.request_id, sink)
        if con_id:
            connection.client.reqPnLSingle(sink.request_id, account, "", con_id)
        else:
            connection.client.reqPnL(sink.request_id, account, "")

    def end_pnl_of_others(self, account: str, con_ids: set[int]) -> None:
        """Positions that have been closed since are followed no more."""
        for key, sink in list(self.pnl.items()):
            if key[0] == account and key[1] and key[1] not in con_ids and self.connection is not None:
                del self.pnl[key]
                self.connection.unlisten(sink.request_id)
                self.connection.client.cancelPnLSingle(sink.request_id)

    def position(self, account: str, contract: ib.Contract, quantity: float, average_cost: float) -> None:
        kept = self.of[account]
        known, units = kept.positions.get(contract.conId), decimal(quantity) or Decimal(0)
        # A price outlives a fill; a value of another quantity does not.
        is_marked = known is not None and known.quantity == units
        kept.positions[contract.conId] = Position(
            account_id=account,
            instrument=from_contract(contract),
            quantity=units,
            average_cost=decimal(average_cost) or Decimal(0),
            currency=contract.currency,
            market_price=known.market_price if known else None,
            market_value=known.market_value if known and is_marked else None,
            unrealized_pnl=known.unrealized_pnl if known and is_marked else None,
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

    def error(self, code: int, text: str) -> None:
        if not is_notice(code):
            self._state.summary_failure = request_error(code, text, "the account", "reqAccountSummary")
            self._state.summary_complete.set()


class _PnlSink(Sink):
    """P&L as it comes; a figure that TWS has not computed is absent."""

    def __init__(self, request_id: int, forget: Callable[[], object]) -> None:
        self.request_id = request_id
        self._forget = forget
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
            # Whoever asks next asks TWS again.
            self._forget()
            self.arrived.set()


def _base_currency(kept: _Kept) -> str:
    return next((currency for _, currency in kept.summary.values() if currency), "")
