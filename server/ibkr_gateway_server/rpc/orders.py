"""OrdersService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ibkr_gateway.v1 import orders_service_pb2 as pb

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import OrderFilter
from ibkr_gateway_server.domain.errors import BrokerTimeout, DomainError, Violations
from ibkr_gateway_server.domain.orders import OrderKey, OrderSpec, OrderState, OrderStatus, check_client_order_id
from ibkr_gateway_server.domain.scopes import Scope
from ibkr_gateway_server.rpc import parse, present
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.status import gateway_error
from ibkr_gateway_server.rpc.words import order_event
from ibkr_gateway_server.streams.orders import OrderEvents
from ibkr_gateway_server.trading.desk import Desk

# With less time than this no order is begun: its answer could not arrive.
LEAST_S = 0.05


class OrdersServicer:
    """Preview, place, change, cancel, and the story of each order."""

    def __init__(self, desk: Desk, events: OrderEvents, store: AuditStore, source: str) -> None:
        self._desk = desk
        self._events = events
        self._store = store
        self._source = source

    async def PreviewOrder(self, request: pb.PreviewOrderRequest, call: Call) -> pb.PreviewOrderResponse:
        preview = await self._desk.preview(_spec(request.order, Violations()))
        return pb.PreviewOrderResponse(preview=present.preview(preview, self._source, call.correlation_id))

    async def PlaceOrder(self, request: pb.PlaceOrderRequest, call: Call) -> pb.PlaceOrderResponse:
        parse.refuse_unknown_fields(request)
        found = Violations()
        check_client_order_id(request.client_order_id, found)
        spec = _spec(request.order, found)
        await self._desk.place(
            request.client_order_id,
            spec,
            require_transmit=request.require_transmit,
            preview_token=request.preview_token,
            wait_s=_time_to_wait(call),
        )
        return pb.PlaceOrderResponse(result=self._result(request.client_order_id))

    async def ModifyOrder(self, request: pb.ModifyOrderRequest, call: Call) -> pb.ModifyOrderResponse:
        parse.refuse_unknown_fields(request)
        found = Violations()
        check_client_order_id(request.modify_id, found, "modify_id")
        spec = _spec(request.order, found)
        await self._desk.modify(
            request.client_order_id,
            request.modify_id,
            spec,
            wait_s=_time_to_wait(call),
            may_touch_others=call.has_scope(Scope.ADMIN),
        )
        return pb.ModifyOrderResponse(result=self._result(request.client_order_id))

    async def CancelOrder(self, request: pb.CancelOrderRequest, call: Call) -> pb.CancelOrderResponse:
        key = parse.order_key(request.order)
        status = await self._desk.cancel(key, wait_s=_time_to_wait(call), may_touch_others=call.has_scope(Scope.ADMIN))
        legs = self._desk.order(key).legs
        return pb.CancelOrderResponse(
            status=present.order_status(status), legs=[present.order_status(leg) for leg in legs]
        )

    async def CancelOrderSet(self, request: pb.CancelOrderSetRequest, call: Call) -> pb.CancelOrderSetResponse:
        keys = parse.order_keys(request.orders)
        return pb.CancelOrderSetResponse(results=await self._cancel_all(keys, call))

    async def CancelAllOrders(self, request: pb.CancelAllOrdersRequest, call: Call) -> pb.CancelAllOrdersResponse:
        scope, account_id = parse.cancel_scope(request)
        if account_id:
            account_id = self._desk.account(account_id)
        keys = self._desk.open_keys(account_id, of_caller=scope == pb.CANCEL_SCOPE_OWN)
        if scope == pb.CANCEL_SCOPE_GLOBAL:
            call.require(Scope.ADMIN)
            await self._desk.cancel_global()
            await self._desk.ended(keys, _time_to_wait(call))
            results = [self._cancelled(key, self._desk.status(key), call) for key in keys]
        else:
            results = await self._cancel_all(keys, call)
        ended = sum(result.status.state == pb.ORDER_STATE_CANCELLED for result in results)
        requested = sum(result.HasField("status") for result in results)
        return pb.CancelAllOrdersResponse(requested_count=requested, cancelled_count=ended, results=results)

    async def _cancel_all(self, keys: Sequence[OrderKey], call: Call) -> list[pb.CancelResult]:
        results = await self._desk.cancel_set(
            keys, wait_s=_time_to_wait(call), may_touch_others=call.has_scope(Scope.ADMIN)
        )
        return [self._cancelled(key, result, call) for key, result in zip(keys, results, strict=True)]

    @staticmethod
    def _cancelled(key: OrderKey, result: OrderStatus | DomainError, call: Call) -> pb.CancelResult:
        named = present.order_key(key)
        if isinstance(result, DomainError):
            return pb.CancelResult(order=named, error=gateway_error(result, call.correlation_id))
        return pb.CancelResult(order=named, status=present.order_status(result))

    def _result(self, client_order_id: str) -> pb.OrderResult:
        return present.order_result(self._desk.order(OrderKey(client_order_id)))

    async def GetOrderSetStatus(self, request: pb.GetOrderSetStatusRequest, call: Call) -> pb.GetOrderSetStatusResponse:
        results = []
        for key in parse.order_keys(request.orders):
            try:
                results.append(pb.OrderStatusResult(status=present.order_status(self._desk.status(key))))
            except DomainError as error:
                results.append(pb.OrderStatusResult(error=gateway_error(error, call.correlation_id)))
        return pb.GetOrderSetStatusResponse(results=results)

    async def GetOrder(self, request: pb.GetOrderRequest, _call: Call) -> pb.GetOrderResponse:
        return pb.GetOrderResponse(order=present.order(self._desk.order(parse.order_key(request.order))))

    async def GetOrderStatus(self, request: pb.GetOrderStatusRequest, _call: Call) -> pb.GetOrderStatusResponse:
        status = self._desk.status(parse.order_key(request.order))
        return pb.GetOrderStatusResponse(status=present.order_status(status))

    async def ListOpenOrders(self, request: pb.ListOpenOrdersRequest, _call: Call) -> pb.ListOpenOrdersResponse:
        orders = await self._desk.open_orders(include_external=request.include_external, account_id=request.account_id)
        return pb.ListOpenOrdersResponse(orders=[present.order_status(status) for status in orders])

    async def ListOrders(self, request: pb.ListOrdersRequest, _call: Call) -> pb.ListOrdersResponse:
        start, end = parse.span(request)
        names = [pb.OrderState.Name(state).removeprefix("ORDER_STATE_") for state in request.states]
        states = tuple(OrderState[name] for name in names if name in OrderState.__members__)
        page = parse.page(request.page_size, request.page_token)
        found = await self._store.orders(OrderFilter(request.symbol, states, start, end), page)
        return pb.ListOrdersResponse(
            orders=[present.order_status(status) for status in found.items],
            next_page_token=str(found.next_before or ""),
        )

    async def StreamOrderEvents(
        self, request: pb.StreamOrderEventsRequest, _call: Call
    ) -> AsyncIterator[pb.StreamOrderEventsResponse]:
        after = request.resume_after_sequence if request.HasField("resume_after_sequence") else None
        if after is not None and after < 0:
            found = Violations()
            found.add("resume_after_sequence", f"{after} is negative")
            found.raise_if_any()
        subscription = self._events.subscribe(
            resume_after_sequence=after,
            client_order_id=request.client_order_id,
            heartbeat_s=parse.heartbeat_s(request),
        )
        async with subscription as events:
            async for batch in events:
                yield pb.StreamOrderEventsResponse(events=[order_event(item) for item in batch])


def _spec(message: pb.OrderSpec, found: Violations) -> OrderSpec:
    """The order's terms. Raises FieldsInvalid with what was noted before as well."""
    with found.under("order") as nested:
        spec = parse.order_spec(message, nested)
    found.raise_if_any()
    return spec


def _time_to_wait(call: Call) -> float:
    """How long the answer may wait for IBKR's word. Raises BrokerTimeout, with nothing begun, when there is no time."""
    if call.remaining_s < LEAST_S:
        raise BrokerTimeout("the order within the caller's deadline; nothing was sent", round(call.remaining_s, 3))
    return call.remaining_s
