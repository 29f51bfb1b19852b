"""Orders that are sent once, or not at all: repeated keys, switches, limits, ids, epochs, and a full pacer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from ibkr_gateway import Conflict, Refused, Unavailable, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    DomainError,
    OrderIdsExhausted,
    RateLimited,
    RestartWindow,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.domain.tallies import IDEMPOTENT_HITS
from ibkr_gateway_server.settings import SettingsInvalid
from ibkr_gateway_server.simulator import Fault, Simulator

from tests.conftest import Gateway, MakeGateway
from tests.failures.conftest import gateway_at, inject, recorded, tally, virtually
from tests.failures.dealings import CONTRACT_DETAILS, PLACE, check_orders, dealing, limit

S = OrderState


def order(price: str = "10", **terms: object) -> pb.OrderSpec:
    """One that works and does not fill."""
    fields = {"instrument": stock("AAPL"), "side": common_pb2.SIDE_BUY, "quantity": "10", "limit_price": price}
    return pb.OrderSpec(order_type=pb.ORDER_TYPE_LMT, **{**fields, **terms})  # type: ignore[arg-type]


async def place(gateway: Gateway, key: str, spec: pb.OrderSpec, **more: object) -> pb.OrderResult:
    request = pb.PlaceOrderRequest(client_order_id=key, order=spec, **more)  # type: ignore[arg-type]
    return (await gateway.client.orders.PlaceOrder(request)).result


async def test_O01_orders_are_disabled(make_gateway: MakeGateway) -> None:
    """ORDERS_ENABLED=false, and an order is placed, also one that insists on being sent.

    OK with SIMULATED and is_simulated; with require_transmit FAILED_PRECONDITION and TRADING_DISABLED. The record holds
    the intent as simulated, and the refusal; not one order message reaches TWS.
    """
    gateway = await make_gateway(orders_enabled=False)
    key = new_client_order_id()
    result = await place(gateway, key, order())
    assert (result.state, result.is_simulated) == (pb.ORDER_STATE_SIMULATED, True)
    with pytest.raises(Refused) as refused:
        await place(gateway, new_client_order_id(), order(), require_transmit=True)
    assert refused.value.reason == "TRADING_DISABLED"
    assert [intent["state"] for intent in await recorded(gateway, "order.intent")] == ["SIMULATED"]
    assert [row["reason"] for row in await recorded(gateway, "order.refused")] == ["TRADING_DISABLED"]
    assert await recorded(gateway, "order.send") == []
    assert gateway.simulator.frames_received(PLACE) == 0
    await check_orders(gateway, key)


async def test_O02_one_switch_of_the_two_for_live_orders(tmp_path: Path) -> None:
    """TRADING_MODE=live with ORDERS_ENABLED=true and no override file; then with the file, and ORDERS_ENABLED=false.

    The first does not start, and says which setting it lacks. The second answers OK with SIMULATED, and with
    require_transmit TRADING_DISABLED; no order message reaches TWS.
    """
    override = tmp_path / "live"
    settings = {"trading_mode": "live", "live_trading_override_file": override, "max_notional": 1_000_000}
    settings |= {"max_size_per_symbol": 1000}
    simulator = Simulator(accounts=("U1234567",))
    with pytest.raises(SettingsInvalid, match="LIVE_TRADING_OVERRIDE_FILE"):
        async with gateway_at(simulator, tmp_path, **settings):
            pass
    override.touch(0o600)
    async with gateway_at(simulator, tmp_path, **{**settings, "orders_enabled": False}) as gateway:
        await gateway.running.session.wait_until_ready(20)
        key = new_client_order_id()
        assert (await place(gateway, key, order())).state == pb.ORDER_STATE_SIMULATED
        with pytest.raises(Refused) as refused:
            await place(gateway, new_client_order_id(), order(), require_transmit=True)
        assert refused.value.reason == "TRADING_DISABLED"
        assert gateway.simulator.frames_received(PLACE) == 0
        await check_orders(gateway, key)


async def test_O02_a_live_order_without_its_override_file(tmp_path: Path) -> None:
    """TRADING_MODE=live with orders enabled; while it runs the override file is removed, readable by others, too old.

    FAILED_PRECONDITION with LIVE_NOT_AUTHORIZED, which says what is missing; the record has the refusal; no order
    message reaches TWS. A working order can be cancelled all the same; with the file back, orders are sent again.
    """
    override = tmp_path / "live"
    override.touch(0o600)
    settings = {"trading_mode": "live", "live_trading_override_file": override, "max_notional": 1_000_000}
    settings |= {"max_size_per_symbol": 1000, "live_override_max_age": 24}
    simulator = Simulator(accounts=("U1234567",))

    def age() -> None:
        override.chmod(0o600)
        os.utime(override, (0, 0))

    async with gateway_at(simulator, tmp_path, **settings) as gateway:
        await gateway.running.session.wait_until_ready(20)
        working = new_client_order_id()
        assert (await place(gateway, working, order())).state == pb.ORDER_STATE_WORKING
        for spoil in (override.unlink, lambda: override.touch(0o644), age):
            spoil()
            with pytest.raises(Refused) as refused:
                await place(gateway, new_client_order_id(), order())
            assert refused.value.reason == "LIVE_NOT_AUTHORIZED"
            assert "LIVE_TRADING_OVERRIDE_FILE" in refused.value.details["missing"]
        assert [row["reason"] for row in await recorded(gateway, "order.refused")] == ["LIVE_NOT_AUTHORIZED"] * 3
        assert gateway.simulator.frames_received(PLACE) == 1
        named = pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=working))
        assert (await gateway.client.orders.CancelOrder(named)).status.state == pb.ORDER_STATE_CANCELLED
        override.touch()
        later = new_client_order_id()
        assert (await place(gateway, later, order())).state == pb.ORDER_STATE_WORKING
        await check_orders(gateway, working, later)


async def test_O13_a_key_is_repeated_eight_times_at_once(gateway: Gateway) -> None:
    """The same PlaceOrder eight times at the same moment, and once more afterwards.

    One order message ever; all answers are the same order in the same state, and the record has one intent.
    """
    key = new_client_order_id()
    answers = await asyncio.gather(*(place(gateway, key, order()) for _ in range(8)))
    answers.append(await place(gateway, key, order()))
    assert {(answer.order_id, answer.state) for answer in answers} == {(answers[0].order_id, pb.ORDER_STATE_WORKING)}
    assert gateway.simulator.frames_received(PLACE) == 1
    assert len(await recorded(gateway, "order.intent")) == 1
    assert tally(gateway, IDEMPOTENT_HITS) == 8
    waits = next(one for one in gateway.running.metrics.snapshot().histograms if "order_queue_wait" in one.name)
    assert waits.count == 1
    await check_orders(gateway, key)


async def test_O13_a_key_is_repeated_at_the_next_gateway(tmp_path: Path) -> None:
    """The gateway is stopped after it has placed an order, another begins on its record, and the call is repeated.

    The answer is the same order in the same state; still only one order message has reached TWS.
    """
    simulator, key = Simulator(), new_client_order_id()
    async with gateway_at(simulator, tmp_path) as gateway:
        await gateway.running.session.wait_until_ready(20)
        first = await place(gateway, key, order())
        assert first.state == pb.ORDER_STATE_WORKING
    async with gateway_at(simulator, tmp_path) as gateway:
        await gateway.running.session.wait_until_ready(20)
        answers = await asyncio.gather(*(place(gateway, key, order()) for _ in range(8)))
        assert {(answer.order_id, answer.state) for answer in answers} == {(first.order_id, first.state)}
        assert len(await recorded(gateway, "order.intent")) == 1
        assert simulator.frames_received(PLACE) == 1
        await check_orders(gateway, key)


def test_O13_a_key_is_repeated_after_a_restart(tmp_path: Path) -> None:
    """The program is killed after it has placed an order, begins anew, and the caller repeats its PlaceOrder.

    The answer is the order's state; nothing is sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            first = await dealings.place(limit())
            await dealings.restart()
            again = await dealings.place(limit())
            assert (again.order_id, again.state) == (first.order_id, S.WORKING)
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


async def test_O14_one_key_for_two_orders(gateway: Gateway) -> None:
    """The client_order_id of an order comes with other terms.

    ALREADY_EXISTS with CLIENT_ORDER_ID_CONFLICT; nothing is sent, and the record has the refusal.
    """
    key = new_client_order_id()
    await place(gateway, key, order())
    with pytest.raises(Conflict) as refused:
        await place(gateway, key, order("11"))
    assert refused.value.reason == "CLIENT_ORDER_ID_CONFLICT"
    assert gateway.simulator.frames_received(PLACE) == 1
    (row,) = await recorded(gateway, "order.refused")
    assert row["reason"] == "CLIENT_ORDER_ID_CONFLICT"
    await check_orders(gateway, key)


async def test_O15_the_same_order_under_two_keys(make_gateway: MakeGateway) -> None:
    """The same terms under two client_order_ids at almost the same moment; then the same with DUPLICATE_WINDOW set.

    Both are placed, since two keys are two orders; with the window the second fails with FAILED_PRECONDITION and
    DUPLICATE_ORDER, unsent, and names the first.
    """
    lenient = await make_gateway()
    keys = [new_client_order_id() for _ in range(2)]
    for answer in await asyncio.gather(*(place(lenient, key, order()) for key in keys)):
        assert answer.state == pb.ORDER_STATE_WORKING
    assert lenient.simulator.frames_received(PLACE) == 2
    await check_orders(lenient, *keys)
    strict = await make_gateway(duplicate_window=60, audit_db_path=lenient.running.desk._store.path.with_name("b.db"))
    first = new_client_order_id()
    await place(strict, first, order())
    with pytest.raises(Refused) as refused:
        await place(strict, new_client_order_id(), order())
    assert (refused.value.reason, refused.value.details["client_order_id"]) == ("DUPLICATE_ORDER", first)
    assert strict.simulator.frames_received(PLACE) == 1
    assert [row["reason"] for row in await recorded(strict, "order.refused")] == ["DUPLICATE_ORDER"]
    await check_orders(strict, first)


def test_O20_tws_names_an_order_id_that_it_cannot_count_on_from(tmp_path: Path) -> None:
    """nextValidId is close to 2^31, where TWS repeats ids silently.

    Orders are refused with RECONCILIATION_REQUIRED and a text that says what to reset in TWS; nothing is sent, and the
    record has the refusal. GetTradingStatus names it among what is in the way, with what to do, before anybody tries.
    """

    async def main() -> None:
        def prepare(simulator: object) -> None:
            inject(simulator, Fault.ORDER_ID, value=str(2**31 - 5_000), times=None)

        async with dealing(tmp_path, prepare=prepare) as dealings:
            status = dealings.life.desk.trading_status()
            (blocker,) = status.blockers
            assert blocker.reason == "RECONCILIATION_REQUIRED"
            assert "reset the API order id sequence" in blocker.remedy
            assert not status.can_send_orders
            with pytest.raises(OrderIdsExhausted, match="reset the API order id sequence"):
                await dealings.life.desk.place("the-order-000001", limit())
            assert dealings.frames(PLACE) == 0
            assert len(dealings.recorded("order.refused")) == 1

    virtually(main)


def test_O43_market_data_uses_up_the_messages(tmp_path: Path) -> None:
    """Five hundred questions for contracts wait for the messages of the next seconds when an order is placed.

    The order's message is on the wire within 0.25 s, in the room that is reserved for orders.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            contracts = dealings.life.desk._appraiser._contracts
            wanted = [Instrument(symbol=f"NONE{number}", security_type=SecurityType.STK) for number in range(500)]
            waiting = [asyncio.ensure_future(contracts.details(each)) for each in wanted]
            await asyncio.sleep(2.0)
            assert 25 <= dealings.frames(CONTRACT_DETAILS) < 100
            assert not all(each.done() for each in waiting)
            began, sent = asyncio.get_running_loop().time(), dealings.frames(PLACE)
            placing = asyncio.ensure_future(dealings.place(limit("11"), "the-order-000002"))
            await dealings.until(lambda: dealings.frames(PLACE) == sent + 1, timeout_s=0.25)
            assert asyncio.get_running_loop().time() - began < 0.25
            assert (await placing).state is S.WORKING
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await dealings.check()

    virtually(main)


def test_O43_there_is_no_room_for_an_order(tmp_path: Path) -> None:
    """Nothing may be sent for two seconds when an order is placed.

    RESOURCE_EXHAUSTED with ORDER_RATE after 0.25 s, and when to try again; nothing is sent, and the key is free.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit("11"), "the-order-000000")
            dealings.life.pacer.hold(2.0)
            with pytest.raises(DomainError) as refused:
                await dealings.life.desk.place("the-order-000001", limit())
            assert not isinstance(refused.value, RateLimited)
            assert (refused.value.reason, dealings.frames(PLACE)) == ("ORDER_RATE", 1)
            await asyncio.sleep(2.0)
            assert (await dealings.place(limit())).state is S.WORKING
            await dealings.check()

    virtually(main)


async def test_O44_an_order_in_a_planned_restart(make_gateway: MakeGateway) -> None:
    """An order is placed while TWS is to restart as planned.

    UNAVAILABLE with RESTART_WINDOW; nothing is sent, and the record has the refusal.
    """
    gateway = await make_gateway(restart_window="00:00-23:59 UTC;23:58-00:01 UTC")
    with pytest.raises(Unavailable) as refused:
        await place(gateway, new_client_order_id(), order())
    assert refused.value.reason == "RESTART_WINDOW"
    assert gateway.simulator.frames_received(PLACE) == 0
    assert [row["reason"] for row in await recorded(gateway, "order.refused")] == ["RESTART_WINDOW"]


def test_O44_an_order_in_the_minute_before_a_planned_restart(tmp_path: Path) -> None:
    """TWS is to restart from 10:02 to 10:04; orders are placed a minute before, during it, and when TWS is back.

    RESTART_WINDOW from 10:01 on, unsent, while cancels go through; a key that was refused places its order afterwards.
    """

    async def main() -> None:
        restarts = RestartWindows.parse("10:02-10:04 America/New_York")
        async with dealing(tmp_path, restarts=restarts) as dealings:
            desk, loop = dealings.life.desk, asyncio.get_running_loop()
            assert (await dealings.place(limit())).state is S.WORKING
            await asyncio.sleep(59.0 - loop.time())
            assert (await dealings.place(limit("11"), "the-order-000002")).state is S.WORKING
            await asyncio.sleep(61.0 - loop.time())
            with pytest.raises(RestartWindow):
                await desk.place("the-order-000003", limit("12"))
            assert (await dealings.cancel()).state is S.CANCELLED
            await asyncio.sleep(150.0 - loop.time())
            dealings.inject(Fault.REFUSE_CONNECTIONS, duration_s=30.0)
            dealings.inject(Fault.DISCONNECT)
            await asyncio.sleep(1.0)
            with pytest.raises(RestartWindow):
                await desk.place("the-order-000003", limit("12"))
            assert dealings.frames(PLACE) == 2
            await asyncio.sleep(241.0 - loop.time())
            await dealings.life.session.wait_until_ready(60.0)
            assert (await dealings.place(limit("12"), "the-order-000003")).state is S.WORKING
            await dealings.check()

    virtually(main)


def test_O45_the_connection_is_another_one_when_the_order_would_leave(tmp_path: Path) -> None:
    """An order is authorised, and while its intent is written the connection breaks and the next epoch begins.

    It is refused with BROKER_DISCONNECTED, unsent, and recorded as withheld with the epoch that it was for; the same
    client_order_id places it in the new epoch.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit("11"), "the-order-000000")
            dealings.life.disk_s = lambda: 3.0  # type: ignore[method-assign]  # a very slow disk
            placing = asyncio.ensure_future(dealings.life.desk.place("the-order-000001", limit()))
            await asyncio.sleep(0.1)
            dealings.inject(Fault.DISCONNECT)
            with pytest.raises(BrokerDisconnected):
                await placing
            dealings.life.disk_s = lambda: 0.0003  # type: ignore[method-assign]
            (withheld,) = dealings.recorded("order.withheld")
            assert '"epoch":1' in withheld.body_json
            await dealings.life.session.wait_until_ready(40.0)
            assert dealings.status().state is S.NOT_SENT
            assert dealings.frames(PLACE) == 1
            assert (await dealings.place(limit())).state is S.WORKING
            assert dealings.life.session.epoch == 2
            await dealings.check()

    virtually(main)
