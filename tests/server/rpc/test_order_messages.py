"""Orders as messages: the terms survive the journey both ways, and what an order has become is told of every leg."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.domain.errors import FieldsInvalid, Violations
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.order_terms import PRICE_FIELDS
from ibkr_gateway_server.domain.orders import (
    BrokerNotice,
    Leg,
    LegRole,
    LegTerms,
    MarginSource,
    OcaType,
    Order,
    OrderKey,
    OrderSpec,
    OrderState,
    OrderStatus,
    OrderType,
    Preview,
    Side,
    TimeInForce,
)
from ibkr_gateway_server.rpc import parse, present

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
AAPL = Instrument(265598, "AAPL", SecurityType.STK, "SMART", "USD")
KEY = "0123456789abcdef"

numbers = st.decimals("-99999999", "99999999", places=4)
times = st.none() | st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
specs = st.builds(
    OrderSpec,
    instrument=st.just(AAPL),
    side=st.sampled_from(Side),
    quantity=numbers,
    order_type=st.sampled_from(OrderType),
    time_in_force=st.sampled_from(TimeInForce),
    account_id=st.text(max_size=12),
    outside_regular_hours=st.booleans(),
    strategy_id=st.text(max_size=64),
    note=st.text(max_size=256),
    oca_group=st.text(max_size=20),
    oca_type=st.none() | st.sampled_from(OcaType),
    good_till_time=times,
    good_after_time=times,
    all_or_none=st.booleans(),
    hidden=st.booleans(),
    display_size=st.integers(-(2**31), 2**31 - 1),
    bracket_transmit=st.booleans(),
    **{name: st.none() | numbers for name in (*PRICE_FIELDS, "trailing_percent")},
)


def read(message: pb.OrderSpec) -> tuple[OrderSpec, dict[str, str]]:
    """A message's terms, and what is wrong with them by field."""
    found = Violations()
    spec = parse.order_spec(message, found)
    try:
        found.raise_if_any()
    except FieldsInvalid as invalid:
        return spec, {violation.field: violation.description for violation in invalid.violations}
    return spec, {}


def message(**changed: object) -> pb.OrderSpec:
    fields = {"instrument": present.instrument(AAPL), "side": common_pb2.SIDE_BUY, "quantity": "10"}
    return pb.OrderSpec(**{**fields, "order_type": pb.ORDER_TYPE_MKT, **changed})


@given(spec=specs)
def test_every_term_survives_the_journey_to_the_contract_and_back(spec: OrderSpec) -> None:
    # Whether a plan is transmitted is said of a bracket alone.
    said = spec if spec.order_type is OrderType.BRACKET else replace(spec, bracket_transmit=True)
    sent = present.order_spec(said)
    received, _ = read(pb.OrderSpec.FromString(sent.SerializeToString()))
    assert received == said.normalised()


@given(spec=specs)
def test_what_is_wrong_with_terms_does_not_depend_on_how_they_came(spec: OrderSpec) -> None:
    said = spec if spec.order_type is OrderType.BRACKET else replace(spec, bracket_transmit=True)
    _, refused = read(present.order_spec(said))
    found = Violations()
    said.violations(found)
    assert bool(refused) is bool(found)


def test_every_field_of_the_contracts_order_is_read_or_refused() -> None:
    """A field that nobody reads would be ignored in silence."""
    read_fields = {field.name for field in pb.OrderSpec.DESCRIPTOR.fields} - {"cash_quantity"}
    written = present.order_spec(
        OrderSpec(
            instrument=AAPL,
            side=Side.SELL,
            quantity=Decimal(1),
            order_type=OrderType.BRACKET,
            time_in_force=TimeInForce.GTD,
            account_id="DU1",
            outside_regular_hours=True,
            strategy_id="s",
            note="n",
            bracket_transmit=False,
            oca_group="g",
            oca_type=OcaType.REDUCE_WITH_BLOCK,
            good_till_time=NOW + timedelta(days=1),
            good_after_time=NOW,
            all_or_none=True,
            hidden=True,
            display_size=1,
            **dict.fromkeys((*PRICE_FIELDS, "trailing_percent"), Decimal(1)),
        )
    )
    assert {field.name for field, _ in written.ListFields()} == read_fields
    assert "cash_quantity" in read(message(quantity="", cash_quantity="1000"))[1]


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("1e3", "plain digits"), ("NaN", "plain digits")])
def test_a_price_that_is_no_number_is_told_once(text: str, said: str) -> None:
    _, refused = read(message(order_type=pb.ORDER_TYPE_LMT, limit_price=text))
    assert said in refused["limit_price"]
    assert set(refused) == {"limit_price"}


def test_both_spellings_of_an_opening_order_are_read_as_one() -> None:
    by_type, _ = read(message(order_type=pb.ORDER_TYPE_OPG, limit_price="187.30"))
    by_time, _ = read(message(order_type=pb.ORDER_TYPE_LMT, limit_price="187.30", time_in_force=pb.TIME_IN_FORCE_OPG))
    assert by_type == by_time


def test_of_an_order_without_a_type_its_other_terms_are_not_judged() -> None:
    _, refused = read(message(order_type=0, limit_price="1", hidden=True))
    assert set(refused) == {"order_type"}


def test_a_time_that_no_calendar_has_is_a_wrong_field_among_the_others() -> None:
    wrong = message(quantity="0")
    wrong.good_till_time.seconds = 2**60
    assert {"good_till_time", "quantity"} <= set(read(wrong)[1])


def test_a_leg_is_named_beside_a_client_order_id_only() -> None:
    named = parse.order_key(pb.OrderKey(client_order_id=KEY, leg_role=pb.LEG_ROLE_STOP_LOSS))
    assert named == OrderKey(KEY, leg_role=LegRole.STOP_LOSS)
    for wrong in (pb.OrderKey(order_id=1, leg_role=pb.LEG_ROLE_ENTRY), pb.OrderKey(client_order_id=KEY, leg_role=9)):
        with pytest.raises(FieldsInvalid):
            parse.order_key(wrong)


def leg_status(role: LegRole, order_id: int, **changed: object) -> OrderStatus:
    fields = {"account_id": "DU1", "instrument": AAPL, "side": Side.BUY, "quantity": Decimal(1)}
    fields |= {"state": OrderState.WORKING, "create_time": NOW, "update_time": NOW, "leg_role": role}
    return OrderStatus(**{**fields, "client_order_id": KEY, "order_id": order_id, **changed})  # type: ignore[arg-type]


def test_a_placed_order_is_told_of_with_all_its_legs() -> None:
    warned = BrokerNotice(399, "held until the open")
    legs = tuple(leg_status(role, 5 + number, warnings=(warned,)) for number, role in enumerate(LegRole))
    result = present.order_result(Order(legs[0], legs=legs))
    assert list(result.order_ids) == [5, 6, 7]
    assert list(result.leg_roles) == [pb.LEG_ROLE_ENTRY, pb.LEG_ROLE_TAKE_PROFIT, pb.LEG_ROLE_STOP_LOSS]
    assert [leg.order_id for leg in result.legs] == [5, 6, 7]
    assert [warning.ibkr_code for warning in result.warnings] == [399]


def test_a_status_says_what_the_order_trails_by_waits_for_and_belongs_to() -> None:
    status = leg_status(
        LegRole.STOP_LOSS,
        7,
        parent_order_id=5,
        trailing_percent=Decimal("1.50"),
        pending_modify_id="change-0123456789",
        oca_group="exits",
    )
    told = present.order_status(status)
    assert (told.leg_role, told.parent_order_id, told.oca_group) == (pb.LEG_ROLE_STOP_LOSS, 5, "exits")
    assert (told.trailing_percent, told.HasField("trailing_amount")) == ("1.5", False)
    assert told.pending_modify_id == "change-0123456789"


def test_a_preview_tells_each_legs_terms_and_its_token() -> None:
    terms = LegTerms(
        LegRole.ENTRY,
        OrderType.TRAIL_LIMIT,
        Side.SELL,
        Decimal(3),
        TimeInForce.GTC,
        trailing_amount=Decimal("1.50"),
        trail_stop_price=Decimal(180),
        limit_offset=Decimal("0.1"),
    )
    leg = Leg(terms, Decimal("187.30"), Decimal("561.90"))
    preview = Preview(AAPL, (leg,), MarginSource.ESTIMATE, token="t", expire_time=NOW + timedelta(seconds=60))
    told = present.preview(preview, "SIMULATOR", "")
    assert (told.preview_token, told.expire_time.ToDatetime(UTC)) == ("t", NOW + timedelta(seconds=60))
    (shown,) = told.legs
    assert (shown.trailing_amount, shown.trail_stop_price, shown.limit_offset) == ("1.5", "180", "0.1")
    assert (shown.estimated_price, shown.estimated_notional) == ("187.3", "561.9")
    assert not shown.HasField("trailing_percent")
    assert not shown.HasField("limit_price")
