"""Several accounts of one login, in several currencies: each has its own, and is followed by itself."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.valuation import NoExchangeRate

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_accounts import ACCOUNT, ID, summary, values

SECOND = "DU7654321"
TAGS = json.loads((Path(__file__).parents[3] / "data" / "tws" / "account_tags.json").read_text())


@pytest.fixture
def two() -> Talk:
    """A client of two accounts, the second of which counts in euros."""
    made = Talk(Gateway(7, (ACCOUNT, SECOND), NOW, Behaviour(base_currencies={SECOND: "EUR"})))
    made.messages()
    return made


def test_accounts_are_named_in_the_order_in_which_they_were_given() -> None:
    talk = Talk(Gateway(7, (SECOND, ACCOUNT), NOW))
    assert talk.heard("15") == [["15", "1", f"{SECOND},{ACCOUNT}"]]
    talk.ask("17", "1")
    assert talk.messages() == [["15", "1", f"{SECOND},{ACCOUNT}"]]


def test_a_summary_of_all_has_each_accounts_rows_in_its_base_currency(two: Talk) -> None:
    *rows, _ = summary(two, "NetLiquidation,BuyingPower")
    assert [(row[3], row[4], row[6]) for row in rows] == [
        (ACCOUNT, "BuyingPower", "USD"),
        (ACCOUNT, "NetLiquidation", "USD"),
        (SECOND, "BuyingPower", "EUR"),
        (SECOND, "NetLiquidation", "EUR"),
    ]


def test_a_summary_of_one_account_has_its_rows_alone(two: Talk) -> None:
    two.ask("62", "1", ID, SECOND, "NetLiquidation,$LEDGER")
    *rows, _ = two.messages()
    assert {row[3] for row in rows} == {SECOND}
    two.ask("62", "1", "2", "Friends", "NetLiquidation")
    assert two.messages()[0][1:3] == ["2", "321"]


@pytest.mark.parametrize(
    ("tag", "currencies"), [("$LEDGER", {"BASE"}), ("$LEDGER:EUR", {"EUR"}), ("$LEDGER:ALL", {"BASE", "EUR", "USD"})]
)
def test_ledgers_are_of_the_whole_group_and_of_the_currencies_asked_for(
    two: Talk, tag: str, currencies: set[str]
) -> None:
    *rows, _ = summary(two, tag)
    assert {(row[3], row[6]) for row in rows} == {("All", currency) for currency in currencies}


def test_ledgers_of_all_currencies_at_their_rates_are_the_base_currencys(two: Talk) -> None:
    two.place(1, account=SECOND, quantity=10)
    two.wait(0.5)
    two.messages()
    *rows, _ = summary(two, "$LEDGER:ALL")
    told = {(row[4], row[6]): Decimal(row[5]) for row in rows if row[5][-1].isdigit()}
    for tag in ("CashBalance", "StockMarketValue", "NetLiquidationByCurrency", "FuturesPNL"):
        converted = sum(told[tag, currency] * told["ExchangeRate", currency] for currency in ("EUR", "USD"))
        assert told[tag, "BASE"] == pytest.approx(converted, abs=Decimal("0.02"))
    assert told["ExchangeRate", "EUR"] > 1


def test_account_updates_have_the_tags_that_live_gateways_send(two: Talk) -> None:
    two.place(1, account=SECOND, quantity=10)
    two.wait(0.5)
    two.messages()
    two.ask("6", "2", "1", SECOND)
    told = values(two.messages())
    wanted = {(tag, currency) for tag in TAGS["each currency"] for currency in ("BASE", "EUR", "USD")}
    wanted |= {(tag, "EUR") for tag in TAGS["the account"]}
    wanted |= {(f"{tag}-{segment}", "EUR") for tag in TAGS["each segment"] for segment in "CS"}
    wanted |= {(f"{tag}-S", "EUR") for tag in TAGS["the securities segment"]}
    wanted |= {(tag, "") for tag in TAGS["no currency"]}
    assert set(told) == wanted
    assert [told["Currency", "USD"], told["Currency", "BASE"], told["ExchangeRate", "BASE"]] == ["USD", "BASE", "1.00"]


def test_one_account_is_followed_at_a_time(two: Talk) -> None:
    two.ask("6", "2", "1", ACCOUNT)
    two.messages()
    two.ask("6", "2", "1", SECOND)
    notice, *messages = two.messages()
    assert notice[:4] == [
        "4",
        "-1",
        "2100",
        "New account data requested from TWS. API client has been unsubscribed from account data.",
    ]
    assert {fields[5] for fields in messages if fields[0] == "6"} == {SECOND}
    two.place(1, account=ACCOUNT, quantity=10)
    two.wait(0.5)
    assert two.heard("6", "7", "8") == []
    two.ask("6", "2", "0", SECOND)
    assert [fields[3] for fields in two.messages()] == ["API client has been unsubscribed from account data."]
    two.wait(200.0, step=10.0)
    assert two.messages() == []


def test_updates_of_several_accounts_go_on_until_they_are_cancelled(two: Talk) -> None:
    two.ask("76", "1", ID, SECOND, "", "0")
    assert {fields[3] for fields in two.heard("73")} == {SECOND}
    two.place(1, account=ACCOUNT, quantity=10)
    two.wait(0.5)
    assert two.heard("73") == []
    two.place(2, account=SECOND, quantity=10)
    two.wait(0.5)
    changed = {(fields[5], fields[7]) for fields in two.heard("73")}
    assert ("CashBalance", "USD") in changed
    assert ("AccountCode", "") not in changed
    two.ask("77", "1", ID)
    two.place(3, account=SECOND, quantity=10)
    two.wait(0.5)
    assert two.heard("73") == []


def test_positions_of_several_accounts_go_on_until_they_are_cancelled(two: Talk) -> None:
    two.ask("74", "1", ID, SECOND, "")
    assert two.messages() == [["72", "1", ID]]
    two.place(1, account=ACCOUNT, quantity=10)
    two.place(2, account=SECOND, quantity=10)
    two.wait(0.5)
    assert [(fields[2], fields[3], fields[15]) for fields in two.heard("71")] == [(ID, SECOND, "10")]
    two.ask("75", "1", ID)
    two.place(3, account=SECOND, quantity=10)
    two.wait(0.5)
    assert two.heard("71") == []


def test_each_account_has_its_own_positions_and_gains(two: Talk) -> None:
    two.ask("92", "1", ACCOUNT, "")
    two.ask("92", "2", SECOND, "")
    assert two.heard("94")[1] == ["94", "2", "0", "0", "0"]
    two.place(1, account=SECOND, quantity=10)
    two.wait(1.5, step=0.25)
    assert any(fields[1] == "2" for fields in two.heard("94"))
    two.ask("61", "1")
    held = [(fields[2], fields[4], fields[14]) for fields in two.heard("61")]
    assert (ACCOUNT, "AAPL", "100") in held
    assert (SECOND, "AAPL", "10") in held


def test_gains_that_do_not_change_are_not_told_again(two: Talk) -> None:
    two.ask("92", ID, SECOND, "")
    two.ask("94", "2", SECOND, "", "265598")
    two.messages()
    two.wait(10.0, step=0.25)
    assert two.heard("94", "95") == []


def test_a_base_currency_that_no_pair_leads_to_is_refused_at_the_start() -> None:
    with pytest.raises(NoExchangeRate):
        Gateway(7, (ACCOUNT,), NOW, Behaviour(base_currencies={ACCOUNT: "XAU"}))


def test_what_an_account_of_euros_holds_of_dollars_was_paid_in_euros() -> None:
    gateway = Gateway(7, (ACCOUNT,), NOW, Behaviour(base_currencies={ACCOUNT: "EUR"}))
    euros, dollars = gateway.ledgers[ACCOUNT].figures(gateway.valuation).balances
    assert (euros.currency, dollars.currency) == ("EUR", "USD")
    assert euros.cash < 1_000_000 - 20_000
    assert dollars.stock_value > 20_000
    assert gateway.ledgers[ACCOUNT].figures(gateway.valuation).net_liquidation == pytest.approx(1_000_000, rel=0.02)
