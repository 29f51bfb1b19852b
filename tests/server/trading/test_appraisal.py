"""What an order is worth and would cost: each leg on its tick, valued, and held against the operator's limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from ibkr_gateway_server.domain.errors import FieldsInvalid, MaxNotional, NoReferencePrice, Reason
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument, PriceLadder, SecurityType
from ibkr_gateway_server.domain.order_terms import PRICE_FIELDS
from ibkr_gateway_server.domain.orders import LegRole, LegTerms, MarginSource, OrderSpec, OrderType, Side
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.trading.appraisal import check_terms, notional, reference_price
from ibkr_gateway_server.trading.plan import legs_of

from tests.conftest import Gateway, MakeGateway
from tests.server.trading.conftest import AAPL, NOW, market_order

PLACE, SUBSCRIBE = 3, 1
QUOTE = Quote(AAPL, NOW, bid_price=9.9, ask_price=10.1, last_price=10.0)
NAMED = Instrument(symbol="AAPL", security_type=SecurityType.STK)
KEY = "0123456789abcdef"


def leg(order_type: OrderType = OrderType.MKT, side: Side = Side.BUY, **prices: str) -> LegTerms:
    given = {name: Decimal(price) for name, price in prices.items()}
    return legs_of(market_order(order_type=order_type, side=side, **given), "")[0]


def bracket(**changed: Any) -> OrderSpec:
    prices = {"limit_price": Decimal(90), "take_profit_price": Decimal(110), "stop_loss_price": Decimal(80)}
    return market_order(**{"instrument": NAMED, "order_type": OrderType.BRACKET, **prices, **changed})


def test_every_wrong_term_is_named_at_once_with_what_would_be_right() -> None:
    spec = market_order(order_type=OrderType.LMT, quantity=Decimal("1.5"), limit_price=Decimal("187.305"))
    with pytest.raises(FieldsInvalid) as refused:
        check_terms(spec, ContractDetails(AAPL), PriceLadder())
    assert [violation.reason for violation in refused.value.violations] == [
        Reason.QUANTITY_FRACTIONAL,
        Reason.TICK_SIZE,
    ]
    assert "use 187.30 or 187.31" in refused.value.message


def test_every_price_and_distance_of_every_leg_is_on_the_tick() -> None:
    off = dict.fromkeys(PRICE_FIELDS, Decimal("10.005"))
    with pytest.raises(FieldsInvalid) as refused:
        check_terms(market_order(**off), ContractDetails(AAPL), PriceLadder())
    assert [violation.field for violation in refused.value.violations] == [f"order.{name}" for name in PRICE_FIELDS]
    assert {violation.reason for violation in refused.value.violations} == {Reason.TICK_SIZE}
    check_terms(market_order(trailing_percent=Decimal("1.23456")), ContractDetails(AAPL), PriceLadder())


@pytest.mark.parametrize(
    ("terms", "price"),
    [
        (leg(), "10.1"),
        (leg(side=Side.SELL), "9.9"),
        (leg(OrderType.LMT, limit_price="7"), "7"),
        (leg(OrderType.STP, stop_price="12"), "12"),
        (leg(OrderType.STP_LMT, stop_price="12", limit_price="12.5"), "12.5"),
        (leg(OrderType.MIT, stop_price="9"), "9"),
        (leg(OrderType.TRAIL, side=Side.SELL, trailing_amount="1", trail_stop_price="8"), "9.9"),
        (leg(OrderType.TRAIL_LIMIT, trailing_percent="5", limit_offset="0.1"), "10.1"),
        (leg(OrderType.MOC), "10.1"),
        (leg(OrderType.REL), "10.1"),
        (leg(OrderType.REL, limit_price="9.5"), "9.5"),
    ],
)
def test_a_leg_is_valued_by_its_limit_else_its_stop_else_by_what_it_would_meet(terms: LegTerms, price: str) -> None:
    assert reference_price(terms, QUOTE) == Decimal(price)


def test_what_only_the_market_values_has_no_value_without_it() -> None:
    assert reference_price(leg(), None) is None
    assert reference_price(leg(OrderType.TRAIL, trailing_amount="1"), None) is None
    assert reference_price(leg(OrderType.STP, stop_price="12"), None) == 12


def test_a_value_counts_the_multiplier() -> None:
    future = Instrument(1, "ES", SecurityType.FUT, "CME", "USD", multiplier=Decimal(50))
    assert notional(market_order(), Decimal("10.1")) == 101
    assert notional(market_order(instrument=future), Decimal("10.1")) == 5050


async def test_a_brackets_preview_has_a_leg_each_and_ibkrs_figures_of_its_entry(gateway: Gateway) -> None:
    desk = gateway.running.desk
    preview = await desk.preview(bracket())
    assert [each.terms.role for each in preview.legs] == [LegRole.ENTRY, LegRole.TAKE_PROFIT, LegRole.STOP_LOSS]
    assert [each.estimated_price for each in preview.legs] == [90, 110, 80]
    assert [each.estimated_notional for each in preview.legs] == [900, 1100, 800]
    assert preview.notional == 900
    assert preview.margin_source is MarginSource.BROKER_WHATIF
    entry = await desk.preview(market_order(instrument=NAMED, order_type=OrderType.LMT, limit_price=Decimal(90)))
    assert preview.what_if == entry.what_if
    assert any("the entry's alone" in warning for warning in preview.warnings)
    assert gateway.simulator.gateway.orders == {}


async def test_a_staged_bracket_says_that_nothing_of_it_will_work(gateway: Gateway) -> None:
    preview = await gateway.running.desk.preview(bracket(bracket_transmit=False))
    assert any("staged in TWS" in warning for warning in preview.warnings)


async def test_each_leg_is_held_against_the_limit_of_value(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(max_notional="1000")
    desk = gateway.running.desk
    with pytest.raises(MaxNotional) as refused:
        await desk.place(KEY, bracket())
    assert "1100" in refused.value.message
    assert gateway.simulator.frames_received(PLACE) == 0
    blockers = (await desk.preview(bracket())).blockers
    assert [blocker.reason for blocker in blockers] == [Reason.MAX_NOTIONAL]
    assert (await desk.preview(bracket(take_profit_price=Decimal(100)))).blockers == ()


async def test_a_trailing_order_without_a_quote_is_refused_where_values_are_limited(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(max_notional="1000000")
    desk = gateway.running.desk
    gateway.simulator.inject(Rule(Fault.REFUSE, SUBSCRIBE, code=354, times=None))
    trail = market_order(instrument=NAMED, order_type=OrderType.TRAIL, side=Side.SELL, trailing_amount=Decimal(1))
    with pytest.raises(NoReferencePrice):
        await desk.place(KEY, trail)
    assert gateway.simulator.frames_received(PLACE) == 0
