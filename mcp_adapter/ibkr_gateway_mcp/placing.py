"""Orders: previewed, approved by a person, and only then given to the gateway."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ibkr_gateway import AsyncGateway, NotFound
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from mcp.server.mcpserver import Context, Elicit

from ibkr_gateway_mcp import approval
from ibkr_gateway_mcp.approval import Approval
from ibkr_gateway_mcp.asking import Asking, NoQuestion, Outcome, answered, is_approved, needs_nobody
from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.previews import Preview, Previews, client_order_id
from ibkr_gateway_mcp.refusals import Refusal


class Placing:
    """The way of an order from a model to the gateway."""

    def __init__(self, gateway: AsyncGateway, asking: Asking, limits: Limits, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._asking = asking
        self._limits = limits
        self._now = now
        self._previews = Previews(now)

    async def preview(self, spec: pb.OrderSpec) -> Preview:
        """What an order would do, kept so that it can become one. Nothing is sent that could trade."""
        status = await self._asking.trading_status()
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
        if not (await self._asking.trading_status()).orders_enabled or (preview_id and kept is None):
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
        return await self._asking.about_order(approval.order_question(kept), context)

    async def place(self, spec: pb.OrderSpec, preview_id: str | None, outcome: Outcome) -> pb.OrderResult:
        """Place the order of a preview, once, whatever the caller repeats."""
        kept = self._find(spec, preview_id)
        if kept is not None and is_approved(outcome):
            kept.is_approved = True
        if kept is not None and kept.is_approved:
            return await self._place(kept)
        if needs_nobody(outcome):
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
        return (await answered(self._gateway.orders.PlaceOrder(request))).result

    async def _check_world(self, kept: Preview) -> None:
        """Whether what was approved is still what it would be. Raises Refusal."""
        status = await self._asking.trading_status()
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
            moved = f"the market has moved more than {self._limits.drift_percent:g} % since the preview"
            raise Refusal(
                "PREVIEW_EXPIRED",
                f"{moved if now is not None else 'there is no price now'}; nothing was sent",
                price_at_preview=f"{before:g}",
                price_now="not known" if now is None else f"{now:g}",
            )

    async def _simulate(self, spec: pb.OrderSpec, kept: Preview | None) -> pb.OrderResult:
        """Orders are disabled: the gateway answers SIMULATED and sends nothing."""
        kept = kept or await self.preview(spec)
        status = await self._asking.trading_status()
        if status.orders_enabled:
            raise Refusal("PREVIEW_EXPIRED", "orders have been enabled since the preview; nothing was sent")
        request = pb.PlaceOrderRequest(
            client_order_id=kept.client_order_id, order=spec, preview_token=kept.shown.preview_token
        )
        return (await answered(self._gateway.orders.PlaceOrder(request))).result

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

    async def _only_account(self) -> str:
        """Where an order goes that names no account: the gateway takes it only where there is one."""
        accounts = (await self._gateway.account.ListAccounts(account_pb.ListAccountsRequest())).accounts
        return accounts[0].account_id if len(accounts) == 1 else ""


def _price(quote: market_pb.Quote) -> float | None:
    """What it trades at: the middle, or the last trade where one side is missing."""
    if quote.HasField("bid_price") and quote.HasField("ask_price"):
        return (quote.bid_price + quote.ask_price) / 2
    return quote.last_price if quote.HasField("last_price") else None
