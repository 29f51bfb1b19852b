"""Orders on the wire: each type's terms arrive as IBKR's fields, and come back from openOrder as the same terms.

The other end is the simulator's own decoder, which was written from the protocol and not from this encoder.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.orders import OrderWire
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.domain.evidence import Evidence, OpenOrderSeen
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.order_terms import PRICE_FIELDS
from ibkr_gateway_server.domain.orders import OcaType, OrderSpec, OrderType, Side, TimeInForce
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.trading.guard import Guard, TradingRules
from ibkr_gateway_server.trading.plan import legs_of, same_terms

from tests.conftest import Gateway, eventually

AAPL = Instrument(265598, "AAPL", SecurityType.STK, "SMART", "USD")
PLACE, CANCEL_ALL = 3, 58


def spec(order_type: OrderType, side: Side = Side.BUY, **changed: Any) -> OrderSpec:
    numbers = {*PRICE_FIELDS, "trailing_percent", "quantity"}
    prices = {name: Decimal(value) if name in numbers else value for name, value in changed.items()}
    return OrderSpec(**{"instrument": AAPL, "side": side, "quantity": Decimal(10), "order_type": order_type, **prices})


@dataclass
class Wire:
    """A wire of its own on a running gateway's connection, with what is heard of orders."""

    wire: OrderWire
    connection: Connection
    account_id: str
    simulator: Any
    heard: list[Evidence]

    def place(self, order: OrderSpec, order_id: int = 0) -> int:
        """Write every leg of an order; the entry's id."""
        whole = dataclasses.replace(order, account_id=self.account_id)
        first = order_id or self.connection.next_valid_order_id
        for number, terms in enumerate(legs_of(whole, "exits")):
            parent = first if number else 0
            self.wire.place(self.connection, first + number, whole, terms, f"ref-{number}", parent)
        return first

    def terms(self, order_id: int) -> Terms:
        """What the simulator has decoded."""
        decoded: Terms = self.simulator.gateway.orders[self.connection.client_id, order_id].terms
        return decoded

    async def placed(self, order: OrderSpec) -> Terms:
        """An order as the simulator has it."""
        order_id = self.place(order)
        orders = self.simulator.gateway.orders
        await eventually(lambda: (self.connection.client_id, order_id) in orders)
        return self.terms(order_id)

    def seen(self, order_id: int) -> list[OpenOrderSeen]:
        """What openOrder has told of an order."""
        return [each for each in self.heard if isinstance(each, OpenOrderSeen) and each.order_id == order_id]


@pytest.fixture
async def wire(gateway: Gateway) -> Wire:
    """A wire whose evidence is gathered here."""
    heard: list[Evidence] = []
    connection = gateway.running.session.connection()
    made = OrderWire(
        Pacer(time.monotonic), Guard(TradingRules(orders_enabled=True), lambda: None, lambda: None), heard.append
    )
    made.attach(connection)
    (account_id,) = gateway.simulator.gateway.ledgers
    return Wire(made, connection, account_id, gateway.simulator, heard)


# Each type, and what of its terms the other end must have decoded; all else is as an order without terms leaves it.
SENT = [
    pytest.param(spec(OrderType.MKT), {"order_type": "MKT"}, id="MKT"),
    pytest.param(spec(OrderType.LMT, limit_price="9.99"), {"order_type": "LMT", "limit_price": 9.99}, id="LMT"),
    pytest.param(spec(OrderType.STP, stop_price="999.5"), {"order_type": "STP", "aux_price": 999.5}, id="STP"),
    pytest.param(
        spec(OrderType.STP_LMT, stop_price="999.5", limit_price="1000"),
        {"order_type": "STP LMT", "aux_price": 999.5, "limit_price": 1000.0},
        id="STP_LMT",
    ),
    pytest.param(
        spec(OrderType.TRAIL, Side.SELL, trailing_amount="50.25", trail_stop_price="11"),
        {"order_type": "TRAIL", "action": "SELL", "aux_price": 50.25, "trail_stop_price": 11.0},
        id="TRAIL by an amount",
    ),
    pytest.param(
        spec(OrderType.TRAIL, Side.SELL, trailing_percent="12.5"),
        {"order_type": "TRAIL", "action": "SELL", "trailing_percent": 12.5},
        id="TRAIL by percent",
    ),
    pytest.param(
        spec(OrderType.TRAIL_LIMIT, trailing_amount="60", trail_stop_price="900", limit_offset="0.15"),
        {"order_type": "TRAIL LIMIT", "aux_price": 60.0, "trail_stop_price": 900.0, "limit_price_offset": 0.15},
        id="TRAIL_LIMIT by an amount",
    ),
    pytest.param(
        spec(OrderType.TRAIL_LIMIT, Side.SELL, trailing_percent="20", limit_offset="0.15"),
        {"order_type": "TRAIL LIMIT", "action": "SELL", "trailing_percent": 20.0, "limit_price_offset": 0.15},
        id="TRAIL_LIMIT by percent",
    ),
    pytest.param(spec(OrderType.MOC), {"order_type": "MOC"}, id="MOC"),
    pytest.param(spec(OrderType.LOC, limit_price="9"), {"order_type": "LOC", "limit_price": 9.0}, id="LOC"),
    pytest.param(spec(OrderType.OPG), {"order_type": "MKT", "tif": "OPG"}, id="OPG at any price"),
    pytest.param(
        spec(OrderType.OPG, limit_price="9"),
        {"order_type": "LMT", "tif": "OPG", "limit_price": 9.0},
        id="OPG with limit",
    ),
    pytest.param(spec(OrderType.MIT, stop_price="9"), {"order_type": "MIT", "aux_price": 9.0}, id="MIT"),
    pytest.param(
        spec(OrderType.LIT, stop_price="9", limit_price="9.5"),
        {"order_type": "LIT", "aux_price": 9.0, "limit_price": 9.5},
        id="LIT",
    ),
    pytest.param(
        spec(OrderType.REL, limit_price="9", limit_offset="0.02"),
        {"order_type": "REL", "aux_price": 0.02, "limit_price": 9.0},
        id="REL",
    ),
]


@pytest.mark.parametrize(("order", "expected"), SENT)
async def test_each_type_arrives_as_ibkrs_fields_and_no_others(
    wire: Wire, order: OrderSpec, expected: dict[str, Any]
) -> None:
    decoded = await wire.placed(order)
    common = {"action": "BUY", "quantity": 10.0, "account": wire.account_id, "order_ref": "ref-0", "oca_type": 3}
    assert decoded == Terms(**{**common, **expected})


@pytest.mark.parametrize(("order", "expected"), SENT)
async def test_what_openorder_shows_are_the_terms_that_were_sent(
    wire: Wire, order: OrderSpec, expected: dict[str, Any]
) -> None:
    order_id = wire.place(order)
    await eventually(lambda: wire.seen(order_id))
    terms = legs_of(order, "exits")[0]
    for seen in wire.seen(order_id):
        assert same_terms(seen, terms)
        assert (seen.stop_price, seen.limit_offset) == (terms.stop_price, terms.limit_offset)
        assert (seen.trailing_amount, seen.trailing_percent) == (terms.trailing_amount, terms.trailing_percent)
        assert (seen.trail_stop_price is None) is (order.order_type not in (OrderType.TRAIL, OrderType.TRAIL_LIMIT))
        if order.order_type is not OrderType.TRAIL_LIMIT:
            assert seen.limit_price == terms.limit_price
        assert (seen.oca_group, seen.parent_id) == ("", 0)


@pytest.mark.parametrize(("order", "expected"), SENT[1:])
async def test_what_a_completed_order_shows_are_the_terms_that_were_sent(
    wire: Wire, order: OrderSpec, expected: dict[str, Any]
) -> None:
    order_id = wire.place(order)
    await eventually(lambda: wire.seen(order_id))
    wire.wire.cancel(wire.connection, order_id)
    await eventually(lambda: not wire.simulator.gateway.open_orders())
    await wire.wire.ask_completed_orders(wire.connection, 10.0)
    (completed,) = [each for each in wire.heard if isinstance(each, OpenOrderSeen) and each.is_completed]
    assert same_terms(completed, legs_of(order, "exits")[0])


async def test_a_relative_order_without_an_offset_comes_back_with_ibkrs_and_is_the_same(wire: Wire) -> None:
    order_id = wire.place(spec(OrderType.REL))
    await eventually(lambda: wire.seen(order_id))
    seen = wire.seen(order_id)[0]
    assert (seen.limit_price, seen.limit_offset) == (None, Decimal("0.01"))
    assert same_terms(seen, legs_of(spec(OrderType.REL), "")[0])


async def test_a_bracket_arrives_as_three_orders_of_which_the_last_sends_all(wire: Wire) -> None:
    prices = {"limit_price": "10", "take_profit_price": "500", "stop_loss_price": "5", "stop_loss_limit_price": "4.5"}
    first = wire.place(spec(OrderType.BRACKET, time_in_force=TimeInForce.GTC, **prices))
    orders = wire.simulator.gateway.orders
    await eventually(lambda: (wire.connection.client_id, first + 2) in orders)
    entry, profit, loss = (wire.terms(first + number) for number in range(3))
    common = {"quantity": 10.0, "account": wire.account_id, "tif": "GTC"}
    assert entry == Terms(
        action="BUY", order_type="LMT", limit_price=10.0, order_ref="ref-0", transmit=False, oca_type=3, **common
    )
    exits = {"action": "SELL", "parent_id": first, "oca_group": "exits", "oca_type": 2, **common}
    assert profit == Terms(order_type="LMT", limit_price=500.0, order_ref="ref-1", transmit=False, **exits)
    assert loss == Terms(order_type="STP LMT", limit_price=4.5, aux_price=5.0, order_ref="ref-2", **exits)


async def test_the_legs_of_a_bracket_are_seen_as_sent_with_their_parent_and_group(wire: Wire) -> None:
    order = spec(OrderType.BRACKET, limit_price="10", take_profit_price="500", stop_loss_price="5")
    first = wire.place(order)
    await eventually(lambda: all(wire.seen(first + number) for number in range(3)))
    for number, terms in enumerate(legs_of(order, "exits")):
        for seen in wire.seen(first + number):
            assert same_terms(seen, terms)
            assert (seen.parent_id, seen.oca_group) == ((first, "exits") if number else (0, ""))


async def test_a_staged_bracket_waits_in_tws_and_nothing_of_it_works(wire: Wire) -> None:
    order = spec(
        OrderType.BRACKET, limit_price="10", take_profit_price="500", stop_loss_price="5", bracket_transmit=False
    )
    first = wire.place(order)
    orders = wire.simulator.gateway.orders
    await eventually(lambda: (wire.connection.client_id, first + 2) in orders)
    assert all(orders[wire.connection.client_id, first + number].is_staged for number in range(3))


async def test_times_leave_in_utc_whatever_zone_they_were_given_in(wire: Wire) -> None:
    new_york = timezone(timedelta(hours=-5))
    decoded = await wire.placed(
        spec(
            OrderType.LMT,
            limit_price="9",
            time_in_force=TimeInForce.GTD,
            good_till_time=datetime(2031, 1, 2, 20, 30, tzinfo=new_york),
            good_after_time=datetime(2031, 1, 2, 14, 0, 5, tzinfo=UTC),
        )
    )
    assert (decoded.tif, decoded.good_till_date, decoded.good_after_time) == (
        "GTD",
        "20310103-01:30:00",
        "20310102-14:00:05",
    )


@pytest.mark.parametrize(
    ("oca_type", "code"),
    [
        (None, 1),
        (OcaType.CANCEL_WITH_BLOCK, 1),
        (OcaType.REDUCE_WITH_BLOCK, 2),
        (OcaType.REDUCE_WITHOUT_BLOCK, 3),
    ],
)
async def test_a_group_leaves_with_ibkrs_code_of_its_type(wire: Wire, oca_type: OcaType | None, code: int) -> None:
    decoded = await wire.placed(spec(OrderType.LMT, limit_price="9", oca_group="mine", oca_type=oca_type))
    assert (decoded.oca_group, decoded.oca_type) == ("mine", code)


async def test_what_is_shown_of_an_order_and_how_it_fills_is_sent(wire: Wire) -> None:
    shown = await wire.placed(spec(OrderType.LMT, limit_price="9", display_size=3, all_or_none=True))
    assert (shown.display_size, shown.all_or_none, shown.hidden) == (3, True, False)


async def test_a_hidden_order_outside_regular_hours_says_both(wire: Wire) -> None:
    decoded = await wire.placed(spec(OrderType.LMT, limit_price="9", hidden=True, outside_regular_hours=True))
    assert (decoded.hidden, decoded.outside_rth) == (True, True)


async def test_a_change_is_the_same_order_id_with_the_terms_in_full(wire: Wire) -> None:
    order_id = wire.place(spec(OrderType.LMT, limit_price="9"))
    await eventually(lambda: wire.seen(order_id))
    changed = spec(OrderType.LMT, limit_price="9.5", quantity="12")
    before = legs_of(spec(OrderType.LMT, limit_price="9"), "")[0]
    assert not same_terms(wire.seen(order_id)[-1], legs_of(changed, "")[0])
    wire.place(changed, order_id)
    await eventually(lambda: same_terms(wire.seen(order_id)[-1], legs_of(changed, "")[0]))
    assert not same_terms(wire.seen(order_id)[-1], before)


async def test_a_global_cancel_is_one_message_and_ends_every_order(wire: Wire) -> None:
    first = wire.place(spec(OrderType.LMT, limit_price="9"))
    second = wire.place(spec(OrderType.LMT, limit_price="8"), first + 1)
    await eventually(lambda: wire.seen(first) and wire.seen(second))
    wire.wire.cancel_all(wire.connection)
    await eventually(lambda: not wire.simulator.gateway.open_orders())
    assert wire.simulator.frames_received(CANCEL_ALL) == 1


async def test_a_what_if_of_a_brackets_entry_asks_and_places_nothing(wire: Wire) -> None:
    order = spec(OrderType.BRACKET, limit_price="10", take_profit_price="500", stop_loss_price="5")
    whole = dataclasses.replace(order, account_id=wire.account_id)
    order_id = wire.connection.next_valid_order_id
    answer = await wire.wire.what_if(wire.connection, order_id, whole, legs_of(whole, "")[0], 10.0)
    assert answer.initial_margin_change is not None
    assert wire.simulator.frames_received(PLACE) == 1
    assert wire.simulator.gateway.orders == {}
