"""Requests about accounts: summaries, updates, positions, P&L."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk

ID = "1000000001"
ACCOUNT = "DU1234567"


def summary(talk: Talk, tags: str, req_id: str = ID) -> list[list[str]]:
    talk.ask("62", "1", req_id, "All", tags)
    return talk.messages()


def values(messages: list[list[str]]) -> dict[tuple[str, str], str]:
    """updateAccountValue messages by tag and currency."""
    return {(fields[2], fields[4]): fields[3] for fields in messages if fields[0] == "6"}


def test_a_summarys_rows_are_those_without_money_then_by_tag_and_then_its_end(talk: Talk) -> None:
    *rows, end = summary(talk, "TotalCashValue,Cushion,NetLiquidation,AccountType,AvailableFunds")
    assert [row[4] for row in rows] == ["AccountType", "Cushion", "AvailableFunds", "NetLiquidation", "TotalCashValue"]
    assert [row[6] for row in rows] == ["", "", "USD", "USD", "USD"]
    assert end == ["64", "1", ID]


def test_balances_by_currency_are_told_to_who_asks_for_the_ledger(talk: Talk) -> None:
    *rows, _ = summary(talk, "$LEDGER:ALL")
    cash = {row[6]: row[5] for row in rows if row[4] == "CashBalance"}
    assert set(cash) == {"BASE", "USD"}
    assert cash["BASE"] == cash["USD"]


def test_a_third_summary_is_refused_until_one_is_cancelled(talk: Talk) -> None:
    summary(talk, "NetLiquidation", "1")
    summary(talk, "NetLiquidation", "2")
    (refusal,) = summary(talk, "NetLiquidation", "3")
    assert refusal[1:3] == ["3", "322"]
    talk.ask("63", "1", "1")
    assert summary(talk, "NetLiquidation", "3")[-1] == ["64", "1", "3"]


def test_a_fill_changes_the_summary_soon_and_only_what_has_changed(talk: Talk) -> None:
    summary(talk, "AccountType,TotalCashValue")
    talk.place(1, quantity=10)
    talk.wait(0.5)
    (row,) = talk.heard("63")
    assert row[4] == "TotalCashValue"


@pytest.mark.parametrize("account", ["", ACCOUNT])
def test_account_updates_are_values_portfolio_time_and_end(talk: Talk, account: str) -> None:
    talk.ask("6", "2", "1", account)
    messages = talk.messages()
    kinds = [fields[0] for fields in messages]
    assert kinds == sorted(kinds, key=["6", "7", "8", "54"].index)
    assert [fields[2] for fields in messages if fields[0] == "7"] != []
    assert messages[-1] == ["54", "1", ACCOUNT]


def test_updates_of_another_login_are_refused(talk: Talk) -> None:
    talk.ask("6", "2", "1", "U999")
    assert talk.messages()[0][2] == "321"


def test_a_fill_is_told_to_who_reads_positions_until_they_stop(talk: Talk) -> None:
    talk.ask("61", "1")
    before = {fields[3]: fields[14] for fields in talk.heard("61")}
    talk.place(1, quantity=10)
    talk.wait(0.5)
    (row,) = talk.heard("61")
    assert float(row[14]) == float(before["265598"]) + 10
    talk.ask("64", "1")
    talk.place(2, quantity=10)
    talk.wait(0.5)
    assert talk.heard("61") == []


def test_a_position_has_its_listing_and_a_futures_has_none(talk: Talk) -> None:
    talk.ask("61", "1")
    *rows, end = talk.messages()
    assert {fields[4]: fields[10] for fields in rows} == {"AAPL": "NASDAQ", "SPY": "ARCA", "MES": ""}
    assert end == ["62", "1"]


@pytest.mark.parametrize(("request_id", "row", "end"), [("76", "73", "74"), ("74", "71", "72")])
def test_multi_requests_answer_under_their_id_for_each_account(request_id: str, row: str, end: str) -> None:
    talk = Talk(Gateway(7, (ACCOUNT, "DU7654321"), NOW))
    talk.messages()
    talk.ask(request_id, "1", ID, "", "", "0")
    *rows, last = talk.messages()
    assert {fields[0] for fields in rows} == {row}
    assert {fields[2] for fields in rows} == {ID}
    assert last == [end, "1", ID]


def test_profit_and_loss_comes_every_second_and_adds_up(talk: Talk) -> None:
    talk.ask("92", ID, ACCOUNT, "")
    talk.ask("94", "2", ACCOUNT, "", "265598")
    talk.wait(3.5, step=0.25)
    messages = talk.messages()
    whole = [fields for fields in messages if fields[0] == "94"]
    single = [fields for fields in messages if fields[0] == "95"]
    assert len(whole) == len(single) == 4
    position, _, unrealized, _, value = (float(field) for field in single[-1][2:])
    held = talk.gateway.ledgers[ACCOUNT].holdings[265598]
    assert value - position * held.average_cost == pytest.approx(unrealized, abs=0.01)
    talk.ask("93", ID)
    talk.ask("95", "2")
    talk.wait(3.0, step=0.25)
    assert talk.messages() == []


def test_profit_and_loss_of_what_is_not_held_has_no_figures(talk: Talk) -> None:
    talk.ask("94", ID, ACCOUNT, "", "272093")
    none = "1.7976931348623157E308"
    assert talk.messages() == [["95", ID, "0", none, none, none, none]]
    talk.place(1, symbol="MSFT", quantity=10)
    talk.wait(1.5, step=0.25)
    assert talk.heard("95")[-1][2] == "10"


def test_an_account_and_a_position_may_be_followed_under_the_same_id(talk: Talk) -> None:
    talk.ask("92", ID, ACCOUNT, "")
    talk.ask("94", ID, ACCOUNT, "", "265598")
    talk.ask("93", ID)
    talk.messages()
    talk.wait(2.5, step=0.25)
    assert {fields[0] for fields in talk.messages()} == {"95"}


@pytest.mark.parametrize("request_id", ["92", "94"])
def test_profit_and_loss_of_another_login_is_refused(talk: Talk, request_id: str) -> None:
    talk.ask(request_id, ID, "U999", "", "265598")
    assert talk.messages()[0][1:3] == [ID, "321"]


def test_a_new_day_begins_without_gains(gateway: Gateway, talk: Talk) -> None:
    talk.place(1, action="SELL", quantity=10)
    talk.wait(0.5)
    ledger = gateway.ledgers[ACCOUNT]
    assert ledger.figures(gateway.valuation).total.realized != 0
    # Ten in the morning in New York: the day ends in fourteen hours.
    gateway.advance(NOW + 14 * 3600 + 1)
    total = ledger.figures(gateway.valuation).total
    assert total.realized == 0
    assert abs(total.daily) < Decimal("0.05") * total.gross


def test_the_segments_of_an_account_add_up(talk: Talk) -> None:
    talk.ask("6", "2", "1", ACCOUNT)
    told = values(talk.messages())
    for tag in ("NetLiquidation", "EquityWithLoanValue", "InitMarginReq", "MaintMarginReq", "AvailableFunds"):
        parts = (Decimal(told[f"{tag}-{segment}", "USD"]) for segment in "CS")
        assert sum(parts) == Decimal(told[tag, "USD"])
    assert Decimal(told["MaintMarginReq-C", "USD"]) == 2240
    cushion = Decimal(told["ExcessLiquidity", "USD"]) / Decimal(told["NetLiquidation", "USD"])
    assert Decimal(told["Cushion", ""]) == round(cushion, 6)


def test_only_what_has_changed_is_told_again_after_three_minutes(talk: Talk) -> None:
    talk.ask("6", "2", "1", ACCOUNT)
    talk.messages()
    talk.wait(179.0, step=1.0)
    assert talk.messages() == []
    talk.wait(2.0, step=1.0)
    messages = talk.messages()
    assert [fields[0] for fields in messages if fields[0] in ("7", "8", "54")] == ["7", "7", "7", "8"]
    told = values(messages)
    assert ("NetLiquidation", "USD") in told
    assert told.keys().isdisjoint({("AccountCode", ""), ("Currency", "USD"), ("AccruedCash", "USD")})


def test_a_fill_is_told_in_the_portfolio_at_once_and_in_the_balances_soon(talk: Talk) -> None:
    talk.ask("6", "2", "1", ACCOUNT)
    talk.messages()
    talk.place(1, action="SELL", quantity=100)
    talk.wait(0.1)
    messages = talk.messages()
    (row, *_) = [fields for fields in messages if fields[0] == "7" and fields[3] == "AAPL"]
    assert row[13] == "0"
    assert ("TotalCashValue", "USD") in values(messages)


def test_the_same_account_asked_for_again_is_told_whole_and_without_a_notice(talk: Talk) -> None:
    talk.ask("6", "2", "1", ACCOUNT)
    first = talk.messages()
    talk.ask("6", "2", "1", ACCOUNT)
    assert [fields[:3] for fields in talk.messages()] == [fields[:3] for fields in first]


def test_ledger_and_net_liquidation_alone_is_a_light_request(talk: Talk) -> None:
    talk.ask("76", "1", ID, ACCOUNT, "", "1")
    tags = {fields[5] for fields in talk.heard("73")}
    assert {"NetLiquidation", "CashBalance", "ExchangeRate"} <= tags
    assert tags.isdisjoint({"BuyingPower", "InitMarginReq", "AccountCode"})


@pytest.mark.parametrize("request_id", ["74", "76"])
def test_another_logins_account_is_refused_to_requests_for_several(talk: Talk, request_id: str) -> None:
    talk.ask(request_id, "1", ID, "U999", "", "0")
    assert [fields[1:3] for fields in talk.messages()] == [[ID, "321"]]


def test_realized_gains_are_those_of_the_executions_and_positions_add_up_to_the_account(talk: Talk) -> None:
    for order_id, action, quantity, symbol in ((1, "SELL", 30, "AAPL"), (2, "BUY", 7, "MSFT"), (3, "SELL", 3, "MSFT")):
        talk.place(order_id, action=action, quantity=quantity, symbol=symbol)
        talk.wait(2.5, step=0.25)
    reports = [float(fields[5]) for fields in talk.heard("59") if float(fields[5]) < 1e300]
    assert len(reports) >= 2
    talk.ask("92", ID, ACCOUNT, "")
    for req_id, con_id in enumerate(talk.gateway.ledgers[ACCOUNT].holdings, start=1):
        talk.ask("94", req_id, ACCOUNT, "", con_id)
    (whole, *singles) = talk.heard("94", "95")
    assert float(whole[4]) == pytest.approx(sum(reports), abs=1e-4)
    for column in (2, 3, 4):
        assert sum(float(single[column + 1]) for single in singles) == pytest.approx(float(whole[column]), abs=1e-4)


def test_a_currency_trade_changes_two_balances_and_is_a_position_besides(talk: Talk) -> None:
    talk.ask("6", "2", "1", ACCOUNT)
    before = values(talk.messages())
    talk.ask("61", "1")
    talk.messages()
    talk.place(1, con_id=12087792, exchange="IDEALPRO", quantity=20_000)
    talk.wait(0.5)
    messages = talk.messages()
    after = before | values(messages)
    (position,) = [fields for fields in messages if fields[0] == "61"]
    assert (position[4], position[5], position[14]) == ("EUR", "CASH", "20000")
    assert after["CashBalance", "EUR"] == "20000.00"
    paid = Decimal(before["CashBalance", "USD"]) - Decimal(after["CashBalance", "USD"])
    assert paid == pytest.approx(20_000 * Decimal(position[15]), abs=Decimal(10))
    # It is worth what was paid for it, but for the spread and the fee: nothing is counted twice.
    change = Decimal(after["NetLiquidation", "USD"]) - Decimal(before["NetLiquidation", "USD"])
    assert abs(change) < 50
