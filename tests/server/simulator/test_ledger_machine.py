"""Any sequence of trades, marks and days leaves a ledger that agrees with what its executions say by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ibkr_gateway_server.simulator.feeds.pnl import Pnl, PnlSingle
from ibkr_gateway_server.simulator.figures import Balances, Figures
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.valuation import Valuation

_CATALOGUE = Catalogue(date(2026, 11, 23))
_STOCK = next(listing for listing in FIXED if listing.symbol == "AAPL")
_PAIR = next(listing for listing in FIXED if listing.local_symbol == "EUR.USD")
_FUTURE = _CATALOGUE.match(ContractQuery(symbol="MES", sec_type="FUT"))[0]
_OPTION = next(listing for listing in _CATALOGUE if listing.sec_type == "OPT" and listing.symbol == "AAPL")
_DOLLARS = (_STOCK, _FUTURE, _OPTION)
_EUROS = tuple(replace(each, con_id=number, currency="EUR") for number, each in enumerate(_DOLLARS, start=1))
LISTINGS = (*_DOLLARS, *_EUROS, _PAIR)

START = Decimal(1_000_000)
QUANTITIES = st.one_of(st.integers(-50, 50), st.decimals(-9, 9, places=2)).map(float).filter(bool)
PRICES = st.integers(1, 40_000).map(lambda hundredths: hundredths / 100)
RATES = st.integers(5_000, 20_000).map(lambda steps: steps / 10_000)
FEES = st.integers(0, 50_000).map(lambda hundredths: hundredths / 10_000)


def written(number: float) -> Decimal:
    """A float as the decimal number that it is written as."""
    return Decimal(repr(number))


@dataclass(frozen=True)
class Execution:
    """What a client is told of a fill, and the day that it was on."""

    listing: Listing
    quantity: Decimal
    price: float
    paid: Decimal
    fee: Decimal
    gain: Decimal | None
    day: int


class LedgerMachine(RuleBasedStateMachine):
    """One account against the list of its executions."""

    @initialize(base=st.sampled_from(["USD", "EUR"]))
    def open(self, base: str) -> None:
        self.ledger = Ledger("DU1", float(START), base)
        self.executions: list[Execution] = []
        self.day = 0
        self.prices = dict.fromkeys((listing.con_id for listing in LISTINGS), 100.0) | {_PAIR.con_id: 1.25}
        self.closes = dict(self.prices)
        self.close_equity: Decimal | None = None
        self.valuation = Valuation(LISTINGS, lambda listing: self.prices[listing.con_id])

    @rule(listing=st.sampled_from(LISTINGS), quantity=QUANTITIES, price=PRICES, rate=RATES, fee=FEES)
    def trade(self, listing: Listing, quantity: float, price: float, rate: float, fee: float) -> None:
        price = rate if listing is _PAIR else price
        gain = self.ledger.fill(listing, quantity, price, fee)
        paid = written(quantity) * written(price) * written(listing.units)
        closed = written(gain) if gain is not None else None
        self.executions.append(Execution(listing, written(quantity), price, paid, written(fee), closed, self.day))

    @precondition(lambda self: self.executions)
    @rule(data=st.data(), price=PRICES, rate=RATES)
    def correct(self, data: st.DataObject, price: float, rate: float) -> None:
        """The exchange corrects the price of one of today's executions."""
        number = data.draw(st.integers(0, len(self.executions) - 1))
        each = self.executions[number]
        if each.day != self.day:
            return
        price = rate if each.listing is _PAIR else price
        said = float(each.gain) if each.gain is not None else None
        gain = self.ledger.correct(each.listing, float(each.quantity), each.price, price, said)
        paid = each.quantity * written(price) * written(each.listing.units)
        right = written(gain) if gain is not None else None
        self.executions[number] = replace(each, price=price, paid=paid, gain=right)

    @rule(listing=st.sampled_from(LISTINGS), price=PRICES, rate=RATES)
    def mark(self, listing: Listing, price: float, rate: float) -> None:
        self.prices[listing.con_id] = rate if listing is _PAIR else price

    @rule(listing=st.sampled_from(LISTINGS), price=PRICES, rate=RATES, fee=FEES)
    def close_out(self, listing: Listing, price: float, rate: float, fee: float) -> None:
        if held := self.held(listing):
            self.trade(listing, float(-held), price, rate, fee)

    @rule()
    def begin_day(self) -> None:
        self.close_equity = self.figures().equity
        self.closes = dict(self.prices)
        self.ledger.begin_day(self.valuation)
        self.day += 1

    def figures(self) -> Figures:
        return self.ledger.figures(self.valuation)

    def of(self, listing: Listing, *, before_today: bool = False) -> list[Execution]:
        return [
            each for each in self.executions if each.listing is listing and not (before_today and each.day == self.day)
        ]

    def held(self, listing: Listing, *, before_today: bool = False) -> Decimal:
        return sum((each.quantity for each in self.of(listing, before_today=before_today)), Decimal(0))

    def value(self, listing: Listing) -> Decimal:
        return self.held(listing) * written(self.prices[listing.con_id]) * written(listing.units)

    def balances(self) -> Iterable[Balances]:
        return self.figures().balances

    @invariant()
    def cash_is_what_executions_paid(self) -> None:
        for balances in self.balances():
            cash = START if balances.currency == self.ledger.base else Decimal(0)
            for each in self.executions:
                if each.listing.currency == balances.currency:
                    cash -= each.fee + each.paid
                if each.listing is _PAIR and balances.currency == "EUR":
                    cash += each.quantity
            # A future is paid for by nothing but its gain, which is what it is worth less what it cost.
            futures = [each for each in LISTINGS if each.sec_type == "FUT" and each.currency == balances.currency]
            assert balances.total_cash == cash + sum(self.value(listing) for listing in futures)

    @invariant()
    def positions_are_the_sums_of_executions(self) -> None:
        for listing in LISTINGS:
            holding = self.ledger.holdings.get(listing.con_id)
            assert (holding.held if holding else 0) == self.held(listing)
            if holding and not holding.held:
                assert (holding.cost, holding.settled, holding.average_cost) == (0, 0, 0)

    @invariant()
    def gains_are_values_less_what_was_paid(self) -> None:
        unrealized: Counter[str] = Counter()
        for holding in self.ledger:
            unrealized[holding.listing.currency] += holding.unrealized(self.valuation.mark(holding.listing))  # type: ignore[assignment]
        for balances in self.balances():
            named = [each for each in self.executions if each.listing.currency == balances.currency]
            values = sum(self.value(listing) for listing in LISTINGS if listing.currency == balances.currency)
            realized = sum(each.gain or 0 for each in named)
            assert realized + balances.unrealized == values - sum(each.paid + each.fee for each in named)
            assert balances.unrealized == unrealized[balances.currency]
            assert balances.realized == sum(each.gain or 0 for each in named if each.day == self.day)

    @invariant()
    def the_days_gain_is_since_the_close_and_with_todays_trades(self) -> None:
        for balances in self.balances():
            gain = Decimal(0)
            for listing in LISTINGS:
                if listing.currency == balances.currency:
                    close = written(self.closes[listing.con_id]) * written(listing.units)
                    gain += self.value(listing) - self.held(listing, before_today=True) * close
                    gain -= sum(each.paid + each.fee for each in self.of(listing) if each.day == self.day)
            assert balances.daily == gain

    @invariant()
    def net_liquidation_is_cash_and_marks_at_the_exchange_rate(self) -> None:
        figures = self.figures()
        euro = written(self.prices[_PAIR.con_id])
        rates = {"USD": {"USD": Decimal(1), "EUR": euro}, "EUR": {"EUR": Decimal(1), "USD": round(1 / euro, 7)}}
        total = Decimal(0)
        for balances in figures.balances:
            assert balances.rate == rates[self.ledger.base][balances.currency]
            named = (
                each for each in LISTINGS if each.currency == balances.currency and each.sec_type in ("STK", "OPT")
            )
            total += (balances.total_cash + sum(self.value(listing) for listing in named)) * balances.rate
        assert figures.total.net_liquidation == total
        assert abs(figures.net_liquidation - total) <= Decimal("0.005")
        assert figures.total.unrealized == sum(each.unrealized * each.rate for each in figures.balances)

    @invariant()
    def funds_are_equity_less_margin(self) -> None:
        figures = self.figures()
        assert figures.available + figures.initial_margin == figures.equity
        assert figures.excess + figures.maintenance_margin == figures.equity
        assert figures.initial_margin >= figures.maintenance_margin >= 0
        assert self.ledger.previous_equity == self.close_equity

    @invariant()
    def positions_told_one_by_one_add_up_to_the_account(self) -> None:
        whole = Pnl(1, self.ledger, self.valuation).message()
        singles = [
            PnlSingle(2, self.ledger, self.valuation, con_id=con_id).message() for con_id in self.ledger.holdings
        ]
        for column in (0, 1, 2):
            told = sum(float(single[3 + column]) for single in singles)
            assert told == pytest.approx(float(whole[2 + column]), abs=1e-4)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
