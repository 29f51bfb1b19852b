"""The ledger of one account: cash by currency, positions and P&L that add up exactly with its executions.

Amounts are decimal, so that cash is to the last digit what executions and commissions make it. Stocks and options are
paid for when bought; futures are settled in cash by their gains alone, those of past days every night. A currency pair
exchanges one cash balance for another, and is kept as a position besides: IBKR's "virtual FX position", which has an
average cost and P&L like any other but no value of its own, since its value is the cash. Source: TWS User's Guide,
"FX Portfolio - Virtual FX Position". Average cost includes commissions and, for derivatives, the multiplier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ibkr_gateway_server.simulator import margin
from ibkr_gateway_server.simulator.figures import Balances, Figures, cents
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.valuation import Valuation, exact

ZERO = Decimal(0)
# A part of a cost that does not divide evenly is cut here; what is left keeps the rest, so that nothing is lost.
_SMALLEST = Decimal("1e-8")
# Business days that the pattern-day-trading rule looks back. Source: FINRA rule 4210(f)(8)(B).
_DAY_TRADE_DAYS = 5


@dataclass(slots=True)
class Holding:
    """Units of one contract (negative when short), their cost, and what today's closings gained, in its currency."""

    listing: Listing
    held: Decimal = ZERO
    cost: Decimal = ZERO
    # A future's value when its gains were last paid in cash; commissions, being cash at once, are not in it.
    settled: Decimal = ZERO
    realized: Decimal = ZERO
    # Value at the last close, for the day's P&L; cash flows of the day are added to it.
    day_base: Decimal = ZERO
    was_opened_today: bool = False
    units: Decimal = field(init=False)

    def __post_init__(self) -> None:
        self.units = exact(self.listing.units)

    @property
    def quantity(self) -> float:
        """How many contracts, as messages tell it."""
        return float(self.held)

    @property
    def average_cost(self) -> float:
        """Of one contract; 0 when none is held."""
        return float(self.cost / self.held) if self.held else 0.0

    def value(self, price: Decimal) -> Decimal:
        """What it is worth at a price."""
        return self.held * price * self.units

    def unrealized(self, price: Decimal) -> Decimal:
        """Gain at a price against what was paid."""
        return self.value(price) - self.cost

    def daily(self, price: Decimal) -> Decimal:
        """Gain at a price since the last close, today's trades included."""
        return self.value(price) - self.day_base


class Ledger:
    """One account's cash and holdings. `base` is the currency that its totals are stated in."""

    def __init__(self, account: str, cash: float, base: str = "USD") -> None:
        self.account = account
        self.base = base
        self.cash: dict[str, Decimal] = {base: exact(cash)}
        self.holdings: dict[int, Holding] = {}
        self.trades = 0
        """Executions booked so far; who follows balances tells by it that they have changed."""
        self.previous_equity: Decimal | None = None
        # Regulation T's credit: what it was at the last close, and what today's trades used of it, by currency.
        self._credit: Decimal | None = None
        self._credit_used: dict[str, Decimal] = {}
        self._day_trades = [0] * _DAY_TRADE_DAYS

    def __iter__(self) -> Iterator[Holding]:
        """Every contract held now or traded today, in the order first traded."""
        return iter(self.holdings.values())

    def open_at_start(self, listing: Listing, quantity: float, price: float, valuation: Valuation) -> None:
        """A position from before the simulation, bought for base currency that was exchanged for it."""
        holding = self.holdings[listing.con_id] = Holding(listing, exact(quantity))
        holding.cost = holding.settled = holding.day_base = holding.value(exact(price))
        self._pay(listing.currency, ZERO)
        if listing.sec_type != "FUT":
            self._pay(self.base, -cents(holding.cost * valuation.rate(listing.currency, self.base)))

    def begin_day(self, closing: Valuation) -> None:
        """A new day: what was gained until the close is the past day's, and worthless lines are dropped."""
        figures = self.figures(closing)
        self.previous_equity, self._credit, self._credit_used = figures.equity, figures.credit, {}
        self.holdings = {con_id: holding for con_id, holding in self.holdings.items() if holding.held}
        for holding in self:
            value = holding.value(closing.mark(holding.listing))
            if holding.listing.sec_type == "FUT":
                self._pay(holding.listing.currency, value - holding.settled)
                holding.settled = value
            holding.realized, holding.day_base, holding.was_opened_today = ZERO, value, False
        self._day_trades = [0, *self._day_trades[:-1]]

    def fill(self, listing: Listing, signed_quantity: float, price: float, commission: float) -> float | None:
        """Book one execution. Returns what its closing part gained after commission, None when it only opened."""
        holding = self.holdings.setdefault(listing.con_id, Holding(listing))
        quantity, cost, fee = exact(signed_quantity), exact(price) * holding.units, exact(commission)
        closed = _closed_part(holding.held, quantity)
        opened = quantity - closed
        closing_fee = (fee * closed / quantity).quantize(_SMALLEST)
        gain = None
        self._pay(listing.currency, -fee)
        if closed:
            released, settled = (_share(amount, -closed, holding.held) for amount in (holding.cost, holding.settled))
            gain = -closed * cost - released - closing_fee
            if listing.sec_type == "FUT":
                self._pay(listing.currency, -closed * cost - settled)
            holding.cost, holding.settled = holding.cost - released, holding.settled - settled
            holding.realized += gain
            if holding.was_opened_today and listing.sec_type in ("STK", "OPT"):
                self._day_trades[0] += 1
                holding.was_opened_today = False
        if opened:
            holding.cost += opened * cost + fee - closing_fee
            holding.settled += opened * cost
            holding.was_opened_today = True
        if listing.sec_type != "FUT":
            self._pay(listing.currency, -quantity * cost)
        if listing.sec_type == "CASH":
            self._pay(listing.symbol, quantity)
        self._use_credit(listing, abs(opened) - abs(closed), cost, fee)
        holding.day_base += quantity * cost + fee
        holding.held += quantity
        self.trades += 1
        return None if gain is None else float(gain)

    def correct(
        self, listing: Listing, signed_quantity: float, wrong: float, right: float, gain: float | None
    ) -> float | None:
        """Book that an execution was at another price than it was booked at. Returns what it gained, as `fill` does.

        `gain` is what it was said to have gained. One that had only opened changes the cost of what is held, and is a
        gain or loss of its own where nothing is held any more: what has been said of its closing stays said.
        """
        holding = self.holdings.setdefault(listing.con_id, Holding(listing))
        more = exact(signed_quantity) * (exact(right) - exact(wrong)) * holding.units
        holding.day_base += more
        self.trades += 1
        only_opened = gain is None and holding.held != 0
        if listing.sec_type == "FUT" and only_opened:
            holding.settled += more
        else:
            self._pay(listing.currency, -more)
        if only_opened:
            holding.cost += more
            return None
        holding.realized -= more
        return float(exact(gain or 0.0) - more)

    def figures(self, valuation: Valuation) -> Figures:
        """The account's money at these prices."""
        balances = {currency: Balances(currency, valuation.rate(currency, self.base)) for currency in self.cash}
        maintenance = initial = commodities_maintenance = commodities_initial = regulation_t = 0.0
        for holding in self:
            # What has ended, perhaps with its contract, has no price to ask for.
            listing, price = holding.listing, valuation.mark(holding.listing) if holding.held else ZERO
            balance = balances[listing.currency]
            balance.add(listing.sec_type, holding.value(price), holding.value(price) - holding.settled)
            balance.unrealized += holding.unrealized(price)
            balance.realized += holding.realized
            balance.daily += holding.daily(price)
            position = (listing, holding.quantity, float(price), float(valuation.underlying(listing)))
            rate = float(balance.rate)
            kept, opened = margin.maintenance(*position) * rate, margin.initial(*position) * rate
            maintenance, initial = maintenance + kept, initial + opened
            regulation_t += margin.regulation_t(*position) * rate
            if listing.sec_type == "FUT":
                commodities_maintenance, commodities_initial = (
                    commodities_maintenance + kept,
                    commodities_initial + opened,
                )
        for currency, amount in self.cash.items():
            balances[currency].cash = amount
        borrowed = margin.currencies(float(each.total_cash * each.rate) for each in balances.values())
        used = sum((amount * balances[currency].rate for currency, amount in self._credit_used.items()), ZERO)
        return Figures(
            base=self.base,
            balances=tuple(balances.values()),
            initial_margin=cents(initial + borrowed),
            maintenance_margin=cents(maintenance + borrowed),
            commodities_initial_margin=cents(commodities_initial),
            commodities_maintenance_margin=cents(commodities_maintenance),
            regulation_t_margin=cents(regulation_t),
            previous_equity=self.previous_equity,
            credit_left=None if self._credit is None else self._credit - used,
            day_trades=tuple(self._day_trades),
        )

    def added_by(
        self, listing: Listing, signed_quantity: float, price: float, valuation: Valuation
    ) -> tuple[float, float, float]:
        """What a trade would add to initial margin, maintenance margin and equity before its fee, in base currency."""
        known = self.holdings.get(listing.con_id)
        held, underlying = (known.quantity if known else 0.0), float(valuation.underlying(listing))
        rate = float(valuation.rate(listing.currency, self.base))
        before, after = (listing, held, price, underlying), (listing, held + signed_quantity, price, underlying)
        paid = signed_quantity * price * listing.units
        flows = {} if listing.sec_type == "FUT" else {listing.currency: -paid}
        if listing.sec_type == "CASH":
            flows[listing.symbol] = signed_quantity
        borrowed = self._borrowed(flows, valuation) - self._borrowed({}, valuation)
        return (
            (margin.initial(*after) - margin.initial(*before)) * rate + borrowed,
            (margin.maintenance(*after) - margin.maintenance(*before)) * rate + borrowed,
            -paid * rate if listing.sec_type == "OPT" else 0.0,
        )

    def _borrowed(self, flows: Mapping[str, float], valuation: Valuation) -> float:
        """What currencies bind when these amounts have been added to the cash."""
        amounts = {currency: float(amount) for currency, amount in self.cash.items()}
        for currency, flow in flows.items():
            amounts[currency] = amounts.get(currency, 0.0) + flow
        return margin.currencies(
            amount * float(valuation.rate(currency, self.base)) for currency, amount in amounts.items()
        )

    def _pay(self, currency: str, amount: Decimal) -> None:
        self.cash[currency] = self.cash.get(currency, ZERO) + amount

    def _use_credit(self, listing: Listing, opened: Decimal, cost: Decimal, fee: Decimal) -> None:
        """Regulation T: what is opened must be paid for to its share, what is closed gives it back."""
        share = {"STK": exact(margin.REG_T_RATE), "OPT": Decimal(1)}.get(listing.sec_type)
        if share is not None:
            used = self._credit_used.get(listing.currency, ZERO)
            self._credit_used[listing.currency] = used + share * opened * cost + fee


def _closed_part(held: Decimal, quantity: Decimal) -> Decimal:
    """The part of a trade, with its sign, that reduces what is held."""
    if held * quantity >= 0:
        return ZERO
    return quantity if abs(quantity) <= abs(held) else -held


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """As much of an amount as `part` is of `whole`; all of it for all."""
    return amount if part == whole else (amount * part / whole).quantize(_SMALLEST)
