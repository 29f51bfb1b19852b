"""Commands that can cost money: previewed, approved by a person, counted, and only then given to the gateway."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from ibkr_gateway import AsyncGateway, GatewayError, NotFound
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit

from ibkr_gateway_mcp import approval
from ibkr_gateway_mcp.answers.orders import ENDED
from ibkr_gateway_mcp.approval import Approval
from ibkr_gateway_mcp.budget import DAY, Budget
from ibkr_gateway_mcp.inputs import order_key
from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.previews import KEPT, PREFIX, Preview, Previews, client_order_id
from ibkr_gateway_mcp.refusals import Refusal, answer_lost

T = TypeVar("T")
Outcome = Any
"""What a resolver came to: an accepted, declined or cancelled form, or an accepted answer that needed no form."""


class NoQuestion:
    """Nobody needs to be asked: nothing new can leave by this call."""


class Placing:
    """The way of a command from a model to the gateway."""

    def __init__(self, gateway: AsyncGateway, limits: Limits, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._limits = limits
        self._now = now
        self._previews = Previews(now)
        # Cancels have a budget of their own: orders must never use up the means to end them.
        self._orders, self._cancels = Budget(limits, now), Budget(limits, now)
        self._remembering = asyncio.Lock()
        self._has_remembered = False
        self._asked: OrderedDict[str, str] = OrderedDict()

    # --- placing -------------------------------------------------------------------------------------------------

    async def preview(self, spec: pb.OrderSpec) -> Preview:
        """What an order would do, kept so that it can become one. Nothing is sent that could trade."""
        status = await self._status()
        shown = (await self._gateway.orders.PreviewOrder(pb.PreviewOrderRequest(order=spec))).preview
        named = reference_pb.ResolveContractRequest(instrument=spec.instrument)
        contract = (await self._gateway.reference_data.ResolveContract(named)).instrument
        account_id = spec.account_id or await self._only_account()
        return self._previews.keep(spec, shown, contract, account_id, status)

    async def ask_to_place(
        self, spec: pb.OrderSpec, preview_id: str | None, context: Context
    ) -> Approval | NoQuestion | Elicit[Approval]:
        """Have the order of a preview approved. Raises Refusal for what could not be placed anyway."""
        kept = self._find(spec, preview_id)
        if not (await self._status()).orders_enabled or (preview_id and kept is None):
            return NoQuestion()
        if kept is None:
            raise Refusal(
                "APPROVAL_REQUIRED",
                "an order needs a preview first; nothing was sent",
                next_step="call preview_order with the same terms, show what it answers, then give its preview_id",
            )
        if kept.is_approved:
            return NoQuestion()
        self._check(kept)
        return await self._ask(self._orders, approval.order_question(kept), context)

    async def place(self, spec: pb.OrderSpec, preview_id: str | None, outcome: Outcome) -> pb.OrderResult:
        """Place the order of a preview, once, whatever the caller repeats."""
        kept = self._find(spec, preview_id)
        answer = outcome.data if isinstance(outcome, AcceptedElicitation) else None
        if kept is not None and isinstance(answer, Approval) and answer.approve:
            kept.is_approved = True
        if kept is not None and kept.is_approved:
            return await self._place(kept)
        if isinstance(answer, NoQuestion):
            return await self._known(preview_id) if preview_id and kept is None else await self._simulate(spec, kept)
        if kept is not None:
            kept.void_because = "the person did not approve it"
        raise approval.declined()

    def _find(self, spec: pb.OrderSpec, preview_id: str | None) -> Preview | None:
        kept = self._previews.find(preview_id) if preview_id else None
        if kept is not None and kept.spec != spec:
            names = [field.name for field in spec.DESCRIPTOR.fields]
            other = [name for name in names if getattr(kept.spec, name) != getattr(spec, name)]
            raise Refusal(
                "PREVIEW_EXPIRED",
                "the preview is of another order; nothing was sent",
                different=", ".join(other),
                next_step="give the terms that were previewed, or preview the ones that are meant",
            )
        return kept

    def _check(self, kept: Preview) -> None:
        kept.check(self._now())
        if kept.shown.blockers:
            first = kept.shown.blockers[0]
            raise Refusal(first.error_code, first.message, **first.details)
        if not kept.shown.preview_token:
            raise Refusal(
                "APPROVAL_REQUIRED",
                "the gateway gave no token with this preview, and without one no order is sent",
                next_step="tell the person that this version of the gateway cannot bind an order to its preview",
            )

    async def _place(self, kept: Preview) -> pb.OrderResult:
        if kept.is_attempted and (known := await self._find_result(kept.client_order_id)) is not None:
            return known
        self._check(kept)
        try:
            await self._check_world(kept)
        except Refusal as refusal:
            kept.void_because = refusal.message
            raise
        kept.is_attempted = True
        request = pb.PlaceOrderRequest(
            client_order_id=kept.client_order_id,
            order=kept.spec,
            require_transmit=True,
            preview_token=kept.shown.preview_token,
        )
        return (await _answered(self._gateway.orders.PlaceOrder(request))).result

    async def _check_world(self, kept: Preview) -> None:
        """Whether what was approved is still what it would be. Raises Refusal."""
        status = await self._status()
        if status.trading_mode != kept.status.trading_mode:
            raise Refusal("PREVIEW_EXPIRED", "the gateway is in another mode than at the preview; nothing was sent")
        if not status.can_send_orders and status.blockers:
            first = status.blockers[0]
            raise Refusal(first.reason, f"{first.message}; nothing was sent", remedy=first.remedy)
        before = _price(kept.shown.quote) if kept.shown.HasField("quote") else None
        if before is None:
            return
        request = market_pb.GetQuoteRequest(instrument=kept.instrument)
        now = _price((await self._gateway.market_data.GetQuote(request)).quote)
        if now is None or abs(now - before) > abs(before) * self._limits.drift_percent / 100:
            raise Refusal(
                "PREVIEW_EXPIRED",
                f"the market has moved more than {self._limits.drift_percent:g} % since the preview; nothing was sent",
                price_at_preview=f"{before:g}",
                price_now="not known" if now is None else f"{now:g}",
            )

    async def _simulate(self, spec: pb.OrderSpec, kept: Preview | None) -> pb.OrderResult:
        """Orders are disabled: the gateway answers SIMULATED and sends nothing."""
        kept = kept or await self.preview(spec)
        status = await self._status()
        if status.orders_enabled:
            raise Refusal("PREVIEW_EXPIRED", "orders have been enabled since the preview; nothing was sent")
        request = pb.PlaceOrderRequest(
            client_order_id=kept.client_order_id, order=spec, preview_token=kept.shown.preview_token
        )
        return (await _answered(self._gateway.orders.PlaceOrder(request))).result

    async def _known(self, preview_id: str) -> pb.OrderResult:
        """What became of a preview of an earlier process, if anything did."""
        if (known := await self._find_result(client_order_id(preview_id))) is not None:
            return known
        raise Refusal("PREVIEW_EXPIRED", "no such preview is kept, and no order came of it; nothing was sent")

    async def _find_result(self, key: str) -> pb.OrderResult | None:
        """The order as it is now; None: nothing of it has ever left."""
        try:
            request = pb.GetOrderRequest(order=pb.OrderKey(client_order_id=key))
            order = (await self._gateway.orders.GetOrder(request)).order
        except NotFound:
            return None
        if order.status.state == pb.ORDER_STATE_NOT_SENT:
            return None
        return pb.OrderResult(
            client_order_id=key,
            order_id=order.status.order_id,
            state=order.status.state,
            order_ids=[leg.order_id for leg in order.legs],
            leg_roles=[leg.leg_role for leg in order.legs if leg.leg_role],
            warnings=order.status.warnings,
            is_simulated=order.status.state == pb.ORDER_STATE_SIMULATED,
            status=order.status,
            legs=order.legs,
        )

    # --- changing ------------------------------------------------------------------------------------------------

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
        status = await self._status()
        key = order.status.client_order_id
        self._asked[_call(order_id, changes)] = _change(order.spec, after)
        while len(self._asked) > KEPT:
            self._asked.popitem(last=False)
        return await self._ask(self._orders, approval.change_question(order.spec, after, key, status), context)

    async def modify(self, order_id: str, changes: dict[str, str], outcome: Outcome) -> pb.OrderResult:
        """Change an order, once, whatever the caller repeats."""
        _require(outcome)
        order, after = await self.changed(order_id, changes)
        if self._asked.pop(_call(order_id, changes), None) != _change(order.spec, after):
            raise Refusal("APPROVAL_REQUIRED", "the order is not as it was when the person was asked; nothing was sent")
        request = pb.ModifyOrderRequest(
            client_order_id=order.status.client_order_id, modify_id=_modify_id(order, after), order=after
        )
        return (await _answered(self._gateway.orders.ModifyOrder(request))).result

    # --- cancelling and halting ----------------------------------------------------------------------------------

    async def ask_to_cancel(self, order_id: str, context: Context) -> Approval | NoQuestion | Elicit[Approval]:
        """Have a cancel approved; of an order that has ended nothing can leave."""
        request = pb.GetOrderStatusRequest(order=order_key(order_id))
        order = (await self._gateway.orders.GetOrderStatus(request)).status
        if pb.OrderState.Name(order.state).removeprefix("ORDER_STATE_") in ENDED:
            return NoQuestion()
        question = approval.cancel_question(order, order_id, await self._status())
        return await self._ask(self._cancels, question, context)

    async def cancel(self, order_id: str, outcome: Outcome) -> pb.CancelOrderResponse:
        """Cancel an order; repeating it is harmless."""
        _require(outcome)
        return await _answered(self._gateway.orders.CancelOrder(pb.CancelOrderRequest(order=order_key(order_id))))

    async def ask_to_halt(self, level: str, context: Context) -> Approval | NoQuestion | Elicit[Approval]:
        """Have a halt approved that cancels orders; one that only refuses new ones asks nobody: it must be quick."""
        if level == "BLOCK_NEW":
            return NoQuestion()
        question = f"{approval.world(await self._status())}: stop trading and cancel every open order of the gateway?"
        return await self._ask(self._cancels, question, context)

    async def halt(self, level: str, comment: str, outcome: Outcome) -> gateway_pb.HaltTradingResponse:
        """Stop trading, also over restarts, until a person resumes."""
        _require(outcome)
        request = gateway_pb.HaltTradingRequest(
            level=gateway_pb.HaltLevel.Value(f"HALT_LEVEL_{level}"), comment=comment
        )
        return await _answered(self._gateway.gateway.HaltTrading(request))

    # --- what they share -----------------------------------------------------------------------------------------

    async def _ask(self, budget: Budget, question: str, context: Context) -> Approval | Elicit[Approval]:
        """Ask, and count it; a call that brings the answer to an earlier one asks nothing new."""
        approval.require_way_to_ask(context)
        if not context.input_responses:
            await self._remember()
            budget.take()
        return await approval.ask(question, context, self._limits.approval_timeout_s)

    async def _only_account(self) -> str:
        """Where an order goes that names no account: the gateway takes it only where there is one."""
        accounts = (await self._gateway.account.ListAccounts(account_pb.ListAccountsRequest())).accounts
        return accounts[0].account_id if len(accounts) == 1 else ""

    async def _status(self) -> gateway_pb.TradingStatus:
        return (await self._gateway.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())).status

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


async def _answered(command: Awaitable[T]) -> T:
    """The answer to a command. Raises Refusal(ANSWER_LOST) when a status comes that no gateway made."""
    try:
        return await command
    except GatewayError as error:
        if error.reason:
            raise
        raise answer_lost() from error


def _require(outcome: Outcome) -> None:
    """Raises Refusal unless a person has approved, or nobody had to."""
    answer = outcome.data if isinstance(outcome, AcceptedElicitation) else None
    if not isinstance(answer, NoQuestion) and not (isinstance(answer, Approval) and answer.approve):
        raise approval.declined()


def _call(order_id: str, changes: dict[str, str]) -> str:
    return repr((order_id, sorted(changes.items())))


def _change(before: pb.OrderSpec, after: pb.OrderSpec) -> str:
    return repr((before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)))


def _modify_id(order: pb.Order, after: pb.OrderSpec) -> str:
    """Of the order as it stands and the terms to come: the same call is the same change, a later one is another."""
    parts = (order.status.client_order_id, order.status.last_sequence, after.SerializeToString(deterministic=True))
    return PREFIX + hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def _price(quote: market_pb.Quote) -> float | None:
    """What it trades at: the middle, or the last trade where one side is missing."""
    if quote.HasField("bid_price") and quote.HasField("ask_price"):
        return (quote.bid_price + quote.ask_price) / 2
    return quote.last_price if quote.HasField("last_price") else None
