"""What a tool answers is what the RPC answers, bounded, with a note of what was left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from ibkr_gateway import bar_size, duration, stock
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from ibkr_gateway_mcp.plain import plain
from ibkr_gateway_mcp.terms import OrderFields

from tests.conftest import Gateway
from tests.mcp.conftest import BUY, agent_of

# What moves between two calls.
MOVING = {
    *("bid_price", "ask_price", "last_price", "bid_size", "ask_size", "last_size", "volume", "high_price", "low_price"),
    *(
        "exchange_time",
        "receive_time",
        "is_cached",
        "server_time",
        "as_of_time",
        "is_snapshot",
        "market_price",
        "market_value",
    ),
    *("unrealized_pnl", "daily_pnl", "net_liquidation", "buying_power", "margin_excess", "maintenance_margin"),
    *("initial_margin", "available_funds", "gross_position_value", "cushion"),
}

ONE_FIELD = {"get_quote": "quote", "get_pnl": "pnl", "get_order_status": "status", "get_trading_status": "status"}


def still(found: Any) -> Any:
    """An answer without what is absent, and without what moves."""
    if isinstance(found, dict):
        return {name: still(value) for name, value in found.items() if value is not None and name not in MOVING}
    return [still(each) for each in found] if isinstance(found, list) else found


def expected(tool: str, direct: Any) -> Any:
    """What a tool makes of an RPC's answer: one field of it, or lists that are cut."""
    direct = direct[ONE_FIELD[tool]] if tool in ONE_FIELD else direct
    for details in direct["details"] if tool == "get_contract_details" else ():
        del details["trading_sessions"][5:]
        del details["regular_sessions"][5:]
    return direct


async def test_answers_equal_those_of_the_rpcs(gateway: Gateway) -> None:
    client, aapl = gateway.client, stock("AAPL")
    key = orders_pb.OrderKey(client_order_id="an-order-of-the-test")
    order = OrderFields.model_validate(BUY).spec()
    placing = orders_pb.PlaceOrderRequest(client_order_id=key.client_order_id, order=order)
    await client.orders.PlaceOrder(placing)
    mes = common_pb2.Instrument(symbol="MES", security_type=common_pb2.SECURITY_TYPE_FUT)
    bars = market_pb.GetHistoricalBarsRequest(
        instrument=aapl,
        bar_size=bar_size("1 day"),
        duration=duration("1 W"),
        what_to_show=market_pb.WHAT_TO_SHOW_TRADES,
        regular_hours_only=True,
    )
    chain = reference_pb.GetOptionChainRequest(underlying=aapl, exchange="SMART")
    asked: dict[str, tuple[dict[str, Any], Callable[[], Awaitable[Message]]]] = {
        "get_quote": (
            {"symbol": "AAPL"},
            lambda: client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=aapl)),
        ),
        "get_historical_data": (
            {"symbol": "AAPL", "bar_size": "1d", "duration": "1 week"},
            lambda: client.market_data.GetHistoricalBars(bars),
        ),
        "get_account_status": ({}, lambda: client.account.GetAccountStatus(account_pb.GetAccountStatusRequest())),
        "get_pnl": ({}, lambda: client.account.GetPnl(account_pb.GetPnlRequest())),
        "search_symbols": (
            {"pattern": "M"},
            lambda: client.reference_data.SearchSymbols(reference_pb.SearchSymbolsRequest(pattern="M")),
        ),
        "get_contract_details": (
            {"symbol": "MES", "security_type": "FUT"},
            lambda: client.reference_data.GetContractDetails(reference_pb.GetContractDetailsRequest(instrument=mes)),
        ),
        "get_option_chain": ({"symbol": "AAPL", "max_rows": 1000}, lambda: client.reference_data.GetOptionChain(chain)),
        "list_open_orders": (
            {},
            lambda: client.orders.ListOpenOrders(orders_pb.ListOpenOrdersRequest(include_external=True)),
        ),
        "get_order_status": (
            {"order_id": key.client_order_id},
            lambda: client.orders.GetOrderStatus(orders_pb.GetOrderStatusRequest(order=key)),
        ),
        "get_trading_status": ({}, lambda: client.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())),
        "get_health": ({}, lambda: client.gateway.GetHealth(gateway_pb.GetHealthRequest())),
    }
    async with agent_of(gateway.running.target) as agent:
        for tool, (arguments, call) in asked.items():
            # An order's evidence comes in by itself: what is asked twice may have changed in between.
            async with asyncio.timeout(15):
                while still(await agent.call(tool, **arguments)) != still(expected(tool, plain(await call()))):
                    await asyncio.sleep(0.01)


async def test_the_newest_bars_come_and_the_note_gets_the_earlier_ones(gateway: Gateway) -> None:
    async with agent_of(gateway.running.target) as agent:
        arguments = {"symbol": "AAPL", "bar_size": "1 min", "duration": "1 D", "rth_only": True}
        every = (await agent.call("get_historical_data", **arguments, max_rows=1000))["bars"]
        few = await agent.call("get_historical_data", **arguments, max_rows=10)
        assert few["bars"] == every[-10:]
        assert f"end_time={every[-10]['start_time']}" in few["note"]
        earlier = await agent.call(
            "get_historical_data", **arguments, max_rows=10, end_time=few["bars"][0]["start_time"]
        )
        assert earlier["bars"][-1]["start_time"] < few["bars"][0]["start_time"]


async def test_a_long_history_tells_how_far_it_is_and_where_to_go_on(gateway: Gateway) -> None:
    told: list[tuple[float, float | None]] = []

    async def progress(done: float, total: float | None, _message: str | None) -> None:
        told.append((done, total))

    arguments = {"symbol": "AAPL", "bar_size": "1 hour", "start_time": "2026-08-01", "end_time": "2026-11-20"}
    async with agent_of(gateway.running.target) as agent:
        every = await agent.client.call_tool(
            "get_historical_data", {**arguments, "max_rows": 1000}, progress_callback=progress
        )
        assert every.structured_content is not None
        bars = every.structured_content["bars"]
        assert len(told) > 1
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1][0] == told[-1][1]
        first = await agent.call("get_historical_data", **arguments, max_rows=100)
        assert first["bars"] == bars[:100]
        assert f"start_time={bars[100]['start_time']}" in first["note"]
        more = await agent.call(
            "get_historical_data", **{**arguments, "start_time": bars[100]["start_time"]}, max_rows=100
        )
        assert more["bars"] == bars[100:200]


async def test_lists_are_cut_and_say_so(gateway: Gateway) -> None:
    async with agent_of(gateway.running.target) as agent:
        for tool, arguments, rows in (
            ("get_account_status", {}, "positions"),
            ("get_pnl", {}, "details"),
            ("search_symbols", {"pattern": "M"}, "matches"),
        ):
            found = await agent.call(tool, **arguments, max_rows=1)
            assert len(found[rows]) == 1
            assert "raise max_rows" in found["note"]
        (chain,) = (await agent.call("get_option_chain", symbol="AAPL", strike_from=230, strike_to="240.0"))["chains"]
        assert chain["strikes"]
        assert all(230 <= float(strike) <= 240 for strike in chain["strikes"])


async def test_a_month_of_expiries_is_all_of_its_days(gateway: Gateway) -> None:
    async with agent_of(gateway.running.target) as agent:
        (whole,) = (await agent.call("get_option_chain", symbol="AAPL"))["chains"]
        month = whole["expiries"][-1][:7]
        span = {"expiry_from": month, "expiry_to": month}
        (chain,) = (await agent.call("get_option_chain", symbol="AAPL", **span))["chains"]
        assert chain["expiries"] == [each for each in whole["expiries"] if each.startswith(month)]


async def test_a_span_that_ibkr_does_not_provide_is_said_to_be_the_days(gateway: Gateway) -> None:
    async with agent_of(gateway.running.target) as agent:
        assert "no other span" in (await agent.call("get_pnl", timeframe="1 month"))["note"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"symbol": "265598"},
        {"symbol": "eur.usd", "security_type": "CASH"},
        {"symbol": "SPX", "security_type": "IND", "exchange": "CBOE"},
        {"symbol": "AAPL", "security_type": "OPT", "expiry": "2026-12-18", "strike": 260, "right": "CALL"},
    ],
    ids=lambda arguments: str(arguments["symbol"]),
)
async def test_contracts_of_all_kinds_are_named_flat(gateway: Gateway, arguments: dict[str, Any]) -> None:
    async with agent_of(gateway.running.target) as agent:
        found = (await agent.call("get_quote", **arguments))["instrument"]
        assert found["con_id"]
        assert found["security_type"] == arguments.get("security_type", "STK")
