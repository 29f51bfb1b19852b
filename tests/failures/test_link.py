"""The link between TWS and IBKR is lost, restored with or without its data, or lost a hundred times over."""

from __future__ import annotations

import asyncio
import logging

import pytest
from ibkr_gateway import Unavailable, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.domain.errors import BrokerLinkDown
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.tallies import BROKER_NOTICES, FARM_IS_OK, RESUBSCRIBES, SESSION_STATE
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.trading.desk import DeskTimings

from tests.conftest import Gateway, MakeGateway, eventually
from tests.failures.conftest import eventually_recorded, inject, recorded, tally, virtual_broker, virtually
from tests.server.broker.conftest import Broker

SUBSCRIBE, PLACE, CANCEL_ORDER, EXECUTIONS, POSITIONS, SUMMARY = 1, 3, 4, 7, 61, 62
BACK = {"from": "LINK_DOWN", "to": "READY", "reason": ""}
SYMBOLS = ("AAPL", "MSFT", "SPY")


def order(**changed: object) -> orders_pb.OrderSpec:
    """Ten of AAPL at the market, unless it is changed."""
    terms = {"side": common_pb2.SIDE_BUY, "quantity": "10", "order_type": orders_pb.ORDER_TYPE_MKT, **changed}
    return orders_pb.OrderSpec(instrument=stock("AAPL"), **terms)  # type: ignore[arg-type]


def far_below() -> orders_pb.OrderSpec:
    """One that works and does not fill."""
    return order(order_type=orders_pb.ORDER_TYPE_LMT, limit_price="1")


async def place(gateway: Gateway, spec: orders_pb.OrderSpec) -> str:
    key = new_client_order_id()
    await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=spec))
    return key


async def lines(broker: Broker) -> list[Line]:
    """Three lines that flow."""
    found = []
    for symbol in SYMBOLS:
        instrument = Instrument(symbol=symbol, security_type=SecurityType.STK)
        found.append(await broker.market_data.acquire(await broker.contracts.resolve(instrument)))
    await asyncio.sleep(5)
    return found


async def sees_a_lost_link(make_gateway: MakeGateway, fault: Fault) -> None:
    """What a client sees of a lost link, whichever notice tells of it."""
    gateway = await make_gateway(desk_timings=DeskTimings(ack_timeout_s=1.0))
    session = gateway.running.session
    key = await place(gateway, far_below())
    gaps: list[str] = []

    async def read() -> None:
        request = market_pb.StreamQuotesRequest(instruments=[stock("AAPL")])
        async for response in gateway.client.market_data.StreamQuotes(request):
            gaps.extend(event.gap.reason for event in response.events if event.HasField("gap"))

    reading = asyncio.ensure_future(read())
    await eventually(lambda: any(line.subscriber_count for line in gateway.running.market_data.lines))
    sent = gateway.simulator.frames_received(PLACE)
    inject(gateway.simulator, fault)
    await eventually(lambda: session.status.state is SessionState.LINK_DOWN, 1.0)
    with pytest.raises(Unavailable) as refused:
        await place(gateway, order())
    assert refused.value.reason == "BROKER_LINK_DOWN"
    assert gateway.simulator.frames_received(PLACE) == sent
    await eventually(lambda: gaps)
    assert gaps == ["BROKER_LINK_DOWN"]
    # A cancel may be what saves somebody's money: it is sent, and stays unconfirmed.
    named = orders_pb.CancelOrderRequest(order=orders_pb.OrderKey(client_order_id=key))
    assert (await gateway.client.orders.CancelOrder(named)).status.state == orders_pb.ORDER_STATE_CANCEL_PENDING
    assert gateway.simulator.frames_received(CANCEL_ORDER) == 1
    assert tally(gateway, SESSION_STATE, "LINK_DOWN") == 1
    lost = {"from": "READY", "to": "LINK_DOWN", "reason": "BROKER_LINK_DOWN"}
    await eventually_recorded(gateway, "session.transition", lambda told: told[-1:] == [lost])
    reading.cancel()


async def test_C11_tws_loses_its_link_to_ibkr(make_gateway: MakeGateway) -> None:
    """1100, and nothing after it.

    LINK_DOWN at once; a gap on streams; orders UNAVAILABLE with BROKER_LINK_DOWN and unsent; a cancel is sent and stays
    CANCEL_PENDING.
    """
    await sees_a_lost_link(make_gateway, Fault.LINK_LOST)


@pytest.mark.parametrize("fault", [Fault.LINK_LOST, Fault.SERVER_LINK_BROKEN])
def test_C11_the_link_is_lost_while_the_session_begins(fault: Fault) -> None:
    """1100 or 2110 while positions and orders are still being read, then 1102.

    LINK_DOWN at once; the rest is read when the link is back, then READY, in the same epoch.
    """

    async def main() -> None:
        async with virtual_broker(prepare=lambda slow: inject(slow, Fault.LOSE_REPLY, 62)) as broker:
            session = broker.session
            await asyncio.sleep(5)
            assert session.status.state is SessionState.SYNCING
            inject(broker.simulator, fault)
            await asyncio.sleep(0.5)
            assert session.status.state is SessionState.LINK_DOWN
            with pytest.raises(BrokerLinkDown):
                session.linked()
            await asyncio.sleep(60)
            assert session.status.state is SessionState.LINK_DOWN
            inject(broker.simulator, Fault.LINK_RESTORED)
            await session.wait_until_ready(40)
            assert session.epoch == 1
            assert (await broker.accounts.positions())[0]

    virtually(main)


async def test_C12_a_fill_while_the_link_is_down(gateway: Gateway) -> None:
    """1100, a fill, then 1102.

    The fill is told at once, while LINK_DOWN, and only once, though orders are reconciled afterwards.
    """
    session = gateway.running.session
    fills: list[str] = []

    async def read() -> None:
        async for response in gateway.client.orders.StreamOrderEvents(orders_pb.StreamOrderEventsRequest()):
            fills.extend(event.execution.execution_id for event in response.events if event.HasField("execution"))

    reading = asyncio.ensure_future(read())
    await place(gateway, order(order_type=orders_pb.ORDER_TYPE_LMT, limit_price="1"))
    gateway.simulator.notify(1100, "lost")
    await eventually(lambda: session.status.state is SessionState.LINK_DOWN)
    gateway.simulator.set_quote("AAPL", bid=0.5, ask=0.6, last=0.55)
    await eventually(lambda: fills)
    assert session.status.state is SessionState.LINK_DOWN
    runs = len(await recorded(gateway, "reconcile.run"))
    gateway.simulator.notify(1102, "restored")
    await eventually_recorded(gateway, "reconcile.run", lambda rows: len(rows) > runs)
    assert len(set(fills)) == len(fills)
    assert len(await recorded(gateway, "execution")) == len(fills)
    reading.cancel()


def test_C13_a_link_that_is_lost_and_restored_keeps_its_subscriptions() -> None:
    """1100, then 1102.

    LINK_DOWN and READY again; nothing that was subscribed is asked for again, and the epoch stays.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            await session.wait_until_ready(20)
            await lines(broker)
            subscriptions = (SUBSCRIBE, POSITIONS, SUMMARY)
            before = [broker.simulator.frames_received(each) for each in subscriptions]
            inject(broker.simulator, Fault.LINK_LOST, duration_s=30.0)
            states = []
            async for status in session.changes():
                states.append(status.state)
                if SessionState.LINK_DOWN in states and status.state is SessionState.READY:
                    break
            await asyncio.sleep(60)
            assert session.epoch == 1
            assert [broker.simulator.frames_received(each) for each in subscriptions] == before

    virtually(main)


async def test_C13_orders_are_reconciled_when_the_link_is_back(gateway: Gateway) -> None:
    """1100, then 1102, with an order working.

    READY again, and a reconciliation has been run and recorded, since what happened meanwhile may not have been told.
    """
    await place(gateway, far_below())
    runs, asked = len(await recorded(gateway, "reconcile.run")), gateway.simulator.frames_received(EXECUTIONS)
    inject(gateway.simulator, Fault.LINK_LOST, duration_s=0.2)
    await eventually(lambda: gateway.simulator.frames_received(EXECUTIONS) == asked + 1)
    await eventually_recorded(gateway, "reconcile.run", lambda rows: len(rows) > runs)
    assert gateway.running.session.status.state is SessionState.READY


def test_C14_a_link_that_is_restored_without_its_data() -> None:
    """1100, then 1101, with three instruments subscribed.

    Each is asked for again exactly once, under pacing, and has resumed after its first tick.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            await session.wait_until_ready(20)
            followed = await lines(broker)
            before = broker.simulator.frames_received(SUBSCRIBE)
            inject(broker.simulator, Fault.LINK_LOST)
            await asyncio.sleep(10)
            assert all(line.gap is not None for line in followed)
            inject(broker.simulator, Fault.LINK_RESTORED_DATA_LOST)
            await asyncio.sleep(5)
            assert broker.simulator.frames_received(SUBSCRIBE) == before + len(SYMBOLS)
            assert all(line.gap is None for line in followed)
            resubscribed = dict(session.tallies.values())[RESUBSCRIBES]
            assert sum(resubscribed.values()) == len(SYMBOLS)
            assert session.epoch == 1

    virtually(main)


async def test_C15_the_same_loss_is_told_833_times(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """1100, 833 times.

    One transition, in the status and in the record; every notice is counted, and one line is logged.
    """
    caplog.set_level(logging.INFO)
    watched: list[int] = []

    async def watch() -> None:
        stream = gateway.client.gateway.WatchSession(gateway_pb.WatchSessionRequest())
        async for response in stream:
            watched.extend((response.status.state,))

    watching = asyncio.ensure_future(watch())
    await eventually(lambda: watched)
    for _ in range(833):
        gateway.simulator.notify(1100, "lost")
    await eventually(lambda: tally(gateway, BROKER_NOTICES, "1100") == 833)
    gateway.simulator.notify(1102, "restored")
    told = await eventually_recorded(gateway, "session.transition", lambda told: told[-1:] == [BACK])
    assert [row["to"] for row in told].count("LINK_DOWN") == 1
    assert len([record for record in caplog.records if record.__dict__.get("ibkr_code") == 1100]) == 1
    assert len([state for state in watched if state == common_pb2.SESSION_STATE_LINK_DOWN]) == 1
    watching.cancel()


async def test_C16_the_connection_breaks_while_the_link_is_down(gateway: Gateway) -> None:
    """1100, then the connection breaks.

    One gap on quotes and on orders, not two; each change of the session is recorded once.
    """
    session = gateway.running.session
    quotes: list[str] = []
    orders: list[str] = []

    async def read_quotes() -> None:
        request = market_pb.StreamQuotesRequest(instruments=[stock("AAPL")])
        async for response in gateway.client.market_data.StreamQuotes(request):
            quotes.extend(event.WhichOneof("event") or "" for event in response.events)

    async def read_orders() -> None:
        async for response in gateway.client.orders.StreamOrderEvents(orders_pb.StreamOrderEventsRequest()):
            orders.extend(event.WhichOneof("event") or "" for event in response.events)

    reading = [asyncio.ensure_future(read()) for read in (read_quotes, read_orders)]
    await eventually(lambda: "quote" in quotes and "snapshot_end" in orders)
    lost: list[str] = []
    session.on_lost(lost.append)
    gateway.simulator.notify(1100, "lost")
    await eventually(lambda: session.status.state is SessionState.LINK_DOWN and "gap" in quotes)
    gateway.simulator.drop_connections()
    await eventually(lambda: "resumed" in quotes and "resumed" in orders)
    assert (quotes.count("gap"), orders.count("gap")) == (1, 1)
    assert lost == ["BROKER_LINK_DOWN"]
    found = await eventually_recorded(
        gateway, "session.transition", lambda rows: [row["to"] for row in rows].count("READY") == 2
    )
    told = [row["to"] for row in found]
    assert (told.count("LINK_DOWN"), told.count("RECONNECTING")) == (1, 1)
    for task in reading:
        task.cancel()


def test_C18_a_farm_is_well_while_the_link_is_down() -> None:
    """1100, then 2104: a data farm is connected.

    LINK_DOWN remains until 1101 or 1102 says otherwise; the farm is told as it is.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            await session.wait_until_ready(20)
            inject(broker.simulator, Fault.FARM_BROKEN, value="market")
            await asyncio.sleep(1)
            assert session.status.state is SessionState.FARM_DEGRADED
            assert session.tallies.value(FARM_IS_OK, "usfarm") == 0
            inject(broker.simulator, Fault.LINK_LOST)
            inject(broker.simulator, Fault.FARM_OK, value="market")
            await asyncio.sleep(1)
            assert session.status.state is SessionState.LINK_DOWN
            assert session.tallies.value(FARM_IS_OK, "usfarm") == 1
            assert {farm.name: farm.is_ok for farm in session.status.farms}["usfarm"]
            inject(broker.simulator, Fault.LINK_RESTORED)
            await asyncio.sleep(1)
            assert session.status.state is SessionState.READY

    virtually(main)


async def test_C19_tws_loses_its_server(make_gateway: MakeGateway) -> None:
    """2110: the connection between TWS and IBKR's server is broken.

    The same as a lost link: LINK_DOWN, a gap, orders refused and unsent.
    """
    await sees_a_lost_link(make_gateway, Fault.SERVER_LINK_BROKEN)
