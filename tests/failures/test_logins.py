"""Logins with other accounts than expected, or that may not trade."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import NotFound, Refused, new_client_order_id, stock
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.simulator import Fault, Simulator

from tests.conftest import FAST, Gateway, MakeGateway, eventually
from tests.failures.conftest import eventually_recorded, gateway_at, inject

PLACE, ACCOUNTS = 3, 15
OURS, OTHER = "DU1234567", "DU7654321"


async def place(gateway: Gateway, account: str = "") -> orders_pb.OrderResult:
    spec = orders_pb.OrderSpec(
        account_id=account,
        instrument=stock("AAPL"),
        side=common_pb2.SIDE_BUY,
        quantity="10",
        order_type=orders_pb.ORDER_TYPE_MKT,
    )
    request = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=spec)
    return (await gateway.client.orders.PlaceOrder(request)).result


async def blockers(gateway: Gateway) -> dict[str, str]:
    """What is in the way of orders, and what to do about each."""
    status = (await gateway.client.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())).status
    return {blocker.reason: blocker.remedy for blocker in status.blockers}


async def refuses_orders(gateway: Gateway, reason: str, account: str = "") -> None:
    """An order is refused for this reason, nothing of it was sent, and GetTradingStatus says so beforehand."""
    remedies = await blockers(gateway)
    assert reason in remedies
    assert all(remedies.values())
    before = gateway.simulator.frames_received(PLACE)
    with pytest.raises(Refused) as refused:
        await place(gateway, account)
    assert refused.value.reason == reason
    assert gateway.simulator.frames_received(PLACE) == before


async def accounts(gateway: Gateway) -> list[str]:
    answer = await gateway.client.account.ListAccounts(account_pb.ListAccountsRequest())
    return [account.account_id for account in answer.accounts]


def at(tmp_path: Path, managed: Sequence[str], **settings: Any) -> AbstractAsyncContextManager[Gateway]:
    """A gateway at a TWS whose login has these accounts."""
    return gateway_at(Simulator(seed=7, accounts=tuple(managed)), tmp_path, **settings)


async def test_C26_a_list_of_accounts_with_a_comma_too_many(tmp_path: Path) -> None:
    """The accounts of the login are told with a comma at the end, as TWS does.

    There is one account and not two: requests that name none mean it, and orders are sent.
    """
    simulator = Simulator(seed=7)
    inject(simulator, Fault.ACCOUNTS, value=f"{OURS},", times=None)
    async with gateway_at(simulator, tmp_path) as gateway:
        await gateway.running.session.wait_until_ready(10)
        assert await accounts(gateway) == [OURS]
        assert (await gateway.client.account.GetPositions(account_pb.GetPositionsRequest())).positions
        assert (await place(gateway)).order_id


async def test_C26_the_account_that_is_set_is_the_only_one(tmp_path: Path) -> None:
    """The login has two accounts, and one of them is set by IBKR_ACCOUNT.

    It alone is listed and means itself; the other one is refused as one that does not exist, for reads and orders.
    """
    async with at(tmp_path, (OTHER, OURS), ibkr_account=OURS) as gateway:
        await gateway.running.session.wait_until_ready(10)
        assert await accounts(gateway) == [OURS]
        found = await gateway.client.account.GetPositions(account_pb.GetPositionsRequest())
        # The simulator's positions are all in the first account of the login.
        assert not found.positions
        with pytest.raises(NotFound) as refused:
            await gateway.client.account.GetPositions(account_pb.GetPositionsRequest(account_id=OTHER))
        assert refused.value.reason == "ACCOUNT_NOT_FOUND"
        with pytest.raises(NotFound):
            await place(gateway, OTHER)
        assert gateway.simulator.frames_received(PLACE) == 0
        assert (await place(gateway)).order_id


async def test_C26_the_account_that_is_set_is_missing(tmp_path: Path) -> None:
    """The login does not have the account that IBKR_ACCOUNT names.

    Orders and reads of accounts are refused with ACCOUNT_MISMATCH, whichever account they name; the record tells it.
    """
    async with at(tmp_path, (OTHER,), ibkr_account=OURS) as gateway:
        await gateway.running.session.wait_until_ready(10)
        assert await accounts(gateway) == []
        for account in ("", OURS, OTHER):
            await refuses_orders(gateway, "ACCOUNT_MISMATCH", account)
            with pytest.raises(Refused) as refused:
                await gateway.client.account.GetPositions(account_pb.GetPositionsRequest(account_id=account))
            assert refused.value.reason == "ACCOUNT_MISMATCH"
        (told,) = await eventually_recorded(gateway, "account.mismatch", bool)
        assert "IBKR_ACCOUNT" in told["text"]


async def test_C26_tws_comes_back_with_another_login(gateway: Gateway) -> None:
    """After a reconnect the account of before is gone, and another one is there.

    Orders are refused with ACCOUNT_MISMATCH until the account is back; the record tells it.
    """
    session = gateway.running.session
    inject(gateway.simulator, Fault.ACCOUNTS, value=OTHER)
    gateway.simulator.drop_connections()
    await eventually(lambda: session.epoch == 2 and session.status.state.is_linked)
    await refuses_orders(gateway, "ACCOUNT_MISMATCH")
    (told,) = await eventually_recorded(gateway, "account.mismatch", bool)
    assert told["missing_count"] == "1"
    gateway.simulator.drop_connections()
    await eventually(lambda: session.epoch == 3 and session.status.state.is_linked)
    assert (await place(gateway)).order_id


@pytest.mark.parametrize("mode", ["paper", "live"])
async def test_C27_an_account_of_the_other_world(tmp_path: Path, mode: str) -> None:
    """A gateway that is set to paper finds a live account, or one that is set to live a paper account.

    Orders are refused with ACCOUNT_MISMATCH and nothing is sent; reads work; the record tells it.
    """
    allowed = tmp_path / "live"
    allowed.touch(0o600)
    settings = {"trading_mode": mode, "live_trading_override_file": allowed, "max_notional": "100000"}
    settings |= {"max_size_per_symbol": "1000"}
    async with at(tmp_path, ("U1234567" if mode == "paper" else OURS,), **settings) as gateway:
        await gateway.running.session.wait_until_ready(10)
        await refuses_orders(gateway, "ACCOUNT_MISMATCH")
        assert len(await accounts(gateway)) == 1
        assert (await gateway.client.account.GetPositions(account_pb.GetPositionsRequest())).positions
        (told,) = await eventually_recorded(gateway, "account.mismatch", bool)
        assert told["expected"] == mode


async def test_C29_an_api_that_is_read_only(make_gateway: MakeGateway) -> None:
    """TWS has its Read-Only API setting on, and refuses an order with 321.

    That order, which was sent, is REJECTED with IBKR's code; the next are refused with READ_ONLY_API, unsent, and
    GetTradingStatus says so; later an order tries again, and works once the setting is off.
    """
    gateway = await make_gateway(session_timings=replace(FAST, read_only_kept_s=2.0))
    inject(gateway.simulator, Fault.READ_ONLY)
    result = await place(gateway)
    assert result.state == orders_pb.ORDER_STATE_REJECTED
    named = orders_pb.GetOrderStatusRequest(order=orders_pb.OrderKey(client_order_id=result.client_order_id))
    assert (await gateway.client.orders.GetOrderStatus(named)).status.rejection.ibkr_code == 321
    await refuses_orders(gateway, "READ_ONLY_API")
    async with asyncio.timeout(15):
        while "READ_ONLY_API" in await blockers(gateway):
            await asyncio.sleep(0.05)
    assert (await place(gateway)).state != orders_pb.ORDER_STATE_REJECTED
