"""Orders on the wire: what is sent, and what IBKR says of orders, word for word.

Nothing is concluded here. Every callback becomes a piece of evidence with its connection's epoch; the trading ledger
draws what follows. Only the trading desk may import this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import from_contract, to_contract
from ibkr_gateway_server.broker.notices import is_notice, request_error
from ibkr_gateway_server.broker.numbers import decimal
from ibkr_gateway_server.broker.order_fields import order_seen, to_order
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError
from ibkr_gateway_server.domain.evidence import (
    CommissionSeen,
    Evidence,
    ExecutionSeen,
    OrderErrorSeen,
    OrderStatusSeen,
)
from ibkr_gateway_server.domain.orders import LegTerms, OrderSpec, Side, WhatIf

log = logging.getLogger(__name__)

# The largest order id TWS can hold is 2^31-1; it repeats ids silently beyond.
LAST_ORDER_ID = 2**31 - 10_000


class Permit(Protocol):
    """Says whether anything may be sent at all. Both raise a DomainError when it may not."""

    def authorize(self) -> None: ...
    def authorize_cancel(self) -> None: ...


class OrderWire:
    """Sends orders and hears of them. `permit` is asked at each send."""

    def __init__(self, pacer: Pacer, permit: Permit, hear: Callable[[Evidence], None]) -> None:
        self._pacer = pacer
        self._permit = permit
        self._hear = hear
        self._what_ifs: dict[int, asyncio.Future[WhatIf]] = {}

    def attach(self, connection: Connection) -> None:
        """Hear this connection's callbacks about orders."""
        connection.callbacks.order_listener = _Ear(connection.epoch, self._hear, self._what_ifs)

    # --- sending -------------------------------------------------------------------------------------------------

    def place(
        self, connection: Connection, order_id: int, spec: OrderSpec, terms: LegTerms, ref: str, parent_id: int = 0
    ) -> None:
        """Write one leg of a resolved order, or a change of it, now. `parent_id`: the order id that it is attached to.

        Raises TradingDisabled, LiveNotAuthorized with nothing written. Any other error leaves open whether a byte has
        left.
        """
        self._permit.authorize()
        order = to_order(spec, terms, connection.client_id, ref, parent_id)
        connection.client.placeOrder(order_id, to_contract(spec.instrument), order)

    def cancel(self, connection: Connection, order_id: int) -> None:
        """Write one cancel, now. Raises TradingDisabled with nothing written."""
        self._permit.authorize_cancel()
        connection.client.cancelOrder(order_id, "")

    def cancel_all(self, connection: Connection) -> None:
        """Write one cancel of every open order of the login, also of those placed elsewhere, now.

        Raises TradingDisabled with nothing written.
        """
        self._permit.authorize_cancel()
        connection.client.reqGlobalCancel()

    async def what_if(
        self, connection: Connection, order_id: int, spec: OrderSpec, terms: LegTerms, timeout_s: float
    ) -> WhatIf:
        """What one leg of a resolved order would cost and need by itself, computed by IBKR; nothing is placed.

        Raises TradingDisabled, BrokerTimeout, BrokerDisconnected, or what IBKR's refusal stands for.
        """
        await self._pacer.take(Priority.ORDER, timeout_s)
        self._permit.authorize()
        order = to_order(spec, terms, connection.client_id, "")
        # One that is not transmitted would be kept in TWS instead of being answered.
        order.whatIf = order.transmit = True
        answer: asyncio.Future[WhatIf] = asyncio.get_running_loop().create_future()
        self._what_ifs[order_id] = answer
        closed = asyncio.ensure_future(connection.closed.wait())
        try:
            connection.client.placeOrder(order_id, to_contract(spec.instrument), order)
            async with asyncio.timeout(timeout_s):
                await asyncio.wait((answer, closed), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise connection.disconnected()
            return answer.result()
        except ConnectionError:
            raise connection.disconnected() from None
        except TimeoutError:
            raise BrokerTimeout("the what-if", timeout_s) from None
        finally:
            closed.cancel()
            del self._what_ifs[order_id]

    # --- asking --------------------------------------------------------------------------------------------------

    async def ask_open_orders(self, connection: Connection, timeout_s: float) -> None:
        """Have every open order of the login told again; returns at its end marker."""
        await self._pacer.take(Priority.ACCOUNT, timeout_s)
        await connection.ask_shared("openOrders", connection.client.reqAllOpenOrders, timeout_s=timeout_s)

    async def ask_order_id(self, connection: Connection, timeout_s: float) -> None:
        """Have the next order id told again; the connection has it when it comes, and nothing waits for that."""
        await self._pacer.take(Priority.ACCOUNT, timeout_s)
        connection.client.reqIds(1)

    async def ask_completed_orders(self, connection: Connection, timeout_s: float) -> None:
        """Have every completed order of the day told again; returns at its end marker."""
        await self._pacer.take(Priority.ACCOUNT, timeout_s)
        await connection.ask_shared(
            "completedOrders", lambda: connection.client.reqCompletedOrders(False), timeout_s=timeout_s
        )

    async def ask_executions(self, connection: Connection, timeout_s: float) -> None:
        """Have every execution of the day told again; returns at its end marker."""
        await self._pacer.take(Priority.ACCOUNT, timeout_s)
        await connection.ask(
            "reqExecutions",
            lambda request_id: connection.client.reqExecutions(request_id, ib.ExecutionFilter()),
            timeout_s=timeout_s,
        )


class _Ear:
    """One connection's callbacks, as evidence."""

    def __init__(
        self, epoch: int, hear: Callable[[Evidence], None], what_ifs: dict[int, asyncio.Future[WhatIf]]
    ) -> None:
        self._epoch = epoch
        self._hear = hear
        self._what_ifs = what_ifs

    def open_order(self, contract: ib.Contract, order: ib.Order, state: ib.OrderState) -> None:
        if order.whatIf:
            self._answer_what_if(order.orderId, state)
        else:
            self._hear(order_seen(self._epoch, contract, order, state))

    def completed_order(self, contract: ib.Contract, order: ib.Order, state: ib.OrderState) -> None:
        self._hear(order_seen(self._epoch, contract, order, state, is_completed=True))

    def order_status(
        self,
        order_id: int,
        status: str,
        filled: float,
        remaining: float,
        average_fill_price: float,
        perm_id: int,
        client_id: int,
        why_held: str,
    ) -> None:
        self._hear(
            OrderStatusSeen(
                epoch=self._epoch,
                order_id=order_id,
                client_id=client_id,
                perm_id=perm_id,
                status=status,
                filled=decimal(filled) or Decimal(0),
                remaining=decimal(remaining) or Decimal(0),
                average_fill_price=decimal(average_fill_price) if filled else None,
                why_held=why_held,
            )
        )

    def execution(self, contract: ib.Contract, execution: ib.Execution, *, is_recovered: bool) -> None:
        self._hear(
            ExecutionSeen(
                epoch=self._epoch,
                execution_id=execution.execId,
                order_id=execution.orderId,
                client_id=execution.clientId,
                perm_id=execution.permId,
                account_id=execution.acctNumber,
                order_ref=execution.orderRef,
                instrument=from_contract(contract),
                side=Side.BUY if execution.side == "BOT" else Side.SELL,
                quantity=decimal(execution.shares) or Decimal(0),
                price=decimal(execution.price) or Decimal(0),
                execution_time=execution.time if isinstance(execution.time, datetime) else datetime.now(UTC),
                exchange=execution.exchange,
                is_recovered=is_recovered,
            )
        )

    def commission(self, report: ib.CommissionReport) -> None:
        self._hear(
            CommissionSeen(
                epoch=self._epoch,
                execution_id=report.execId,
                commission=decimal(report.commission),
                currency=report.currency,
                realized_pnl=decimal(report.realizedPNL),
            )
        )

    def order_error(self, order_id: int, code: int, text: str) -> None:
        what_if = self._what_ifs.get(order_id)
        if what_if is None:
            self._hear(OrderErrorSeen(self._epoch, order_id, code, text))
        elif not what_if.done() and not is_notice(code):
            what_if.set_exception(_what_if_refused(code, text))

    def _answer_what_if(self, order_id: int, state: ib.OrderState) -> None:
        what_if = self._what_ifs.get(order_id)
        margin = decimal(state.initMarginChange)
        # A live TWS may send a first reply that holds only a warning; the figures follow in the next.
        if what_if is None or what_if.done() or margin is None:
            return
        what_if.set_result(
            WhatIf(
                initial_margin_change=margin,
                maintenance_margin_change=decimal(state.maintMarginChange),
                commission=decimal(state.commission),
                min_commission=decimal(state.minCommission),
                max_commission=decimal(state.maxCommission),
                commission_currency=state.commissionCurrency,
                warning=state.warningText,
            )
        )


def _what_if_refused(code: int, message: str) -> DomainError:
    return request_error(code, message, "the order", "what-if")
