"""What faults say to requests: under which id, with which text."""

from __future__ import annotations

from ibkr_gateway_server.simulator.acceptance import VALIDATION
from ibkr_gateway_server.simulator.requests import permissions

READ_ONLY = f"{VALIDATION}The API interface is currently in Read-Only mode."
IN_USE = "Unable to connect as the client id is already in use. Retry with a unique client id."
TOO_FAST = "Max rate of messages per second has been exceeded:max=50 rec=51 (1)"
PACING = "Historical Market Data Service error message:Historical data request pacing violation"
LIVE_UPDATES_LOST = "Failed to request live updates (disconnected)."

# What gateways say with a code, where it is the same for every request.
_TEXTS = {
    100: TOO_FAST,
    101: "Max number of tickers has been reached",
    103: "Duplicate order id",
    110: "The price does not conform to the minimum price variation for this contract.",
    162: PACING,
    200: "No security definition has been found for the request",
    201: "Order rejected - reason:",
    321: READ_ONLY,
    354: permissions.NOT_SUBSCRIBED,
    366: "No historical data query found for ticker id",
    420: "Invalid Real-time Query:Historical data request pacing violation",
    10089: permissions.NOT_SUBSCRIBED_FOR_API,
    10090: permissions.PARTLY_SUBSCRIBED,
    10167: permissions.DELAYED_INSTEAD,
    10168: permissions.DELAYED_NOT_ENABLED,
    10197: permissions.COMPETING_SESSION,
}
# Where a request's id stands among the fields behind the message's: behind a version, or at once. Others have none.
_BEHIND_VERSION = frozenset({1, 2, 7, 9, 10, 11, 23, 25, 50, 51, 54, 55, 56, 57, 62, 63, 74, 75, 76, 77, 52, 53, 21})
_FIRST = frozenset({3, 20, 22, 78, 79, 81, 83, 84, 86, 87, 88, 89, 90, 92, 93, 94, 95, 96, 97, 98, 100, 102, 104})
_CANCEL_ORDER = 4
# cancelOrder has had no version field since. Source: the conditions of the public clients' encoders.
_CANCEL_WITHOUT_VERSION = 192


def text_of(code: int, text: str) -> str:
    """A rule's own text, or the one that gateways send with the code."""
    return text or _TEXTS.get(code, "Simulated error.")


def id_of(message_id: int, fields: list[str], version: int) -> int:
    """The id that an error about a request carries, its order's or its own; -1: none. `fields` begin behind the id of
    the message."""
    is_behind = message_id in _BEHIND_VERSION or (message_id == _CANCEL_ORDER and version < _CANCEL_WITHOUT_VERSION)
    if not is_behind and message_id not in _FIRST and message_id != _CANCEL_ORDER:
        return -1
    place = 1 if is_behind else 0
    text = fields[place] if place < len(fields) else ""
    is_number = text.removeprefix("-").isdigit() and text.isascii() and len(text) < 12
    return int(text) if is_number else -1
