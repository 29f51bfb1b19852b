"""Every order type through the contract: previewed with IBKR's figures, placed with its terms, cancelled to the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from ibkr_gateway import InvalidRequest, Refused, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2, simulation_service_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.simulator.codec.orders import Preview as SimulatedPreview
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.trading.desk import DeskTimings

from tests.conftest import Gateway, MakeGateway

PLACE = 3
BUY, SELL = common_pb2.SIDE_BUY, common_pb2.SIDE_SELL
BRACKET = {"order_type": pb.ORDER_TYPE_BRACKET, "take_profit_price": "500", "stop_loss_price": "5"}


@dataclass(frozen=True)
class Case:
    """An order as the contract has it, and as a TWS would be given it."""

    name: str
    asked: dict[str, Any]
    given: dict[str, Any]
    side: common_pb2.Side.ValueType = BUY
    told: dict[str, Any] = field(default_factory=dict)
    """What the status says otherwise than it was asked."""

    @property
    def spec(self) -> pb.OrderSpec:
        return order(side=self.side, **self.asked)

    def terms(self, account: str) -> Terms:
        action = "BUY" if self.side == BUY else "SELL"
        return Terms(action=action, quantity=10.0, account=account, **self.given)


def order(**terms: Any) -> pb.OrderSpec:
    return pb.OrderSpec(**{"instrument": stock("AAPL"), "side": BUY, "quantity": "10", **terms})


def kind(name: str, **terms: Any) -> dict[str, Any]:
    return {"order_type": pb.OrderType.Value(f"ORDER_TYPE_{name}"), **terms}


# None of them can fill where AAPL is: all wait, and are there to be cancelled.
WAITING = [
    Case("LMT", kind("LMT", limit_price="10.01"), {"order_type": "LMT", "limit_price": 10.01}),
    Case("STP", kind("STP", stop_price="999.5"), {"order_type": "STP", "aux_price": 999.5}),
    Case(
        "STP_LMT",
        kind("STP_LMT", stop_price="999.5", limit_price="1000"),
        {"order_type": "STP LMT", "aux_price": 999.5, "limit_price": 1000.0},
    ),
    Case(
        "TRAIL by an amount",
        kind("TRAIL", trailing_amount="50.25", trail_stop_price="11"),
        {"order_type": "TRAIL", "aux_price": 50.25, "trail_stop_price": 11.0},
        SELL,
    ),
    Case(
        "TRAIL by percent",
        kind("TRAIL", trailing_percent="12.5"),
        {"order_type": "TRAIL", "trailing_percent": 12.5},
        SELL,
    ),
    Case(
        "TRAIL_LIMIT",
        kind("TRAIL_LIMIT", trailing_amount="60", limit_offset="0.15"),
        {"order_type": "TRAIL LIMIT", "aux_price": 60.0, "limit_price_offset": 0.15},
        SELL,
    ),
    Case("MOC", kind("MOC"), {"order_type": "MOC"}),
    Case("LOC", kind("LOC", limit_price="9"), {"order_type": "LOC", "limit_price": 9.0}),
    Case(
        "OPG at any price",
        kind("OPG"),
        {"order_type": "MKT", "tif": "OPG"},
        told=kind("MKT", time_in_force=pb.TIME_IN_FORCE_OPG),
    ),
    Case(
        "OPG with a limit",
        kind("OPG", limit_price="9"),
        {"order_type": "LMT", "tif": "OPG", "limit_price": 9.0},
        told=kind("LMT", time_in_force=pb.TIME_IN_FORCE_OPG),
    ),
    Case("MIT", kind("MIT", stop_price="9"), {"order_type": "MIT", "aux_price": 9.0}),
    Case(
        "LIT",
        kind("LIT", stop_price="9", limit_price="9.5"),
        {"order_type": "LIT", "aux_price": 9.0, "limit_price": 9.5},
    ),
    Case(
        "REL",
        kind("REL", limit_price="9", limit_offset="0.02"),
        {"order_type": "REL", "aux_price": 0.02, "limit_price": 9.0},
    ),
    Case(
        "GTC",
        kind("LMT", limit_price="9", time_in_force=pb.TIME_IN_FORCE_GTC),
        {"order_type": "LMT", "limit_price": 9.0, "tif": "GTC"},
    ),
    Case(
        "of a group",
        kind("LMT", limit_price="9", oca_group="mine", display_size=2),
        {"order_type": "LMT", "limit_price": 9.0, "oca_group": "mine", "oca_type": 1, "display_size": 2},
    ),
]
WITH_MARKET = [Case("MKT", kind("MKT"), {"order_type": "MKT"}), *WAITING]


async def preview(gateway: Gateway, spec: pb.OrderSpec) -> pb.OrderPreview:
    return (await gateway.client.orders.PreviewOrder(pb.PreviewOrderRequest(order=spec))).preview


async def place(gateway: Gateway, spec: pb.OrderSpec, key: str = "", token: str = "") -> pb.OrderResult:
    request = pb.PlaceOrderRequest(client_order_id=key or new_client_order_id(), order=spec, preview_token=token)
    return (await gateway.client.orders.PlaceOrder(request)).result


async def known(gateway: Gateway, key: str) -> pb.Order:
    named = pb.OrderKey(client_order_id=key)
    return (await gateway.client.orders.GetOrder(pb.GetOrderRequest(order=named))).order


async def until(gateway: Gateway, key: str, *states: pb.OrderState.ValueType) -> pb.Order:
    """The order once its legs are in these states."""
    async with asyncio.timeout(15):
        while True:
            whole = await known(gateway, key)
            if [leg.state for leg in whole.legs] == list(states):
                return whole
            await asyncio.sleep(0.01)


async def figures(gateway: Gateway, case: Case) -> tuple[pb.OrderPreview, SimulatedPreview]:
    """A preview through the contract, and the simulator's own of the same order at the same price."""
    simulated = gateway.simulator.gateway
    (account,) = simulated.ledgers

    def own() -> SimulatedPreview:
        contract = ContractQuery(con_id=265598, exchange="SMART")
        answer: SimulatedPreview = simulated.preview(99, 1, contract, case.terms(account))[1]
        return answer

    async with asyncio.timeout(15):
        while True:
            before = own()
            told = await preview(gateway, case.spec)
            # The market moves: only between two equal answers is it known which one is meant.
            if before == own():
                return told, before


@pytest.mark.parametrize("case", WITH_MARKET, ids=lambda case: case.name)
async def test_a_previews_figures_are_ibkrs_own_and_nothing_is_placed(gateway: Gateway, case: Case) -> None:
    told, own = await figures(gateway, case)
    assert told.margin_source == pb.MARGIN_SOURCE_BROKER_WHATIF
    assert float(told.commission.amount) == own.commission
    assert float(told.initial_margin_change.amount) == pytest.approx(own.change[0], abs=0.005)
    assert float(told.maintenance_margin_change.amount) == pytest.approx(own.change[1], abs=0.005)
    assert told.commission.currency_code == told.initial_margin_change.currency_code == "USD"
    (leg,) = told.legs
    assert told.total_notional.amount == leg.estimated_notional
    assert told.preview_token
    assert not told.blockers
    assert gateway.simulator.gateway.orders == {}


@pytest.mark.parametrize("case", WAITING, ids=lambda case: case.name)
async def test_each_type_is_placed_with_its_terms_and_cancelled(gateway: Gateway, case: Case) -> None:
    key = new_client_order_id()
    result = await place(gateway, case.spec, key)
    assert result.state == pb.ORDER_STATE_WORKING
    assert list(result.leg_roles) == [pb.LEG_ROLE_ENTRY]
    whole = await known(gateway, key)
    asked = {**case.asked, **case.told}
    # The terms are kept as they were asked for, in their one spelling.
    for name, value in asked.items():
        assert getattr(whole.spec, name) == value
    # What the working order is said to be is what IBKR has been given.
    told = {name for name in asked if name in pb.OrderStatus.DESCRIPTOR.fields_by_name}
    for name in told:
        assert getattr(whole.status, name) == asked[name]
    (simulated,) = gateway.simulator.gateway.open_orders()
    assert simulated.terms.order_type == case.given["order_type"]
    request = pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=key))
    cancelled = await gateway.client.orders.CancelOrder(request)
    assert cancelled.status.state == pb.ORDER_STATE_CANCELLED
    assert [leg.state for leg in cancelled.legs] == [pb.ORDER_STATE_CANCELLED]
    assert gateway.simulator.gateway.open_orders() == []


async def test_a_bracket_is_three_orders_each_told_of_and_all_cancelled_at_once(gateway: Gateway) -> None:
    key = new_client_order_id()
    result = await place(gateway, order(limit_price="10", **BRACKET), key)
    assert list(result.leg_roles) == [pb.LEG_ROLE_ENTRY, pb.LEG_ROLE_TAKE_PROFIT, pb.LEG_ROLE_STOP_LOSS]
    entry, profit, loss = result.legs
    assert list(result.order_ids) == [entry.order_id, profit.order_id, loss.order_id]
    assert (entry.side, profit.side, loss.side) == (BUY, SELL, SELL)
    assert (entry.limit_price, profit.limit_price, loss.stop_price) == ("10", "500", "5")
    assert (entry.parent_order_id, profit.parent_order_id, loss.parent_order_id) == (0, *[entry.order_id] * 2)
    assert profit.oca_group == loss.oca_group != ""
    assert gateway.simulator.frames_received(PLACE) == 3
    cancelled = await gateway.client.orders.CancelOrder(pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=key)))
    assert cancelled.status.state == pb.ORDER_STATE_CANCELLED
    await until(gateway, key, *[pb.ORDER_STATE_CANCELLED] * 3)
    assert gateway.simulator.gateway.open_orders() == []


async def test_a_brackets_preview_has_a_leg_each_and_the_entrys_figures(gateway: Gateway) -> None:
    told = await preview(gateway, order(limit_price="10", stop_loss_limit_price="4.5", **BRACKET))
    assert [leg.role for leg in told.legs] == [pb.LEG_ROLE_ENTRY, pb.LEG_ROLE_TAKE_PROFIT, pb.LEG_ROLE_STOP_LOSS]
    assert [leg.order_type for leg in told.legs] == [pb.ORDER_TYPE_LMT, pb.ORDER_TYPE_LMT, pb.ORDER_TYPE_STP_LMT]
    assert [leg.estimated_notional for leg in told.legs] == ["100", "5000", "45"]
    assert told.total_notional.amount == "100"
    assert any("the entry's alone" in warning for warning in told.warnings)
    entry, _ = await figures(gateway, Case("", kind("LMT", limit_price="10"), {"order_type": "LMT", "limit_price": 10}))
    assert told.initial_margin_change == entry.initial_margin_change


async def test_a_brackets_profit_is_taken_and_its_stop_goes_with_it(gateway: Gateway) -> None:
    key = new_client_order_id()
    await place(gateway, order(**BRACKET), key)
    await until(gateway, key, pb.ORDER_STATE_FILLED, pb.ORDER_STATE_WORKING, pb.ORDER_STATE_WORKING)
    quote = simulation_service_pb2.SetQuoteRequest(instrument=stock("AAPL"), last_price=600.0)
    await gateway.client.simulation.SetQuote(quote)
    done = await until(gateway, key, pb.ORDER_STATE_FILLED, pb.ORDER_STATE_FILLED, pb.ORDER_STATE_CANCELLED)
    assert {execution.side for execution in done.executions} == {BUY, SELL}


async def test_a_leg_is_asked_for_and_a_set_of_orders_by_its_ids(gateway: Gateway) -> None:
    key, orders = new_client_order_id(), gateway.client.orders
    result = await place(gateway, order(limit_price="10", **BRACKET), key)
    stop = pb.OrderKey(client_order_id=key, leg_role=pb.LEG_ROLE_STOP_LOSS)
    status = (await orders.GetOrderStatus(pb.GetOrderStatusRequest(order=stop))).status
    assert (status.order_id, status.stop_price) == (result.order_ids[2], "5")
    keys = [pb.OrderKey(order_id=order_id) for order_id in (*result.order_ids, 999_999)]
    statuses = (await orders.GetOrderSetStatus(pb.GetOrderSetStatusRequest(orders=keys))).results
    assert [each.status.order_id for each in statuses[:3]] == list(result.order_ids)
    assert statuses[3].error.error_code == "ORDER_NOT_FOUND"
    cancels = (await orders.CancelOrderSet(pb.CancelOrderSetRequest(orders=keys[:3]))).results
    assert [each.WhichOneof("result") for each in cancels] == ["status"] * 3
    await until(gateway, key, *[pb.ORDER_STATE_CANCELLED] * 3)


async def test_a_staged_bracket_is_written_none_of_it_works_and_tws_says_nothing_of_it(
    make_gateway: MakeGateway,
) -> None:
    gateway = await make_gateway(desk_timings=DeskTimings(ack_timeout_s=0.2))
    result = await place(gateway, order(limit_price="10", bracket_transmit=False, **BRACKET))
    assert result.state in (pb.ORDER_STATE_SENT, pb.ORDER_STATE_UNKNOWN)
    staged = [held for held in gateway.simulator.gateway.orders.values() if held.is_staged]
    assert len(staged) == 3


async def test_when_one_of_a_group_fills_the_other_is_cancelled(gateway: Gateway) -> None:
    resting, filling = new_client_order_id(), new_client_order_id()
    await place(gateway, order(**kind("LMT", limit_price="10", oca_group="pair")), resting)
    await place(gateway, order(**kind("LMT", limit_price="900", oca_group="pair")), filling)
    await until(gateway, filling, pb.ORDER_STATE_FILLED)
    ended = await until(gateway, resting, pb.ORDER_STATE_CANCELLED)
    assert ended.status.oca_group == "pair"
    assert ended.spec.oca_type == pb.OCA_TYPE_CANCEL_WITH_BLOCK


async def test_an_order_that_is_good_till_a_time_ends_then(gateway: Gateway) -> None:
    spec = order(**kind("LMT", limit_price="9", time_in_force=pb.TIME_IN_FORCE_GTD))
    spec.good_till_time.seconds = int(gateway.simulator.gateway.now) + 2
    key = new_client_order_id()
    assert (await place(gateway, spec, key)).state == pb.ORDER_STATE_WORKING
    await until(gateway, key, pb.ORDER_STATE_CANCELLED)


async def test_both_spellings_of_an_opening_order_are_one_order(gateway: Gateway) -> None:
    key = new_client_order_id()
    first = await place(gateway, order(**kind("OPG", limit_price="9")), key)
    again = await place(gateway, order(**kind("LMT", limit_price="9", time_in_force=pb.TIME_IN_FORCE_OPG)), key)
    assert first.order_id == again.order_id
    assert gateway.simulator.frames_received(PLACE) == 1


async def test_a_preview_token_binds_one_order_to_exactly_its_plan(gateway: Gateway) -> None:
    spec, key = order(limit_price="10", **BRACKET), new_client_order_id()
    token = (await preview(gateway, spec)).preview_token
    asked = gateway.simulator.frames_received(PLACE)
    other = order(**{**BRACKET, "limit_price": "10", "stop_loss_price": "6"})
    with pytest.raises(Refused) as refused:
        await place(gateway, other, token=token)
    assert refused.value.reason == "PREVIEW_EXPIRED"
    assert gateway.simulator.frames_received(PLACE) == asked
    assert (await place(gateway, spec, key, token)).state == pb.ORDER_STATE_WORKING
    assert (await place(gateway, spec, key, token)).client_order_id == key
    with pytest.raises(Refused) as refused:
        await place(gateway, spec, token=token)
    assert refused.value.reason == "PREVIEW_EXPIRED"
    assert gateway.simulator.frames_received(PLACE) == asked + 3


async def test_an_order_that_would_be_refused_gets_no_token(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(max_notional="1000")
    told = await preview(gateway, order(limit_price="10", **BRACKET))
    assert [blocker.error_code for blocker in told.blockers] == ["MAX_NOTIONAL"]
    assert told.preview_token == ""
    assert not told.HasField("expire_time")


@pytest.mark.parametrize(
    ("terms", "fields"),
    [
        (kind("TRAIL"), ["trailing_amount"]),
        (kind("TRAIL", trailing_amount="1", trailing_percent="1", limit_price="1"), ["limit_price", "trailing_amount"]),
        (kind("TRAIL_LIMIT", trailing_percent="-1"), ["limit_offset", "trailing_percent"]),
        (kind("BRACKET", limit_price="10"), ["take_profit_price", "stop_loss_price"]),
        (
            kind("BRACKET", limit_price="10", take_profit_price="9", stop_loss_price="11"),
            ["take_profit_price", "stop_loss_price", "take_profit_price"],
        ),
        (kind("MOC", limit_price="1", time_in_force=pb.TIME_IN_FORCE_GTC), ["limit_price", "time_in_force"]),
        (kind("OPG", stop_price="1", time_in_force=pb.TIME_IN_FORCE_GTC), ["stop_price", "time_in_force"]),
        (kind("LMT", limit_price="1", time_in_force=pb.TIME_IN_FORCE_GTD), ["good_till_time"]),
        (kind("MKT", hidden=True, display_size=-1, oca_type=1), ["oca_type", "hidden", "display_size", "display_size"]),
        (kind("STP", stop_price="1", cash_quantity="100"), ["cash_quantity"]),
        (kind("REL", limit_offset="0.005", limit_price="9.001"), ["limit_price", "limit_offset"]),
    ],
    ids=str,
)
async def test_terms_that_are_wrong_are_all_named_and_nothing_is_sent(
    gateway: Gateway, terms: dict[str, Any], fields: list[str]
) -> None:
    for call in (place, preview):
        with pytest.raises(InvalidRequest) as refused:
            await call(gateway, order(**terms))
        assert refused.value.details["fields"].split(",") == [f"order.{name}" for name in fields]
    assert gateway.simulator.frames_received(PLACE) == 0


async def test_with_orders_disabled_every_leg_is_simulated_and_nothing_is_sent(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(orders_enabled=False)
    result = await place(gateway, order(limit_price="10", **BRACKET))
    assert result.is_simulated
    assert [leg.state for leg in result.legs] == [pb.ORDER_STATE_SIMULATED] * 3
    assert gateway.simulator.frames_received(PLACE) == 0
