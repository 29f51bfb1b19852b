"""Server messages of what goes with market data: venues, news, scans, advisors, display groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.wire import plain

# Plain text, or a page of HTML as it comes from most providers.
TEXT = 0
# An archive's number and a language: of English headlines, as captured.
ABOUT = "A:800015:L:en"


def market_depth_exchanges(venues: Sequence[tuple[str, str, str, int]]) -> list[str]:
    """80. Each venue is its exchange, security type, service and aggregated group."""
    rows = ([exchange, sec_type, "", service, str(group)] for exchange, sec_type, service, group in venues)
    return ["80", str(len(venues)), *_flat(rows)]


def smart_components(req_id: int, components: Sequence[tuple[str, str]]) -> list[str]:
    """82. Each component is an exchange and its letter; its bit is its place."""
    rows = ([str(bit), exchange, letter] for bit, (exchange, letter) in enumerate(components))
    return ["82", str(req_id), str(len(components)), *_flat(rows)]


def news_providers(providers: Sequence[tuple[str, str]]) -> list[str]:
    """85. Each provider is its code and its name."""
    return ["85", str(len(providers)), *_flat(providers)]


def historical_news(req_id: int, time: float, provider: str, article_id: str, headline: str) -> list[str]:
    """86: one headline, its time in UTC as "2026-03-23 13:25:15.0"; in braces before it, what its archive says."""
    moment = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S.0")
    return ["86", str(req_id), moment, provider, article_id, f"{{{ABOUT}}}{headline}"]


def historical_news_end(req_id: int, *, has_more: bool) -> list[str]:
    """87."""
    return ["87", str(req_id), "1" if has_more else "0"]


def news_article(req_id: int, text: str) -> list[str]:
    """83: the whole of one article."""
    return ["83", str(req_id), str(TEXT), text]


def tick_news(req_id: int, time: float, provider: str, article_id: str, headline: str) -> list[str]:
    """84: a headline as it comes in, its time in milliseconds."""
    return ["84", str(req_id), str(int(time * 1000)), provider, article_id, headline, ABOUT]


def news_bulletin(number: int, kind: int, text: str, exchange: str) -> list[str]:
    """14. Kinds: 1 regular, 2 an exchange is not available, 3 it is again."""
    return ["14", "1", str(number), str(kind), text, exchange]


def scanner_parameters(xml: str) -> list[str]:
    """19."""
    return ["19", "1", xml]


def scanner_data(req_id: int, found: Sequence[Listing]) -> list[str]:
    """20: what a scan found, the best first. Distance, benchmark, projection and legs are of other scans."""
    rows = (
        [
            *(str(rank), str(listing.con_id), listing.symbol, listing.sec_type, listing.expiry, plain(listing.strike)),
            *(listing.right, listing.exchange, listing.currency, listing.local_symbol, listing.market_name),
            *(listing.trading_class, "", "", "", ""),
        ]
        for rank, listing in enumerate(found)
    )
    return ["20", "3", str(req_id), str(len(found)), *_flat(rows)]


def display_groups(req_id: int, groups: Sequence[int]) -> list[str]:
    """67: the groups' ids, the most used first."""
    return ["67", "1", str(req_id), "|".join(map(str, groups))]


def display_group_updated(req_id: int, contract: str) -> list[str]:
    """68: what a group shows: "none", or "conId@exchange"."""
    return ["68", "1", str(req_id), contract]


def verify_completed(message_id: int, text: str) -> list[str]:
    """66 and 70: a program's proof of who it is was not taken."""
    return [str(message_id), "1", "false", text]


def _flat(rows: Iterable[Sequence[str]]) -> list[str]:
    return [field for row in rows for field in row]
