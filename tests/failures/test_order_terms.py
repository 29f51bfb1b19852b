"""Orders whose terms cannot be taken, here or at IBKR, and what-ifs that are not answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import GatewayError, InvalidRequest, Refused, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.domain.errors import Reason
from ibkr_gateway_server.simulator import Fault, Simulator
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.trading.desk import DeskTimings

from tests.conftest import Gateway, MakeGateway
from tests.failures.conftest import gateway_at, inject

SUBSCRIBE, PLACE, OPEN_ORDER = 1, 3, 5
IMPATIENT = DeskTimings(what_if_timeout_s=0.2)


def order(kind: str = "MKT", **terms: Any) -> pb.OrderSpec:
    fields = {"instrument": stock("AAPL"), "side": common_pb2.SIDE_BUY, "quantity": "10"}
    return pb.OrderSpec(**{**fields, "order_type": pb.OrderType.Value(f"ORDER_TYPE_{kind}"), **terms})


async def place(gateway: Gateway, spec: pb.OrderSpec) -> pb.OrderResult:
    request = pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=spec)
    return (await gateway.client.orders.PlaceOrder(request)).result


async def preview(gateway: Gateway, spec: pb.OrderSpec) -> pb.OrderPreview:
    return (await gateway.client.orders.PreviewOrder(pb.PreviewOrderRequest(order=spec))).preview


async def refusal(gateway: Gateway, spec: pb.OrderSpec, error: type[GatewayError]) -> str:
    """Why PlaceOrder refuses; no order message has reached TWS."""
    with pytest.raises(error) as refused:
        await place(gateway, spec)
    assert gateway.simulator.frames_received(PLACE) == 0
    return refused.value.reason


BRACKET = order("BRACKET", limit_price="90", take_profit_price="110", stop_loss_price="80")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (order(quantity="101"), Reason.MAX_SIZE),
        (order(quantity="100"), Reason.MAX_NOTIONAL),
        (order("LMT", limit_price="100.01"), Reason.MAX_NOTIONAL),
        (order("STP", stop_price="100.01"), Reason.MAX_NOTIONAL),
        (order("TRAIL", quantity="100", trailing_amount="1"), Reason.MAX_NOTIONAL),
        (BRACKET, Reason.MAX_NOTIONAL),
    ],
    ids=["size", "at the market", "by its limit", "by its stop", "trailing", "a leg of a bracket"],
)
async def test_O03_an_order_is_beyond_the_operators_limits(
    make_gateway: MakeGateway, spec: pb.OrderSpec, reason: Reason
) -> None:
    """An order has more units, or one of its legs a higher value, than MAX_SIZE_PER_SYMBOL and MAX_NOTIONAL allow.

    PlaceOrder fails with FAILED_PRECONDITION and MAX_SIZE or MAX_NOTIONAL, and nothing has been sent; PreviewOrder
    names the same as a blocker.
    """
    gateway = await make_gateway(max_size_per_symbol="100", max_notional="1000")
    assert await refusal(gateway, spec, Refused) == reason
    assert reason in [blocker.error_code for blocker in (await preview(gateway, spec)).blockers]


@pytest.mark.parametrize("spec", [order(), order("TRAIL", trailing_amount="1"), order("MOC")], ids=str)
async def test_O03_no_price_to_value_an_order_by(make_gateway: MakeGateway, spec: pb.OrderSpec) -> None:
    """MAX_NOTIONAL is set, only the market could tell the value of an order, and there is no quote.

    PlaceOrder fails with FAILED_PRECONDITION and NO_REFERENCE_PRICE, and nothing has been sent. An order with a limit
    or a stop is valued by that, and placed.
    """
    gateway = await make_gateway(max_notional="1000000")
    inject(gateway.simulator, Fault.REFUSE, SUBSCRIBE, code=354, times=None)
    assert await refusal(gateway, spec, Refused) == Reason.NO_REFERENCE_PRICE
    assert (await place(gateway, order("LMT", limit_price="10"))).state == pb.ORDER_STATE_WORKING


@pytest.mark.parametrize(
    "spec",
    [
        order("LMT", limit_price="187.305"),
        order("STP", stop_price="187.305"),
        order("TRAIL", trailing_amount="1", trail_stop_price="187.305"),
        order("BRACKET", take_profit_price="200.005", stop_loss_price="180"),
        order("BRACKET", take_profit_price="200", stop_loss_price="180.005"),
        order("BRACKET", take_profit_price="200", stop_loss_price="180", stop_loss_limit_price="179.995"),
    ],
    ids=["limit", "stop", "trail stop", "take-profit", "stop-loss", "stop-loss limit"],
)
async def test_O04_a_price_is_off_the_tick(gateway: Gateway, spec: pb.OrderSpec) -> None:
    """A price of an order, or of one of its legs, is between two steps of the contract's market rule.

    PlaceOrder and PreviewOrder fail with INVALID_ARGUMENT and TICK_SIZE, with the prices below and above, and nothing
    has been sent.
    """
    assert await refusal(gateway, spec, InvalidRequest) == Reason.TICK_SIZE
    with pytest.raises(InvalidRequest, match=r"use .* or .*") as refused:
        await preview(gateway, spec)
    assert refused.value.reason == Reason.TICK_SIZE


@pytest.mark.parametrize("quantity", ["0", "-1", "NaN", "1e308", "9" * 309, "0.0000000000000000001", "١٠"])
async def test_O05_a_quantity_that_is_none(gateway: Gateway, quantity: str) -> None:
    """The quantity of an order is 0, negative, no number, or beyond all numbers.

    PlaceOrder fails with INVALID_ARGUMENT and FIELD_INVALID, naming the field, and nothing has been sent.
    """
    assert await refusal(gateway, order(quantity=quantity), InvalidRequest) == Reason.FIELD_INVALID


async def test_O05_a_part_of_a_share(gateway: Gateway) -> None:
    """The quantity is a fraction, of a contract that IBKR takes whole over this API.

    PlaceOrder fails with INVALID_ARGUMENT and QUANTITY_FRACTIONAL, and nothing has been sent.
    """
    assert await refusal(gateway, order(quantity="1.5"), InvalidRequest) == Reason.QUANTITY_FRACTIONAL


async def test_O40_a_what_if_is_answered_without_figures_first(tmp_path: Path) -> None:
    """TWS answers a what-if twice: first without figures, then with them, as some versions do.

    PreviewOrder waits for the figures and has them. The order message said that it is a what-if, and nothing was
    placed.
    """
    simulator = Simulator(seed=7, behaviour=Behaviour(previews_twice=True))
    async with gateway_at(simulator, tmp_path) as gateway:
        await gateway.running.session.wait_until_ready(10)
        told = await preview(gateway, BRACKET)
    assert told.margin_source == pb.MARGIN_SOURCE_BROKER_WHATIF
    assert told.initial_margin_change.amount
    assert simulator.frames_received(PLACE) == 1
    assert simulator.gateway.orders == {}


@pytest.mark.parametrize(
    ("fault", "message_id"), [(Fault.LOSE, PLACE), (Fault.LOSE_REPLY, OPEN_ORDER)], ids=["unread", "unanswered"]
)
async def test_O40_a_what_if_is_never_answered(make_gateway: MakeGateway, fault: Fault, message_id: int) -> None:
    """TWS does not answer a what-if.

    PreviewOrder answers after 10 s with what can be told without it: value, quote and legs, marked as an estimate, with
    a warning that commission and margin are not known. Nothing was placed.
    """
    gateway = await make_gateway(desk_timings=IMPATIENT)
    inject(gateway.simulator, fault, message_id)
    told = await preview(gateway, BRACKET)
    assert told.margin_source == pb.MARGIN_SOURCE_ESTIMATE
    assert not told.HasField("commission")
    assert not told.HasField("initial_margin_change")
    assert "gave no what-if" in told.warnings[0]
    assert told.total_notional.amount == "900"
    assert gateway.simulator.gateway.orders == {}


async def test_O40_a_what_if_is_refused(gateway: Gateway) -> None:
    """IBKR refuses a what-if, because it would refuse the order.

    PreviewOrder answers with an estimate, and IBKR's reason as a warning.
    """
    inject(gateway.simulator, Fault.REFUSE, PLACE, code=201, text="Order rejected - reason:no margin")
    told = await preview(gateway, order())
    assert told.margin_source == pb.MARGIN_SOURCE_ESTIMATE
    assert any("gave no what-if" in warning for warning in told.warnings)
    assert gateway.simulator.gateway.orders == {}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (200, "No security definition has been found for the request"),
        (203, "The security AAPL is not available or allowed for this account."),
        (460, "No trading permission."),
    ],
)
async def test_O41_an_order_for_what_cannot_be_traded(gateway: Gateway, code: int, text: str) -> None:
    """IBKR answers an order with 200, 203 or 460: the contract is gone, or the account may not trade it.

    PlaceOrder answers at once with state REJECTED, and IBKR's code and words as the rejection.
    """
    inject(gateway.simulator, Fault.REFUSE, PLACE, code=code, text=text)
    result = await place(gateway, order())
    assert result.state == pb.ORDER_STATE_REJECTED
    assert (result.status.rejection.ibkr_code, result.status.rejection.text) == (code, text)
    assert gateway.simulator.gateway.orders == {}
