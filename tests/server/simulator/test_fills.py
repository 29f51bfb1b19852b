"""Executions: where, at what cost, and what happens when one is corrected."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.test_orders import story


def cash(gateway: Gateway) -> float:
    """Dollars in the account."""
    return float(gateway.ledgers["DU1234567"].cash["USD"])


def test_a_smart_order_is_filled_at_several_venues(talk: Talk) -> None:
    talk.place(1, quantity=3000)
    talk.wait(3.0, step=0.25)
    executions = talk.heard("11")
    assert len({fields[17] for fields in executions}) > 1
    assert all(fields[17] == fields[10] != "SMART" for fields in executions)


def test_an_order_sent_to_one_exchange_is_filled_there(talk: Talk) -> None:
    talk.place(1, quantity=3000, exchange="ARCA")
    talk.wait(3.0, step=0.25)
    assert {fields[17] for fields in talk.heard("11")} == {"ARCA"}


@pytest.mark.parametrize("quantity", [100, 3000])
def test_the_least_commission_counts_once_for_an_order(talk: Talk, quantity: int) -> None:
    talk.place(1, quantity=quantity)
    talk.wait(3.0, step=0.25)
    told = talk.heard("11", "59")
    executed = sum(float(fields[19]) for fields in told if fields[0] == "11")
    fees = [float(fields[3]) for fields in told if fields[0] == "59"]
    assert executed == quantity
    assert sum(fees) == pytest.approx(max(1.0, 0.005 * quantity))
    assert fees[0] >= 1.0


def test_the_order_is_said_again_with_its_commission_before_the_report(talk: Talk) -> None:
    talk.place(1)
    talk.wait(0.3)
    told = talk.messages()
    assert [fields[0] for fields in told if fields[0] in ("3", "5", "11", "59")] == [
        *("5", "3", "11", "5", "3"),
        *("5", "3", "59"),
    ]
    first, last = [fields for fields in told if fields[0] == "5"][1:]
    assert "1.0" not in first[90:110]
    assert "1.0" in last[90:110]


def test_what_waited_adds_liquidity_and_what_did_not_takes_it(talk: Talk) -> None:
    talk.place(1)
    talk.place(2, order_type="LMT", limit="10")
    talk.wait(0.3)
    aapl = talk.gateway.catalogue.by_id(265598)
    assert aapl is not None
    talk.gateway.market.set_price(aapl, 9.0, talk.now)
    talk.gateway.look_again()
    talk.wait(0.3)
    assert [fields[30] for fields in talk.heard("11")] == ["2", "1"]


def test_a_corrected_execution_comes_again_with_the_next_number(gateway: Gateway, talk: Talk) -> None:
    talk.place(1, quantity=100)
    talk.wait(0.3)
    wrong = talk.heard("11")[-1]
    before = cash(gateway)
    price = float(wrong[20]) + 0.5
    gateway.correct_execution(wrong[14], price)
    talk.wait(0.1)
    right, status, report = talk.heard("11", "3", "59")
    assert right[14] == wrong[14][:-2] + "02"
    assert [right[:14], right[15:20]] == [wrong[:14], wrong[15:20]]
    assert float(right[20]) == price
    assert status[2] == "Filled"
    assert float(status[5]) == pytest.approx(gateway.orders[1, 1].average_price)
    assert report[2] == right[14]
    assert cash(gateway) == pytest.approx(before - 100 * 0.5)


def test_a_correction_is_corrected_in_turn_and_what_is_not_there_is_not(gateway: Gateway, talk: Talk) -> None:
    talk.place(1)
    talk.wait(0.3)
    (wrong,) = talk.heard("11")
    before = cash(gateway)
    price = float(wrong[20])
    corrected = gateway.correct_execution(wrong[14], price + 1)
    again = gateway.correct_execution(corrected.execution_id, price)
    assert again.execution_id.endswith(".03")
    assert cash(gateway) == pytest.approx(before)
    with pytest.raises(LookupError, match="no execution none"):
        gateway.correct_execution("none", 1.0)


def test_the_gain_of_a_closing_fill_follows_its_correction(gateway: Gateway) -> None:
    talk = Talk(gateway, client_id=3)
    talk.place(1, symbol="TSLA", quantity=100)
    talk.wait(0.3)
    talk.place(2, symbol="TSLA", action="SELL", quantity=100)
    talk.wait(1.0)
    closing = [execution for execution in gateway.executions if not execution.order.is_buy][-1]
    assert closing.realized_pnl is not None
    corrected = gateway.correct_execution(closing.execution_id, closing.price + 1.0)
    assert corrected.realized_pnl == pytest.approx(closing.realized_pnl + closing.quantity)


def test_a_later_list_of_executions_has_the_correction_too(gateway: Gateway, talk: Talk) -> None:
    talk.place(1)
    talk.wait(0.3)
    (wrong,) = talk.heard("11")
    gateway.correct_execution(wrong[14], 100.0)
    talk.wait(0.1)
    talk.messages()
    talk.ask("7", "3", "1", 0, "", "", "", "", "", "", "2147483647", "0")
    assert [fields[14][-2:] for fields in talk.heard("11")] == ["01", "02"]


def test_a_limit_made_a_market_order_says_that_it_is_filled_before_it_says_how(talk: Talk) -> None:
    """As captured: the terminal status came before the execution and its commission."""
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    talk.place(1, order_type="MKT")
    talk.wait(0.3)
    assert story(talk) == [
        *[("open_order",), ("order_status", "Submitted"), ("order_status", "Filled"), ("execution_detail",)],
        *[("open_order",), ("order_status", "Filled"), ("commission_report",)],
    ]


def test_executions_are_the_same_in_every_run() -> None:
    def run() -> list[list[str]]:
        talk = Talk(Gateway(7, ("DU1234567",), NOW))
        talk.place(1, quantity=5000)
        talk.place(2, symbol="MSFT", order_type="MIDPRICE", quantity=400)
        talk.wait(10.0)
        return talk.heard("11", "59")

    assert run() == run()
