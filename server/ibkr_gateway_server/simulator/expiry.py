"""The end of contracts that expire: positions in them are settled in cash.

Futures on indices and index options end so; options on stocks would deliver shares, which is not simulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market


def settle(ledgers: Iterable[Ledger], gone: Iterable[Listing], market: Market) -> Iterator[tuple[str, Listing]]:
    """Close what is held of expired contracts, without commission. Yields each account and contract that was."""
    for listing in gone:
        for ledger in ledgers:
            held = ledger.holdings.get(listing.con_id)
            if held is not None and held.quantity:
                ledger.fill(listing, -held.quantity, market.settlement(listing), 0.0)
                yield ledger.account, listing
