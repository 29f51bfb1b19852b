"""Profit and loss: of an account, or of one of its positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.valuation import Valuation

PNL_INTERVAL_S = 1.0


@dataclass(slots=True)
class Pnl:
    """One reqPnL. Pairs of currencies are part of it, as in TWS while its virtual FX section is expanded: a gateway has
    no such section, so this is a guess."""

    req_id: int
    ledger: Ledger
    valuation: Valuation
    next_time: float = 0.0
    sent: list[str] | None = None

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The figures, at most once a second, and only when they are others."""
        if now < self.next_time:
            return
        self.next_time = now + PNL_INTERVAL_S
        message = self.message()
        if message != self.sent:
            self.sent = message
            yield message

    def message(self) -> list[str]:
        """The figures now, in the account's base currency."""
        total = self.ledger.figures(self.valuation).total
        return messages.pnl(self.req_id, float(total.daily), float(total.unrealized), float(total.realized))


@dataclass(slots=True)
class PnlSingle(Pnl):
    """One reqPnLSingle. That it is in the account's base currency, as the account's own is, is a guess: so positions
    add up to the account."""

    con_id: int = 0

    def message(self) -> list[str]:
        """The position's figures now."""
        holding = self.ledger.holdings.get(self.con_id)
        if holding is None:
            # What is neither held nor was traded today has no figures: live gateways send their "no value" wherever a
            # figure cannot be had; that they do here, and refuse nothing, is a guess.
            return messages.pnl_single(self.req_id, 0.0, None, None, None, None)
        price = self.valuation.mark(holding.listing) if holding.held else Decimal(0)
        rate = self.valuation.rate(holding.listing.currency, self.ledger.base)
        amounts = (holding.daily(price), holding.unrealized(price), holding.realized, holding.value(price))
        return messages.pnl_single(self.req_id, holding.quantity, *(float(amount * rate) for amount in amounts))
