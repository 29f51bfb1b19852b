"""What is said to who asks for data that the login does not have."""

from __future__ import annotations

from ibkr_gateway_server.simulator.listings import Listing

NOT_SUBSCRIBED = (
    "Requested market data is not subscribed. Check API status by selecting the Account menu then under Management "
    "choose Market Data Subscription Manager and/or availability of delayed data."
)
NOT_SUBSCRIBED_FOR_API = (
    "Requested market data requires additional subscription for API. See link in 'Market Data Connections' dialog for "
    "more details."
)
DELAYED_INSTEAD = "Requested market data is not subscribed. Displaying delayed market data."
DELAYED_NOT_ENABLED = "Requested market data is not subscribed. Delayed market data is not enabled."
PARTLY_SUBSCRIBED = (
    "Part of requested market data is not subscribed. Subscription-independent ticks are still active."
    "Delayed market data is available."
)
BUST = "Bust event occurred, current subscription is deactivated. Please resubscribe real-time bars immediately."
COMPETING_SESSION = "No market data during competing live session"
DUPLICATE_ID = "Error processing request.-'cl' : cause - Duplicate ticker id"


def not_subscribed(listing: Listing) -> str:
    """Error 354 with the feed that is missing."""
    return f"{NOT_SUBSCRIBED}{_feed_of(listing)}"


def partly_subscribed(listing: Listing) -> str:
    """Error 10090 with the feed that is missing."""
    return f"{PARTLY_SUBSCRIBED}{listing.symbol} {_feed_of(listing)}/ALL"


def no_permission(listing: Listing) -> str:
    """What follows the codes of single ticks and histograms."""
    venue = "ISLAND" if listing.primary_exchange == "NASDAQ" else listing.primary_exchange or listing.exchange
    return f"No market data permissions for {venue} {listing.sec_type}"


def no_such_data(kind: str, listing: Listing, exchange: str) -> str:
    """What follows the same codes when there can be no such data."""
    venue = "BEST" if exchange == "SMART" else exchange
    names = {
        "STK": "Stock",
        "FUT": "Future",
        "OPT": "Option",
        "IND": "Index",
        "CASH": "Forex",
        "BOND": "Bond",
        "FUND": "Mutual Fund",
    }
    sec_type = names.get(listing.sec_type, listing.sec_type)
    return f"No data of type {kind} is available for the exchange '{venue}' and the security type '{sec_type}'"


def _feed_of(listing: Listing) -> str:
    return f"{listing.primary_exchange}/TOP"
