"""Cash, positions and P&L add up."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger, commission, maintenance_margin
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.market import Market

from tests.server.simulator.conftest import NOW

AAPL = next(listing for listing in FIXED if listing.symbol == "AAPL")
ES = Catalogue(date(2026, 11, 23)).match(ContractQuery(symbol="ES", sec_type="FUT"))[0]

TRADES = st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(5000, 20000)), min_size=1, max_size=30)


@given(TRADES, st.sampled_from([AAPL, ES]))
def test_what_the_account_gained_is_what_its_trades_gained(trades: list[tuple[int, int]], listing: object) -> None:
    named = AAPL if listing is AAPL else ES
    ledger, paid, fees, held = Ledger("DU1", 1_000_000.0), 0.0, 0.0, 0
    for quantity, cents in trades:
        price = cents / 100
        fee = commission(named, abs(quantity), price)
        ledger.fill(named, quantity, price, fee)
        paid, fees, held = paid + quantity * price * named.units, fees + fee, held + quantity
    mark = 123.45
    figures = ledger.figures(lambda _listing: mark)
    gained = held * mark * named.units - paid - fees
    # Net liquidation is told in cents, so half a cent is nothing.
    assert figures.net_liquidation - 1_000_000.0 == pytest.approx(gained, abs=0.00501)
    assert figures.realized + figures.unrealized == pytest.approx(gained, abs=1e-6)
    assert figures.daily == pytest.approx(gained, abs=1e-6)
    assert ledger.holdings[named.con_id].quantity == held


def test_an_opening_trade_realizes_nothing_and_its_cost_holds_the_commission() -> None:
    ledger = Ledger("DU1", 1000.0)
    assert ledger.fill(AAPL, 10, 50.0, 1.0) is None
    assert ledger.holdings[AAPL.con_id].average_cost == pytest.approx(50.1)


def test_a_closing_trade_realizes_its_gain_less_both_commissions() -> None:
    ledger = Ledger("DU1", 1000.0)
    ledger.fill(AAPL, 10, 50.0, 1.0)
    assert ledger.fill(AAPL, -10, 51.0, 1.0) == pytest.approx(8.0)
    assert ledger.cash == pytest.approx(1008.0)


OPTION = next(listing for listing in Catalogue(date(2026, 11, 23)) if listing.sec_type == "OPT")


@pytest.mark.parametrize(
    ("listing", "quantity", "price", "margin"),
    [
        (AAPL, 100, 200.0, 5_000.0),
        (AAPL, -100, 200.0, 5_000.0),
        (ES, -2, 6_800.0, 44_800.0),
        (OPTION, 1, 5.0, 500.0),
        (OPTION, -1, 5.0, 500.0 + 0.2 * OPTION.strike * 100),
    ],
)
def test_a_position_binds_margin_of_its_kind(listing: Listing, quantity: float, price: float, margin: float) -> None:
    assert maintenance_margin(listing, quantity, price) == pytest.approx(margin)


@pytest.mark.parametrize(("quantity", "price", "fee"), [(10, 100.0, 1.0), (1000, 100.0, 5.0), (1, 10.0, 0.1)])
def test_a_stocks_commission_is_per_share_within_its_bounds(quantity: int, price: float, fee: float) -> None:
    assert commission(AAPL, quantity, price) == pytest.approx(fee)


def test_the_market_marks_what_is_held() -> None:
    ledger = Ledger("DU1", 0.0)
    market = Market(3)
    ledger.open_at_start(AAPL, 10, 100.0, 100.0)
    figures = ledger.figures(lambda listing: market.prices(listing, NOW).mark)
    assert figures.gross == pytest.approx(10 * market.prices(AAPL, NOW).mark)
