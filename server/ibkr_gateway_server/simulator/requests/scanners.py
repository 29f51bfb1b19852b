"""Requests for market scans."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.codec import reference
from ibkr_gateway_server.simulator.feeds.scans import Scanning
from ibkr_gateway_server.simulator.requests.permissions import DUPLICATE_ID
from ibkr_gateway_server.simulator.scans import CODES, FILTERS, LOCATIONS, MAX_ROWS, Scan, parameters_xml
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

HMDS = "Historical Market Data Service error message:"
# Source: TWS API, market scanners.
MAX_SCANS = 10

# Fields between the volume and the list of filters: capitalisations, ratings, maturities, coupons, convertibles,
# options' volume, settings, stock types. Nothing here has any of them.
_UNUSED = 14


def parameters(session: Session, _fields: Fields) -> None:
    session.send(reference.scanner_parameters(parameters_xml()))


def subscribe(session: Session, fields: Fields) -> None:
    req_id, rows = fields.integer(), fields.integer(-1)
    instrument, location, code = fields.text(), fields.text(), fields.text()
    bounds = {"price": (fields.number(-math.inf), fields.number(math.inf))}
    bounds["volume"] = (fields.number(-math.inf), math.inf)
    fields.skip(_UNUSED)
    _narrow(bounds, fields.text())
    if session.feeds.find(Scanning, req_id) is not None:
        session.error(req_id, 322, DUPLICATE_ID)
    elif code not in CODES:
        session.error(req_id, 162, f"{HMDS}Scanner type with code {code} is disabled.")
    elif location not in LOCATIONS.get(instrument, {}):
        text = "Error: Market Scanner is not configured for one of the chosen locations."
        session.error(req_id, 162, f"{HMDS}{text}")
    elif len(session.feeds.of(Scanning)) >= MAX_SCANS:
        # A guess at code and wording.
        session.error(req_id, 322, f"Error processing request.-'cy' : cause - Max number ({MAX_SCANS}) of scans.")
    else:
        count = MAX_ROWS if rows < 1 else min(rows, MAX_ROWS)
        scan = Scan(instrument, location, code, count, tuple((name, *bound) for name, bound in bounds.items()))
        feed = Scanning(req_id, scan, session.gateway.catalogue, session.version)
        session.feeds.start(feed)
        session.send(*feed.changes(session.gateway.market, session.gateway.now))


def cancel(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    if session.feeds.stop(Scanning, req_id) is None:
        session.error(req_id, 365, f"No scanner subscription found for ticker id:{req_id}")
    else:
        # A live gateway confirms every cancel so.
        session.error(req_id, 162, f"{HMDS}API scanner subscription cancelled: {req_id}")


def _narrow(bounds: dict[str, tuple[float, float]], filters: str) -> None:
    """Add the filters "priceAbove=5;volumeAbove=1000;" to the bounds; IBKR's hundreds of others change nothing here."""
    for pair in filters.split(";"):
        tag, _, text = pair.partition("=")
        name, side = tag[:-5], tag[-5:]
        try:
            value = float(text)
        except ValueError:
            continue
        low, high = bounds.get(name, (-math.inf, math.inf))
        if name in FILTERS and side == "Above":
            bounds[name] = (max(low, value), high)
        elif name in FILTERS and side == "Below":
            bounds[name] = (low, min(high, value))
