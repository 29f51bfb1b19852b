"""What the accounts hold when a simulation begins: money, and a few positions to look at."""

from __future__ import annotations

from collections.abc import Sequence

from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.market import Market

START_CASH = 1_000_000.0

# Symbol, kind, quantity, and what was paid as a share of the price now.
_POSITIONS = (("AAPL", "STK", 100.0, 0.97), ("SPY", "STK", 40.0, 0.985), ("MES", "FUT", 1.0, 0.995))


def opening_ledgers(accounts: Sequence[str], catalogue: Catalogue, market: Market, now: float) -> dict[str, Ledger]:
    """Each account's ledger; the first one has bought something with its money already."""
    ledgers = {account: Ledger(account, START_CASH) for account in accounts}
    first = ledgers[accounts[0]]
    for symbol, kind, quantity, ratio in _POSITIONS:
        listing = catalogue.match(ContractQuery(symbol=symbol, sec_type=kind))[0]
        prices = market.prices(listing, now)
        cost = market.rounded(listing, prices.mark * ratio)
        first.open_at_start(listing, quantity, cost, prices.close)
        if kind != "FUT":
            first.cash -= quantity * cost
    return ledgers
