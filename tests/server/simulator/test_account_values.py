"""Accounts that users have published whole, told by the simulator: the same figures under the same tags."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from ibkr_gateway_server.simulator.account_values import account_rows
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import FIXED
from ibkr_gateway_server.simulator.valuation import Valuation

PAIRS = {(pair.symbol, pair.currency): pair for pair in FIXED if pair.sec_type == "CASH"}
QQQ = next(listing for listing in FIXED if listing.symbol == "QQQ")


def told(
    base: str, cash: Mapping[str, str], prices: Mapping[int, float], shares: int = 0
) -> dict[tuple[str, str], str]:
    """The rows of an account with these balances and so many shares of QQQ, bought at 381.54606555."""
    ledger = Ledger("DU1", 0.0, base)
    if shares:
        ledger.fill(QQQ, shares, 381.54606555, 0.0)
    ledger.cash.update({currency: Decimal(amount) for currency, amount in cash.items()})
    valuation = Valuation(FIXED, lambda listing: prices[listing.con_id])
    return {(tag, currency): value for tag, currency, value in account_rows("DU1", ledger.figures(valuation))}


def test_an_account_of_euros_that_owes_dollars() -> None:
    rows = told("EUR", {"EUR": "2500", "USD": "-122.9487"}, {PAIRS["EUR", "USD"].con_id: 1.2042499})
    # As published in March 2021.
    published = {
        ("CashBalance", "EUR"): "2500.00",
        ("CashBalance", "USD"): "-122.9487",
        ("Currency", "BASE"): "BASE",
        ("ExchangeRate", "BASE"): "1.00",
        ("ExchangeRate", "EUR"): "1.00",
        ("ExchangeRate", "USD"): "0.8303924",
        ("GrossPositionValue", "EUR"): "0.00",
        ("InitMarginReq", "EUR"): "3.06",
        ("Leverage-S", ""): "0.00",
        ("LookAheadMaintMarginReq", "EUR"): "3.06",
        ("MaintMarginReq", "EUR"): "3.06",
        ("NetLiquidationByCurrency", "USD"): "-122.9487",
        ("StockMarketValue", "USD"): "0.00",
        ("TotalCashBalance", "EUR"): "2500.00",
    }
    assert {key: rows[key] for key in published} == published
    # The published totals are of another moment than the published rate.
    assert float(rows["NetLiquidation", "EUR"]) == pytest.approx(2397.93, abs=0.05)
    assert float(rows["AvailableFunds", "EUR"]) == pytest.approx(2394.87, abs=0.05)
    assert float(rows["Cushion", ""]) == pytest.approx(0.998723, abs=2e-6)


def test_an_account_of_dollars_that_holds_francs() -> None:
    rows = told("USD", {"USD": "28989.07", "CHF": "931999.15"}, {PAIRS["USD", "CHF"].con_id: 1 / 1.02131})
    # As published in 2015.
    published = {
        ("CashBalance", "CHF"): "931999.15",
        ("CashBalance", "USD"): "28989.07",
        ("Cushion", ""): "1",
        ("DayTradesRemaining", ""): "-1",
        ("ExchangeRate", "CHF"): "1.02131",
        ("InitMarginReq", "USD"): "0.00",
        ("LookAheadNextChange", ""): "0",
        ("RegTMargin", "USD"): "0.00",
    }
    assert {key: rows[key] for key in published} == published
    liquidation, power = float(rows["NetLiquidation", "USD"]), float(rows["BuyingPower", "USD"])
    assert liquidation == pytest.approx(980848.80, abs=0.5)
    assert power == pytest.approx(4 * liquidation, abs=0.01)
    assert rows["NetLiquidation", "USD"] == rows["EquityWithLoanValue", "USD"] == rows["AvailableFunds-S", "USD"]


def test_a_position_in_another_currency_than_the_bases() -> None:
    rate = {PAIRS["EUR", "USD"].con_id: 1.25}
    rows = told("EUR", {"EUR": "0", "USD": "953023.20"}, {QQQ.con_id: 380.2999878, **rate}, shares=122)
    # As published in January 2022, of an account whose base is another; all but the base's amounts are the same.
    published = {
        ("CashBalance", "USD"): "953023.20",
        ("NetLiquidationByCurrency", "USD"): "999419.7985",
        ("StockMarketValue", "USD"): "46396.60",
        ("TotalCashBalance", "USD"): "953023.20",
        ("UnrealizedPnL", "USD"): "-152.02",
    }
    assert {key: rows[key] for key in published} == published
    assert rows["StockMarketValue", "BASE"] == rows["GrossPositionValue", "EUR"] == "37117.28"
    initial, kept = (Decimal(rows[tag, "EUR"]) for tag in ("InitMarginReq-S", "MaintMarginReq-S"))
    assert initial / kept == pytest.approx(Decimal("41515.19") / Decimal("37741.09"), abs=Decimal("1e-6"))
