"""Scenarios: read with clear words about what is wrong, and played to the second."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibkr_gateway_server.simulator import Simulator
from ibkr_gateway_server.simulator.faults import Fault
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.scenario import Scenario, WrongScenario, parse, read
from ibkr_gateway_server.simulator.virtual_time import run_virtually

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

EXAMPLES = Path(__file__).parents[3] / "examples" / "scenarios"
SUBSCRIBE = ["1", "11", "77", *contract(con_id=265598, exchange="SMART"), 0, "", 0, 0, ""]


def played(scenario: Scenario, client_id: int = 1) -> Talk:
    """A client of a gateway on which a scenario has begun."""
    settings_ = scenario.gateway
    assert settings_ is not None
    start = settings_.start or NOW
    gateway = Gateway(settings_.seed or 7, settings_.accounts or ("DU1234567",), start)
    scenario.check(gateway)
    scenario.begin(gateway, lambda _seconds: None)
    talk = Talk(gateway, client_id=client_id, now=start)
    talk.messages()
    return talk


def codes(talk: Talk) -> list[str]:
    return [fields[2] for fields in talk.heard("4")]


def test_every_example_can_be_read_and_has_a_test_here() -> None:
    assert {path.stem for path in EXAMPLES.iterdir()} == {"nightly_reset", "lost_acknowledgement", "farm_outage"}
    for path in EXAMPLES.iterdir():
        assert read(path).name
        assert read(path).events


def test_the_nightly_reset_loses_the_link_the_data_and_the_connection() -> None:
    talk = played(read(EXAMPLES / "nightly_reset.toml"))
    talk.ask(*SUBSCRIBE)
    talk.wait(29.0, step=1.0)
    assert codes(talk) == []
    talk.wait(15.0, step=1.0)
    assert codes(talk) == ["1100", "2105"]
    talk.wait(160.0, step=1.0)
    assert talk.messages() == []
    talk.wait(50.0, step=1.0)
    assert [fields[2] for fields in talk.messages()] == ["1101", "2106"]
    talk.wait(50.0, step=1.0)
    assert talk.session.is_closed
    assert not talk.session.is_aborted
    assert talk.gateway.faults.lasting(Fault.REFUSE_CONNECTIONS, talk.now) is not None
    assert talk.gateway.faults.lasting(Fault.REFUSE_CONNECTIONS, talk.now + 45) is None


def test_lost_acknowledgements_leave_orders_that_work() -> None:
    talk = played(read(EXAMPLES / "lost_acknowledgement.toml"))
    gateway = talk.gateway
    talk.wait(2.0, step=0.5)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(3.0, step=0.5)
    assert talk.heard("3", "5") == []
    assert [order.order_id for order in gateway.open_orders()] == [1]
    talk.wait(6.0, step=0.5)
    talk.place(2, order_type="LMT", limit="10")
    talk.wait(19.5, step=0.5)
    assert [order.order_id for order in gateway.open_orders()] == [1]
    talk.wait(2.0, step=0.5)
    assert [fields[1] for fields in talk.heard("3")][-1] == "2"
    talk.wait(10.0, step=0.5)
    talk.place(3, order_type="LMT", limit="10")
    assert talk.session.is_aborted
    assert [order.order_id for order in gateway.open_orders()] == [1, 2, 3]


def test_in_a_farm_outage_the_market_moves_unseen() -> None:
    talk = played(read(EXAMPLES / "farm_outage.toml"), client_id=0)
    talk.ask(*SUBSCRIBE)
    talk.wait(4.0, step=0.25)
    assert talk.heard("1") != []
    talk.wait(2.0, step=0.25)
    assert codes(talk) == ["2103"]
    talk.wait(9.0, step=0.25)
    assert talk.messages() == []
    talk.ask("7", "3", "10", 0, "", "", "", "", "", "", "2147483647", "0")
    executed = talk.heard("11")
    assert executed
    talk.wait(13.0, step=0.25)
    heard = talk.messages()
    assert [fields[2] for fields in heard if fields[0] == "4"] == ["2119", "2104"]
    bids = [float(fields[4]) for fields in heard if fields[0] == "1" and fields[3] == "1"]
    assert abs(bids[0] - 250.0) < 2.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name = ", "it is not TOML: Invalid value (at end of document)"),
        ("speed = 2", "scenario: speed: there is no such key here"),
        ("event = 3", "scenario: event: write [[event]] above each"),
        ("[gateway]\nseed = 'x'", "[gateway]: seed: 'x' is not a whole number"),
        ("[gateway]\nhours = 'never'", "[gateway]: hours: 'never' is none of always, exchange"),
        ("[gateway]\naccounts = []", "[gateway]: accounts: it is not a list of texts"),
        ("[gateway]\nstart = 5", "[gateway]: start: it is not a time"),
        ("[gateway]\nserver_version = 201", "[gateway]: server_version: 201 is not a whole number from 157 to 200"),
        ("[gateway]\nnothing = 1", "[gateway]: nothing: there is no such key here"),
        ("[[event]]\nfault = 'disconnect'", "event 1 (line 1): at: it is missing"),
        ("\n[[event]]\nat = -1\nclear = true", "event 1 (line 2): at: -1 is not a number from 0"),
        ("[[event]]\nat = nan\nclear = true", "event 1 (line 1): at: nan is not a number"),
        ("[[event]]\nat = 1", "event 1 (line 1): fault: an event has exactly one of fault, notice"),
        ("[[event]]\nat = 1\nclear = true\nnotice = 1", "event 1 (line 1): fault: an event has exactly one of"),
        ("[[event]]\nat = 1\nclear = false", "event 1 (line 1): clear: only true means something"),
        ("[[event]]\nat = 1\nfault = 'late'", "event 1 (line 1): delay: LATE needs seconds above 0"),
        ("[[event]]\nat = 1\nfault = 'lose'\nmesage = 3", "event 1 (line 1): mesage: there is no such key here"),
        ("[[event]]\nat = 1\nquote = 'AAPL'", "event 1 (line 1): bid: give a bid, an ask or a last price"),
        ("[[event]]\nat = 1\nquote = 'AAPL'\nbid = 2\nask = 1", "event 1 (line 1): ask: 1 is not above the bid of 2"),
        ("[[event]]\nat = 1\norder = 5", "event 1 (line 1): order: it is not a table"),
        ("[[event]]\nat = 1\n[event.order]\nsymbol = 'A'", "event 1 (line 1): order: action: it is missing"),
        ("[[event]]\nat = 1\nadvance = 'far'", "event 1 (line 1): advance: 'far' is not a number"),
        ("[[event]]\nat = 1\nclear = true\n[[event]]\nat = true", "event 2 (line 4): at: True is not a number"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(text: str, why: str) -> None:
    with pytest.raises(WrongScenario) as wrong:
        parse(text)
    assert str(wrong.value).startswith(why)


def test_the_documentation_lists_every_fault_and_its_example_can_be_read() -> None:
    text = (EXAMPLES.parents[1] / "docs" / "scenarios.md").read_text()
    assert [fault for fault in Fault if f"| `{fault.name.lower()}` | {fault.value} |" not in text] == []
    assert parse(text.split("```toml\n")[1].split("```")[0]).events[0].at_s == 30


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WrongScenario, match="not UTF-8"):
        read(tmp_path / "odd.toml")


WORDS = st.sampled_from([*(fault.name.lower() for fault in Fault), "", "market", "AAPL", "nan", "0x7fffffff"])
VALUES = st.one_of(st.integers(), st.floats(), st.booleans(), WORDS.map(lambda word: f'"{word}"'))
KEYS = st.sampled_from(
    [
        "at",
        "fault",
        "notice",
        "quote",
        "order",
        "advance",
        "clear",
        "value",
        "times",
        "delay",
        "duration",
        "message",
        "probability",
        "code",
        "field",
        "bid",
        "ask",
        "last",
        "text",
        "type",
    ]
)


@given(st.dictionaries(KEYS, VALUES))
@settings(max_examples=300, deadline=None)
def test_any_event_is_refused_in_words_or_can_be_played(values: dict[str, object]) -> None:
    texts = {key: str(value).lower() if isinstance(value, bool) else value for key, value in values.items()}
    try:
        scenario = parse("[[event]]\n" + "\n".join(f"{key} = {value}" for key, value in texts.items()))
        gateway = Gateway(7, ("DU1234567",), NOW)
        scenario.check(gateway)
    except WrongScenario:
        return
    scenario.begin(gateway, lambda _seconds: None)
    talk = Talk(gateway)
    gateway.advance(NOW + min(scenario.length_s, 60.0))
    talk.messages()


def test_a_scenario_with_a_gateway_begins_with_a_fresh_one_at_its_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        simulator = Simulator(seed=7, clock=lambda: NOW + loop.time())
        async with simulator.listen(port=4002) as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            simulator.play(parse('[gateway]\nseed = 5\naccounts = ["DU9"]\nstart = 2026-11-24T05:00:00Z\n'))
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
            writer.close()
            await asyncio.sleep(1)
            assert simulator.state().seed == 5
            assert abs(simulator.state().simulated_time - 1795496400.0) < 2
            assert list(simulator.gateway.ledgers) == ["DU9"]

    run_virtually(main())


def test_a_wrong_scenario_changes_nothing() -> None:
    simulator = Simulator(clock=lambda: NOW)
    gateway = simulator.gateway
    with pytest.raises(WrongScenario, match="NOSUCH STK is not listed"):
        simulator.play(parse("[gateway]\nseed = 5\n[[event]]\nat = 1\nquote = 'NOSUCH'\nbid = 1\n"))
    assert simulator.gateway is gateway


def test_time_can_jump_in_a_scenario() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        simulator = Simulator(clock=lambda: NOW + loop.time())
        async with simulator.listen(port=4002):
            simulator.play(parse("[[event]]\nat = 10\nadvance = 3600\n"))
            await asyncio.sleep(20)
            return simulator.state().simulated_time

    assert run_virtually(main()) == pytest.approx(NOW + 20 + 3600, abs=0.01)
