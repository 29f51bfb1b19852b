"""Requests for market data: ticks, snapshots, refusals, five-second bars."""

from __future__ import annotations

import itertools

import pytest

from tests.server.simulator.conftest import Talk
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
    assert {fields[3] for fields in messages if fields[0] == "46"} == {"45"}


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


def test_a_snapshot_ends_and_holds_no_line(talk: Talk) -> None:
    subscribe(talk, snapshot=1, **AAPL)
    assert talk.messages()[-1] == ["57", "1", ID]
    talk.wait(2.0, step=0.25)
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
    (model,) = [fields for fields in talk.messages() if fields[0] == "21"]
    volatility, delta, price = (float(field) for field in model[4:7])
    assert 0 < volatility < 1
    assert 0 < delta < 1
    assert price > 0


def test_trades_are_told_as_text_to_who_asks_for_them(talk: Talk) -> None:
    subscribe(talk, generic="233", **AAPL)
    (trade,) = [fields for fields in talk.messages() if fields[0] == "46" and fields[3] == "48"]
    assert len(trade[4].split(";")) == 6


def test_data_without_a_subscription_is_refused_and_delayed_on_request(talk: Talk) -> None:
    subscribe(talk, **IBM)
    (refusal,) = talk.messages()
    assert refusal[2] == "354"
    talk.ask("59", "1", "3")
    subscribe(talk, **IBM)
    notice, parameters, kind, *rest = talk.messages()
    assert notice[2] == "10167"
    assert parameters[0] == "81"
    assert kind == ["58", "1", ID, "3"]
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


def test_five_second_bars_follow_each_other(talk: Talk) -> None:
    talk.ask("50", "3", ID, *contract(**AAPL), "5", "TRADES", "0", "")
    talk.wait(21.0, step=0.25)
    bars = talk.heard("50")
    starts = [int(fields[3]) for fields in bars]
    assert len(bars) == 4
    assert starts == list(range(starts[0], starts[0] + 20, 5))
    for fields in bars:
        begin, high, low, close = (float(field) for field in fields[4:8])
        assert low <= min(begin, close) <= max(begin, close) <= high
