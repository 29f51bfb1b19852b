"""The ledger of one account: cash, positions and P&L that add up to the cent with its executions.

Stocks, options and currencies are paid for when bought; futures are settled in cash by their gains and losses alone.
Average cost includes commissions and, for derivatives, the multiplier, as IBKR states it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator.listings import Listing

Mark = Callable[[Listing], float]

# What opens a position binds a tenth more than what keeps it.
INITIAL_MARGIN = 1.1
SOLD_OPTION_SHARE = 0.2


@dataclass(slots=True)
class Holding:
    """Units of one contract (negative when short), their average cost, and what today's closings gained."""

    listing: Listing
    quantity: float = 0.0
    average_cost: float = 0.0
    # The same without commissions: what a future's gains are settled against, its commissions being cash at once.
    basis: float = 0.0
    realized: float = 0.0
    # Value at the last close, for the day's P&L; cash flows of the day are subtracted from it.
    day_base: float = 0.0

    def value(self, price: float) -> float:
        """What it is worth at a price."""
        return self.quantity * price * self.listing.units

    def unrealized(self, price: float) -> float:
        """Gain at a price against what was paid."""
        return self.value(price) - self.quantity * self.average_cost


@dataclass(frozen=True, slots=True)
class Figures:
    """An account's money at one moment, in its base currency."""

    cash: float
    stock_value: float
    option_value: float
    futures_gain: float
    gross: float
    net_liquidation: float
    initial_margin: float
    maintenance_margin: float
    realized: float
    unrealized: float
    daily: float

    @property
    def available(self) -> float:
        """What can be opened."""
        return self.net_liquidation - self.initial_margin

    @property
    def excess(self) -> float:
        """Distance to liquidation."""
        return self.net_liquidation - self.maintenance_margin


class Ledger:
    """One account's cash and holdings."""

    def __init__(self, account: str, cash: float) -> None:
        self.account = account
        self.cash = cash
        self.realized = 0.0
        self.holdings: dict[int, Holding] = {}

    def __iter__(self) -> Iterator[Holding]:
        """Every contract held now or traded today, in the order first traded."""
        return iter(self.holdings.values())

    def open_at_start(self, listing: Listing, quantity: float, price: float, close: float) -> None:
        """A position from before the simulation: bought at `price`, worth `close` when the day began."""
        holding = Holding(listing, quantity, price * listing.units, price * listing.units)
        holding.day_base = holding.value(close)
        self.holdings[listing.con_id] = holding

    def begin_day(self, close: Mark) -> None:
        """A new day: what was gained until now is the past day's, and worthless lines are dropped."""
        self.realized = 0.0
        self.holdings = {con_id: holding for con_id, holding in self.holdings.items() if holding.quantity}
        for holding in self:
            holding.realized, holding.day_base = 0.0, holding.value(close(holding.listing))

    def fill(self, listing: Listing, signed_quantity: float, price: float, commission: float) -> float | None:
        """Book one execution. Returns what its closing part gained after commission, None when it only opened."""
        holding = self.holdings.setdefault(listing.con_id, Holding(listing))
        cost = price * listing.units
        closed = _closed_part(holding.quantity, signed_quantity)
        opened = signed_quantity - closed
        commission_closed = commission * abs(closed / signed_quantity)
        gain = -closed * (cost - holding.average_cost) - commission_closed if closed else None
        self.cash -= commission
        if listing.sec_type == "FUT":
            self.cash -= closed * (cost - holding.basis)
        else:
            self.cash -= signed_quantity * cost
        holding.day_base += signed_quantity * cost + commission
        holding.quantity += closed
        if opened:
            paid = opened * cost + (commission - commission_closed)
            total = holding.quantity + opened
            holding.average_cost = (holding.quantity * holding.average_cost + paid) / total
            holding.basis = (holding.quantity * holding.basis + opened * cost) / total
            holding.quantity = total
        if abs(holding.quantity) < 1e-9:
            holding.quantity = holding.average_cost = holding.basis = 0.0
        if gain is not None:
            holding.realized += gain
            self.realized += gain
        return gain

    def figures(self, mark: Mark) -> Figures:
        """The account's money at these marks."""
        stock_value = option_value = futures_gain = gross = margin = unrealized = daily = 0.0
        for holding in self:
            price = mark(holding.listing)
            value, gain = holding.value(price), holding.unrealized(price)
            unrealized += gain
            daily += value - holding.day_base
            margin += maintenance_margin(holding.listing, holding.quantity, price)
            if holding.listing.sec_type == "FUT":
                futures_gain += value - holding.quantity * holding.basis
                continue
            gross += abs(value)
            if holding.listing.sec_type == "OPT":
                option_value += value
            else:
                stock_value += value
        # In cents, so that what is shown adds up as shown.
        return Figures(
            cash=round(self.cash, 2),
            stock_value=stock_value,
            option_value=option_value,
            futures_gain=futures_gain,
            gross=gross,
            net_liquidation=round(self.cash + stock_value + option_value + futures_gain, 2),
            initial_margin=round(round(margin, 2) * INITIAL_MARGIN, 2),
            maintenance_margin=round(margin, 2),
            realized=self.realized,
            unrealized=unrealized,
            daily=daily,
        )


def maintenance_margin(listing: Listing, quantity: float, price: float) -> float:
    """What a position binds. A sold option binds its value and a fifth of what it may have to deliver."""
    if listing.contract_margin:
        return abs(quantity) * listing.contract_margin
    value = abs(quantity * price * listing.units) * listing.margin_rate
    if listing.sec_type == "OPT" and quantity < 0:
        return value + SOLD_OPTION_SHARE * abs(quantity) * listing.strike * listing.units
    return value


def commission(listing: Listing, quantity: float, price: float) -> float:
    """IBKR's fixed pricing. Stocks: 0.005 a share, at least 1.00, at most 1 % of the value."""
    if listing.sec_type == "STK":
        return round(min(max(0.005 * quantity, 1.0), 0.01 * quantity * price), 4)
    if listing.sec_type == "FUT":
        return round(quantity * (0.62 if listing.symbol == "MES" else 2.25), 4)
    if listing.sec_type == "OPT":
        return round(max(0.65 * quantity, 1.0), 4)
    return round(max(0.00002 * quantity * price, 2.0), 4)


def _closed_part(held: float, signed_quantity: float) -> float:
    """The part of a trade, with its sign, that reduces what is held."""
    if held * signed_quantity >= 0:
        return 0.0
    return signed_quantity if abs(signed_quantity) <= abs(held) else -held
