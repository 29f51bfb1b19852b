"""Accounts of which TWS says too little, too late or something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest
from google.protobuf.duration_pb2 import Duration
from ibkr_gateway import NotFound, Unavailable, new_client_order_id, stock
from ibkr_gateway.v1 import account_service_pb2 as pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.domain.errors import BrokerTimeout, SessionSyncing
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.tallies import DECODE_ERRORS, SUMMARY_SUBSCRIPTIONS, UNKNOWN_ACCOUNT_TAGS
from ibkr_gateway_server.simulator import Fault, Simulator

from tests.conftest import Gateway, eventually
from tests.failures.conftest import inject, tally, virtual_broker, virtually

SUMMARY, POSITIONS, UPDATES = 62, 61, 6
POSITION, POSITION_END, PNL, PNL_SINGLE, SUMMARY_ROW, VALUE_ROW = 61, 62, 94, 95, 63, 6


async def trade(gateway: Gateway, side: common_pb2.Side, quantity: str = "10") -> None:
    """Fill a market order in AAPL."""
    spec = orders_pb.OrderSpec(
        instrument=stock("AAPL"), side=side, quantity=quantity, order_type=orders_pb.ORDER_TYPE_MKT
    )
    key = new_client_order_id()
    await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=spec))
    named = orders_pb.GetOrderStatusRequest(order=orders_pb.OrderKey(client_order_id=key))
    async with asyncio.timeout(15):
        while (await gateway.client.orders.GetOrderStatus(named)).status.state != orders_pb.ORDER_STATE_FILLED:
            await asyncio.sleep(0.01)


async def test_A01_three_programs_follow_one_summary(gateway: Gateway) -> None:
    """Three programs ask for the summary at once and follow it by streams.

    All are answered; TWS, which allows two summaries at a time, has been asked for one.
    """
    account = gateway.client.account
    answers = await asyncio.gather(*(account.GetAccountSummary(pb.GetAccountSummaryRequest()) for _ in range(3)))
    streams = [aiter(account.StreamAccountSummary(pb.StreamAccountSummaryRequest())) for _ in range(3)]
    firsts = [await anext(stream) for stream in streams]
    assert len({answer.summary.net_liquidation for answer in answers}) == 1
    assert all(first.events for first in firsts)
    assert gateway.simulator.frames_received(SUMMARY) == 1
    assert tally(gateway, SUMMARY_SUBSCRIPTIONS) == 1


def test_A02_positions_have_no_end() -> None:
    """The end of the positions never comes.

    BROKER_TIMEOUT or SESSION_SYNCING for whoever asks for them, never an empty account.
    """

    async def main() -> None:
        def lose_the_end(simulator: Simulator) -> None:
            inject(simulator, Fault.LOSE_REPLY, POSITION_END, times=None)

        async with virtual_broker(prepare=lose_the_end, tick_interval_s=60.0) as broker:
            while not broker.simulator.frames_received(POSITIONS):
                await asyncio.sleep(0.1)
            for _ in range(5):
                with pytest.raises((BrokerTimeout, SessionSyncing)):
                    await broker.accounts.positions()
                await asyncio.sleep(10)
            assert broker.session.status.state is SessionState.SYNCING
            broker.simulator.gateway.faults.clear()
            await broker.session.wait_until_ready(120)
            assert (await broker.accounts.positions())[0]

    virtually(main)


async def test_A03_two_ask_for_positions_at_once(gateway: Gateway) -> None:
    """Two ask for positions at the same moment, again and again.

    Both are answered, with the same.
    """
    await trade(gateway, common_pb2.SIDE_BUY)
    for _ in range(5):
        one, two = await asyncio.gather(
            *(gateway.client.account.GetPositions(pb.GetPositionsRequest()) for _ in range(2))
        )
        assert [position.quantity for position in one.positions] == [position.quantity for position in two.positions]
        assert one.positions


async def test_A04_profit_and_loss_that_is_not_known(gateway: Gateway) -> None:
    """TWS sends its largest double for profit and loss of the account and of its positions.

    The figures are absent, not zero and not large.
    """
    for message in (PNL, PNL_SINGLE):
        inject(gateway.simulator, Fault.SENTINEL, message, value="max_double", times=None)
    pnl = (await gateway.client.account.GetPnl(pb.GetPnlRequest())).pnl
    assert pnl.details
    for figures in (pnl, *pnl.details):
        assert not any(figures.HasField(name) for name in ("daily_pnl", "unrealized_pnl", "realized_pnl"))


async def test_A05_a_position_goes_to_nothing_and_back(gateway: Gateway) -> None:
    """A position is closed and opened again while a stream follows it.

    Its changes in their order: less, nothing, and more again.
    """
    told: list[Decimal] = []

    async def follow() -> None:
        async for response in gateway.client.account.StreamPositions(pb.StreamPositionsRequest()):
            for event in response.events:
                if event.HasField("position") and event.position.instrument.symbol == "AAPL":
                    quantity = Decimal(event.position.quantity)
                    told.extend([quantity] if told[-1:] != [quantity] else [])

    following = asyncio.ensure_future(follow())
    try:
        await eventually(lambda: told)
        held = told[0]
        await trade(gateway, common_pb2.SIDE_SELL, str(held))
        await eventually(lambda: told[-1] == 0)
        await trade(gateway, common_pb2.SIDE_BUY, "5")
        await eventually(lambda: told[-1] == 5)
        # In between there may be parts of it, and never anything out of order.
        nothing = told.index(Decimal(0))
        assert told[:nothing] == sorted(told[:nothing], reverse=True)
        assert told[nothing:] == sorted(told[nothing:])
    finally:
        following.cancel()


async def test_A06_what_is_known_while_the_link_is_down(gateway: Gateway) -> None:
    """TWS loses its link to IBKR after everything was asked for once.

    Answers go on, with the time they are of and marked as stale; who sets a greatest age gets BROKER_LINK_DOWN.
    """
    account = gateway.client.account
    await account.GetPnl(pb.GetPnlRequest())
    await account.GetAccountValues(pb.GetAccountValuesRequest())
    before = await account.GetAccountSummary(pb.GetAccountSummaryRequest())
    assert not before.summary.is_stale
    inject(gateway.simulator, Fault.LINK_LOST)
    await eventually(lambda: gateway.running.session.status.state is SessionState.LINK_DOWN)
    summary = (await account.GetAccountSummary(pb.GetAccountSummaryRequest())).summary
    positions = await account.GetPositions(pb.GetPositionsRequest())
    pnl = (await account.GetPnl(pb.GetPnlRequest())).pnl
    values = await account.GetAccountValues(pb.GetAccountValuesRequest())
    status = await account.GetAccountStatus(pb.GetAccountStatusRequest())
    for answer in (summary, positions, pnl, values, status, status.summary):
        assert answer.is_stale
    for answer in (summary, positions, pnl, values):
        assert answer.HasField("as_of_time")
    assert positions.positions
    with pytest.raises(Unavailable) as refused:
        await account.GetPositions(pb.GetPositionsRequest(max_age=Duration(nanos=1)))
    assert refused.value.reason == "BROKER_LINK_DOWN"
    assert (await account.GetPositions(pb.GetPositionsRequest(max_age=Duration(seconds=600)))).positions
    inject(gateway.simulator, Fault.LINK_RESTORED)
    await eventually(lambda: gateway.running.session.status.state.is_linked)
    assert not (await account.GetPositions(pb.GetPositionsRequest(max_age=Duration(nanos=1)))).is_stale


Ask = Callable[[Gateway, str], object]


def unary(name: str) -> Ask:
    return lambda gateway, account: getattr(gateway.client.account, name)(
        getattr(pb, f"{name}Request")(account_id=account)
    )


def stream(name: str) -> Ask:
    return lambda gateway, account: anext(
        aiter(getattr(gateway.client.account, name)(getattr(pb, f"{name}Request")(account_id=account)))
    )


@pytest.mark.parametrize(
    "ask",
    [
        *(unary(f"Get{what}") for what in ("AccountSummary", "AccountValues", "Positions", "AccountStatus", "Pnl")),
        *(stream(f"Stream{what}") for what in ("AccountSummary", "Positions", "Pnl")),
        unary("ListExecutions"),
    ],
)
async def test_A07_an_account_of_somebody_else(gateway: Gateway, ask: Ask) -> None:
    """Somebody asks for an account that is not of this login: one that there may be, and one that cannot be.

    NOT_FOUND with ACCOUNT_NOT_FOUND, in the same words.
    """
    texts = []
    for account in ("DU7654321", "nobody's"):
        with pytest.raises(NotFound) as refused:
            await ask(gateway, account)  # type: ignore[misc]
        assert refused.value.reason == "ACCOUNT_NOT_FOUND"
        texts.append(refused.value.message)
    assert texts[0] == texts[1]


def test_A08_tags_are_renamed() -> None:
    """TWS writes a prefix before a tag of the summary, and sends a raw value under a name that nobody knows.

    The figure is read all the same, the raw value is told as it came; what is not known is counted.
    """

    async def main() -> None:
        def rename(simulator: Simulator) -> None:
            # The summary's first row is of Cushion.
            inject(simulator, Fault.CORRUPT_FIELD, SUMMARY_ROW, field=4, value="$LEDGER-Cushion")
            inject(simulator, Fault.CORRUPT_FIELD, VALUE_ROW, field=2, value="$LEDGER-Something")

        async with virtual_broker(prepare=rename, tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            assert (await broker.accounts.summary()).cushion is not None
            values, _ = await broker.accounts.values()
            assert "$LEDGER-Something" in {value.tag for value in values}
            assert broker.session.tallies.value(UNKNOWN_ACCOUNT_TAGS) == 2

    virtually(main)


def test_A08_one_figure_under_two_names() -> None:
    """TWS sends one figure of the summary under its tag and, with a prefix, another one under the same.

    It is absent: nobody knows which of them is true.
    """

    async def main() -> None:
        def rename(simulator: Simulator) -> None:
            inject(simulator, Fault.CORRUPT_FIELD, SUMMARY_ROW, field=4, value="$LEDGER-AvailableFunds")

        async with virtual_broker(prepare=rename, tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            summary = await broker.accounts.summary()
            assert summary.available_funds is None
            assert summary.net_liquidation is not None

    virtually(main)


def test_A02_a_holding_that_cannot_be_read_is_not_left_out() -> None:
    """One of the positions cannot be read.

    Positions are asked for again, and until TWS has told all of them nobody gets the list without it.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=60.0) as broker:
            await broker.session.wait_until_ready(20)
            whole = [position.instrument.symbol for position in (await broker.accounts.positions())[0]]
            connection = broker.session.connection()
            inject(broker.simulator, Fault.CORRUPT_FIELD, POSITION, field=3, value="x")
            # Somebody else asks, and the answer has a row that is broken.
            connection.client.reqPositions()
            await asyncio.sleep(1)
            assert broker.session.tallies.value(DECODE_ERRORS, str(POSITION)) == 1
            asked = broker.simulator.frames_received(POSITIONS)
            again = (await broker.accounts.positions())[0]
            assert [position.instrument.symbol for position in again] == whole
            assert broker.simulator.frames_received(POSITIONS) - asked <= 1

    virtually(main)
