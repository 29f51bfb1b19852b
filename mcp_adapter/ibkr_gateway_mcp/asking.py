"""Asking a person, and counting how often; what every command that needs it goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from ibkr_gateway import AsyncGateway, GatewayError
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit

from ibkr_gateway_mcp import approval
from ibkr_gateway_mcp.approval import Approval
from ibkr_gateway_mcp.budget import DAY, Budget
from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.previews import PREFIX
from ibkr_gateway_mcp.refusals import answer_lost

T = TypeVar("T")
Outcome = Any
"""What a resolver came to: an accepted, declined or cancelled form, or an accepted answer that needed no form."""


class NoQuestion:
    """Nobody needs to be asked: nothing new can leave by this call."""


class Asking:
    """The questions of one adapter, and their budgets."""

    def __init__(self, gateway: AsyncGateway, limits: Limits, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._timeout_s = limits.approval_timeout_s
        self._now = now
        # Cancels have a budget of their own: orders must never use up the means to end them.
        self._orders, self._cancels = Budget(limits, now), Budget(limits, now)
        self._remembering = asyncio.Lock()
        self._has_remembered = False

    async def about_order(self, question: str, context: Context) -> Approval | Elicit[Approval]:
        """Ask about an order or a change of one. Raises Refusal."""
        return await self._ask(self._orders, question, context)

    async def about_cancel(self, question: str, context: Context) -> Approval | Elicit[Approval]:
        """Ask about what ends orders. Raises Refusal."""
        return await self._ask(self._cancels, question, context)

    async def trading_status(self) -> gateway_pb.TradingStatus:
        """Whether the gateway would send orders, and in which world."""
        return (await self._gateway.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())).status

    async def _ask(self, budget: Budget, question: str, context: Context) -> Approval | Elicit[Approval]:
        approval.require_way_to_ask(context)
        # A call that brings the answer to an earlier one asks nothing new.
        if not context.input_responses:
            if budget is self._orders:
                # What ends orders does not wait for the record of them.
                await self._remember()
            budget.take()
        return await approval.ask(question, context, self._timeout_s)

    async def _remember(self) -> None:
        """Count the orders of adapters before this one: the gateway's record knows them."""
        async with self._remembering:
            if self._has_remembered:
                return
            request = pb.ListOrdersRequest(page_size=1000)
            request.start_time.FromDatetime(self._now() - DAY)
            orders = (await self._gateway.orders.ListOrders(request)).orders
            ours = [order for order in orders if order.client_order_id.startswith(PREFIX)]
            sent = [order for order in ours if order.state != pb.ORDER_STATE_SIMULATED]
            self._orders.remember(order.create_time.ToDatetime(UTC) for order in sent)
            self._has_remembered = True


def is_approved(outcome: Outcome) -> bool:
    """Whether a person has said yes."""
    answer = _answer(outcome)
    return isinstance(answer, Approval) and answer.approve


def needs_nobody(outcome: Outcome) -> bool:
    """Whether nobody had to be asked."""
    return isinstance(_answer(outcome), NoQuestion)


def require_consent(outcome: Outcome) -> None:
    """Raises Refusal unless a person has said yes, or nobody had to be asked."""
    if not needs_nobody(outcome) and not is_approved(outcome):
        raise approval.declined()


async def answered(command: Awaitable[T]) -> T:
    """The answer to a command. Raises Refusal(ANSWER_LOST) when a status comes that no gateway made."""
    try:
        return await command
    except GatewayError as error:
        if error.reason:
            raise
        raise answer_lost() from error


def _answer(outcome: Outcome) -> object:
    return outcome.data if isinstance(outcome, AcceptedElicitation) else None
