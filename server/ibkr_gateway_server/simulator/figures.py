"""An account's money at one moment: by currency, and all together in its base currency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

ZERO = Decimal(0)
CENT = Decimal("0.01")
# Who has less is a pattern day trader after three day trades in five days. Source: FINRA rule 4210(f)(8)(B).
DAY_TRADER_EQUITY = 25_000
DAY_TRADES = 3
# What an account of Regulation T may buy during the day. Source: TWS API, account window values, BuyingPower.
BUYING_POWER = 4


def cents(amount: float | Decimal) -> Decimal:
    """An amount to the cent, so that what is shown adds up as shown."""
    return Decimal(repr(round(amount, 2)) if isinstance(amount, float) else amount).quantize(CENT)


@dataclass(slots=True)
class Balances:
    """One currency's money, in that currency; `rate` is what one of it is worth in the base currency."""

    currency: str
    rate: Decimal
    cash: Decimal = ZERO
    stock_value: Decimal = ZERO
    option_value: Decimal = ZERO
    # Of futures since they were last settled; live gateways count it as cash.
    futures_gain: Decimal = ZERO
    gross: Decimal = ZERO
    # Gains are of pairs of currencies too; that live gateways count those here is a guess.
    realized: Decimal = ZERO
    unrealized: Decimal = ZERO
    daily: Decimal = ZERO

    def add(self, sec_type: str, value: Decimal, gain: Decimal) -> None:
        """A position's value, or for a future its gain since it was settled. A pair's value is in the cash already."""
        if sec_type == "FUT":
            self.futures_gain += gain
        elif sec_type == "OPT":
            self.option_value += value
            self.gross += abs(value)
        elif sec_type != "CASH":
            self.stock_value += value
            self.gross += abs(value)

    @property
    def total_cash(self) -> Decimal:
        """Cash with the futures' gain. Source: TWS API, CashBalance: "at the time of trade + futures PNL"."""
        return self.cash + self.futures_gain

    @property
    def net_liquidation(self) -> Decimal:
        """All that this currency's balances and positions are worth."""
        return self.total_cash + self.stock_value + self.option_value


def together(currency: str, rate: Decimal, parts: Iterable[tuple[Balances, Decimal]]) -> Balances:
    """The sum of balances, each at the rate beside it."""
    whole = Balances(currency, rate)
    for part, factor in parts:
        whole.cash += part.cash * factor
        whole.stock_value += part.stock_value * factor
        whole.option_value += part.option_value * factor
        whole.futures_gain += part.futures_gain * factor
        whole.gross += part.gross * factor
        whole.realized += part.realized * factor
        whole.unrealized += part.unrealized * factor
        whole.daily += part.daily * factor
    return whole


@dataclass(frozen=True)
class Figures:
    """An account's money at one moment; amounts are in its base currency, sums of all currencies at their rates."""

    base: str
    balances: tuple[Balances, ...]
    initial_margin: Decimal
    maintenance_margin: Decimal
    commodities_initial_margin: Decimal
    commodities_maintenance_margin: Decimal
    regulation_t_margin: Decimal
    previous_equity: Decimal | None
    """Equity with loan value at the last close; None before there was one."""
    credit_left: Decimal | None
    """Regulation T's credit of the last close less what today's trades used of it."""
    day_trades: tuple[int, ...]
    """Day trades of today, yesterday and the days before."""

    @cached_property
    def total(self) -> Balances:
        """All currencies together."""
        return together("BASE", Decimal(1), ((each, each.rate) for each in self.balances))

    @property
    def net_liquidation(self) -> Decimal:
        """What would be left if everything were closed at its mark."""
        return cents(self.total.net_liquidation)

    @property
    def equity(self) -> Decimal:
        """Equity with loan value: nothing is lent on options. Source: TWS API, EquityWithLoanValue-S."""
        return self.net_liquidation - cents(self.total.option_value)

    @property
    def available(self) -> Decimal:
        """What can be opened."""
        return self.equity - self.initial_margin

    @property
    def excess(self) -> Decimal:
        """Distance to liquidation."""
        return self.equity - self.maintenance_margin

    @property
    def buying_power(self) -> Decimal:
        """What can be bought of stocks during the day."""
        equity = self.equity if self.previous_equity is None else min(self.equity, self.previous_equity)
        return max((equity - self.initial_margin) * BUYING_POWER, ZERO)

    @property
    def credit(self) -> Decimal:
        """SMA, Regulation T's special memorandum account: it rises with gains and does not fall with losses."""
        now = self.equity - self.regulation_t_margin
        return cents(now if self.credit_left is None else max(now, self.credit_left))

    def day_trades_remaining(self, days_ahead: int) -> int:
        """How many more are allowed then; -1 is any number."""
        if (self.equity if self.previous_equity is None else self.previous_equity) >= DAY_TRADER_EQUITY:
            return -1
        return max(DAY_TRADES - sum(self.day_trades[: len(self.day_trades) - days_ahead]), 0)
