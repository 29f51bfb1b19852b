"""Plans: which orders IBKR gets for one order of the contract, and whether what it shows are still these."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from ibkr_gateway_server.domain.orders import LegRole, LegTerms, OcaType, OrderSpec, OrderType, Side, TimeInForce
from ibkr_gateway_server.trading.plan import legs_of, same_terms

from tests.server.trading.conftest import market_order, open_order

EXITS = {"take_profit_price": Decimal(200), "stop_loss_price": Decimal(180)}


def bracket(**changed: Any) -> OrderSpec:
    return market_order(**{"order_type": OrderType.BRACKET, **EXITS, **changed})


def leg(**changed: Any) -> LegTerms:
    return legs_of(market_order(**changed), "")[0]


def test_a_plain_order_is_one_leg_with_all_its_terms() -> None:
    spec = market_order(
        order_type=OrderType.TRAIL_LIMIT,
        trailing_percent=Decimal(2),
        trail_stop_price=Decimal(185),
        limit_offset=Decimal("0.1"),
        oca_group="mine",
        time_in_force=TimeInForce.GTC,
    )
    (only,) = legs_of(spec, "unused")
    assert only == LegTerms(
        role=LegRole.ENTRY,
        order_type=OrderType.TRAIL_LIMIT,
        side=Side.BUY,
        quantity=Decimal(10),
        time_in_force=TimeInForce.GTC,
        trailing_percent=Decimal(2),
        trail_stop_price=Decimal(185),
        limit_offset=Decimal("0.1"),
        oca_group="mine",
        oca_type=OcaType.CANCEL_WITH_BLOCK,
    )


@pytest.mark.parametrize(
    ("limit", "kind"), [(None, OrderType.MKT), (Decimal("187.30"), OrderType.LMT)], ids=["market", "limit"]
)
def test_an_opening_order_is_a_market_or_limit_order_of_the_auction(limit: Decimal | None, kind: OrderType) -> None:
    (only,) = legs_of(market_order(order_type=OrderType.OPG, limit_price=limit), "")
    assert (only.order_type, only.time_in_force, only.limit_price) == (kind, TimeInForce.OPG, limit)


@pytest.mark.parametrize("side", Side)
def test_a_bracket_is_an_entry_and_two_exits_on_the_other_side_in_one_group(side: Side) -> None:
    entry, profit, loss = legs_of(bracket(side=side, limit_price=Decimal(190)), "group-1")
    assert [each.role for each in (entry, profit, loss)] == [LegRole.ENTRY, LegRole.TAKE_PROFIT, LegRole.STOP_LOSS]
    assert (entry.side, entry.order_type, entry.limit_price) == (side, OrderType.LMT, Decimal(190))
    assert (profit.order_type, profit.limit_price, profit.stop_price) == (OrderType.LMT, Decimal(200), None)
    assert (loss.order_type, loss.limit_price, loss.stop_price) == (OrderType.STP, None, Decimal(180))
    assert {profit.side, loss.side} == {side.opposite}
    assert [each.oca_group for each in (entry, profit, loss)] == ["", "group-1", "group-1"]
    assert {each.quantity for each in (entry, profit, loss)} == {Decimal(10)}


def test_nothing_of_a_bracket_is_sent_before_its_last_leg_is_there() -> None:
    assert [each.transmits for each in legs_of(bracket(), "g")] == [False, False, True]
    assert [each.transmits for each in legs_of(bracket(bracket_transmit=False), "g")] == [False, False, False]


def test_a_bracket_without_a_limit_enters_at_the_market_and_a_stop_with_a_limit_is_a_stop_limit() -> None:
    entry, _, loss = legs_of(bracket(stop_loss_limit_price=Decimal(179)), "g")
    assert (entry.order_type, entry.limit_price) == (OrderType.MKT, None)
    assert (loss.order_type, loss.stop_price, loss.limit_price) == (OrderType.STP_LMT, Decimal(180), Decimal(179))


@pytest.mark.parametrize("time_in_force", [TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD])
def test_the_exits_live_as_long_as_the_entry(time_in_force: TimeInForce) -> None:
    assert {each.time_in_force for each in legs_of(bracket(time_in_force=time_in_force), "g")} == {time_in_force}


def test_exits_reduce_each_other_unless_the_caller_says_otherwise() -> None:
    assert [each.oca_type for each in legs_of(bracket(), "g")] == [None, *[OcaType.REDUCE_WITH_BLOCK] * 2]
    chosen = bracket(oca_type=OcaType.CANCEL_WITH_BLOCK)
    assert [each.oca_type for each in legs_of(chosen, "g")[1:]] == [OcaType.CANCEL_WITH_BLOCK] * 2


LIMIT = {"order_type": OrderType.LMT, "limit_price": Decimal("10.00")}
SEEN_LIMIT = {"broker_order_type": "LMT", "limit_price": Decimal(10)}


def test_terms_are_recognised_whatever_the_spelling_of_their_numbers() -> None:
    assert same_terms(open_order("Submitted", **SEEN_LIMIT), leg(**LIMIT))


@pytest.mark.parametrize(
    "changed",
    [
        {"limit_price": Decimal("10.01")},
        {"quantity": Decimal(11)},
        {"side": Side.SELL},
        {"time_in_force": "GTC"},
        {"broker_order_type": "STP LMT"},
    ],
    ids=str,
)
def test_a_change_of_any_term_is_noticed(changed: dict[str, Any]) -> None:
    assert not same_terms(open_order("Submitted", **{**SEEN_LIMIT, **changed}), leg(**LIMIT))


def test_a_filled_order_that_is_shown_with_nothing_left_has_the_same_terms() -> None:
    done = open_order("Filled", is_completed=True, quantity=Decimal(0), filled_quantity=Decimal(10), **SEEN_LIMIT)
    assert same_terms(done, leg(**LIMIT))


TRAIL = {"order_type": OrderType.TRAIL_LIMIT, "side": Side.SELL, "limit_offset": Decimal("0.1")}
SEEN_TRAIL = {"broker_order_type": "TRAIL LIMIT", "side": Side.SELL, "limit_offset": Decimal("0.1")}


def test_a_trailing_order_is_the_same_while_its_stop_and_limit_follow_the_market() -> None:
    terms = leg(**TRAIL, trailing_amount=Decimal(2), trail_stop_price=Decimal(180))
    seen = {**SEEN_TRAIL, "trailing_amount": Decimal(2)}
    for stop in (180, 185):
        moved = {"trail_stop_price": Decimal(stop), "limit_price": Decimal(stop) - Decimal("0.1")}
        assert same_terms(open_order("PreSubmitted", **seen, **moved), terms)
    assert not same_terms(open_order("PreSubmitted", **seen, trail_stop_price=Decimal(179)), terms)


def test_another_way_to_trail_is_a_change() -> None:
    terms = leg(**TRAIL, trailing_percent=Decimal("1.5"))
    assert same_terms(open_order("PreSubmitted", **SEEN_TRAIL, trailing_percent=Decimal("1.5")), terms)
    assert not same_terms(open_order("PreSubmitted", **SEEN_TRAIL, trailing_percent=Decimal(2)), terms)
    assert not same_terms(open_order("PreSubmitted", **SEEN_TRAIL, trailing_amount=Decimal("1.5")), terms)


def test_the_offset_that_ibkr_chooses_for_a_relative_order_is_no_change() -> None:
    shown = {"broker_order_type": "REL", "limit_offset": Decimal("0.01")}
    assert same_terms(open_order("Submitted", **shown), leg(order_type=OrderType.REL))
    assert same_terms(open_order("Submitted", **shown), leg(order_type=OrderType.REL, limit_offset=Decimal("0.01")))
    assert not same_terms(open_order("Submitted", **shown), leg(order_type=OrderType.REL, limit_offset=Decimal("0.02")))
