"""Balances and positions that a client follows: what has changed, every three minutes and after a fill.

Source: TWS API, reqAccountUpdates and reqAccountSummary: "every three minutes those values which have changed"; a
change of a position is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ibkr_gateway_server.simulator.account_values import Row
from ibkr_gateway_server.simulator.codec import contracts, messages
from ibkr_gateway_server.simulator.ledger import Holding, Ledger
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.valuation import Valuation

INTERVAL_S = 180.0
TIME_ZONE = "US/Eastern"

Ledgers = Mapping[str, Ledger]


@dataclass(slots=True)
class _Rhythm:
    """When balances are due: every three minutes, and at the next look after a fill."""

    due: float = 0.0
    trades: int = -1

    def beats(self, ledgers: Ledgers, now: float) -> bool:
        trades = sum(ledger.trades for ledger in ledgers.values())
        if now < self.due and trades == self.trades:
            return False
        self.due, self.trades = now + INTERVAL_S, trades
        return True


@dataclass(slots=True)
class _Sent:
    """Rows that the client has: by account, tag and currency."""

    values: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def new(self, account: str, rows: list[Row]) -> Iterator[Row]:
        for tag, currency, value in rows:
            if self.values.get((account, tag, currency)) != value:
                self.values[account, tag, currency] = value
                yield tag, currency, value


@dataclass(slots=True)
class Balances:
    """One reqAccountSummary or reqAccountUpdatesMulti: `rows` gives an account's, `spell` a row's message."""

    req_id: int
    ledgers: Ledgers
    rows: Callable[[], Iterator[tuple[str, list[Row]]]]
    spell: Callable[[str, Row], list[str]]
    rhythm: _Rhythm = field(default_factory=_Rhythm)
    sent: _Sent = field(default_factory=_Sent)

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """What has changed."""
        if self.rhythm.beats(self.ledgers, now):
            for account, rows in self.rows():
                for row in self.sent.new(account, rows):
                    yield self.spell(account, row)


class Summary(Balances):
    """One reqAccountSummary."""


class UpdatesMulti(Balances):
    """One reqAccountUpdatesMulti."""


@dataclass(slots=True)
class AccountUpdates:
    """reqAccountUpdates, of one account at a time: values, portfolio, time."""

    ledger: Ledger
    valuation: Valuation
    rows: Callable[[Ledger], list[Row]]
    req_id: int = -1
    rhythm: _Rhythm = field(default_factory=_Rhythm)
    sent: _Sent = field(default_factory=_Sent)
    portfolio: dict[int, list[str]] = field(default_factory=dict)

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """What has changed, and the time."""
        account = self.ledger.account
        if not self.rhythm.beats({account: self.ledger}, now):
            return
        for tag, currency, value in self.sent.new(account, self.rows(self.ledger)):
            yield messages.account_value(tag, value, currency, account)
        for holding in self.ledger:
            yield from self.of_position(holding)
        yield messages.account_update_time(now, TIME_ZONE)

    def of_position(self, holding: Holding) -> Iterator[list[str]]:
        """One position at its mark, where the client does not have it so. One that has ended is told as 0."""
        con_id = holding.listing.con_id
        row = portfolio_row(self.ledger.account, holding, self.valuation)
        if (holding.held or con_id in self.portfolio) and self.portfolio.get(con_id) != row:
            self.portfolio[con_id] = row
            yield row


@dataclass(slots=True)
class Positions:
    """reqPositions (no request id, every account) or one reqPositionsMulti: all of them, then what a fill changes."""

    ledgers: Ledgers
    req_id: int = -1

    def all(self) -> Iterator[list[str]]:
        """Every position that is held."""
        for account, ledger in self.ledgers.items():
            for holding in ledger:
                if holding.held:
                    yield self.row(account, holding)

    def row(self, account: str, holding: Holding) -> list[str]:
        """One position; 0 when it has ended."""
        figures = (account, holding.listing, holding.quantity, round(holding.average_cost, 8))
        return contracts.position(*figures) if self.req_id == -1 else contracts.position_multi(self.req_id, *figures)

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """Nothing by itself: positions change with fills alone."""
        yield from ()


class PositionsMulti(Positions):
    """One reqPositionsMulti."""


def portfolio_row(account: str, holding: Holding, valuation: Valuation) -> list[str]:
    """updatePortfolio of one holding, in its own currency."""
    price = valuation.mark(holding.listing)
    amounts = (price, holding.value(price), holding.unrealized(price), holding.realized)
    mark, value, gain, realized = (float(amount) for amount in amounts)
    return contracts.portfolio(
        account, holding.listing, holding.quantity, mark, value, holding.average_cost, gain, realized
    )
