"""What the accounts hold when a simulation begins: money, and a few positions to look at."""

from __future__ import annotations

from collections.abc import Mapping

from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.valuation import PIVOT, Valuation

START_CASH = 1_000_000.0

# Symbol, kind, quantity, and what was paid as a share of the price now.
_POSITIONS = (("AAPL", "STK", 100.0, 0.97), ("SPY", "STK", 40.0, 0.985), ("MES", "FUT", 1.0, 0.995))


def opening_ledgers(
    accounts: Mapping[str, str], catalogue: Catalogue, now: Valuation, closing: Valuation
) -> dict[str, Ledger]:
    """Each account's ledger in its base currency; the first has bought something already, before the last close.

    Raises NoExchangeRate for a base currency that no listed pair leads to.
    """
    for base in accounts.values():
        now.rate(PIVOT, base)
    ledgers = {account: Ledger(account, START_CASH, base) for account, base in accounts.items()}
    first = next(iter(ledgers.values()))
    for symbol, kind, quantity, ratio in _POSITIONS:
        listing = catalogue.match(ContractQuery(symbol=symbol, sec_type=kind))[0]
        step = listing.min_tick
        first.open_at_start(listing, quantity, round(round(float(now.mark(listing)) * ratio / step) * step, 6), now)
    for ledger in ledgers.values():
        ledger.begin_day(closing)
    return ledgers
