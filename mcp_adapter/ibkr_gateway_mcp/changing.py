"""Working orders changed and cancelled, and trading stopped: asked about first, sent once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from ibkr_gateway import AsyncGateway
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from mcp.server.mcpserver import Context, Elicit

from ibkr_gateway_mcp import approval
from ibkr_gateway_mcp.answers.orders import ENDED
from ibkr_gateway_mcp.approval import Approval
from ibkr_gateway_mcp.asking import Asking, NoQuestion, Outcome, answered, require_consent
from ibkr_gateway_mcp.inputs import order_key
from ibkr_gateway_mcp.plain import word
from ibkr_gateway_mcp.previews import KEPT, PREFIX
from ibkr_gateway_mcp.refusals import Refusal


class Changing:
    """The way of a change, a cancel or a halt from a model to the gateway."""

    def __init__(self, gateway: AsyncGateway, asking: Asking) -> None:
        self._gateway = gateway
        self._asking = asking
        # The change that each call was last asked about.
        self._asked: OrderedDict[str, str] = OrderedDict()

    async def changed(self, order_id: str, changes: dict[str, str]) -> tuple[pb.Order, pb.OrderSpec]:
        """An order as it is, and its terms with some of them changed. Raises Refusal when nothing would change."""
        order = (await self._gateway.orders.GetOrder(pb.GetOrderRequest(order=order_key(order_id)))).order
        if not order.HasField("spec") or not order.status.client_order_id:
            raise Refusal("NOT_MODIFIABLE", "the order was placed elsewhere; it is changed where it was placed")
        after = pb.OrderSpec()
        after.CopyFrom(order.spec)
        for name, value in changes.items():
            setattr(after, name, value)
        if after == order.spec:
            raise Refusal("FIELD_INVALID", "these are the terms that the order has; nothing was sent")
        return order, after

    async def ask_to_modify(
        self, order_id: str, changes: dict[str, str], context: Context
    ) -> Approval | Elicit[Approval]:
        """Have a change approved."""
        order, after = await self.changed(order_id, changes)
        status = await self._asking.trading_status()
        key = order.status.client_order_id
        self._asked[_call(order_id, changes)] = _change(order.spec, after)
        while len(self._asked) > KEPT:
            self._asked.popitem(last=False)
        return await self._asking.about_order(approval.change_question(order.spec, after, key, status), context)

    async def modify(self, order_id: str, changes: dict[str, str], outcome: Outcome) -> pb.OrderResult:
        """Change an order, once, whatever the caller repeats."""
        require_consent(outcome)
        order, after = await self.changed(order_id, changes)
        if self._asked.pop(_call(order_id, changes), None) != _change(order.spec, after):
            raise Refusal("APPROVAL_REQUIRED", "the order is not as it was when the person was asked; nothing was sent")
        request = pb.ModifyOrderRequest(
            client_order_id=order.status.client_order_id, modify_id=_modify_id(order, after), order=after
        )
        return (await answered(self._gateway.orders.ModifyOrder(request))).result

    async def ask_to_cancel(self, order_id: str, context: Context) -> Approval | NoQuestion | Elicit[Approval]:
        """Have a cancel approved; of an order that has ended nothing can leave."""
        request = pb.GetOrderStatusRequest(order=order_key(order_id))
        order = (await self._gateway.orders.GetOrderStatus(request)).status
        if word(pb.OrderState.DESCRIPTOR, order.state) in ENDED:
            return NoQuestion()
        question = approval.cancel_question(order, order_id, await self._asking.trading_status())
        return await self._asking.about_cancel(question, context)

    async def cancel(self, order_id: str, outcome: Outcome) -> pb.CancelOrderResponse:
        """Cancel an order; repeating it is harmless."""
        require_consent(outcome)
        return await answered(self._gateway.orders.CancelOrder(pb.CancelOrderRequest(order=order_key(order_id))))

    async def ask_to_halt(self, level: str, context: Context) -> Approval | NoQuestion | Elicit[Approval]:
        """Have a halt approved that cancels orders; one that only refuses new ones asks nobody: it must be quick."""
        if level == "BLOCK_NEW":
            return NoQuestion()
        world = approval.world(await self._asking.trading_status())
        question = f"{world}: stop trading and cancel every open order of the gateway?"
        return await self._asking.about_cancel(question, context)

    async def halt(self, level: str, comment: str, outcome: Outcome) -> gateway_pb.HaltTradingResponse:
        """Stop trading, also over restarts, until a person resumes."""
        require_consent(outcome)
        request = gateway_pb.HaltTradingRequest(
            level=gateway_pb.HaltLevel.Value(f"HALT_LEVEL_{level}"), comment=comment
        )
        return await answered(self._gateway.gateway.HaltTrading(request))


def _call(order_id: str, changes: dict[str, str]) -> str:
    return repr((order_id, sorted(changes.items())))


def _change(before: pb.OrderSpec, after: pb.OrderSpec) -> str:
    return repr((before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)))


def _modify_id(order: pb.Order, after: pb.OrderSpec) -> str:
    """Of the order as it stands and the terms to come: the same call is the same change, a later one is another."""
    parts = (order.status.client_order_id, order.status.last_sequence, after.SerializeToString(deterministic=True))
    return PREFIX + hashlib.sha256(repr(parts).encode()).hexdigest()[:40]
