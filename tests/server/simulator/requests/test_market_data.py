"""Requests for market data: ticks, snapshots, refusals, five-second bars."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.listings import Bond
from ibkr_gateway_server.simulator.requests import market_data
from ibkr_gateway_server.simulator.yields import yield_to_maturity

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

ID = "1000000001"
AAPL = {"con_id": 265598, "exchange": "SMART"}
IBM = {"con_id": 8314, "exchange": "SMART"}


def subscribe(talk: Talk, req_id: str = ID, *, generic: str = "", snapshot: int = 0, **given: object) -> None:
    talk.ask("1", "11", req_id, *contract(**given), 0, generic, snapshot, 0, "")


def ticks(messages: list[list[str]], *numbers: str) -> list[list[str]]:
    """The price ticks with these numbers."""
    return [fields for fields in messages if fields[0] == "1" and fields[3] in numbers]


def test_a_line_begins_with_its_parameters_and_type_and_then_tells_everything(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    messages = talk.messages()
    assert [fields[0] for fields in messages[:3]] == ["81", "58", "1"]
    assert {fields[3] for fields in messages if fields[0] == "1"} == {"1", "2", "4", "6", "7", "9", "14"}
    assert {fields[3] for fields in messages if fields[0] == "2"} == {"0", "3", "5", "8"}
    assert {fields[3] for fields in messages if fields[0] == "46"} == {"32", "33", "45", "84"}


def test_a_line_tells_what_changes_and_nothing_twice(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    talk.wait(20.0, step=0.25)
    bids = [(fields[4], fields[5]) for fields in ticks(talk.messages(), "1")]
    assert len(bids) > 10
    assert all(one != other for one, other in itertools.pairwise(bids))


def test_a_cancelled_line_is_silent_and_a_second_cancel_is_an_error(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    talk.messages()
    talk.ask("2", "2", ID)
    talk.wait(2.0, step=0.25)
    assert talk.messages() == []
    talk.ask("2", "2", ID)
    assert talk.messages()[0][1:4] == [ID, "300", f"Can't find EId with tickerId:{ID}"]


def test_a_hedged_contract_is_read_to_its_end(talk: Talk) -> None:
    talk.ask("1", "11", ID, *contract(**AAPL), 1, 265598, 0.5, 250.0, "999", 0, 0, "")
    assert "generic tick list of 999" in talk.messages()[0][3]


def test_a_snapshot_ends_and_holds_no_line(talk: Talk) -> None:
    subscribe(talk, snapshot=1, **AAPL)
    assert talk.messages()[-1] == ["57", "1", ID]
    talk.wait(2.0, step=0.25)
    assert talk.messages() == []


def test_a_snapshot_without_a_quote_ends_after_eleven_seconds(talk: Talk) -> None:
    subscribe(talk, snapshot=1, con_id=416904, exchange="CBOE")
    assert talk.messages()[-1][0] != "57"
    talk.wait(10.5, step=0.25)
    messages = talk.messages()
    # Until then it goes on.
    assert len(ticks(messages, "4")) > 2
    assert not [fields for fields in messages if fields[0] == "57"]
    talk.wait(1.0, step=0.25)
    assert talk.messages()[-1] == ["57", "1", ID]
    talk.wait(5.0, step=0.25)
    assert talk.messages() == []


def test_a_snapshot_can_be_cancelled_before_its_end(talk: Talk) -> None:
    subscribe(talk, snapshot=1, con_id=416904, exchange="CBOE")
    talk.ask("2", "2", ID)
    talk.messages()
    talk.wait(20.0, step=0.25)
    assert talk.messages() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"con_id": 416904, "exchange": "CBOE"}, {"4", "6", "7", "9", "14"}),
        ({"con_id": 12087792, "exchange": "IDEALPRO"}, {"1", "2", "6", "7", "9", "14"}),
    ],
    ids=["index", "currency"],
)
def test_an_index_has_no_quote_and_a_currency_no_trades(talk: Talk, given: dict[str, object], told: set[str]) -> None:
    subscribe(talk, **given)
    assert {fields[3] for fields in talk.messages() if fields[0] == "1"} == told


def test_an_option_has_its_model(talk: Talk) -> None:
    option = {"symbol": "SPY", "sec_type": "OPT", "exchange": "SMART", "expiry": "20261218", "right": "C"}
    strike = talk.gateway.catalogue.options_of(756733)[20].strike
    subscribe(talk, strike=strike, **option)
    messages = talk.messages()
    computed = {fields[2]: [float(field) for field in fields[4:7]] for fields in messages if fields[0] == "21"}
    assert computed.keys() == {"10", "11", "12", "13"}
    for volatility, delta, price in computed.values():
        assert 0 < volatility < 1
        assert 0 < delta < 1
        assert price > 0
    # What is computed at a price has that price, and a higher price means more volatility.
    bid, ask = (float(ticks(messages, number)[0][4]) for number in ("1", "2"))
    assert (computed["10"][2], computed["11"][2]) == (bid, ask)
    assert computed["10"][0] < computed["11"][0]


def test_data_without_a_subscription_is_refused_and_delayed_on_request(talk: Talk) -> None:
    subscribe(talk, **IBM)
    (refusal,) = talk.messages()
    assert refusal[2] == "354"
    talk.ask("59", "1", "3")
    subscribe(talk, **IBM)
    parameters, kind, notice, *rest = talk.messages()
    assert parameters[0] == "81"
    assert kind == ["58", "1", ID, "3"]
    assert notice[1:3] == [ID, "10167"]
    assert {fields[3] for fields in rest if fields[0] == "1"} == {"66", "67", "68", "72", "73", "75", "76"}


@pytest.mark.parametrize(
    ("given", "more", "code"),
    [
        ({"con_id": 265598}, {}, "321"),
        ({"symbol": "ES", "sec_type": "FUT", "exchange": "CME"}, {}, "200"),
        ({"symbol": "NOSUCH", "sec_type": "STK", "exchange": "SMART"}, {}, "200"),
        (AAPL, {"generic": "233", "snapshot": 1}, "321"),
    ],
    ids=["no exchange", "several", "none", "a snapshot of generic ticks"],
)
def test_a_line_that_cannot_be_is_refused(
    talk: Talk, given: dict[str, object], more: dict[str, object], code: str
) -> None:
    subscribe(talk, **more, **given)  # type: ignore[arg-type]  # its own keywords and the contract's
    (answer,) = talk.messages()
    assert answer[1:3] == [ID, code]


def test_an_id_in_use_and_a_line_too_many_are_refused(talk: Talk) -> None:
    for number in range(100):
        subscribe(talk, str(2_000_000 + number), **AAPL)
    talk.messages()
    subscribe(talk, "2000000", **AAPL)
    subscribe(talk, "3000000", **AAPL)
    assert [fields[2] for fields in talk.messages()] == ["322", "101"]


def test_venues_behind_the_best_prices_are_letters_of_the_venues_that_the_parameters_name(talk: Talk) -> None:
    subscribe(talk, **AAPL)
    messages = talk.messages()
    talk.ask("83", "5", messages[0][3])
    (components,) = talk.heard("82")
    letters = {fields[4] for fields in messages if fields[0] == "46" and fields[3] in ("32", "33", "84")}
    assert letters <= set(components[5::3])


def test_a_regulatory_snapshot_needs_no_subscription(talk: Talk) -> None:
    talk.ask("1", "11", ID, *contract(**IBM), 0, "", 0, 1, "")
    messages = talk.messages()
    assert messages[1] == ["58", "1", ID, "1"]
    assert ticks(messages, "1", "2")
    assert messages[-1] == ["57", "1", ID]


def test_delayed_option_computations_have_delayed_numbers(talk: Talk) -> None:
    option = next(iter(talk.gateway.catalogue.options_of(265598)))
    talk.gateway.catalogue.add(replace(option, is_subscribed=False))
    talk.ask("59", "1", "3")
    subscribe(talk, con_id=option.con_id, exchange="SMART")
    assert {fields[2] for fields in talk.messages() if fields[0] == "21"} == {"80", "81", "82", "83"}


SUNDAY = NOW - 86400


@pytest.fixture
def closed() -> Talk:
    """A client on a Sunday, when the exchanges are closed."""
    made = Talk(Gateway(7, ("DU1234567",), SUNDAY, Behaviour(always_open=False)), now=SUNDAY)
    made.messages()
    return made


@pytest.mark.parametrize(
    ("asked", "given", "told", "bid"),
    [
        ("1", AAPL, "1", "1"),
        ("2", AAPL, "2", "1"),
        ("4", AAPL, "2", "1"),
        ("3", IBM, "3", "66"),
        ("4", IBM, "4", "66"),
    ],
)
def test_of_a_closed_market_frozen_prices_come_to_who_asks_for_them(
    closed: Talk, asked: str, given: dict[str, object], told: str, bid: str
) -> None:
    closed.ask("59", "1", asked)
    subscribe(closed, **given)
    messages = closed.messages()
    assert [fields[3] for fields in messages if fields[0] == "58"] == [told]
    (tick,) = ticks(messages, bid)
    is_frozen = told in ("2", "4")
    assert (float(tick[4]) > 0) == is_frozen
    if not is_frozen:
        assert tick[4:] == ["-1", "0", "0"]
    closed.wait(30.0, step=1.0)
    assert closed.messages() == []


def test_a_frozen_line_goes_live_when_the_market_opens() -> None:
    before_opening = NOW - 6.5 * 3600
    talk = Talk(Gateway(7, ("DU1234567",), before_opening, Behaviour(always_open=False)), now=before_opening)
    talk.ask("59", "1", "2")
    subscribe(talk, **AAPL)
    assert [fields[3] for fields in talk.heard("58")] == ["2"]
    talk.wait(3600.0, step=60.0)
    messages = talk.messages()
    assert [fields[3] for fields in messages if fields[0] == "58"] == ["1"]
    assert len(ticks(messages, "1")) > 10


def test_frozen_data_without_a_subscription_is_refused(talk: Talk) -> None:
    talk.ask("59", "1", "2")
    subscribe(talk, **IBM)
    assert [fields[2] for fields in talk.messages()] == ["10168"]


def test_a_competing_session_takes_the_live_lines_away_and_leaves_the_delayed_ones(talk: Talk) -> None:
    talk.ask("59", "1", "3")
    subscribe(talk, "1", **AAPL)
    subscribe(talk, "2", **IBM)
    talk.messages()
    market_data.revoke(talk.session)
    talk.wait(20.0, step=1.0)
    messages = talk.messages()
    assert [fields[1:3] for fields in messages if fields[0] == "4"] == [["1", "10197"]]
    assert {fields[2] for fields in messages if fields[0] == "1"} == {"2"}


def test_of_a_bond_yields_are_told_that_fall_as_its_price_rises(talk: Talk) -> None:
    subscribe(talk, con_id=900_000_002, exchange="SMART")
    price = {fields[3]: float(fields[4]) for fields in talk.messages() if fields[0] == "1"}
    assert price["1"] < price["2"]
    assert price["50"] > price["51"] > 0
    assert price["51"] <= price["52"] <= price["50"]


def test_a_bond_at_its_face_value_yields_its_coupon() -> None:
    bond = Bond("", 4.0, "20361123", "20241123", "GOVT", "FIXED", "")
    assert yield_to_maturity(bond, 100.0, NOW) == pytest.approx(0.04, abs=1e-6)
    assert yield_to_maturity(bond, 110.0, NOW) < 0.04 < yield_to_maturity(bond, 90.0, NOW)


def test_a_fund_has_a_price_and_neither_quote_nor_volume(talk: Talk) -> None:
    subscribe(talk, con_id=900_000_003, exchange="FUNDSERV")
    messages = talk.messages()
    assert {fields[3] for fields in messages if fields[0] == "1"} == {"4", "6", "7", "9", "14"}
    assert not [fields for fields in messages if fields[0] == "2"]
