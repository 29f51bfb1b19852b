"""Callers that go away, or have no time, while their order is placed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from ibkr_gateway import GatewayError, NotFound, TimedOut, new_client_order_id
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.domain.errors import OrderNotFound
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.rpc import calls
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.trading.guard import TradingRules

from benchmarks.clients.http2 import Grpc
from benchmarks.clients.http2 import connect as connect_raw
from tests.conftest import Gateway, MakeGateway, eventually
from tests.failures import test_requests
from tests.failures.conftest import eventually_recorded, inject, recorded, virtually
from tests.failures.dealings import PLACE, check_orders, dealing, limit
from tests.failures.test_audit_space import order


def request(key: str) -> pb.PlaceOrderRequest:
    return pb.PlaceOrderRequest(client_order_id=key, order=order())


async def state_of(gateway: Gateway, key: str, wanted: int) -> None:
    """Returns once the order is in this state."""
    named = pb.GetOrderStatusRequest(order=pb.OrderKey(client_order_id=key))
    async with asyncio.timeout(15):
        while (await gateway.client.orders.GetOrderStatus(named)).status.state != wanted:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_G04_a_caller_goes_away_while_its_order_is_placed(gateway: Gateway, end: str) -> None:
    """A client takes its PlaceOrder back, or its connection ends, before IBKR has said a word.

    The order is placed all the same, once, with its whole story in the record; whoever asks for its client_order_id
    gets its state.
    """
    key = new_client_order_id()
    inject(gateway.simulator, Fault.LATE, PLACE, delay_s=0.3)
    caller = await connect_raw(gateway.running.port, Grpc(lambda *_: None))
    stream = caller.call(test_requests.PLACE, request(key).SerializeToString())
    await eventually(lambda: gateway.simulator.frames_received(PLACE) == 1)
    if end == "reset":
        caller.reset(stream)
    else:
        caller.close()
    await state_of(gateway, key, pb.ORDER_STATE_WORKING)
    caller.close()
    for kind in ("order.intent", "order.send", "order.status"):
        assert await eventually_recorded(gateway, kind, bool)
    await check_orders(gateway, key)


async def test_G05_an_order_without_the_time_to_place_it(gateway: Gateway) -> None:
    """PlaceOrder comes with a deadline that is all but over: with 40 ms to go.

    DEADLINE_EXCEEDED before anything is recorded or sent; the client_order_id is free.
    """
    key = new_client_order_id()
    with pytest.raises(GatewayError) as refused:
        await gateway.client.orders.PlaceOrder(request(key), timeout=0.04)
    assert refused.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(NotFound):
        await state_of(gateway, key, pb.ORDER_STATE_WORKING)
    assert await recorded(gateway, "order.intent") == []
    assert gateway.simulator.frames_received(PLACE) == 0


async def test_G05_a_deadline_that_is_over_before_ibkr_speaks(gateway: Gateway) -> None:
    """PlaceOrder comes with a deadline that ends after the order was sent, and before IBKR's word on it.

    OK with SENT in the last moment: the deadline bounds the waiting, never the order, which then works.
    """
    key = new_client_order_id()
    # Contract and account are known before, so that all of the time is IBKR's.
    await gateway.client.orders.PreviewOrder(pb.PreviewOrderRequest(order=order()))
    before = gateway.simulator.frames_received(PLACE)
    inject(gateway.simulator, Fault.LATE, PLACE, delay_s=1.5)
    answered = (await gateway.client.orders.PlaceOrder(request(key), timeout=1.0)).result
    assert answered.state == pb.ORDER_STATE_SENT
    await state_of(gateway, key, pb.ORDER_STATE_WORKING)
    assert gateway.simulator.frames_received(PLACE) == before + 1
    await check_orders(gateway, key)


async def test_G05_a_deadline_that_is_over_before_the_gateway_answers(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway is so busy that the deadline of PlaceOrder passes before its answer, with the order sent.

    DEADLINE_EXCEEDED without a reason of the gateway's, which would say that nothing was sent. The order works, and the
    same client_order_id answers with its state.
    """
    gateway = await make_gateway(request_timeout=0.5)
    # The wait for IBKR's word ends after the deadline, not before it.
    monkeypatch.setattr(calls, "ANSWER_MARGIN_S", -5.0)
    key = new_client_order_id()
    inject(gateway.simulator, Fault.LATE, PLACE, delay_s=0.8)
    with pytest.raises(TimedOut) as ended:
        await gateway.client.orders.PlaceOrder(request(key))
    assert ended.value.reason == ""
    assert gateway.simulator.frames_received(PLACE) == 1
    await state_of(gateway, key, pb.ORDER_STATE_WORKING)
    again = (await gateway.client.orders.PlaceOrder(request(key))).result
    assert again.state == pb.ORDER_STATE_WORKING
    assert gateway.simulator.frames_received(PLACE) == 1


def test_G06_a_call_is_cancelled_wherever_it_waits(tmp_path: Path) -> None:
    """PlaceOrder is taken back sixty times, each time a little later: before its first step, while the contract, the
    record, room among the messages or IBKR's word is waited for.

    Each order is either one that nobody knows, with nothing sent, or it is placed to its end, once: no caller's going
    away stops one halfway.
    """

    async def main() -> None:
        async with dealing(tmp_path, rules=TradingRules(orders_enabled=True, max_open_orders=None)) as dealings:
            keys = [f"the-order-{number:06}" for number in range(60)]
            for number, key in enumerate(keys):
                placing = asyncio.ensure_future(dealings.place(limit(), key))
                await asyncio.sleep(0.0002 * number)
                placing.cancel()
                await asyncio.wait((placing,))
                # Room among the messages for the next one.
                await asyncio.sleep(0.1)
            await asyncio.sleep(15)
            placed = 0
            for key in keys:
                try:
                    assert dealings.status(key).state is OrderState.WORKING
                    placed += 1
                except OrderNotFound:
                    dealings.placed[:] = [intent for intent in dealings.placed if intent.key != key]
            assert placed >= 58
            assert dealings.frames(PLACE) == placed
            await dealings.check()

    virtually(main)
