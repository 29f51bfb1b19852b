"""Bytes that are cut, broken, false or not to be understood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from ibkr_gateway import Unavailable, bar_size, duration, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from ibkr_gateway_server.domain.bars import BarSize
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.tallies import DECODE_ERRORS, UNKNOWN_MESSAGES
from ibkr_gateway_server.simulator import Fault, Simulator

from tests.conftest import Gateway, eventually
from tests.failures.conftest import eventually_recorded, inject, tally, virtual_broker, virtually

AAPL = stock("AAPL")


async def events_of(gateway: Gateway, wanted: Callable[[market_pb.QuoteEvent], bool]) -> list[market_pb.QuoteEvent]:
    """The events of a stream of AAPL until the wanted one."""
    request = market_pb.StreamQuotesRequest(instruments=[AAPL])
    events = []
    async for response in gateway.client.market_data.StreamQuotes(request):
        events += response.events
        if any(wanted(event) for event in response.events):
            return events
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("cut", [Fault.SPLIT, Fault.MERGE], ids=lambda fault: fault.name.lower())
def test_C04_messages_in_single_bytes_or_all_in_one_piece(cut: Fault) -> None:
    """Every byte of the greeting and of all that follows comes alone, or everything comes in one piece.

    READY, with the same accounts, positions and quotes as otherwise.
    """

    async def prices(*faults: Fault) -> tuple[object, ...]:
        def prepare(simulator: Simulator) -> None:
            for fault in faults:
                inject(simulator, fault, value="1")

        async with virtual_broker(prepare=prepare) as broker:
            await broker.session.wait_until_ready(20)
            instrument = await broker.contracts.resolve(Instrument(symbol="AAPL", security_type=SecurityType.STK))
            quote = await broker.market_data.snapshot(instrument, 10)
            accounts = broker.session.connection().accounts
            return accounts, quote.close_price, quote.instrument, await broker.accounts.positions(accounts[0])

    async def cut_up() -> tuple[object, ...]:
        return await prices(cut)

    async def whole() -> tuple[object, ...]:
        return await prices()

    (*first, (held, _)), (*second, (also_held, _)) = virtually(cut_up), virtually(whole)
    assert first == second
    assert held == also_held


async def test_C07_a_reset_in_the_middle_of_a_message(gateway: Gateway) -> None:
    """Half of a tick is sent, then the connection is reset, with a stream open and a request unanswered.

    A gap on the stream and its end; UNAVAILABLE with BROKER_DISCONNECTED for the request; the next epoch by itself.
    """
    epoch = gateway.running.session.epoch
    watching = asyncio.ensure_future(events_of(gateway, lambda event: event.HasField("resumed")))
    await eventually(lambda: gateway.running.market_data.usage())
    inject(gateway.simulator, Fault.LOSE, 20)
    request = market_pb.GetHistoricalBarsRequest(
        instrument=AAPL, bar_size=bar_size(BarSize.MIN_1), duration=duration("1 D")
    )
    asking = asyncio.ensure_future(gateway.client.market_data.GetHistoricalBars(request))
    await eventually(lambda: gateway.simulator.frames_received(20))
    inject(gateway.simulator, Fault.RESET_MID_FRAME, 1)
    with pytest.raises(Unavailable) as refused:
        await asking
    assert refused.value.reason == "BROKER_DISCONNECTED"
    events = await watching
    assert [event.gap.reason for event in events if event.HasField("gap")] == ["BROKER_DISCONNECTED"]
    assert gateway.running.session.epoch == epoch + 1


async def test_C08_an_end_of_the_connection_behind_an_answer(gateway: Gateway) -> None:
    """TWS ends the connection right behind a long answer.

    The answer is whole; then the session is lost and comes back.
    """
    session = gateway.running.session
    epoch = session.epoch
    inject(gateway.simulator, Fault.CLOSE_AFTER, 9)
    request = reference_pb.GetContractDetailsRequest(instrument=AAPL)
    assert (await gateway.client.reference_data.GetContractDetails(request)).details[0].instrument.symbol == "AAPL"
    await eventually(lambda: session.epoch == epoch + 1 and session.status.state.is_linked)


@pytest.mark.parametrize("length", ["0", "-1", "0x7fffffff"])
async def test_C23_a_length_that_cannot_be(gateway: Gateway, length: str) -> None:
    """The length before a message is 0, negative or two gigabytes.

    The connection is ended within that read rather than waited on for ever, and made anew in the next epoch.
    """
    session = gateway.running.session
    epoch = session.epoch
    inject(gateway.simulator, Fault.BAD_LENGTH, value=length)
    await gateway.client.gateway.GetHealth(gateway_pb.GetHealthRequest())
    with pytest.raises(Unavailable):
        await gateway.client.gateway.GetServerTime(gateway_pb.GetServerTimeRequest())
    await eventually(lambda: session.epoch == epoch + 1 and session.status.state.is_linked)
    assert (await gateway.client.gateway.GetServerTime(gateway_pb.GetServerTimeRequest())).HasField("broker_time")
    assert len(await eventually_recorded(gateway, "session.protocol_error", bool)) == 1


@pytest.mark.parametrize(("message_id", "field"), [(5, 2), (3, 3), (11, 15), (59, 3)])
async def test_C24_a_message_about_an_order_that_cannot_be_read(gateway: Gateway, message_id: int, field: int) -> None:
    """A field of openOrder, orderStatus, execDetails or commissionReport is no number where one must be.

    It is counted by its kind, orders are reconciled anew at once, and what it would have said is known afterwards.
    """
    before = gateway.simulator.frames_received(7)
    inject(gateway.simulator, Fault.CORRUPT_FIELD, message_id, field=field, value="x")
    spec = orders_pb.OrderSpec(
        instrument=AAPL, side=common_pb2.SIDE_BUY, quantity="10", order_type=orders_pb.ORDER_TYPE_MKT
    )
    key = new_client_order_id()
    await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=spec))
    await eventually(lambda: tally(gateway, DECODE_ERRORS, str(message_id)) == 1)
    (told,) = await eventually_recorded(gateway, "decode.error", bool)
    assert (told["message_id"], len(told["digest"])) == (message_id, 16)
    # Executions are asked for by a reconciliation alone.
    await eventually(lambda: gateway.simulator.frames_received(7) > before)
    named = orders_pb.GetOrderStatusRequest(order=orders_pb.OrderKey(client_order_id=key))
    status = orders_pb.OrderStatus()
    async with asyncio.timeout(15):
        while status.state != orders_pb.ORDER_STATE_FILLED:
            status = (await gateway.client.orders.GetOrderStatus(named)).status
    assert status.filled_quantity == "10"


async def test_C25_a_message_of_an_unknown_kind(gateway: Gateway) -> None:
    """A message with an id that nobody knows comes before another.

    It is counted and left out; everything else goes on in the same epoch.
    """
    epoch = gateway.running.session.epoch
    inject(gateway.simulator, Fault.PRECEDE_UNKNOWN, 49)
    answer = await gateway.client.gateway.GetServerTime(gateway_pb.GetServerTimeRequest())
    assert answer.HasField("broker_time")
    counted = gateway.running.session.tallies.values()
    assert sum(sum(values.values()) for kind, values in counted if kind is UNKNOWN_MESSAGES) == 1
    assert gateway.running.session.epoch == epoch
