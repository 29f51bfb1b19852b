"""An order's terms from what people have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from ibkr_gateway import (
    bracket_order,
    future,
    if_touched_order,
    limit_order,
    market_order,
    new_client_order_id,
    on_close_order,
    on_open_order,
    relative_order,
    stock,
    stop_order,
    trailing_order,
)
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb

from tests.conftest import Gateway

AAPL = stock("AAPL")


def test_a_limit_order_has_exactly_what_was_said() -> None:
    assert limit_order(AAPL, "buy", 100, Decimal("187.30"), time_in_force="gtc", note="first") == pb.OrderSpec(
        instrument=AAPL,
        side=common_pb2.SIDE_BUY,
        quantity="100",
        order_type=pb.ORDER_TYPE_LMT,
        limit_price="187.30",
        time_in_force=pb.TIME_IN_FORCE_GTC,
        note="first",
    )


def test_an_instrument_may_be_its_name() -> None:
    assert market_order("EUR.USD", "SELL", "20000").instrument.security_type == common_pb2.SECURITY_TYPE_CASH


@pytest.mark.parametrize(
    ("order", "kind", "prices"),
    [
        (market_order(AAPL, "BUY", 1), "MKT", {}),
        (stop_order(AAPL, "SELL", 1, "180"), "STP", {"stop_price": "180"}),
        (stop_order(AAPL, "SELL", 1, "180", "179.5"), "STP_LMT", {"stop_price": "180", "limit_price": "179.5"}),
        (if_touched_order(AAPL, "BUY", 1, 180), "MIT", {"stop_price": "180"}),
        (if_touched_order(AAPL, "BUY", 1, 180, 181), "LIT", {"stop_price": "180", "limit_price": "181"}),
        (trailing_order(AAPL, "SELL", 1, percent="2.5"), "TRAIL", {"trailing_percent": "2.5"}),
        (
            trailing_order(AAPL, "SELL", 1, amount=5, first_stop=170, limit_offset="0.1"),
            "TRAIL_LIMIT",
            {"trailing_amount": "5", "trail_stop_price": "170", "limit_offset": "0.1"},
        ),
        (on_close_order(AAPL, "BUY", 1), "MOC", {}),
        (on_close_order(AAPL, "BUY", 1, 180), "LOC", {"limit_price": "180"}),
        (on_open_order(AAPL, "BUY", 1), "OPG", {}),
        (relative_order(AAPL, "BUY", 1, 180, "0.02"), "REL", {"limit_price": "180", "limit_offset": "0.02"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_prices_say_which_type_it_is(order: pb.OrderSpec, kind: str, prices: dict[str, str]) -> None:
    assert order == pb.OrderSpec(
        instrument=AAPL,
        side=order.side,
        quantity="1",
        order_type=pb.OrderType.Value(f"ORDER_TYPE_{kind}"),
        **prices,
    )


def test_a_bracket_is_one_order_with_both_of_its_exits() -> None:
    order = bracket_order(future("MES"), "BUY", 1, take_profit="6950", stop_loss=6880, stop_loss_limit=6875)
    assert not order.HasField("limit_price")
    assert order.bracket_transmit
    assert (order.take_profit_price, order.stop_loss_price, order.stop_loss_limit_price) == ("6950", "6880", "6875")


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"price": 187.3}, TypeError, "float"),
        ({"price": "cheap"}, ValueError, "'cheap' is not a number"),
        ({"quantity": "NaN"}, ValueError, "not a number"),
        ({"side": "LONG"}, ValueError, "BUY, SELL"),
        ({"time_in_force": "FOREVER"}, ValueError, "GTC"),
        ({"oca_type": "SOME"}, ValueError, "CANCEL_WITH_BLOCK"),
        ({"good_till": datetime(2026, 11, 27)}, ValueError, "time zone"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], error: type[Exception], words: str) -> None:
    terms: dict[str, Any] = {"instrument": AAPL, "side": "BUY", "quantity": 1, "price": 100, **wrong}
    with pytest.raises(error, match=words):
        limit_order(**terms)


@pytest.mark.parametrize("distances", [{}, {"amount": 1, "percent": 1}])
def test_a_trailing_order_has_one_distance(distances: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not both"):
        trailing_order(AAPL, "SELL", 1, amount=distances.get("amount"), percent=distances.get("percent"))


def test_a_time_keeps_its_moment_in_any_zone() -> None:
    there = datetime(2026, 11, 27, 21, tzinfo=timezone(timedelta(hours=1)))
    order = limit_order(AAPL, "BUY", 1, 100, time_in_force="GTD", good_till=there)
    assert order.good_till_time.ToDatetime(UTC) == datetime(2026, 11, 27, 20, tzinfo=UTC)


async def test_the_gateway_takes_them_as_they_are(gateway: Gateway) -> None:
    for order in (
        limit_order("AAPL", "BUY", 1, "100", oca_group="exits", oca_type="REDUCE_WITH_BLOCK"),
        bracket_order("AAPL", "BUY", 1, 100, take_profit=400, stop_loss=90),
        stop_order("AAPL", "SELL", 1, 100, 99, outside_regular_hours=True),
    ):
        request = pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order)
        result = (await gateway.client.orders.PlaceOrder(request)).result
        assert result.state in (pb.ORDER_STATE_WORKING, pb.ORDER_STATE_SENT, pb.ORDER_STATE_PENDING)
