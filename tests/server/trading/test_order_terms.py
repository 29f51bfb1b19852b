"""The rules of an order's terms: every price a type does not take is an error, and all errors are told at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_server.domain.errors import FieldsInvalid, Violations
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.order_terms import PRICE_FIELDS, PRICES_OF, TIMES_OF
from ibkr_gateway_server.domain.orders import OcaType, OrderSpec, OrderType, Side, TimeInForce

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
NOON = datetime(2026, 11, 24, 17, tzinfo=UTC)

# Prices that are right for a purchase, wherever a type takes them.
RIGHT = {
    "limit_price": Decimal("190.00"),
    "stop_price": Decimal("191.00"),
    "trailing_amount": Decimal("1.50"),
    "trailing_percent": Decimal("2.5"),
    "trail_stop_price": Decimal("195.00"),
    "limit_offset": Decimal("0.10"),
    "take_profit_price": Decimal("200.00"),
    "stop_loss_price": Decimal("180.00"),
    "stop_loss_limit_price": Decimal("179.50"),
}
ALL_PRICES = (*PRICE_FIELDS, "trailing_percent")


def spec(order_type: OrderType, side: Side = Side.BUY, **changed: Any) -> OrderSpec:
    return OrderSpec(**{"instrument": AAPL, "side": side, "quantity": Decimal(10), "order_type": order_type, **changed})


def plain(order_type: OrderType, **changed: Any) -> OrderSpec:
    """An order with what its type needs, and no more."""
    rules = PRICES_OF[order_type]
    return spec(order_type, **{name: RIGHT[name] for name in rules.needed + rules.one_of[:1]} | changed)


def wrong(order: OrderSpec) -> dict[str, str]:
    """What is wrong with an order, by field."""
    found = Violations()
    order.violations(found)
    try:
        found.raise_if_any()
    except FieldsInvalid as invalid:
        return {violation.field: violation.description for violation in invalid.violations}
    return {}


def bracket(side: Side, **changed: str | None) -> OrderSpec:
    prices = {"limit_price": "190", "take_profit_price": "200", "stop_loss_price": "180"}
    if side is Side.SELL:
        prices |= {"take_profit_price": "180", "stop_loss_price": "200"}
    given = {name: Decimal(price) for name, price in {**prices, **changed}.items() if price is not None}
    return spec(OrderType.BRACKET, side, **given)


@pytest.mark.parametrize("order_type", OrderType)
def test_every_type_is_right_with_what_it_needs_alone_and_with_all_that_it_may_have(order_type: OrderType) -> None:
    assert wrong(plain(order_type)) == {}
    rules = PRICES_OF[order_type]
    for name in rules.one_of or ("",):
        taken = [*rules.needed, *rules.optional, *([name] if name else [])]
        assert wrong(spec(order_type, **{each: RIGHT[each] for each in taken})) == {}


@pytest.mark.parametrize("order_type", OrderType)
def test_a_price_that_the_type_does_not_take_is_an_error_and_one_that_it_needs_is_missed(order_type: OrderType) -> None:
    rules = PRICES_OF[order_type]
    strange = set(ALL_PRICES) - {*rules.needed, *rules.optional, *rules.one_of}
    refused = wrong(plain(order_type, **{name: RIGHT[name] for name in strange}))
    assert set(refused) == strange
    assert all(text == f"is not taken by a {order_type} order; leave it out" for text in refused.values())
    missed = wrong(spec(order_type))
    assert set(missed) == {*rules.needed, *rules.one_of[:1]}
    assert all("is needed" in missed[name] for name in rules.needed)


@given(order_type=st.sampled_from(OrderType), given=st.sets(st.sampled_from(ALL_PRICES)))
def test_no_set_of_prices_is_ever_ignored(order_type: OrderType, given: set[str]) -> None:
    """Each price is either part of what the type takes, or told as wrong."""
    rules = PRICES_OF[order_type]
    refused = wrong(spec(order_type, **{name: RIGHT[name] for name in given}))
    taken = {*rules.needed, *rules.optional, *rules.one_of}
    assert given - taken <= set(refused)
    assert set(rules.needed) - given <= set(refused)


@pytest.mark.parametrize("order_type", [OrderType.TRAIL, OrderType.TRAIL_LIMIT])
def test_a_trailing_order_takes_an_amount_or_a_percentage_and_not_both(order_type: OrderType) -> None:
    offset = {"limit_offset": RIGHT["limit_offset"]} if order_type is OrderType.TRAIL_LIMIT else {}
    assert "neither is given" in wrong(spec(order_type, **offset))["trailing_amount"]
    both = {"trailing_amount": Decimal(1), "trailing_percent": Decimal(1)}
    assert "both are given" in wrong(spec(order_type, **both, **offset))["trailing_amount"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("trailing_amount", "0", "not a positive distance"),
        ("trailing_amount", "-1.5", "not a positive distance"),
        ("trailing_amount", "NaN", "not a price"),
        ("trailing_percent", "0", "not a positive distance"),
        ("trailing_percent", "100", "1.5 is 1.5 %"),
        ("trailing_percent", "Infinity", "not a price"),
    ],
)
def test_a_distance_to_trail_by_is_a_sensible_number(name: str, value: str, said: str) -> None:
    assert said in wrong(spec(OrderType.TRAIL, **{name: Decimal(value)}))[name]


def test_an_offset_is_a_positive_distance() -> None:
    assert "positive" in wrong(plain(OrderType.TRAIL_LIMIT, limit_offset=Decimal(0)))["limit_offset"]
    assert "positive" in wrong(plain(OrderType.REL, limit_offset=Decimal("-0.01")))["limit_offset"]


def test_a_price_may_be_negative_and_has_no_more_digits_than_survive_the_journey() -> None:
    assert wrong(spec(OrderType.LMT, limit_price=Decimal("-37.63"))) == {}
    assert "15 significant" in wrong(spec(OrderType.LMT, limit_price=Decimal("1.2345678901234567")))["limit_price"]


@pytest.mark.parametrize("side", Side)
def test_a_bracket_with_its_exits_on_their_sides_is_right(side: Side) -> None:
    assert wrong(bracket(side)) == {}
    assert wrong(bracket(side, limit_price=None)) == {}
    assert wrong(bracket(side, stop_loss_limit_price="180" if side is Side.BUY else "200")) == {}
    assert wrong(bracket(side, stop_loss_limit_price="179.5" if side is Side.BUY else "200.5")) == {}


@pytest.mark.parametrize(
    ("side", "changed", "field", "said"),
    [
        (Side.BUY, {"take_profit_price": "189"}, "take_profit_price", "189 is not above limit_price 190"),
        (Side.BUY, {"take_profit_price": "190"}, "take_profit_price", "190 is not above limit_price 190"),
        (Side.BUY, {"stop_loss_price": "190.5"}, "stop_loss_price", "190.5 is not below limit_price 190"),
        (Side.BUY, {"stop_loss_limit_price": "181"}, "stop_loss_limit_price", "181 is not below stop_loss_price 180"),
        (Side.SELL, {"take_profit_price": "191"}, "take_profit_price", "191 is not below limit_price 190"),
        (Side.SELL, {"stop_loss_price": "190"}, "stop_loss_price", "190 is not above limit_price 190"),
        (Side.SELL, {"stop_loss_limit_price": "199"}, "stop_loss_limit_price", "199 is not above stop_loss_price 200"),
        (
            Side.BUY,
            {"limit_price": None, "take_profit_price": "170"},
            "take_profit_price",
            "170 is not above stop_loss_price 180",
        ),
    ],
)
def test_an_exit_on_the_wrong_side_is_told_with_both_prices(
    side: Side, changed: dict[str, str | None], field: str, said: str
) -> None:
    refused = wrong(bracket(side, **changed))
    assert refused == {field: f"{said}, where that of a {side} bracket is"}


@given(
    side=st.sampled_from(Side),
    profit=st.decimals("0.01", "1000", places=2),
    entry=st.decimals("0.01", "1000", places=2),
    loss=st.decimals("0.01", "1000", places=2),
)
def test_a_bracket_is_right_exactly_when_its_entry_is_between_its_exits(
    side: Side, profit: Decimal, entry: Decimal, loss: Decimal
) -> None:
    order = spec(OrderType.BRACKET, side, limit_price=entry, take_profit_price=profit, stop_loss_price=loss)
    is_between = loss < entry < profit if side is Side.BUY else profit < entry < loss
    assert (wrong(order) == {}) is is_between


@pytest.mark.parametrize("order_type", OrderType)
@pytest.mark.parametrize("time_in_force", TimeInForce)
def test_each_type_has_its_times_in_force(order_type: OrderType, time_in_force: TimeInForce) -> None:
    end = NOON if time_in_force is TimeInForce.GTD else None
    refused = wrong(plain(order_type, time_in_force=time_in_force, good_till_time=end))
    assert ("time_in_force" in refused) is (time_in_force not in TIMES_OF[order_type])


def test_orders_of_the_close_live_for_the_day_and_waiting_orders_are_not_of_the_moment() -> None:
    for order_type in (OrderType.MOC, OrderType.LOC):
        assert "or" not in wrong(plain(order_type, time_in_force=TimeInForce.GTC))["time_in_force"].split("; ")[1]
    for order_type in (OrderType.STP, OrderType.TRAIL, OrderType.MIT, OrderType.BRACKET):
        assert "time_in_force" in wrong(plain(order_type, time_in_force=TimeInForce.IOC))


def test_gtd_and_its_end_go_together() -> None:
    assert "is needed" in wrong(plain(OrderType.LMT, time_in_force=TimeInForce.GTD))["good_till_time"]
    assert "GTD takes it" in wrong(plain(OrderType.LMT, good_till_time=NOON))["good_till_time"]
    late = {"time_in_force": TimeInForce.GTD, "good_till_time": NOON, "good_after_time": NOON - timedelta(hours=1)}
    assert wrong(plain(OrderType.LMT, **late)) == {}
    assert "not after" in wrong(plain(OrderType.LMT, **{**late, "good_after_time": NOON}))["good_till_time"]
    fraction = plain(OrderType.LMT, good_after_time=NOON.replace(microsecond=1))
    assert "whole" in wrong(fraction)["good_after_time"]


@pytest.mark.parametrize("group", ["x" * 65, "prix-été", "two\nlines"])
def test_the_name_of_a_group_is_short_and_plain(group: str) -> None:
    assert set(wrong(plain(OrderType.LMT, oca_group=group))) == {"oca_group"}


def test_a_group_is_named_where_its_type_is_and_a_bracket_has_one_of_its_own() -> None:
    assert wrong(plain(OrderType.LMT, oca_group="exits", oca_type=OcaType.REDUCE_WITH_BLOCK)) == {}
    assert set(wrong(plain(OrderType.LMT, oca_type=OcaType.REDUCE_WITH_BLOCK))) == {"oca_type"}
    assert set(wrong(plain(OrderType.BRACKET, oca_group="mine"))) == {"oca_group"}
    assert wrong(plain(OrderType.BRACKET, oca_type=OcaType.CANCEL_WITH_BLOCK)) == {}


def test_what_is_shown_of_an_order_is_of_one_with_a_limit_and_at_most_all_of_it() -> None:
    assert wrong(plain(OrderType.LMT, display_size=10)) == {}
    assert wrong(plain(OrderType.TRAIL_LIMIT, hidden=True)) == {}
    assert set(wrong(plain(OrderType.LMT, display_size=11))) == {"display_size"}
    assert set(wrong(plain(OrderType.LMT, display_size=-1))) == {"display_size"}
    assert set(wrong(plain(OrderType.LMT, display_size=5, hidden=True))) == {"display_size"}
    assert set(wrong(plain(OrderType.MKT, display_size=5))) == {"display_size"}
    assert set(wrong(plain(OrderType.STP, hidden=True))) == {"hidden"}


def test_staging_is_for_brackets() -> None:
    assert wrong(plain(OrderType.BRACKET, bracket_transmit=False)) == {}
    assert set(wrong(plain(OrderType.LMT, bracket_transmit=False))) == {"bracket_transmit"}


def test_all_that_is_wrong_is_told_at_once() -> None:
    refused = wrong(
        spec(
            OrderType.MOC,
            quantity=Decimal(0),
            limit_price=Decimal(1),
            time_in_force=TimeInForce.GTC,
            oca_type=OcaType.REDUCE_WITH_BLOCK,
            display_size=-1,
            bracket_transmit=False,
            note="x" * 257,
        )
    )
    fields = {"quantity", "limit_price", "time_in_force", "oca_type", "display_size", "bracket_transmit", "note"}
    assert set(refused) == fields


def test_both_spellings_of_an_opening_order_are_one_order() -> None:
    by_type, by_time = spec(OrderType.OPG), spec(OrderType.MKT, time_in_force=TimeInForce.OPG)
    assert by_type.normalised() == by_time == by_time.normalised()
    limited = {"limit_price": Decimal("187.30")}
    by_type = spec(OrderType.OPG, time_in_force=TimeInForce.OPG, **limited)
    assert by_type.normalised() == spec(OrderType.LMT, time_in_force=TimeInForce.OPG, **limited)


def test_a_group_without_a_type_cancels_with_block() -> None:
    named = plain(OrderType.LMT, oca_group="exits")
    assert named.normalised() == plain(OrderType.LMT, oca_group="exits", oca_type=OcaType.CANCEL_WITH_BLOCK)
