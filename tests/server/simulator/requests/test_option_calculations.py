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


def exercise(talk: Talk, option: Listing, *, action: int = 1, quantity: int = 1, override: int = 0) -> None:
    asked = contract(con_id=option.con_id, exchange="SMART")
    talk.ask("21", "2", 9, *asked[:8], *asked[9:], action, quantity, "DU1234567", override, "", "", 0)


def refusal(talk: Talk, option: Listing, **asked: int) -> tuple[str, str]:
    """An exercise's refusal: its code and text."""
    exercise(talk, option, **asked)
    (answer,) = talk.messages()
    assert answer[:2] == ["4", "9"]
    return answer[2], answer[3]


def hold(talk: Talk, option: Listing, *, count: int, gain: float) -> None:
    """Let the account hold options whose underlying is so far above the strike."""
    talk.gateway.ledgers["DU1234567"].holdings[option.con_id] = Holding(option, Decimal(count))
    stock = talk.gateway.catalogue.by_id(265598)
    assert stock is not None
    talk.gateway.market.set_price(stock, option.strike + gain, talk.now)


NOTHING = "Error processing request.No unlapsed position exists in this option in account DU1234567."
OUT = "Error processing request.Exercise ignored because option is not in-the-money."
IN = "Error processing request.Lapse ignored because option is in-the-money."


def test_an_exercise_is_refused_with_its_cause(talk: Talk, call: Listing) -> None:
    assert refusal(talk, call) == ("322", NOTHING)
    hold(talk, call, count=1, gain=-20)
    assert refusal(talk, call) == ("322", OUT)
    hold(talk, call, count=1, gain=20)
    assert refusal(talk, call, action=2) == ("322", IN)
    assert refusal(talk, call, action=3)[0] == "321"
    stock = talk.gateway.catalogue.by_id(265598)
    assert stock is not None
    assert refusal(talk, stock)[0] == "321"


def test_a_put_is_in_the_money_below_its_strike(talk: Talk, call: Listing) -> None:
    (put,) = [
        option
        for option in talk.gateway.catalogue.options_of(265598)
        if (option.right, option.expiry, option.strike) == ("P", call.expiry, call.strike)
    ]
    hold(talk, put, count=1, gain=20)
    assert refusal(talk, put) == ("322", OUT)
    hold(talk, put, count=1, gain=-20)
    assert refusal(talk, put, action=2) == ("322", IN)


def test_an_exercise_waits_like_an_order_and_fails_when_it_is_cancelled(talk: Talk, call: Listing) -> None:
    """The sequence of a capture of June 2026, but for the pending cancel."""
    hold(talk, call, count=2, gain=20)
    exercise(talk, call, quantity=5)
    talk.wait(5.0, step=0.25)
    notice, order, status = talk.messages()
    assert notice[1:4] == ["9", "10349", "Order TIF was set to DAY based on order preset."]
    assert order[:5] == ["5", "9", str(call.con_id), "AAPL", "OPT"]
    assert order[13:16] == ["BUY", "2", "LMT"]
    assert status[:5] == ["3", "9", "PreSubmitted", "0", "2"]
    exercise(talk, call)
    talk.place(9, con_id=call.con_id, order_type="LMT", limit=1, sec_type="OPT", symbol="AAPL")
    assert [fields[1:3] for fields in talk.messages()] == [["9", "103"], ["9", "103"]]
    talk.ask("58", "", 2147483647)
    talk.wait(1.0)
    pending, failure, cancelled, end = talk.messages()
    assert pending[1:3] == ["9", "PendingCancel"]
    assert failure[1:4] == ["9", "322", "Error processing request.Exercise/Lapse failed due to server rejection."]
    assert cancelled[1:3] == ["9", "Cancelled"]
    assert end[1:3] == ["9", "202"]
    assert talk.gateway.ledgers["DU1234567"].holdings[call.con_id].quantity == 2


@pytest.mark.parametrize(("action", "gain", "override"), [(1, -20, 1), (2, -20, 0), (2, 20, 1)])
def test_an_exercise_against_the_money_is_taken_with_the_override(
    talk: Talk, call: Listing, action: int, gain: float, override: int
) -> None:
    hold(talk, call, count=1, gain=gain)
    exercise(talk, call, action=action, override=override)
    talk.wait(1.0)
    assert [fields[0] for fields in talk.messages()] == ["4", "5", "3"]


def test_an_exercise_fails_at_the_end_of_its_day(talk: Talk, call: Listing) -> None:
    hold(talk, call, count=1, gain=20)
    exercise(talk, call)
    talk.wait(1.0)
    talk.messages()
    talk.wait(86400.0, step=600.0)
    assert [fields[2] for fields in talk.messages() if fields[0] in ("3", "4")] == ["322", "Cancelled", "202"]
