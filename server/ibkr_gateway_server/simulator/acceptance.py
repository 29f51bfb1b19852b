"""What a gateway says to an order before it takes it: the contract, the terms, the account's means, the preview."""

from __future__ import annotations

import math
from collections.abc import Collection

from ibkr_gateway_server.simulator.codec.orders import Preview
from ibkr_gateway_server.simulator.commissions import commission
from ibkr_gateway_server.simulator.instruments import Catalogue, ContractQuery
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.orders import KNOWN_TYPES, LIMITED, STOPS, TOUCHES, TRAILING, WORKED_TYPES, Terms
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


def tradable(catalogue: Catalogue, contract: ContractQuery) -> Listing:
    """The one contract that an order means. Raises OrderRefused."""
    matches = catalogue.match(contract)
    if not matches:
        raise OrderRefused(200, "No security definition has been found for the request")
    if len(matches) > 1:
        raise OrderRefused(200, f"The contract description specified for {contract.symbol} is ambiguous.")
    if not matches[0].is_tradable:
        raise OrderRefused(201, "Order rejected - reason:This contract is not available for trading.")
    return matches[0]


def check(terms: Terms, listing: Listing, accounts: Collection[str], market: Market) -> None:
    """Refuse terms that make no sense; fills in the account where there is but one. Raises OrderRefused."""
    _check_type(terms)
    if terms.action not in ("BUY", "SELL"):
        raise OrderRefused(321, f"{VALIDATION}Invalid action was entered")
    if terms.tif not in TIMES_IN_FORCE:
        raise OrderRefused(10052, f"Invalid time in force:{terms.tif}")
    if terms.quantity <= 0:
        raise OrderRefused(434, "The order size cannot be zero.")
    if terms.quantity % 1 and listing.sec_type != "CASH":
        text = "Fractional-sized order cannot be placed via API. Please use desktop version to place this order."
        raise OrderRefused(10243, text)
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
    for price in needed:
        if price is None:
            raise OrderRefused(321, f"{VALIDATION}Missing price of a {terms.order_type} order")
        if abs(market.rounded(listing, price) - price) > 1e-9:
            raise OrderRefused(110, OFF_STEP)


def _price(terms: Terms, listing: Listing, valuation: Valuation) -> float:
    """What the order would trade at, as a gateway reckons it."""
    return (terms.limit_price if terms.order_type in LIMITED else None) or float(valuation.mark(listing))


def _added(terms: Terms, listing: Listing, ledger: Ledger, valuation: Valuation) -> tuple[float, float, float]:
    """Initial margin, maintenance margin and equity that the order adds; less than nothing when it closes."""
    signed = terms.quantity if terms.action == "BUY" else -terms.quantity
    return ledger.added_by(listing, signed, _price(terms, listing, valuation), valuation)
