"""Cash, positions and P&L add up; margins are those of the published rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_server.simulator import margin
from ibkr_gateway_server.simulator.commissions import commission
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.valuation import NoExchangeRate, Valuation

CATALOGUE = Catalogue(date(2026, 11, 23))
AAPL = next(listing for listing in FIXED if listing.symbol == "AAPL")
EURUSD = next(listing for listing in FIXED if listing.local_symbol == "EUR.USD")
SIEMENS = replace(AAPL, con_id=1, symbol="SIE", currency="EUR")
USDJPY = replace(EURUSD, con_id=2, symbol="USD", currency="JPY", local_symbol="USD.JPY")
ES = CATALOGUE.match(ContractQuery(symbol="ES", sec_type="FUT"))[0]
CALL = next(each for each in CATALOGUE if each.sec_type == "OPT" and each.right == "C" and each.symbol == "AAPL")
PUT = next(each for each in CATALOGUE if each.sec_type == "OPT" and each.right == "P" and each.symbol == "AAPL")

TRADES = st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(5000, 20000)), min_size=1, max_size=30)


def valued(prices: Mapping[int, float] | None = None, *, others: float = 100.0) -> Valuation:
    """A market in which these contracts have these prices, and all others one."""
    pairs = {EURUSD.con_id: 1.25, USDJPY.con_id: 160.0}
    known = {**pairs, **(prices or {})}
    return Valuation([*CATALOGUE, SIEMENS, USDJPY], lambda listing: known.get(listing.con_id, others))


@given(TRADES, st.sampled_from([AAPL, ES, CALL]))
def test_what_the_account_gained_is_to_the_last_digit_what_its_trades_gained(
    trades: list[tuple[int, int]], listing: Listing
) -> None:
    ledger, paid, fees, held, units = Ledger("DU1", 1_000_000.0), Decimal(0), Decimal(0), 0, Decimal(str(listing.units))
    for quantity, price in trades:
        fee = commission(listing, abs(quantity), price / 100)
        ledger.fill(listing, quantity, price / 100, fee)
        paid, fees, held = paid + quantity * Decimal(price) / 100 * units, fees + Decimal(repr(fee)), held + quantity
    figures = ledger.figures(valued({listing.con_id: 123.45}))
    gained = held * Decimal("123.45") * units - paid - fees
    assert figures.total.net_liquidation - 1_000_000 == gained
    assert figures.total.realized + figures.total.unrealized == gained
    assert figures.total.daily == gained
    assert ledger.holdings[listing.con_id].quantity == held


def test_an_opening_trade_realizes_nothing_and_its_cost_holds_the_commission() -> None:
    ledger = Ledger("DU1", 1000.0)
    assert ledger.fill(AAPL, 10, 50.0, 1.0) is None
    assert ledger.holdings[AAPL.con_id].average_cost == 50.1


def test_a_closing_trade_realizes_its_gain_less_both_commissions() -> None:
    ledger = Ledger("DU1", 1000.0)
    ledger.fill(AAPL, 10, 50.0, 1.0)
    assert ledger.fill(AAPL, -10, 51.0, 1.0) == 8.0
    assert ledger.cash == {"USD": 1008}


def test_a_trade_through_zero_realizes_the_part_that_closes() -> None:
    ledger = Ledger("DU1", 10_000.0)
    ledger.fill(AAPL, 10, 50.0, 1.0)
    # Two thirds of the second commission are of the ten that close.
    assert ledger.fill(AAPL, -15, 51.0, 1.5) == 8.0
    holding = ledger.holdings[AAPL.con_id]
    assert (holding.quantity, holding.average_cost) == (-5, 50.9)


def test_a_third_of_a_cost_loses_nothing() -> None:
    ledger = Ledger("DU1", 1000.0)
    ledger.fill(AAPL, 3, 50.0, 1.0)
    gains = [ledger.fill(AAPL, -1, 60.0, 1.0) for _ in range(3)]
    assert sum(Decimal(repr(gain)) for gain in gains) == 3 * 10 - 4
    assert ledger.holdings[AAPL.con_id].cost == 0
    assert ledger.cash["USD"] == 1000 + 30 - 4


def test_a_price_that_no_double_holds_is_paid_as_it_is_written() -> None:
    ledger = Ledger("DU1", 0.0)
    for _ in range(1000):
        ledger.fill(AAPL, 1, 0.1, 0.0)
    assert ledger.cash["USD"] == -100


def test_a_stock_of_another_currency_is_paid_in_it() -> None:
    ledger = Ledger("DU1", 1000.0)
    ledger.fill(SIEMENS, 10, 50.0, 3.0)
    assert ledger.cash == {"USD": 1000, "EUR": -503}
    figures = ledger.figures(valued({SIEMENS.con_id: 60.0}))
    assert figures.net_liquidation == 1000 + (600 - 503) * Decimal("1.25")
    assert figures.total.unrealized == 97 * Decimal("1.25")


def test_a_currency_trade_exchanges_cash_and_is_a_position_that_is_worth_nothing_besides() -> None:
    ledger = Ledger("DU1", 1000.0)
    ledger.fill(EURUSD, 100, 1.2, 2.0)
    assert ledger.cash == {"USD": 1000 - 120 - 2, "EUR": 100}
    figures = ledger.figures(valued())
    assert figures.net_liquidation == 1000 - 2 + 5
    assert (figures.total.unrealized, figures.total.gross) == (3, 0)
    assert ledger.holdings[EURUSD.con_id].average_cost == 1.22


def test_totals_are_in_the_base_currency() -> None:
    ledger = Ledger("DU1", 1000.0, "EUR")
    ledger.fill(AAPL, 1, 125.0, 0.0)
    (euros, dollars) = ledger.figures(valued({AAPL.con_id: 130.0})).balances
    assert (euros.currency, euros.rate, euros.cash) == ("EUR", 1, 1000)
    assert (dollars.currency, dollars.rate, dollars.cash) == ("USD", Decimal("0.8"), -125)
    assert ledger.figures(valued({AAPL.con_id: 130.0})).net_liquidation == 1004


@pytest.mark.parametrize(
    ("currency", "base", "rate"),
    [
        ("USD", "USD", "1"),
        ("EUR", "USD", "1.25"),
        ("USD", "EUR", "0.8"),
        ("JPY", "USD", "0.00625"),
        ("EUR", "JPY", "200"),
    ],
)
def test_a_rate_is_that_of_the_pair_or_of_the_way_by_the_dollar(currency: str, base: str, rate: str) -> None:
    assert valued().rate(currency, base) == Decimal(rate)


def test_a_currency_without_a_pair_has_no_rate() -> None:
    with pytest.raises(NoExchangeRate, match="from XAU to EUR"):
        valued().rate("XAU", "EUR")


@pytest.mark.parametrize("base", ["USD", "EUR"])
def test_every_currency_that_is_listed_has_a_rate(base: str) -> None:
    valuation = Valuation(CATALOGUE, lambda _: 1.5)
    currencies = {each.currency for each in CATALOGUE} | {each.symbol for each in CATALOGUE if each.sec_type == "CASH"}
    assert all(valuation.rate(currency, base) > 0 for currency in currencies)


def test_a_futures_gain_is_cash_at_the_end_of_the_day_and_its_cost_stays() -> None:
    ledger = Ledger("DU1", 1000.0)
    ledger.fill(ES, 1, 6000.0, 2.25)
    before = ledger.figures(valued({ES.con_id: 6010.0}))
    assert (before.total.cash, before.total.futures_gain) == (Decimal("997.75"), 500)
    ledger.begin_day(valued({ES.con_id: 6010.0}))
    after = ledger.figures(valued({ES.con_id: 6011.0}))
    assert (after.total.cash, after.total.futures_gain, after.total.daily) == (Decimal("1497.75"), 50, 50)
    assert after.total.unrealized == Decimal("547.75")
    # What is paid when it closes is what was not yet.
    ledger.fill(ES, -1, 6012.0, 2.25)
    assert ledger.cash["USD"] == 1000 + 600 - Decimal("4.50")


@pytest.mark.parametrize("listing", [AAPL, ES, CALL, SIEMENS, EURUSD])
def test_a_corrected_price_leaves_what_the_right_one_would_have_made(listing: Listing) -> None:
    wrong, right = Ledger("DU1", 10_000.0), Ledger("DU1", 10_000.0)
    for ledger, price in ((wrong, 1.9), (right, 1.7)):
        ledger.fill(listing, 10, 1.5, 1.0)
        ledger.fill(listing, 5, price, 1.0)
    assert wrong.correct(listing, 5, 1.9, 1.7, None) is None
    gains = [ledger.fill(listing, -15, 2.0, 1.0) for ledger in (wrong, right)]
    assert gains[0] == gains[1]
    assert wrong.cash == right.cash
    assert wrong.correct(listing, -15, 2.0, 2.1, gains[0]) == pytest.approx((gains[1] or 0) + 1.5 * listing.units)
    # What it had opened is no more: the difference is a gain of today.
    assert wrong.correct(listing, 10, 1.5, 1.6, None) == pytest.approx(-listing.units)
    assert wrong.figures(valued()).total.unrealized == 0


def test_a_new_day_forgets_gains_and_lines_that_have_ended() -> None:
    ledger = Ledger("DU1", 10_000.0)
    ledger.fill(AAPL, 10, 50.0, 1.0)
    ledger.fill(AAPL, -10, 60.0, 1.0)
    ledger.fill(CALL, 1, 5.0, 1.0)
    assert ledger.figures(valued()).total.realized == 98
    ledger.begin_day(valued({CALL.con_id: 6.0}))
    total = ledger.figures(valued({CALL.con_id: 6.5})).total
    assert (total.realized, total.daily, total.unrealized) == (0, 50, 149)
    assert list(ledger.holdings) == [CALL.con_id]


@pytest.mark.parametrize(
    ("listing", "quantity", "price", "kept", "opened"),
    [
        (AAPL, 100, 200.0, 5_000.0, 5_500.0),
        (AAPL, -100, 200.0, 6_000.0, 6_600.0),
        (AAPL, -100, 6.0, 500.0, 550.0),
        (AAPL, -100, 2.0, 250.0, 275.0),
        (ES, -2, 6_800.0, 44_800.0, 49_280.0),
        (EURUSD, 100_000, 1.25, 0.0, 0.0),
        (CALL, 1, 5.0, 0.0, 0.0),
    ],
)
def test_a_position_binds_margin_of_its_kind(
    listing: Listing, quantity: float, price: float, kept: float, opened: float
) -> None:
    assert margin.maintenance(listing, quantity, price, 250.0) == pytest.approx(kept)
    assert margin.initial(listing, quantity, price, 250.0) == pytest.approx(opened)


@pytest.mark.parametrize(
    ("option", "strike", "underlying", "bound"),
    [
        # 5.00, and 20 % of 250 less what it is out of the money, at least 10 % of the underlying or a put's strike.
        (CALL, 250.0, 250.0, 55.0),
        (CALL, 260.0, 250.0, 45.0),
        (CALL, 300.0, 250.0, 30.0),
        (PUT, 240.0, 250.0, 45.0),
        (PUT, 200.0, 250.0, 25.0),
        (PUT, 300.0, 250.0, 55.0),
    ],
)
def test_a_sold_option_binds_its_price_and_a_share_of_its_underlying(
    option: Listing, strike: float, underlying: float, bound: float
) -> None:
    sold = replace(option, strike=strike)
    assert margin.maintenance(sold, -1, 5.0, underlying) == pytest.approx(bound * 100)
    assert margin.initial(sold, -1, 5.0, underlying) == pytest.approx(bound * 100)


def test_what_is_borrowed_in_one_currency_binds_against_what_is_held_in_another() -> None:
    # Captured: 2500.00 euros, -122.9487 dollars at 0.8303924 bind 3.06 euros.
    assert margin.currencies([2500.0, -122.9487 * 0.8303924]) == pytest.approx(3.06, abs=0.005)
    assert margin.currencies([1000.0, 2000.0]) == 0
    assert margin.currencies([-1000.0]) == 0


def test_nothing_is_lent_on_options() -> None:
    ledger = Ledger("DU1", 10_000.0)
    ledger.fill(CALL, 10, 5.0, 0.0)
    figures = ledger.figures(valued({CALL.con_id: 6.0}))
    assert figures.net_liquidation == 11_000
    assert (figures.equity, figures.available, figures.excess) == (5_000, 5_000, 5_000)


@pytest.mark.parametrize("quantity", [10, -10])
@pytest.mark.parametrize("listing", [AAPL, SIEMENS, ES, CALL, EURUSD])
def test_what_a_trade_was_said_to_add_is_what_it_adds(listing: Listing, quantity: int) -> None:
    ledger, valuation = Ledger("DU1", 1_000_000.0), valued({AAPL.con_id: 250.0, CALL.con_id: 5.0})
    ledger.fill(SIEMENS, 5, 100.0, 0.0)
    ledger.fill(listing, 5, float(valuation.mark(listing)), 0.0)
    before = ledger.figures(valuation)
    said = ledger.added_by(listing, quantity, float(valuation.mark(listing)), valuation)
    ledger.fill(listing, quantity, float(valuation.mark(listing)), 0.0)
    after = ledger.figures(valuation)
    added = (
        after.initial_margin - before.initial_margin,
        after.maintenance_margin - before.maintenance_margin,
        after.equity - before.equity,
    )
    assert [float(amount) for amount in added] == pytest.approx(list(said), abs=0.011)


def test_buying_power_is_four_times_what_is_free_of_the_lower_equity_of_two_days() -> None:
    ledger = Ledger("DU1", 10_000.0)
    assert ledger.figures(valued()).buying_power == 40_000
    ledger.fill(AAPL, 100, 100.0, 0.0)
    ledger.begin_day(valued({AAPL.con_id: 100.0}))
    assert ledger.figures(valued({AAPL.con_id: 110.0})).buying_power == (10_000 - Decimal("3025.00")) * 4


def test_regulation_ts_credit_rises_with_gains_and_does_not_fall_with_losses() -> None:
    ledger = Ledger("DU1", 10_000.0)
    ledger.fill(AAPL, 100, 100.0, 0.0)
    ledger.begin_day(valued({AAPL.con_id: 120.0}))
    assert ledger.figures(valued({AAPL.con_id: 120.0})).credit == 12_000 - 6_000
    assert ledger.figures(valued({AAPL.con_id: 80.0})).credit == 6_000
    ledger.fill(AAPL, 10, 80.0, 0.0)
    assert ledger.figures(valued({AAPL.con_id: 80.0})).credit == 6_000 - 400


def test_a_small_account_has_three_day_trades_in_five_days() -> None:
    ledger = Ledger("DU1", 10_000.0)
    for _ in range(2):
        ledger.fill(AAPL, 10, 100.0, 0.0)
        ledger.fill(AAPL, -10, 100.0, 0.0)
    assert ledger.figures(valued()).day_trades_remaining(0) == 1
    ledger.begin_day(valued())
    ledger.fill(AAPL, 10, 100.0, 0.0)
    ledger.fill(AAPL, -5, 100.0, 0.0)
    ledger.fill(AAPL, -5, 100.0, 0.0)
    remaining = [ledger.figures(valued()).day_trades_remaining(days) for days in range(5)]
    assert remaining == [0, 0, 0, 0, 2]
    assert Ledger("DU1", 30_000.0).figures(valued()).day_trades_remaining(0) == -1


@pytest.mark.parametrize(
    ("listing", "quantity", "price", "fee"),
    [
        (AAPL, 10, 100.0, 1.0),
        (AAPL, 1000, 100.0, 5.0),
        (AAPL, 1, 10.0, 0.1),
        (SIEMENS, 10, 100.0, 3.0),
        (SIEMENS, 1000, 100.0, 50.0),
        (ES, 2, 6000.0, 4.5),
        (CALL, 10, 5.0, 6.5),
        (EURUSD, 20_000, 1.25, 2.0),
        (EURUSD, 1_000_000, 1.25, 25.0),
        (USDJPY, 20_000, 160.0, 320.0),
    ],
)
def test_a_commission_is_of_its_kind_and_currency(listing: Listing, quantity: int, price: float, fee: float) -> None:
    assert commission(listing, quantity, price) == pytest.approx(fee)
