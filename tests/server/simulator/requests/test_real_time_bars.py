"""Requests for bars of five seconds."""

from __future__ import annotations

import itertools

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.requests import market_data

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract
from tests.server.simulator.requests.test_market_data import AAPL, IBM, ID


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


@pytest.mark.parametrize(
    ("given", "shown", "code"),
    [
        (AAPL, "NONSENSE", "321"),
        (IBM, "TRADES", "420"),
        (IBM, "MIDPOINT", "10089"),
        ({"con_id": 12087792, "exchange": "IDEALPRO"}, "TRADES", "420"),
        ({"con_id": 416904, "exchange": "CBOE"}, "MIDPOINT", "420"),
    ],
)
def test_five_second_bars_that_cannot_be_are_refused(
    talk: Talk, given: dict[str, object], shown: str, code: str
) -> None:
    talk.ask("50", "3", ID, *contract(**given), "5", shown, "0", "")
    assert [fields[1:3] for fields in talk.messages()] == [[ID, code]]


def test_five_second_bars_come_while_the_market_is_open_or_in_regular_hours_alone() -> None:
    before_opening = NOW - 6 * 3600 - 60
    talk = Talk(Gateway(7, ("DU1234567",), before_opening, Behaviour(always_open=False)), now=before_opening)
    talk.messages()
    for req_id, regular in (("1", 0), ("2", 1)):
        talk.ask("50", "3", req_id, *contract(**AAPL), "5", "TRADES", regular, "")
    talk.wait(7 * 3600, step=300.0)
    starts: dict[str, list[int]] = {"1": [], "2": []}
    for fields in talk.heard("50"):
        starts[fields[2]].append(int(fields[3]))
    # From four in the morning in New York on, and from half past nine.
    assert starts["1"][0] == NOW - 6 * 3600
    assert starts["2"][0] == NOW - 1800
    assert starts["1"][-1] == starts["2"][-1]
    assert [later - start for start, later in itertools.pairwise(starts["1"])] == [5] * (len(starts["1"]) - 1)


def test_a_clock_that_jumps_does_not_bring_a_day_of_bars(talk: Talk) -> None:
    talk.ask("50", "3", "1", *contract(**AAPL), "5", "TRADES", "0", "")
    talk.wait(86400.0, step=86400.0)
    assert 0 < len(talk.heard("50")) <= 721


def test_with_pacing_the_sixty_first_bars_of_ten_minutes_are_refused() -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(enforces_pacing=True)))
    talk.messages()
    for number in range(61):
        talk.ask("50", "3", number, *contract(**AAPL), "5", "TRADES", "0", "")
        talk.ask("51", "1", number)
        talk.wait(1.0, step=1.0)
    (refusal,) = talk.messages()
    assert refusal[1:3] == ["60", "420"]
    talk.wait(600.0, step=100.0)
    talk.ask("50", "3", "1", *contract(**AAPL), "5", "TRADES", "0", "")
    assert talk.messages() == []


def test_a_bust_ends_bars_that_go_on(talk: Talk) -> None:
    talk.ask("50", "3", "1", *contract(**AAPL), "5", "TRADES", "0", "")
    talk.ask("20", "2", *contract(**AAPL), "0", "", "1 min", "600 S", 0, "TRADES", 1, 1, "")
    talk.messages()
    market_data.bust(talk.session)
    talk.wait(20.0, step=1.0)
    assert [fields[:3] for fields in talk.messages()] == [["4", "1", "10225"], ["4", "2", "10225"]]
