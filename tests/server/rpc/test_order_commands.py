"""Changing, cancelling and asking after orders through the contract, one by one, in sets, and all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import (
    Conflict,
    GatewayError,
    InvalidRequest,
    NotFound,
    Refused,
    connect,
    new_client_order_id,
    stock,
)
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.matching import Trade
from ibkr_gateway_server.simulator.orders import Order as SimulatedOrder
from ibkr_gateway_server.simulator.orders import Terms

from tests.callers import TokenFile
from tests.conftest import Gateway, MakeGateway, eventually

PLACE, CANCEL, GLOBAL_CANCEL = 3, 4, 58
ACCOUNT = "DU1234567"
WORKING, CANCELLED = pb.ORDER_STATE_WORKING, pb.ORDER_STATE_CANCELLED


def limit(price: str = "10", quantity: str = "10", **terms: Any) -> pb.OrderSpec:
    fields = {"instrument": stock("AAPL"), "side": common_pb2.SIDE_BUY, "order_type": pb.ORDER_TYPE_LMT, **terms}
    return pb.OrderSpec(limit_price=price, quantity=quantity, **fields)


def bracket(entry: str = "10", profit: str = "500", loss: str = "5", quantity: str = "10") -> pb.OrderSpec:
    exits = {"take_profit_price": profit, "stop_loss_price": loss}
    return limit(entry, quantity, order_type=pb.ORDER_TYPE_BRACKET, **exits)


async def place(gateway: Gateway, spec: pb.OrderSpec, key: str = "") -> str:
    """The id under which an order was placed."""
    request = pb.PlaceOrderRequest(client_order_id=key or new_client_order_id(), order=spec)
    return (await gateway.client.orders.PlaceOrder(request)).result.client_order_id


async def modify(gateway: Gateway, key: str, spec: pb.OrderSpec, modify_id: str = "") -> pb.OrderResult:
    request = pb.ModifyOrderRequest(client_order_id=key, modify_id=modify_id or new_client_order_id(), order=spec)
    return (await gateway.client.orders.ModifyOrder(request)).result


async def known(gateway: Gateway, key: str) -> pb.Order:
    request = pb.GetOrderRequest(order=pb.OrderKey(client_order_id=key))
    return (await gateway.client.orders.GetOrder(request)).order


def sent(gateway: Gateway) -> tuple[int, int]:
    """Order messages and cancels that have reached TWS."""
    return gateway.simulator.frames_received(PLACE), gateway.simulator.frames_received(CANCEL)


def trade(gateway: Gateway, order_id: int, quantity: float) -> None:
    """Let so much of an order trade now."""
    simulated = gateway.simulator.gateway
    order = next(each for (_, known_id), each in simulated.orders.items() if known_id == order_id)
    simulated._exchange._trade(order, Trade(10.0, quantity, "IEX"))
    gateway.simulator.flush()


def of_program(gateway: Gateway) -> SimulatedOrder:
    """Another program's order, under an order id that is not the gateway's."""
    simulated = gateway.simulator.gateway
    terms = Terms(action="BUY", quantity=1, order_type="LMT", limit_price=9.0, account=ACCOUNT)
    simulated.place(77, 700, ContractQuery(symbol="AAPL", sec_type="STK", exchange="SMART"), terms)
    return simulated.orders[77, 700]


# --- changing --------------------------------------------------------------------------------------------------------


async def test_a_change_restates_prices_and_quantity_under_the_same_order(gateway: Gateway) -> None:
    key = await place(gateway, limit())
    before = (await known(gateway, key)).status
    result = await modify(gateway, key, limit("10.5", "12"))
    status = result.status
    assert (status.state, status.limit_price, status.quantity) == (WORKING, "10.5", "12")
    assert (status.order_id, status.perm_id) == (before.order_id, before.perm_id)
    assert status.pending_modify_id == ""
    whole = await known(gateway, key)
    assert (whole.spec.limit_price, whole.spec.quantity) == ("10.5", "12")
    (simulated,) = gateway.simulator.gateway.open_orders()
    assert (simulated.terms.limit_price, simulated.terms.quantity) == (10.5, 12)


async def test_the_same_modify_id_changes_once(gateway: Gateway) -> None:
    key, modify_id = await place(gateway, limit()), new_client_order_id()
    first = await modify(gateway, key, limit("10.5"), modify_id)
    again = await modify(gateway, key, limit("10.5"), modify_id)
    assert again == first
    assert sent(gateway) == (2, 0)
    # It stays that change, whatever the order has become since.
    await modify(gateway, key, limit("11"))
    assert (await modify(gateway, key, limit("10.5"), modify_id)).status.limit_price == "11"
    assert sent(gateway) == (3, 0)


async def test_one_modify_id_for_two_changes_is_a_conflict_and_sends_nothing(gateway: Gateway) -> None:
    key, other, modify_id = await place(gateway, limit()), await place(gateway, limit()), new_client_order_id()
    await modify(gateway, key, limit("10.5"), modify_id)
    for order, spec in ((key, limit("10.6")), (other, limit("10.5"))):
        with pytest.raises(Conflict) as refused:
            await modify(gateway, order, spec, modify_id)
        assert refused.value.reason == "CLIENT_ORDER_ID_CONFLICT"
    assert sent(gateway) == (3, 0)


async def test_terms_as_they_are_change_nothing_and_send_nothing(gateway: Gateway) -> None:
    key = await place(gateway, limit())
    assert (await modify(gateway, key, limit())).state == WORKING
    assert sent(gateway) == (1, 0)


@pytest.mark.parametrize(
    ("spec", "reason", "fields"),
    [
        (limit("10.001"), "TICK_SIZE", {"order.limit_price"}),
        (limit(quantity="1.5"), "QUANTITY_FRACTIONAL", {"order.quantity"}),
        (limit(quantity="0"), "FIELD_INVALID", {"order.quantity"}),
        (limit(side=common_pb2.SIDE_SELL), "FIELD_INVALID", {"order.side"}),
        (limit(time_in_force=pb.TIME_IN_FORCE_GTC), "FIELD_INVALID", {"order.time_in_force"}),
        (limit(instrument=stock("MSFT")), "FIELD_INVALID", {"order.instrument"}),
        (limit(stop_price="9"), "FIELD_INVALID", {"order.stop_price"}),
    ],
    ids=["off the tick", "a fraction", "nothing", "the side", "the time in force", "the contract", "a price too many"],
)
async def test_a_change_that_cannot_be_is_refused_by_its_fields_and_not_sent(
    gateway: Gateway, spec: pb.OrderSpec, reason: str, fields: set[str]
) -> None:
    key = await place(gateway, limit())
    with pytest.raises(InvalidRequest) as refused:
        await modify(gateway, key, spec)
    assert refused.value.reason == reason
    assert refused.value.fields.keys() == fields
    assert sent(gateway) == (1, 0)


async def test_a_change_to_less_than_has_filled_is_refused_and_one_above_it_is_sent(gateway: Gateway) -> None:
    key = await place(gateway, limit())
    trade(gateway, (await known(gateway, key)).status.order_id, 4)
    await eventually(lambda: gateway.running.desk.own_open_orders()[0].filled_quantity == 4)
    with pytest.raises(InvalidRequest) as refused:
        await modify(gateway, key, limit(quantity="3"))
    assert refused.value.fields.keys() == {"order.quantity"}
    assert sent(gateway) == (1, 0)
    status = (await modify(gateway, key, limit(quantity="6"))).status
    assert (status.state, status.filled_quantity, status.remaining_quantity) == (pb.ORDER_STATE_PARTIAL, "4", "2")


async def test_a_final_order_cannot_be_changed(gateway: Gateway) -> None:
    key = await place(gateway, limit())
    await gateway.client.orders.CancelOrder(pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=key)))
    with pytest.raises(Refused) as refused:
        await modify(gateway, key, limit("11"))
    assert refused.value.reason == "NOT_MODIFIABLE"
    assert sent(gateway) == (1, 1)


async def test_a_change_of_nothing_or_without_an_id_is_refused(gateway: Gateway) -> None:
    with pytest.raises(NotFound) as missing:
        await modify(gateway, "no-such-order-0000", limit())
    assert missing.value.reason == "ORDER_NOT_FOUND"
    key = await place(gateway, limit())
    with pytest.raises(InvalidRequest) as refused:
        await gateway.client.orders.ModifyOrder(pb.ModifyOrderRequest(client_order_id=key, order=limit("11")))
    assert refused.value.fields.keys() == {"modify_id"}
    assert sent(gateway) == (1, 0)


async def test_a_change_is_held_to_the_limits_and_to_a_halt(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(max_size_per_symbol="20", max_notional="150")
    key = await place(gateway, limit())
    for spec, reason in ((limit(quantity="21", price="1"), "MAX_SIZE"), (limit("15.01"), "MAX_NOTIONAL")):
        with pytest.raises(Refused) as refused:
            await modify(gateway, key, spec)
        assert refused.value.reason == reason
    halt = gateway_pb.HaltTradingRequest(level=gateway_pb.HALT_LEVEL_BLOCK_NEW)
    await gateway.client.gateway.HaltTrading(halt)
    with pytest.raises(Refused) as refused:
        await modify(gateway, key, limit("11"))
    assert refused.value.reason == "TRADING_HALTED"
    assert sent(gateway) == (1, 0)


async def test_a_bracket_is_changed_leg_by_leg_and_only_what_differs_is_sent(gateway: Gateway) -> None:
    key = await place(gateway, bracket())
    result = await modify(gateway, key, bracket(profit="510", loss="6"))
    entry, profit, loss = result.legs
    assert (entry.limit_price, profit.limit_price, loss.stop_price) == ("10", "510", "6")
    assert [leg.pending_modify_id for leg in result.legs] == [""] * 3
    assert sent(gateway) == (5, 0)
    for leg in (await modify(gateway, key, bracket(profit="510", loss="6", quantity="12"))).legs:
        assert leg.quantity == "12"
    assert sent(gateway) == (8, 0)
    assert all(simulated.terms.quantity == 12 for simulated in gateway.simulator.gateway.open_orders())


# --- sets ------------------------------------------------------------------------------------------------------------


async def test_a_set_is_cancelled_each_by_itself_with_an_answer_for_each(gateway: Gateway) -> None:
    first, second, done = [await place(gateway, limit()) for _ in range(3)]
    trade(gateway, (await known(gateway, done)).status.order_id, 10)
    keys = [
        pb.OrderKey(client_order_id=first),
        pb.OrderKey(client_order_id="no-such-order-0000"),
        pb.OrderKey(order_id=(await known(gateway, second)).status.order_id),
        pb.OrderKey(client_order_id=done),
    ]
    results = (await gateway.client.orders.CancelOrderSet(pb.CancelOrderSetRequest(orders=keys))).results
    assert [result.order for result in results] == keys
    assert [result.status.state for result in results] == [CANCELLED, 0, CANCELLED, 0]
    assert [result.error.error_code for result in results] == ["", "ORDER_NOT_FOUND", "", "NOT_CANCELLABLE"]
    assert sent(gateway) == (3, 2)


async def test_a_refused_cancel_in_a_set_is_its_orders_state_and_no_error(gateway: Gateway) -> None:
    keys = [pb.OrderKey(client_order_id=await place(gateway, limit())) for _ in range(2)]
    gateway.simulator.inject(Rule(Fault.REFUSE, CANCEL, code=10148, text="No."))
    results = (await gateway.client.orders.CancelOrderSet(pb.CancelOrderSetRequest(orders=keys))).results
    assert sorted(result.status.state for result in results) == [WORKING, CANCELLED]
    (refused,) = [result.status for result in results if result.status.state == WORKING]
    assert [notice.ibkr_code for notice in refused.warnings] == [10148]


async def test_orders_of_others_in_a_set_are_for_admin_alone(make_gateway: MakeGateway, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.toml")
    trader, boss = tokens.issue("trader", "read", "trade"), tokens.issue("boss", "read", "trade", "admin")
    gateway = await make_gateway(tokens_file=tokens.path)
    stranger = of_program(gateway)
    await eventually(lambda: stranger.status == "Submitted")
    keys = pb.CancelOrderSetRequest(orders=[pb.OrderKey(perm_id=stranger.perm_id)])
    async with connect(gateway.running.target, timeout_s=10.0, token=trader) as client:
        await client.orders.ListOpenOrders(pb.ListOpenOrdersRequest(include_external=True))
        (refused,) = (await client.orders.CancelOrderSet(keys)).results
    assert refused.error.error_code == "SCOPE_MISSING"
    assert sent(gateway) == (0, 0)
    async with connect(gateway.running.target, timeout_s=10.0, token=boss) as client:
        (cancelled,) = (await client.orders.CancelOrderSet(keys)).results
    assert cancelled.status.state == CANCELLED
    assert stranger.status == "Cancelled"


@pytest.mark.parametrize("count", [0, 101])
async def test_a_set_has_one_to_a_hundred_orders(gateway: Gateway, count: int) -> None:
    keys = [pb.OrderKey(order_id=number + 1) for number in range(count)]
    orders = gateway.client.orders
    for call in (
        orders.CancelOrderSet(pb.CancelOrderSetRequest(orders=keys)),
        orders.GetOrderSetStatus(pb.GetOrderSetStatusRequest(orders=keys)),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await call
        assert refused.value.fields.keys() == {"orders"}


async def test_a_set_of_states_is_asked_for_by_any_of_their_ids(gateway: Gateway) -> None:
    key = await place(gateway, bracket())
    entry, profit, _ = (await known(gateway, key)).legs
    keys = [
        pb.OrderKey(client_order_id=key),
        pb.OrderKey(client_order_id=key, leg_role=pb.LEG_ROLE_STOP_LOSS),
        pb.OrderKey(order_id=profit.order_id),
        pb.OrderKey(perm_id=entry.perm_id),
        pb.OrderKey(perm_id=1),
    ]
    results = (await gateway.client.orders.GetOrderSetStatus(pb.GetOrderSetStatusRequest(orders=keys))).results
    roles = [result.status.leg_role for result in results[:4]]
    assert roles == [pb.LEG_ROLE_ENTRY, pb.LEG_ROLE_STOP_LOSS, pb.LEG_ROLE_TAKE_PROFIT, pb.LEG_ROLE_ENTRY]
    assert results[4].error.error_code == "ORDER_NOT_FOUND"


# --- legs ------------------------------------------------------------------------------------------------------------


async def test_one_leg_is_cancelled_by_its_role_and_the_others_work_on(gateway: Gateway) -> None:
    key = await place(gateway, bracket())
    profit = pb.OrderKey(client_order_id=key, leg_role=pb.LEG_ROLE_TAKE_PROFIT)
    entry = pb.OrderKey(client_order_id=key, leg_role=pb.LEG_ROLE_ENTRY)
    orders = gateway.client.orders
    # The exits are one group: IBKR cancels the stop-loss with its sibling. The entry stays.
    assert (await orders.CancelOrder(pb.CancelOrderRequest(order=profit))).status.leg_role == pb.LEG_ROLE_TAKE_PROFIT
    status = (await orders.GetOrderStatus(pb.GetOrderStatusRequest(order=entry))).status
    assert status.state == WORKING
    assert sent(gateway) == (3, 1)


async def test_a_leg_that_an_order_does_not_have_is_not_found(gateway: Gateway) -> None:
    key = pb.OrderKey(client_order_id=await place(gateway, limit()), leg_role=pb.LEG_ROLE_STOP_LOSS)
    orders = gateway.client.orders
    calls: list[Any] = [
        orders.GetOrder(pb.GetOrderRequest(order=key)),
        orders.GetOrderStatus(pb.GetOrderStatusRequest(order=key)),
        orders.CancelOrder(pb.CancelOrderRequest(order=key)),
    ]
    for call in calls:
        with pytest.raises(GatewayError) as missing:
            await call
        assert missing.value.reason == "ORDER_NOT_FOUND"
    assert sent(gateway) == (1, 0)


# --- all -------------------------------------------------------------------------------------------------------------


async def cancel_all(gateway: Gateway, scope: str, account: str = "") -> pb.CancelAllOrdersResponse:
    value = pb.CancelScope.Value(f"CANCEL_SCOPE_{scope}")
    request = pb.CancelAllOrdersRequest(scope=value, account_id=account)
    return await gateway.client.orders.CancelAllOrders(request)


async def test_all_own_orders_are_cancelled_and_those_of_others_work_on(gateway: Gateway) -> None:
    keys = [await place(gateway, limit()), await place(gateway, bracket())]
    stranger = of_program(gateway)
    answer = await cancel_all(gateway, "OWN")
    assert (answer.requested_count, answer.cancelled_count) == (4, 4)
    assert [result.order.client_order_id for result in answer.results] == [keys[0], *[keys[1]] * 3]
    assert [result.order.leg_role for result in answer.results] == [1, 1, 2, 3]
    assert {result.status.state for result in answer.results} == {CANCELLED}
    assert gateway.simulator.gateway.open_orders() == [stranger]
    assert (await cancel_all(gateway, "OWN")).requested_count == 0


async def test_all_orders_of_one_account_are_cancelled(gateway: Gateway) -> None:
    await place(gateway, limit())
    with pytest.raises(NotFound) as refused:
        await cancel_all(gateway, "ACCOUNT", "DU7654321")
    assert refused.value.reason == "ACCOUNT_NOT_FOUND"
    assert len(gateway.simulator.gateway.open_orders()) == 1
    answer = await cancel_all(gateway, "ACCOUNT", ACCOUNT)
    assert (answer.requested_count, answer.cancelled_count) == (1, 1)
    assert gateway.simulator.gateway.open_orders() == []


async def test_a_global_cancel_is_one_message_for_everybodys_orders(gateway: Gateway) -> None:
    key = await place(gateway, limit())
    of_program(gateway)
    answer = await cancel_all(gateway, "GLOBAL")
    assert [(result.order.client_order_id, result.status.state) for result in answer.results] == [(key, CANCELLED)]
    await eventually(lambda: gateway.simulator.gateway.open_orders() == [])
    assert gateway.simulator.frames_received(GLOBAL_CANCEL) == 1
    assert sent(gateway) == (1, 0)


@pytest.mark.parametrize(
    ("scope", "account", "field"),
    [("UNSPECIFIED", "", "scope"), ("ACCOUNT", "", "account_id"), ("OWN", "DU1", "account_id")],
)
async def test_a_cancel_of_all_says_whose(gateway: Gateway, scope: str, account: str, field: str) -> None:
    await place(gateway, limit())
    with pytest.raises(InvalidRequest) as refused:
        await cancel_all(gateway, scope, account)
    assert refused.value.fields.keys() == {field}
    assert len(gateway.simulator.gateway.open_orders()) == 1
    assert sent(gateway) == (1, 0)
