"""What a gateway says to an order before it takes it: the contract, the terms, the account's means, the preview."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.codec.orders import Preview
from ibkr_gateway_server.simulator.commissions import commission
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.orders import (
    AT_CLOSE,
    KNOWN_TYPES,
    LIMITED,
    PEGGED,
    STOPS,
    TOUCHES,
    TRAILING,
    WORKED_TYPES,
    Terms,
)
from ibkr_gateway_server.simulator.valuation import Valuation

VALIDATION = "Error validating request.-'bF' : cause - "
UNAFFORDABLE = (
    "Order rejected - reason:We are unable to accept your order. Your Available Funds are insufficient to cover the "
    "Initial Margin of this order."
)
OFF_STEP = "The price does not conform to the minimum price variation for this contract."
TIMES_IN_FORCE = frozenset({"DAY", "GTC", "IOC", "FOK", "GTD", "OPG"})


class OrderRefused(Exception):
    """An order, change or cancel that the gateway answers with an error code alone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def off_hours(terms: Terms, listing: Listing, opening: float) -> str:
    """The warning, 399, that an order waits for the market to open. Captured from a paper gateway in August 2026 for a
    stock; how other kinds of contract are named in it is a guess."""
    moment = datetime.fromtimestamp(opening, ZoneInfo(listing.time_zone))
    named = f"{listing.symbol} {listing.primary_exchange}.{listing.trading_class}"
    if listing.sec_type != "STK":
        named = f"{listing.local_symbol} {listing.exchange}"
    until = f"Your order will not be placed at the exchange until {moment:%Y-%m-%d %H:%M:%S} {listing.time_zone}."
    return f"Order Message:\n{terms.action} {terms.quantity:g} {named}\nWarning: {until}"


PRESET_TIF = (10349, "Order TIF was set to DAY based on order preset.")


def warnings_of(terms: Terms, *, had_tif: bool) -> Iterator[tuple[int, str]]:
    """What a gateway remarks on an order that it takes. Where they stand among its messages is a guess."""
    if not had_tif:
        yield PRESET_TIF
    if terms.outside_rth and terms.order_type in ("MKT", "MTL", *AT_CLOSE):
        text = (
            "Order Event Warning:Attribute 'Outside Regular Trading Hours' is ignored based on the order type and "
            "destination. PlaceOrder is now being processed."
        )
        yield 2109, text


def not_cancellable(perm_id: int) -> str:
    """Error 161, as captured, with both its spaces."""
    return f"Cancel attempted when order is not in a cancellable state.  Order permId ={perm_id}"


def tradable(catalogue: Catalogue, contract: ContractQuery, behaviour: Behaviour) -> Listing:
    """The one contract that an order means. Raises OrderRefused."""
    matches = catalogue.match(contract)
    if not matches:
        raise OrderRefused(200, "No security definition has been found for the request")
    if len(matches) > 1:
        raise OrderRefused(200, f"The contract description specified for {contract.symbol} is ambiguous.")
    if not matches[0].is_tradable:
        raise OrderRefused(201, "Order rejected - reason:This contract is not available for trading.")
    if matches[0].symbol in behaviour.not_allowed:
        text = f"The security {matches[0].symbol} is not available or allowed for this account."
        raise OrderRefused(203, text)
    return matches[0]


def check(terms: Terms, listing: Listing, accounts: Collection[str], market: Market) -> None:
    """Refuse terms that make no sense; fills in what has a default: the account where there is but one, DAY, and a
    relative order's offset. Raises OrderRefused."""
    _check_type(terms)
    if terms.action not in ("BUY", "SELL"):
        raise OrderRefused(321, f"{VALIDATION}Invalid action was entered")
    terms.tif = terms.tif or "DAY"
    if terms.tif not in TIMES_IN_FORCE:
        raise OrderRefused(10052, f"Invalid time in force:{terms.tif}")
    if terms.quantity <= 0:
        raise OrderRefused(434, "The order size cannot be zero.")
    if terms.quantity % 1 and listing.sec_type != "CASH":
        text = "Fractional-sized order cannot be placed via API. Please use desktop version to place this order."
        raise OrderRefused(10243, text)
    if terms.order_type == "REL" and not terms.aux_price:
        # Captured: a relative order without an offset came back with a cent.
        terms.aux_price = listing.min_tick
    terms.account = terms.account or (next(iter(accounts)) if len(accounts) == 1 else "")
    if not terms.account:
        raise OrderRefused(435, "You must specify an account.")
    if terms.account not in accounts:
        raise OrderRefused(321, f"{VALIDATION}Invalid account {terms.account}")
    _check_prices(terms, listing, market)


def affordable(terms: Terms, listing: Listing, ledger: Ledger, valuation: Valuation) -> bool:
    """Whether the account's available funds carry what the order adds to its position."""
    initial, _, equity = _added(terms, listing, ledger, valuation)
    return initial - equity <= max(float(ledger.figures(valuation).available), 0.0)


def preview(terms: Terms, listing: Listing, ledger: Ledger, valuation: Valuation) -> Preview:
    """A what-if's figures: margins and equity before and after in the base currency, and the commission in its own."""
    figures = ledger.figures(valuation)
    initial, maintenance, equity = _added(terms, listing, ledger, valuation)
    fee = commission(listing, terms.quantity, _price(terms, listing, valuation))
    equity -= fee * float(valuation.rate(listing.currency, ledger.base))
    before = (float(figures.initial_margin), float(figures.maintenance_margin), float(figures.equity))
    change = (initial, maintenance, equity)
    after = (before[0] + change[0], before[1] + change[1], before[2] + change[2])
    return Preview(before, change, after, fee, listing.currency)


def _check_type(terms: Terms) -> None:
    if terms.order_type not in KNOWN_TYPES:
        raise OrderRefused(321, f"{VALIDATION}Invalid order type was entered")
    if terms.order_type not in WORKED_TYPES:
        raise OrderRefused(387, "Unsupported order type for this exchange and security type.")
    if terms.unsimulated:
        raise OrderRefused(201, f"Order rejected - reason:Not simulated: {', '.join(terms.unsimulated)}.")


def _check_prices(terms: Terms, listing: Listing, market: Market) -> None:
    given = (
        terms.limit_price,
        terms.aux_price,
        terms.trail_stop_price,
        terms.trailing_percent,
        terms.limit_price_offset,
    )
    if any(price is not None and not math.isfinite(price) for price in given):
        raise OrderRefused(110, OFF_STEP)
    needed = []
    if terms.order_type in LIMITED:
        needed.append(terms.limit_price)
    if terms.order_type in STOPS | TOUCHES and terms.order_type not in TRAILING:
        needed.append(terms.aux_price)
    if terms.order_type in TRAILING and terms.aux_price is None and terms.trailing_percent is None:
        needed.append(None)
    if terms.order_type in PEGGED:
        # Their prices are bounds and offsets that need not be given; no price is 0.
        needed += [price for price in (terms.limit_price, terms.aux_price) if price]
    for price in needed:
        if price is None:
            raise OrderRefused(321, f"{VALIDATION}Missing price of a {terms.order_type} order")
        if abs(market.rounded(listing, price) - price) > 1e-9:
            raise OrderRefused(110, OFF_STEP)


def _price(terms: Terms, listing: Listing, valuation: Valuation) -> float:
    """What the order would trade at, as a gateway reckons it."""
    return (terms.limit_price if terms.order_type in LIMITED | PEGGED else None) or float(valuation.mark(listing))


def _added(terms: Terms, listing: Listing, ledger: Ledger, valuation: Valuation) -> tuple[float, float, float]:
    """Initial margin, maintenance margin and equity that the order adds; less than nothing when it closes."""
    signed = terms.quantity if terms.action == "BUY" else -terms.quantity
    return ledger.added_by(listing, signed, _price(terms, listing, valuation), valuation)
