"""Scans that go on: one reqScannerSubscription."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ibkr_gateway_server.simulator.codec import messages, reference
from ibkr_gateway_server.simulator.instruments import Catalogue
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.scans import Scan

# IBKR scans again about every half a minute, and tells what has changed.
INTERVAL_S = 30.0
NOTHING = "Historical Market Data Service query message:no items retrieved"


@dataclass(slots=True)
class Scanning:
    """A scan's rows, told again when they are others."""

    req_id: int
    scan: Scan
    catalogue: Catalogue
    version: int
    next_time: float = 0.0
    sent: Sequence[Listing] | None = None

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The rows, if they have changed; error 165 where there are none."""
        if now < self.next_time:
            return
        self.next_time = now + INTERVAL_S
        found = self.scan.run(self.catalogue, market, now)
        if found == self.sent:
            return
        self.sent = found
        if found:
            yield reference.scanner_data(self.req_id, found)
        else:
            yield messages.error(self.version, self.req_id, 165, NOTHING, now)
