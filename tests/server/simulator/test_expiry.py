"""The end of contracts that expire."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery

from tests.server.simulator.conftest import Talk

# Friday 2026-12-18 17:00 UTC: noon in New York on the last day of the December contracts.
LAST_DAY = 1797613200.0
MIDNIGHT = 12 * 3600.0


def client() -> Talk:
    talk = Talk(Gateway(7, ("DU1234567",), LAST_DAY), now=LAST_DAY)
    talk.messages()
    return talk


def test_a_position_in_a_contract_that_expires_is_settled_at_its_underlying() -> None:
    talk = client()
    ledger = talk.gateway.ledgers["DU1234567"]
    december = talk.gateway.catalogue.match(ContractQuery(symbol="MES", sec_type="FUT"))[0]
    assert (december.expiry, ledger.holdings[december.con_id].quantity) == ("20261218", 1.0)
    paid = float(ledger.holdings[december.con_id].settled)
    before = ledger.figures(talk.gateway.valuation)
    talk.ask("61", "1")
    talk.messages()
    talk.wait(MIDNIGHT + 1, step=3600)
    (position,) = talk.heard("61")
    assert (position[3], position[-2], position[-1]) == (str(december.con_id), "0", "0")
    assert december.con_id not in ledger.holdings
    after = ledger.figures(talk.gateway.valuation)
    cash = sum(balance.cash for balance in after.balances) - sum(balance.cash for balance in before.balances)
    # What it gained since its gains were last paid is cash now; nothing else has been paid.
    assert float(cash) == pytest.approx(talk.gateway.market.settlement(december) * 5 - paid, abs=0.005)
    talk.ask("61", "1")
    assert str(december.con_id) not in {fields[3] for fields in talk.heard("61")}


def test_orders_for_it_end_with_it_and_its_successor_is_traded() -> None:
    talk = client()
    talk.place(
        1, symbol="MES", sec_type="FUT", exchange="CME", expiry="202612", order_type="LMT", limit=1000, tif="GTC"
    )
    talk.wait(1.0)
    assert talk.heard("3")[-1][2] == "Submitted"
    talk.wait(MIDNIGHT, step=3600)
    assert talk.heard("3")[-1][2] == "Cancelled"
    talk.place(2, symbol="MES", sec_type="FUT", exchange="CME", expiry="202612")
    talk.place(3, symbol="MES", sec_type="FUT", exchange="CME", expiry="202703")
    talk.wait(1.0)
    told = talk.heard("3", "4")
    assert [fields[2] for fields in told if fields[0] == "4"] == ["200"]
    assert [fields[2] for fields in told if fields[0] == "3"][-1] == "Filled"


@pytest.mark.parametrize(("right", "sign"), [("C", 1), ("P", -1)])
def test_an_option_ends_at_what_exercising_it_gains(right: str, sign: int) -> None:
    gateway = Gateway(7, ("DU1234567",), LAST_DAY)
    front = [option for option in gateway.catalogue.options_of(756733) if option.expiry == "20261218"]
    spy = gateway.catalogue.by_id(756733)
    assert spy is not None
    # 21:00 UTC, the close in New York.
    close = gateway.market.value(spy, LAST_DAY + 4 * 3600 - 0.25)
    worth = {option.strike: gateway.market.settlement(option) for option in front if option.right == right}
    assert worth == {strike: pytest.approx(max(sign * (close - strike), 0.0), abs=0.01) for strike in worth}
    assert min(worth.values()) == 0 < max(worth.values())
