"""What a caller of the contract is answered, and a follower of the stream told, while orders are not what they seem."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ibkr_gateway import Refused, Unavailable, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Order as SimulatedOrder
from ibkr_gateway_server.simulator.orders import Terms

from tests.conftest import Gateway, eventually
from tests.failures.conftest import eventually_recorded, inject, recorded

PLACE, CANCEL = 3, 4


def limit(price: str = "10", symbol: str = "AAPL") -> pb.OrderSpec:
    kind = {"side": common_pb2.SIDE_BUY, "order_type": pb.ORDER_TYPE_LMT}
    return pb.OrderSpec(instrument=stock(symbol), quantity="10", limit_price=price, **kind)


async def place(gateway: Gateway, spec: pb.OrderSpec) -> pb.OrderResult:
    request = pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=spec)
    return (await gateway.client.orders.PlaceOrder(request)).result


async def open_orders(gateway: Gateway) -> list[pb.OrderStatus]:
    """Every open order of the login: IBKR is asked."""
    return list((await gateway.client.orders.ListOpenOrders(pb.ListOpenOrdersRequest(include_external=True))).orders)


def cancel_of(key: str) -> pb.CancelOrderRequest:
    return pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=key))


def by_hand(gateway: Gateway, mark: str = "") -> SimulatedOrder:
    """Somebody places an order in TWS, with a mark of his making."""
    terms = Terms(action="BUY", quantity=5, order_type="LMT", limit_price=9.0, account="DU1234567", order_ref=mark)
    contract = ContractQuery(symbol="AAPL", sec_type="STK", exchange="SMART")
    placed: SimulatedOrder = gateway.simulator.gateway.place_manually(contract, terms)
    gateway.simulator.flush()
    return placed


@asynccontextmanager
async def followed(gateway: Gateway) -> AsyncIterator[list[pb.OrderEvent]]:
    """The order events that a client is told from now on."""
    told: list[pb.OrderEvent] = []

    async def follow() -> None:
        async for response in gateway.client.orders.StreamOrderEvents(pb.StreamOrderEventsRequest()):
            told.extend(response.events)

    following = asyncio.ensure_future(follow())
    await eventually(lambda: any(event.HasField("snapshot_end") for event in told))
    try:
        yield told
    finally:
        following.cancel()


def of_kind(told: list[pb.OrderEvent], kind: str) -> list[Any]:
    return [getattr(event, kind) for event in told if event.WhichOneof("event") == kind]


async def test_O31_a_cancel_is_asked_for_while_the_link_is_down(gateway: Gateway) -> None:
    """CancelOrder is called while TWS has no link to IBKR, with a deadline of 2 s.

    It answers OK within its deadline, with CANCEL_PENDING: sent, and not confirmed. Once the link is back the order
    is CANCELLED, and the record has the second cancel as cancel.retry.
    """
    key = (await place(gateway, limit())).client_order_id
    inject(gateway.simulator, Fault.LINK_LOST)
    await eventually(lambda: not gateway.running.session.status.state.is_linked)
    answer = await gateway.client.orders.CancelOrder(cancel_of(key), timeout=2.0)
    assert answer.status.state == pb.ORDER_STATE_CANCEL_PENDING
    inject(gateway.simulator, Fault.LINK_RESTORED)
    assert len(await eventually_recorded(gateway, "cancel.retry", len)) == 1
    await eventually(lambda: gateway.running.desk.own_open_orders() == ())
    assert gateway.simulator.frames_received(CANCEL) == 2


async def test_O33_a_change_is_asked_for_while_the_link_is_down(gateway: Gateway) -> None:
    """ModifyOrder is called while TWS has no link to IBKR.

    It fails with UNAVAILABLE and BROKER_LINK_DOWN: no byte of it has left. The order works on with the terms of before.
    """
    key = (await place(gateway, limit())).client_order_id
    inject(gateway.simulator, Fault.LINK_LOST)
    await eventually(lambda: not gateway.running.session.status.state.is_linked)
    request = pb.ModifyOrderRequest(client_order_id=key, modify_id=new_client_order_id(), order=limit("11"))
    with pytest.raises(Unavailable) as refused:
        await gateway.client.orders.ModifyOrder(request)
    assert refused.value.reason == "BROKER_LINK_DOWN"
    assert gateway.simulator.frames_received(PLACE) == 1
    status = (await gateway.client.orders.GetOrderStatus(pb.GetOrderStatusRequest(order=cancel_of(key).order))).status
    assert (status.limit_price, status.pending_modify_id) == ("10", "")


async def test_O34_a_second_order_with_the_mark_of_one(gateway: Gateway) -> None:
    """An order that carries the mark of a working one is placed in TWS; the open orders are asked for.

    The stream tells an alarm CONFLICT with all ids, and the order as ORDER_STATE_CONFLICT. PlaceOrder for that contract
    fails with FAILED_PRECONDITION and RECONCILIATION_REQUIRED, for another it does not. Once the other order is
    cancelled the order is WORKING again.
    """
    async with followed(gateway) as told:
        result = await place(gateway, limit())
        twin = by_hand(gateway, gateway.running.desk._store.order_ref(result.client_order_id))
        shown = {order.perm_id: order for order in await open_orders(gateway)}
        assert shown[result.status.perm_id].state == pb.ORDER_STATE_CONFLICT
        assert shown[twin.perm_id].origin == pb.ORDER_ORIGIN_EXTERNAL_OWN
        await eventually(lambda: of_kind(told, "alarm"))
        (alarm,) = [event for event in told if event.HasField("alarm")]
        assert alarm.alarm.kind == pb.ORDER_ALARM_KIND_CONFLICT
        assert (alarm.client_order_id, alarm.order_id) == (result.client_order_id, result.order_id)
        assert str(twin.perm_id) in alarm.alarm.message
        with pytest.raises(Refused) as refused:
            await place(gateway, limit("9"))
        assert refused.value.reason == "RECONCILIATION_REQUIRED"
        assert (await place(gateway, limit(symbol="MSFT"))).state == pb.ORDER_STATE_WORKING
        gateway.simulator.gateway.cancel_manually(twin.perm_id)
        await eventually(lambda: twin.is_done)
        gateway.running.desk._reconciler.request()
        await eventually(lambda: of_kind(told, "status")[-1].state == pb.ORDER_STATE_WORKING)
        assert (await place(gateway, limit("9"))).state == pb.ORDER_STATE_WORKING


async def test_O36_a_mark_is_made_up(gateway: Gateway) -> None:
    """An order whose orderRef begins as the gateway's marks do, without their seal, is placed in TWS.

    ListOpenOrders shows it as EXTERNAL, and the stream tells an alarm FORGED_MARK. It has no client_order_id, and the
    record has orderref.spoof.
    """
    async with followed(gateway) as told:
        forged = by_hand(gateway, "g1.aaaaaaaaaaaaaaaaaaaa")
        (shown,) = await open_orders(gateway)
        assert (shown.perm_id, shown.origin) == (forged.perm_id, pb.ORDER_ORIGIN_EXTERNAL)
        assert shown.client_order_id == ""
        await eventually(lambda: of_kind(told, "alarm"))
        assert [alarm.kind for alarm in of_kind(told, "alarm")] == [pb.ORDER_ALARM_KIND_FORGED_MARK]
        assert len(await recorded(gateway, "orderref.spoof")) == 1


async def test_O37_somebody_changes_an_order_in_tws(gateway: Gateway) -> None:
    """The limit price of a gateway's order is changed in TWS.

    The stream tells modified_externally, with the whole status before and after.
    """
    async with followed(gateway) as told:
        result = await place(gateway, limit())
        gateway.simulator.gateway.modify_manually(result.status.perm_id, limit_price=10.5)
        gateway.simulator.flush()
        await eventually(lambda: of_kind(told, "modified_externally"))
        (change,) = of_kind(told, "modified_externally")
        assert (change.before.limit_price, change.after.limit_price) == ("10", "10.5")
        assert change.before.client_order_id == change.after.client_order_id == result.client_order_id
