"""Account streams: the whole state, then what changes of it, and the whole again after a gap."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from ibkr_gateway.errors import GatewayError
from ibkr_gateway.v1 import account_service_pb2 as pb
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import OrderSpec, OrderType, Side
from ibkr_gateway_server.simulator.faults import Fault, Rule

from tests.conftest import Gateway, eventually

NVDA = Instrument(symbol="NVDA", security_type=SecurityType.STK)
BEAT = Duration(seconds=1)


async def trade(gateway: Gateway, side: Side = Side.BUY) -> None:
    spec = OrderSpec(NVDA, side, Decimal(5), OrderType.MKT, None)
    await gateway.running.desk.place(uuid.uuid4().hex, spec)


async def events(stream: Any) -> AsyncIterator[Any]:
    """The events of a stream, whose sequence rises; it fails the test when the next one is long in coming."""
    last = 0
    async with asyncio.timeout(40):
        async for response in stream:
            assert response.events
            for event in response.events:
                assert event.sequence > last
                last = event.sequence
                yield event


async def until(told: AsyncIterator[Any], kind: str) -> list[Any]:
    """Events up to and with the first of a kind."""
    seen = []
    async for event in told:
        seen.append(event)
        if event.WhichOneof("event") == kind:
            return seen
    raise AssertionError(f"it ended without {kind}")


def kinds(seen: list[Any]) -> list[str]:
    return [event.WhichOneof("event") for event in seen if event.WhichOneof("event") != "heartbeat"]


async def test_positions_come_between_their_marks_and_then_as_they_change(gateway: Gateway) -> None:
    told = events(gateway.client.account.StreamPositions(pb.StreamPositionsRequest(heartbeat_interval=BEAT)))
    begin, *held, end = await until(told, "snapshot_end")
    assert (begin.WhichOneof("event"), end.WhichOneof("event")) == ("snapshot_begin", "snapshot_end")
    assert [event.position.instrument.symbol for event in held] == ["AAPL", "MES", "SPY"]
    await trade(gateway)
    bought = await first_of(told, "NVDA")
    assert Decimal(bought.quantity) == 5
    await trade(gateway, Side.SELL)
    while Decimal((await first_of(told, "NVDA")).quantity):
        pass


async def first_of(told: AsyncIterator[Any], symbol: str) -> pb.Position:
    """The next word about a position."""
    while True:
        event = (await until(told, "position"))[-1]
        if event.position.instrument.symbol == symbol:
            position: pb.Position = event.position
            return position


async def test_a_summary_is_told_again_when_a_fill_has_changed_it(gateway: Gateway) -> None:
    request = pb.StreamAccountSummaryRequest(heartbeat_interval=BEAT)
    told = events(gateway.client.account.StreamAccountSummary(request))
    (first,) = await until(told, "summary")
    whole = await gateway.client.account.GetAccountSummary(pb.GetAccountSummaryRequest())
    assert first.summary.net_liquidation == whole.summary.net_liquidation
    await trade(gateway)
    second = (await until(told, "summary"))[-1]
    assert second.summary.cash != first.summary.cash
    assert second.summary.currency == "USD"


async def test_a_summary_that_does_not_change_is_not_repeated(gateway: Gateway) -> None:
    request = pb.StreamAccountSummaryRequest(heartbeat_interval=BEAT)
    told = events(gateway.client.account.StreamAccountSummary(request))
    await until(told, "summary")
    assert kinds(await until(told, "heartbeat")) == []


@pytest.mark.parametrize("with_positions", [False, True])
async def test_profit_and_loss_flow_with_positions_where_they_are_wanted(
    gateway: Gateway, with_positions: bool
) -> None:
    request = pb.StreamPnlRequest(include_positions=with_positions, heartbeat_interval=BEAT)
    told = events(gateway.client.account.StreamPnl(request))
    first = (await until(told, "pnl"))[-1].pnl
    second = (await until(told, "pnl"))[-1].pnl
    assert first.HasField("unrealized_pnl")
    assert (first.daily_pnl, first.unrealized_pnl) != (second.daily_pnl, second.unrealized_pnl)
    symbols = ["AAPL", "MES", "SPY"] if with_positions else []
    assert [detail.instrument.symbol for detail in second.details] == symbols


async def test_a_position_that_is_new_has_its_profit_and_loss(gateway: Gateway) -> None:
    request = pb.StreamPnlRequest(include_positions=True, heartbeat_interval=BEAT)
    told = events(gateway.client.account.StreamPnl(request))
    await until(told, "pnl")
    await trade(gateway)
    while True:
        details = {detail.instrument.symbol: detail for detail in (await until(told, "pnl"))[-1].pnl.details}
        if "NVDA" in details and details["NVDA"].HasField("market_value"):
            break


async def test_after_a_lost_connection_the_whole_comes_again(gateway: Gateway) -> None:
    told = events(gateway.client.account.StreamPositions(pb.StreamPositionsRequest(heartbeat_interval=BEAT)))
    await until(told, "snapshot_end")
    gateway.simulator.drop_connections()
    # Before the connection has broken a mark may still have come.
    seen = [kind for kind in kinds(await until(told, "snapshot_end")) if kind != "position"]
    assert seen == ["gap", "resumed", "snapshot_begin", "snapshot_end"]


async def test_while_the_link_is_lost_there_is_a_gap(gateway: Gateway) -> None:
    told = events(gateway.client.account.StreamPnl(pb.StreamPnlRequest(heartbeat_interval=BEAT)))
    await until(told, "pnl")
    gateway.simulator.inject(Rule(Fault.LINK_LOST))
    gap = (await until(told, "gap"))[-1].gap
    assert gap.reason == "BROKER_LINK_DOWN"
    assert kinds(await until(told, "heartbeat")) == []
    gateway.simulator.inject(Rule(Fault.LINK_RESTORED))
    seen = await until(told, "pnl")
    assert kinds(seen) == ["resumed", "pnl"]
    assert seen[0].resumed.gap_start_time == gap.start_time


async def test_a_stream_of_another_account_or_with_a_wrong_interval_is_refused(gateway: Gateway) -> None:
    account = gateway.client.account
    with pytest.raises(GatewayError) as refused:
        await anext(events(account.StreamPnl(pb.StreamPnlRequest(account_id="DU9"))))
    assert refused.value.reason == "ACCOUNT_NOT_FOUND"
    wrong = pb.StreamPositionsRequest(heartbeat_interval=Duration(seconds=3600))
    with pytest.raises(GatewayError) as refused:
        await anext(events(account.StreamPositions(wrong)))
    assert refused.value.reason == "FIELD_INVALID"


async def test_streams_that_have_ended_are_followed_no_more(gateway: Gateway) -> None:
    listeners = gateway.running.desk._accounts._listeners
    stream = gateway.client.account.StreamPnl(pb.StreamPnlRequest(heartbeat_interval=BEAT))
    await until(events(stream), "pnl")
    assert len(listeners) == 1
    await stream.aclose()
    await eventually(lambda: not listeners)
