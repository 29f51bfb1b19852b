"""Generic ticks: what each number brings of each kind of contract, and which are refused."""

from __future__ import annotations

import re

import pytest

from tests.server.simulator.conftest import Talk
from tests.server.simulator.requests.test_market_data import AAPL, IBM, ID, subscribe


def test_trades_are_told_as_text_to_who_asks_for_them(talk: Talk) -> None:
    subscribe(talk, generic="233", **AAPL)
    (trade,) = [fields for fields in talk.messages() if fields[0] == "46" and fields[3] == "48"]
    assert len(trade[4].split(";")) == 6


# What each generic tick brings of a contract that has all of it.
BROUGHT = {
    "100": {"29", "30"},
    "101": {"27", "28"},
    "104": {"23"},
    "105": {"87"},
    "106": {"24"},
    "165": {"15", "16", "17", "18", "19", "20", "21"},
    "221": {"37"},
    "232": {"37"},
    "233": {"48"},
    "236": {"46", "89"},
    "293": {"54"},
    "294": {"55"},
    "295": {"56"},
    "318": {"57"},
    "375": {"77"},
    "411": {"58"},
    "456": {"59"},
    "576": {"94", "95"},
    "577": {"96"},
    "578": {"92", "93"},
    "595": {"63", "64", "65"},
    "614": {"98", "99"},
    "619": {"79"},
    "623": {"97"},
}


@pytest.mark.parametrize("generic", BROUGHT)
def test_a_generic_tick_brings_its_figures(talk: Talk, generic: str) -> None:
    spy = {"con_id": 756733, "exchange": "SMART"}
    subscribe(talk, "1", **spy)
    plain = {fields[3] for fields in talk.messages() if fields[0] in ("1", "2", "45", "46")}
    subscribe(talk, "2", generic=generic, **spy)
    told = [fields for fields in talk.messages() if fields[0] in ("1", "2", "45", "46")]
    assert {fields[3] for fields in told} - plain == BROUGHT[generic]
    values = [fields[4] for fields in told if fields[3] in BROUGHT[generic] and ";" not in fields[4]]
    assert all(float(value.split(",")[0] or 1) > 0 for value in values)


def test_marks_follow_the_price_and_slow_figures_come_once_a_minute(talk: Talk) -> None:
    subscribe(talk, generic="221,295", **AAPL)
    talk.messages()
    talk.wait(59.0, step=0.25)
    messages = talk.messages()
    assert len([fields for fields in messages if fields[0] == "1" and fields[3] == "37"]) > 20
    assert not [fields for fields in messages if fields[0] == "45"]
    talk.wait(2.0, step=0.25)
    assert [fields[3] for fields in talk.heard("45")] == ["56"]


def test_extremes_of_longer_spans_enclose_those_of_shorter_ones_and_the_price(talk: Talk) -> None:
    subscribe(talk, generic="165", **AAPL)
    price = {fields[3]: float(fields[4]) for fields in talk.messages() if fields[0] == "1"}
    assert price["19"] <= price["17"] <= price["15"] <= price["4"] <= price["16"] <= price["18"] <= price["20"]


@pytest.mark.parametrize(
    ("given", "generic"),
    [
        (AAPL, "999"),
        (AAPL, "233,nonsense"),
        (AAPL, "162"),
        (AAPL, "mdoff,292:"),
        ({"con_id": 12087792, "exchange": "IDEALPRO"}, "233"),
        ({"con_id": 416904, "exchange": "CBOE"}, "236"),
    ],
)
def test_a_generic_tick_that_a_contract_does_not_have_is_refused_with_the_legal_ones(
    talk: Talk, given: dict[str, object], generic: str
) -> None:
    subscribe(talk, generic=generic, **given)
    (refusal,) = talk.messages()
    assert refusal[1:3] == [ID, "321"]
    assert f"Incorrect generic tick list of {generic}.  Legal ones for (" in refusal[3]


def test_a_fund_alone_has_a_net_asset_value_and_an_index_a_future_above_it(talk: Talk) -> None:
    subscribe(talk, "1", generic="577", **AAPL)
    assert not [fields for fields in talk.messages() if fields[0] == "1" and fields[3] == "96"]
    subscribe(talk, "2", generic="162", con_id=416904, exchange="CBOE")
    (premium,) = [fields for fields in talk.messages() if fields[0] == "45" and fields[3] == "31"]
    assert float(premium[4]) > 0


def test_a_fund_is_worth_about_its_price_and_a_future_has_open_interest(talk: Talk) -> None:
    subscribe(talk, "1", generic="576,577,578,614,623", con_id=756733, exchange="SMART")
    price = {fields[3]: float(fields[4]) for fields in talk.messages() if fields[0] == "1"}
    for tick in ("92", "93", "94", "95", "96", "97", "98", "99"):
        assert price[tick] == pytest.approx(price["4"], rel=0.01)
    subscribe(talk, "2", generic="588", symbol="MES", sec_type="FUT", exchange="CME", expiry="202612")
    assert [fields[3] for fields in talk.messages() if fields[0] == "2" and fields[3] == "86"] == ["86"]


def test_fundamental_ratios_are_refused_and_the_other_ticks_come(talk: Talk) -> None:
    subscribe(talk, generic="258,233", **AAPL)
    messages = talk.messages()
    assert [fields[2] for fields in messages if fields[0] == "4"] == ["10358"]
    assert [fields for fields in messages if fields[0] == "46" and fields[3] == "48"]


def test_of_an_unsubscribed_contract_ticks_that_need_no_subscription_come(talk: Talk) -> None:
    subscribe(talk, generic="233,236", **IBM)
    messages = talk.messages()
    (notice,) = [fields for fields in messages if fields[0] == "4"]
    assert notice[2] == "10090"
    assert notice[3].endswith("IBM NYSE/TOP/ALL")
    assert {fields[3] for fields in messages if fields[0] in ("1", "2", "45", "46")} == {"46", "89"}
    talk.ask("2", "2", ID)
    assert talk.messages() == []


def test_every_kind_of_contract_takes_every_generic_tick_that_its_list_says_is_legal(talk: Talk) -> None:
    kinds = {listing.sec_type: listing for listing in talk.gateway.catalogue if listing.is_subscribed}
    assert kinds.keys() == {"STK", "FUT", "OPT", "IND", "CASH", "BOND", "FUND"}
    for number, listing in enumerate(kinds.values()):
        asked: dict[str, object] = {"con_id": listing.con_id, "exchange": listing.exchange}
        subscribe(talk, str(number), generic="0", **asked)
        legal = ",".join(re.findall(r"(\d+)(?:/\d+)?\(", talk.messages()[0][3].partition("are: ")[2]))
        subscribe(talk, str(number), generic=legal, **asked)
        assert [fields[2] for fields in talk.heard("4") if fields[2] != "10358"] == []
    talk.wait(120.0, step=30.0)
