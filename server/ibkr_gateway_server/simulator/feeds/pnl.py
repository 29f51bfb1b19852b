"""Profit and loss: of an account, or of one of its positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market

PNL_INTERVAL_S = 1.0


@dataclass(slots=True)
class Pnl:
    """One reqPnL (no listing) or reqPnLSingle."""

    req_id: int
    ledger: Ledger
    con_id: int
    next_time: float = 0.0

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The figures, once a second."""
        if now < self.next_time:
            return
        self.next_time = now + PNL_INTERVAL_S

        def mark(listing: Listing) -> float:
            return market.prices(listing, now).mark

        if not self.con_id:
            figures = self.ledger.figures(mark)
            yield messages.pnl(self.req_id, figures.daily, figures.unrealized, figures.realized)
        elif (holding := self.ledger.holdings.get(self.con_id)) is not None:
            price = mark(holding.listing)
            value = holding.value(price)
            daily, gain = value - holding.day_base, holding.unrealized(price)
            yield messages.pnl_single(self.req_id, holding.quantity, daily, gain, holding.realized, value)
