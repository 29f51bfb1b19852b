"""Every tool over every transport, in both eras of the protocol, with good arguments and with bad ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import connect, new_client_order_id
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.terms import OrderFields

from tests.conftest import program
from tests.mcp.conftest import BUY, ERAS, TRANSPORTS, Person, agent_of

WAYS = list(itertools.product(TRANSPORTS, ERAS))

READS: dict[str, dict[str, Any]] = {
    "get_quote": {"symbol": "AAPL", "security_type": "STK", "exchange": "SMART", "currency": "USD"},
    "get_quotes": {"symbols": ["AAPL", "MES:FUT", "EUR.USD"]},
    "get_historical_data": {"symbol": "AAPL", "bar_size": "1 day", "duration": "1 M", "what_to_show": "TRADES"},
    "search_symbols": {"pattern": "AAP"},
    "get_contract_details": {"symbol": "MES", "security_type": "FUT"},
    "get_option_chain": {"symbol": "AAPL"},
    "get_account_status": {},
    "get_pnl": {"timeframe": "day"},
    "list_executions": {"symbol": "AAPL"},
    "list_open_orders": {},
    "get_trading_status": {},
    "get_health": {},
    "preview_order": BUY,
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "get_quote": ({"symbol": "ZZZZ9"}, "CONTRACT_NOT_FOUND"),
    "get_quotes": ({"symbols": []}, "FIELD_INVALID"),
    "get_historical_data": ({"symbol": "AAPL", "bar_size": "7 mins", "duration": "1 D"}, "FIELD_INVALID"),
    "search_symbols": ({"pattern": ""}, "FIELD_INVALID"),
    "get_contract_details": ({"symbol": "AAPL", "security_type": "SHARE"}, "FIELD_INVALID"),
    "get_option_chain": ({"symbol": "ZZZZ9"}, "CONTRACT_NOT_FOUND"),
    "get_account_status": ({"account_id": "DU0000000"}, "ACCOUNT_NOT_FOUND"),
    "get_pnl": ({"account_id": "DU0000000"}, "ACCOUNT_NOT_FOUND"),
    "list_executions": ({"page_token": "nonsense"}, "REQUEST_MALFORMED"),
    "list_open_orders": ({"max_rows": 0}, "FIELD_INVALID"),
    "get_trading_status": ({"verbose": True}, "FIELD_INVALID"),
    "get_health": ({"verbose": True}, "FIELD_INVALID"),
    "preview_order": ({**BUY, "quantity": -1}, "FIELD_INVALID"),
    "place_order": ({**BUY, "limit_price": "cheap"}, "FIELD_INVALID"),
    "modify_order": ({"order_id": "mcp-0000000000000000", "limit_price": 1}, "ORDER_NOT_FOUND"),
    "cancel_order": ({"order_id": "mcp-0000000000000000"}, "ORDER_NOT_FOUND"),
    "get_order_status": ({"order_id": "424242"}, "ORDER_NOT_FOUND"),
    "halt_trading": ({"level": "GLOBAL_CANCEL"}, "FIELD_INVALID"),
}
COMMANDS = {"place_order", "modify_order", "cancel_order", "get_order_status", "halt_trading"}


@pytest.fixture(scope="module", params=["true", "false"], ids=["orders enabled", "orders disabled"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bool]]:
    """The address of one gateway for all ways, and whether it sends orders."""
    cwd: Path = tmp_path_factory.mktemp("gateway")
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "ERROR")
    with program("ibkr_gateway_server", *arguments, cwd=cwd, ORDERS_ENABLED=request.param) as (_, address):
        yield address, request.param == "true"


async def wait_until_ready(address: str) -> None:
    async with connect(address) as gateway:
        async for response in gateway.gateway.WatchSession(gateway_pb.WatchSessionRequest(), timeout=20):
            if response.status.state == common_pb2.SESSION_STATE_READY:
                return


@pytest.mark.parametrize(("transport", "era"), WAYS)
async def test_every_tool_answers(target: tuple[str, bool], transport: str, era: str) -> None:
    address, sends_orders = target
    await wait_until_ready(address)
    person = Person()
    # All ways share a gateway, whose record is what the budget is counted from.
    made = agent_of(address, transport, era, person=person, limits=Limits(per_minute=100))
    async with made as agent, connect(address) as gateway:
        offered = {tool.name for tool in (await agent.client.list_tools()).tools}
        assert offered == set(READS) | COMMANDS
        for tool, arguments in READS.items():
            assert await agent.call(tool, **arguments)
        if sends_orders:
            key = new_client_order_id()
            order = OrderFields.model_validate(BUY).spec()
            await gateway.orders.PlaceOrder(pb.PlaceOrderRequest(client_order_id=key, order=order))
            changed = await agent.call("modify_order", order_id=key, limit_price="99.5")
            assert (changed["state"], changed["status"]["limit_price"]) == ("WORKING", "99.5")
            assert (await agent.call("cancel_order", order_id=key))["status"]["state"] == "CANCELLED"
            assert (await agent.call("get_order_status", order_id=key))["state"] == "CANCELLED"
            preview = await agent.call("preview_order", **BUY)
            placed = await agent.call("place_order", **BUY, preview_id=preview["preview_id"])
            assert placed["state"] == "WORKING"
            await gateway.orders.CancelOrder(
                pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=placed["client_order_id"]))
            )
            assert (await agent.call("halt_trading", comment="test"))["status"]["halt_level"] == "BLOCK_NEW"
            await gateway.gateway.ResumeTrading(gateway_pb.ResumeTradingRequest())
            assert len(person.questions) == 3
        else:
            preview = await agent.call("preview_order", **BUY)
            placed = await agent.call("place_order", **BUY, preview_id=preview["preview_id"])
            assert (placed["state"], placed["is_simulated"]) == ("SIMULATED", True)
            found = await agent.call("get_order_status", order_id=preview["client_order_id"])
            assert found["state"] == "SIMULATED"
            assert person.questions == []


# What is wrong is wrong whether or not orders are sent.
@pytest.mark.parametrize("target", ["true"], indirect=True, ids=["orders enabled"])
@pytest.mark.parametrize(("transport", "era"), WAYS)
async def test_every_tool_says_what_is_wrong_and_what_to_do(target: tuple[str, bool], transport: str, era: str) -> None:
    address, _ = target
    await wait_until_ready(address)
    person = Person()
    async with agent_of(address, transport, era, person=person) as agent:
        assert {tool.name for tool in (await agent.client.list_tools()).tools} == set(WRONG)
        for tool, (arguments, code) in WRONG.items():
            assert (await agent.refusal(tool, **arguments))["error_code"] == code, tool
        assert (await agent.refusal("sell_everything"))["error_code"] == "REQUEST_MALFORMED"
        # It is alive and well.
        assert (await agent.call("get_health"))["status"] == "OK"
    assert person.questions == []
