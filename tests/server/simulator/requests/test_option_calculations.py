"""Requests about options: calculations, exercise."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ibkr_gateway_server.simulator.ledger import Holding
from ibkr_gateway_server.simulator.listings import Listing

from tests.server.simulator.conftest import Talk
from tests.server.simulator.requests.test_contracts import contract


@pytest.fixture
def call(talk: Talk) -> Listing:
    """A call near the money."""
    options = talk.gateway.catalogue.options_of(265598)
    calls = [option for option in options if option.right == "C" and option.expiry == options[0].expiry]
    return calls[len(calls) // 2]


def calculate(talk: Talk, request: str, option: Listing, given: object, spot: object, *, count: bool) -> list[float]:
    """A calculation's figures, as a client asks that sends the number of its options, or as one that does not."""
    asked = contract(con_id=option.con_id, exchange="SMART")
    talk.ask(request, "3", 9, *asked, given, spot, *([0] if count else []), "")
    (answer,) = talk.messages()
    assert answer[:3] == ["21", "9", "53"]
    assert len(answer) == 12
    return [float(field) for field in answer[4:]]


@pytest.mark.parametrize("count", [True, False], ids=["with a count", "without"])
def test_the_volatility_of_a_price_gives_the_price_again(talk: Talk, call: Listing, *, count: bool) -> None:
    volatility, delta, price, *_, spot = calculate(talk, "54", call, 12.5, call.strike, count=count)
    assert 0.05 < volatility < 2
    assert 0.4 < delta < 0.8
    assert (price, spot) == (12.5, call.strike)
    again = calculate(talk, "55", call, volatility, call.strike, count=count)
    assert again[2] == pytest.approx(12.5, abs=1e-4)
    assert again[0] == pytest.approx(volatility)


@pytest.mark.parametrize(
    ("request_id", "given", "spot"), [("54", "0.5", "9000"), ("54", "", "250"), ("55", "0.3", ""), ("55", "-1", "250")]
)
def test_a_calculation_without_a_result_says_so(
    talk: Talk, call: Listing, request_id: str, given: str, spot: str
) -> None:
    figures = calculate(talk, request_id, call, given, spot, count=False)
    assert figures == [-1.0, -2.0, -1.0, -1.0, -2.0, -2.0, -2.0, -1.0]


def test_a_calculation_of_what_is_no_option_is_refused(talk: Talk) -> None:
    for request in ("54", "55"):
        talk.ask(request, "3", 9, *contract(con_id=265598, exchange="SMART"), 1, 1, "")
        assert [fields[1:3] for fields in talk.messages()] == [["9", "321"]]
    talk.ask("56", "1", 9)
    talk.ask("57", "1", 9)
    assert talk.messages() == []


def exercise(talk: Talk, option: Listing, *, action: int = 1, quantity: int = 1, override: int = 0) -> tuple[str, str]:
    """An exercise's refusal: its code and the cause."""
    asked = contract(con_id=option.con_id, exchange="SMART")
    talk.ask("21", "2", 9, *asked[:8], *asked[9:], action, quantity, "DU1234567", override, "", "", 0)
    (answer,) = talk.messages()
    assert answer[:2] == ["4", "9"]
    return answer[2], answer[3].partition("cause - ")[2]


def test_an_exercise_is_refused_with_its_cause(talk: Talk, call: Listing) -> None:
    nothing = "No unlapsed position exists in this option in account DU1234567"
    assert exercise(talk, call) == ("322", nothing)
    talk.gateway.ledgers["DU1234567"].holdings[call.con_id] = Holding(call, Decimal(1))
    assert exercise(talk, call, quantity=2) == ("322", nothing)
    assert exercise(talk, call, action=3)[0] == "321"
    stock = talk.gateway.catalogue.by_id(265598)
    assert stock is not None
    talk.gateway.market.set_price(stock, call.strike - 20, talk.now)
    assert exercise(talk, call) == ("322", "Exercise ignored because option is not in-the-money.")
    assert exercise(talk, call, override=1) == ("322", "Exercise and lapse of options are not simulated.")
    talk.gateway.market.set_price(stock, call.strike + 20, talk.now)
    assert exercise(talk, call) == ("322", "Exercise and lapse of options are not simulated.")
    assert exercise(talk, stock)[0] == "321"
