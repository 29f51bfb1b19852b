"""What an order takes of a book, and orders whose price follows the quote."""

from __future__ import annotations

from typing import Any

import pytest
from ibkr_gateway_server.simulator import matching
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import FIXED
from ibkr_gateway_server.simulator.market import Level, Prices
from ibkr_gateway_server.simulator.orders import Order, Terms

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.test_order_lives import move, statuses

AAPL = next(listing for listing in FIXED if listing.symbol == "AAPL")
ASKS = (Level(100.02, 300, "IEX"), Level(100.03, 500, "ARCA"), Level(100.04, 900, "BATS"))


def order(**terms: Any) -> Order:
    """A working order to buy."""
    given = Terms(**{"action": "BUY", "quantity": 1000, "order_type": "MKT", **terms})
    return Order(1, 1, 1, ContractQuery(), AAPL, given, is_working=True)


def prices(bid: float = 100.00, ask: float = 100.02, last: float = 100.01) -> Prices:
    """A quote."""
    return Prices(bid, ask, last, 300, 300, 100, 0, last, last, last, last)


@pytest.mark.parametrize(
    ("terms", "taken"),
    [
        ({}, [(100.02, 300, "IEX"), (100.03, 500, "ARCA"), (100.04, 200, "BATS")]),
        ({"quantity": 200}, [(100.02, 200, "IEX")]),
        ({"order_type": "LMT", "limit_price": 100.03}, [(100.02, 300, "IEX"), (100.03, 500, "ARCA")]),
        ({"order_type": "LMT", "limit_price": 100.01}, []),
        ({"order_type": "MTL"}, [(100.02, 300, "IEX")]),
        ({"tif": "FOK", "order_type": "LMT", "limit_price": 100.03}, []),
        ({"all_or_none": True, "quantity": 5000}, []),
        ({"tif": "FOK"}, [(100.02, 300, "IEX"), (100.03, 500, "ARCA"), (100.04, 200, "BATS")]),
    ],
)
def test_an_order_takes_what_is_shown_level_by_level_up_to_its_limit(
    terms: dict[str, Any], taken: list[tuple[float, float, str]]
) -> None:
    assert matching.taken_by(order(**terms), prices(), ASKS, 0) == taken


@pytest.mark.parametrize(
    ("terms", "rests"),
    [
        ({"order_type": "REL", "aux_price": 0.01}, 100.01),
        ({"order_type": "REL", "aux_price": 0.01, "limit_price": 99.90}, 99.90),
        ({"order_type": "REL", "aux_price": 0.01, "action": "SELL"}, 100.01),
        ({"order_type": "REL", "aux_price": 0.01, "action": "SELL", "limit_price": 100.50}, 100.50),
        ({"order_type": "PEG MKT", "aux_price": 0.05}, 99.97),
        ({"order_type": "PEG MKT", "aux_price": 0.05, "action": "SELL"}, 100.05),
        ({"order_type": "MIDPRICE"}, 100.01),
        ({"order_type": "MIDPRICE", "limit_price": 100.00}, 100.00),
        ({"order_type": "PEG MID", "aux_price": 0.01}, 100.00),
    ],
)
def test_a_pegged_order_rests_where_its_peg_and_its_limit_put_it(terms: dict[str, Any], rests: float) -> None:
    pegged = order(**terms)
    assert matching.pegged_price(pegged, prices()) == rests


def test_a_relative_order_follows_the_bid_and_trades_when_the_market_comes_through_it() -> None:
    relative = order(order_type="REL", aux_price=0.01, quantity=100)
    assert matching.taken_by(relative, prices(), ASKS, 0) == []
    up = (Level(101.02, 300, "IEX"),)
    assert matching.taken_by(relative, prices(101.00, 101.02), up, 1) == []
    assert relative.peg == 101.01
    down = (Level(100.90, 300, "IEX"),)
    # At its own price: it was there first.
    assert matching.taken_by(relative, prices(100.88, 100.90), down, 2) == [(101.01, 100, "IEX")]


@pytest.mark.parametrize("kind", ["REL", "MIDPRICE", "PEG MID", "PEG MKT"])
def test_a_pegged_order_works_as_any_other_and_fills_in_time(talk: Talk, kind: str) -> None:
    talk.place(1, order_type=kind, quantity=10)
    talk.wait(60.0, step=0.25)
    told = [status for _, status, _ in statuses(talk)]
    assert told[0] == "PreSubmitted"
    assert told[-1] == "Filled"


def test_a_pegged_orders_limit_is_never_passed(talk: Talk) -> None:
    talk.place(1, order_type="REL", limit="10.00", quantity=10)
    talk.wait(20.0, step=0.25)
    assert statuses(talk)[-1][1] == "Submitted"


def test_a_relative_order_without_an_offset_comes_back_with_a_cent(talk: Talk) -> None:
    talk.place(1, order_type="REL", limit="10")
    talk.wait(0.1)
    assert talk.heard("5")[0][15:18] == ["REL", "10.0", "0.01"]


def test_types_that_clients_spell_in_one_word_are_the_same(talk: Talk) -> None:
    talk.place(1, order_type="PEGMKT", aux="0.05")
    talk.wait(0.1)
    assert talk.heard("5")[0][15] == "PEG MKT"


def test_a_trailing_stop_shows_where_it_trails(gateway: Gateway, talk: Talk) -> None:
    last = gateway.market.prices(AAPL, NOW).last
    talk.place(1, action="SELL", order_type="TRAIL", aux="2.00")
    talk.wait(0.1)
    shown = float(talk.heard("5")[-1][73])
    assert shown == pytest.approx(last - 2, abs=0.10)
    move(talk, last + 10)
    talk.ask("5", "1")
    assert float(talk.heard("5")[-1][73]) == pytest.approx(last + 8, abs=0.10)


def test_a_trailing_limit_shows_the_limit_that_follows_its_stop(talk: Talk) -> None:
    """As captured: SELL TRAIL LIMIT from 2921.80 with an offset of 0.05 came back with a limit of 2921.75."""
    talk.place(1, action="SELL", order_type="TRAIL LIMIT", aux="1.00", trail_stop="200.80", limit_offset="0.05")
    talk.wait(0.01)
    (order,) = talk.heard("5")
    assert order[15:18] == ["TRAIL LIMIT", "200.75", "1.0"]
    assert order[73] == "200.8"
    (offset,) = (index for index, field in enumerate(order) if index > 80 and field == "0.05")
    assert order[offset - 1] == "200.8"


def test_a_trailing_limit_may_be_given_by_its_first_prices(talk: Talk) -> None:
    talk.place(1, action="SELL", order_type="TRAIL LIMIT", aux="1.00", trail_stop="200.80", limit="200.70")
    talk.wait(0.01)
    assert talk.heard("5")[0][16] == "200.7"


def test_a_touch_is_told_twice_as_it_waits(talk: Talk) -> None:
    talk.place(1, order_type="MIT", aux="10.00")
    talk.wait(0.01)
    assert [fields[0] for fields in talk.heard("3", "5")] == ["5", "3", "5", "3"]


def test_a_stops_first_word_has_a_limit_price_of_its_own(talk: Talk) -> None:
    """As captured: SELL STP 13.13 came back with 13.16 first, then with none."""
    talk.place(1, action="SELL", order_type="STP", aux="13.13")
    talk.wait(0.1)
    assert [fields[16:18] for fields in talk.heard("5")] == [["13.16", "13.13"], ["0.0", "13.13"]]
    talk.place(1, action="SELL", order_type="STP", aux="14.13")
    talk.wait(0.1)
    assert [fields[16:18] for fields in talk.heard("5")] == [["0.0", "14.13"]] * 2
