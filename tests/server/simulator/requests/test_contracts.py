"""Requests about contracts: what fits, what does not, and how it is told."""

from __future__ import annotations

from datetime import date

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery, third_friday

from tests.server.simulator.conftest import NOW, Talk

FIELDS = ("con_id", "symbol", "sec_type", "expiry", "strike", "right", "multiplier", "exchange", "primary", "currency")


def contract(**given: object) -> list[object]:
    """A request's contract: twelve fields."""
    return [given.get(name, "") for name in FIELDS] + [given.get("local_symbol", ""), given.get("trading_class", "")]


def details(talk: Talk, **given: object) -> list[list[str]]:
    """The answers to reqContractDetails."""
    talk.ask("9", "8", "1000000001", *contract(**given), "0", "", "", "")
    return talk.messages()


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"con_id": 265598}, 1),
        ({"con_id": 265598, "exchange": "IEX"}, 1),
        ({"symbol": "AAPL", "sec_type": "STK", "exchange": "SMART", "currency": "USD"}, 1),
        ({"symbol": "AAPL", "sec_type": "STK", "exchange": "SMART", "primary": "NASDAQ"}, 1),
        ({"symbol": "ES", "sec_type": "FUT", "exchange": "CME"}, 4),
        ({"symbol": "ES", "sec_type": "FUT", "exchange": "CME", "expiry": "202612"}, 1),
        ({"symbol": "ES", "sec_type": "FUT", "exchange": "CME", "expiry": "20261218"}, 1),
        ({"sec_type": "FUT", "exchange": "CME", "local_symbol": "MESZ6"}, 1),
        ({"symbol": "SPY", "sec_type": "OPT", "exchange": "SMART", "expiry": "20261218"}, 42),
        ({"symbol": "SPY", "sec_type": "OPT", "exchange": "SMART", "expiry": "20261218", "right": "CALL"}, 21),
        ({"symbol": "EUR", "sec_type": "CASH", "exchange": "IDEALPRO", "currency": "USD"}, 1),
        ({"symbol": "SPX", "sec_type": "IND", "exchange": "CBOE"}, 1),
    ],
)
def test_every_contract_that_fits_is_told_and_then_the_end(talk: Talk, given: dict[str, object], count: int) -> None:
    answers = details(talk, **given)
    assert [fields[0] for fields in answers] == ["10"] * count + ["52"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"symbol": "NOSUCH", "sec_type": "STK", "exchange": "SMART"}, "200"),
        ({"symbol": "AAPL", "sec_type": "STK", "exchange": "CME"}, "200"),
        ({"symbol": "AAPL", "sec_type": "STK", "exchange": "SMART", "primary": "NYSE"}, "200"),
        ({"con_id": 1}, "200"),
        ({"symbol": "AAPL"}, "321"),
    ],
)
def test_what_fits_nothing_is_answered_with_an_error_alone(talk: Talk, given: dict[str, object], code: str) -> None:
    (answer,) = details(talk, **given)
    assert answer[:3] == ["4", "1000000001", code]


def test_details_are_those_at_the_exchange_that_was_asked_for(talk: Talk) -> None:
    assert details(talk, con_id=265598, exchange="IEX")[0][8] == "IEX"
    assert details(talk, con_id=265598)[0][8] == "SMART"


def test_an_expiring_contract_has_the_same_id_in_every_life() -> None:
    def ids(now: float) -> dict[str, int]:
        catalogue = Gateway(7, ("DU1234567",), now).catalogue
        return {listing.local_symbol: listing.con_id for listing in catalogue if listing.sec_type == "FUT"}

    today, later = ids(NOW), ids(NOW + 40 * 86400)
    shared = today.keys() & later.keys()
    assert len(shared) == 12
    assert all(today[name] == later[name] for name in shared)


def test_an_options_strikes_lie_around_its_underlying(gateway: Gateway) -> None:
    aapl = gateway.catalogue.by_id(265598)
    assert aapl is not None
    strikes = sorted({option.strike for option in gateway.catalogue.options_of(265598)})
    assert strikes[0] < gateway.mark(aapl) < strikes[-1]


def test_a_search_puts_symbols_before_names(talk: Talk) -> None:
    talk.ask("81", "1000000002", "IN")
    (answer,) = talk.messages()
    assert answer[:2] == ["79", "1000000002"]
    assert "IBM" in answer
    assert "QQQ" in answer


def test_a_chain_is_told_for_each_exchange_and_ended(talk: Talk) -> None:
    talk.ask("78", "1000000003", "AAPL", "", "STK", "265598")
    *chains, end = talk.messages()
    assert end == ["76", "1000000003"]
    assert chains[0][:3] == ["75", "1000000003", "SMART"]
    assert len({chain[2] for chain in chains}) == len(chains)


@pytest.mark.parametrize(("rule", "answer"), [("26", ["93", "26", "1", "0", "0.01"]), ("32", ["93", "32", "2"])])
def test_a_market_rule_has_its_steps(talk: Talk, rule: str, answer: list[str]) -> None:
    talk.ask("91", rule)
    assert talk.messages()[0][: len(answer)] == answer


def test_the_smallest_steps_are_spelled_without_an_exponent(talk: Talk) -> None:
    assert "0.00005" in details(talk, con_id=12087792)[0]
    talk.ask("91", "239")
    assert talk.messages() == [["93", "239", "1", "0", "0.00005"]]


def test_what_has_expired_is_told_to_those_who_ask_for_it_and_its_successor_to_all(gateway: Gateway) -> None:
    def futures(include_expired: bool) -> list[str]:
        found = gateway.catalogue.match(ContractQuery(symbol="ES", sec_type="FUT"), include_expired=include_expired)
        return [listing.local_symbol for listing in found]

    assert gateway.catalogue.roll(date(2026, 12, 18)) == []
    assert futures(include_expired=False) == ["ESZ6", "ESH7", "ESM7", "ESU7"]
    gone = gateway.catalogue.roll(date(2026, 12, 21))
    assert {listing.local_symbol for listing in gone if listing.sec_type == "FUT"} == {"ESZ6", "MESZ6", "NQZ6", "MNQZ6"}
    assert {listing.expiry for listing in gone} == {"20261218"}
    assert futures(include_expired=False) == ["ESH7", "ESM7", "ESU7", "ESZ7"]
    assert futures(include_expired=True)[0] == "ESZ6"


def test_a_contract_that_would_expire_on_a_holiday_expires_the_day_before() -> None:
    # Juneteenth of 2026 and Good Friday of 2025 are third Fridays.
    assert third_friday(2026, 6) == date(2026, 6, 18)
    assert third_friday(2025, 4) == date(2025, 4, 17)
    assert third_friday(2026, 12) == date(2026, 12, 18)


def test_a_stock_is_found_by_its_isin(talk: Talk) -> None:
    talk.ask("9", "8", "1000000001", *contract(), "0", "ISIN", "DE0007164600", "")
    details_of, end = talk.messages()
    assert (details_of[2], details_of[9], end[0]) == ("SAP", "EUR", "52")


@pytest.mark.parametrize(
    ("given", "currency", "step"),
    [
        ({"symbol": "USD", "sec_type": "CASH", "currency": "JPY", "exchange": "IDEALPRO"}, "JPY", "0.005"),
        ({"symbol": "SAP", "sec_type": "STK", "currency": "EUR", "exchange": "IBIS"}, "EUR", "0.02"),
    ],
)
def test_other_currencies_have_their_contracts(talk: Talk, given: dict[str, object], currency: str, step: str) -> None:
    (told, _) = details(talk, **given)
    assert currency in told
    assert step in told


@pytest.mark.parametrize(("version", "count"), [(200, 41), (187, 38), (163, 37)])
def test_a_bond_is_told_in_its_own_message(version: int, count: int) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW), version)
    talk.messages()
    bond, end = details(talk, symbol="91282CZZ9", sec_type="BOND", exchange="SMART", currency="USD")
    assert (bond[0], end[0], len(bond)) == ("18", "52", count)
    assert bond[2 if version >= 164 else 3] == "US-T"


def test_a_funds_details_have_its_facts_from_version_179_on() -> None:
    def told(version: int) -> list[str]:
        talk = Talk(Gateway(7, ("DU1234567",), NOW), version)
        talk.messages()
        return details(talk, symbol="VTSAX", sec_type="FUND", exchange="FUNDSERV")[0]

    assert len(told(179)) == len(told(178)) + 17
    assert "Vanguard" in told(179)


def test_bonds_and_funds_cannot_be_ordered(talk: Talk) -> None:
    talk.place(1, con_id=900_000_003, sec_type="FUND", symbol="VTSAX", exchange="FUNDSERV")
    (answer,) = talk.heard("4")
    assert answer[2] == "201"
