"""IBKR's message codes: what each means, in one table.

Most codes are notices and change nothing. An order is rejected by few; a request fails by some. What is not in the
table fails the request it speaks of and leaves orders alone. Sources: TWS API message codes page; live captures.
"""

from __future__ import annotations

from collections.abc import Callable

from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    CompetingSession,
    ContractAmbiguous,
    ContractNotFound,
    DomainError,
    FieldsInvalid,
    FieldViolation,
    MarketDataLines,
    MarketDataNotSubscribed,
    NoData,
    NoDepth,
    PacingHistorical,
    RateLimited,
    ReadOnlyApi,
    RequestRejected,
    SubscriptionsInUse,
)

# Codes that tell something and change nothing, beside 2100-2169 and 2174 (time zone missing in a request).
NOTICES = frozenset(
    {
        165,  # historical data service: query message
        202,  # order cancelled: the status says so too
        399,  # order message: held until the exchange opens, and the like
        404,  # shares are being located for a short sale
        10090,  # part of the market data is not subscribed; the rest flows
        10091,  # the same, with delayed data in its place
        10167,  # not subscribed, delayed data follows
        10349,  # time in force was set by a preset; the order works
        2174,
    }
)
CONNECTIVITY = range(2100, 2170)

# Codes by which IBKR refuses an order that it has not acknowledged.
REJECTIONS = frozenset(
    {
        109,  # price is out of the range defined by the precautionary settings
        110,  # price does not conform to the minimum price variation
        111,  # time in force and order type are incompatible
        116,  # order cannot be transmitted to a dead exchange
        140,  # size should be an integer
        141,  # price should be a double
        145,  # error in validating entry fields
        163,  # price would violate the percentage constraint
        200,  # no security definition
        201,  # order rejected
        203,  # security is not available or allowed for this account
        321,  # server error when validating an API client request
        322,  # server error when processing an API client request
        387,  # unsupported order type for this exchange and security type
        388,  # order size is smaller than the minimum requirement
        434,  # order size cannot be zero
        460,  # no trading permission
        461,  # display size is larger than the order size
        10052,  # invalid time in force
        10243,  # fractional-sized order cannot be placed via API
    }
    # Validations of single order fields (source: TWS API message codes, 325 to 353 and 391 to 429).
    | {*range(325, 354)} - {329}
    | {*range(391, 430)} - {399, 404, 420}
)

_NOT_SUBSCRIBED = (354, 10089, 10168, 10186, 10187)


def is_notice(code: int) -> bool:
    """True when the code changes nothing: neither an order's state nor a request's fate."""
    return code in NOTICES or code in CONNECTIVITY


def is_rejection(code: int) -> bool:
    """True when the code refuses an order that IBKR has not acknowledged."""
    return code in REJECTIONS


def is_read_only(code: int, text: str) -> bool:
    """Whether TWS says that its Read-Only API setting is on; the code alone means many things."""
    return code == 321 and "read-only" in text.lower()


def request_error(code: int, text: str, about: str, request: str) -> DomainError:
    """What a request fails with. `about` names the instrument; `text` is IBKR's, of which only its meaning is kept."""
    if code == 162:
        return _historical_error(code, text, about)
    if is_read_only(code, text):
        return ReadOnlyApi(code)
    make = _REQUEST_ERRORS.get(code)
    return make(code, text, about) if make else RequestRejected(request, code)


def _historical_error(code: int, text: str, about: str) -> DomainError:
    """One code, many meanings: only the text tells pacing from permission from emptiness."""
    lowered = text.lower()
    if "pacing" in lowered:
        return PacingHistorical(retry_after_s=60.0, is_ibkrs=True)
    if "permission" in lowered or "subscri" in lowered:
        return MarketDataNotSubscribed(about, code)
    if "different ip" in lowered or "competing" in lowered:
        return CompetingSession(code)
    return NoData(about, code)


def _real_time_error(code: int, text: str, about: str) -> DomainError:
    """Invalid real-time query: pacing or permission, as the text says."""
    return RateLimited(retry_after_s=15.0) if "pacing" in text.lower() else MarketDataNotSubscribed(about, code)


def _tick_error(code: int, text: str, about: str) -> DomainError:
    """Single ticks: not allowed, or there are none of this kind, as the text says."""
    return NoData(about, code) if "not supported" in text.lower() else MarketDataNotSubscribed(about, code)


def _contract_error(code: int, text: str, about: str) -> DomainError:
    if "ambiguous" in text.lower():
        return ContractAmbiguous(about, "IBKR does not list them")
    symbol, _, security_type = about.partition(" ")
    return ContractNotFound(symbol, security_type, code)


def _invalid(_code: int, text: str, _about: str) -> DomainError:
    # IBKR's validation names the field in words only; its sentence is the most exact thing there is to say.
    return FieldsInvalid((FieldViolation("request", f"IBKR refuses it: {text.partition('cause - ')[2] or text}"),))


_REQUEST_ERRORS: dict[int, Callable[[int, str, str], DomainError]] = {
    100: lambda _code, _text, _about: RateLimited(retry_after_s=1.0),
    101: lambda _code, _text, _about: MarketDataLines(100, 100),
    200: _contract_error,
    309: lambda _code, _text, _about: SubscriptionsInUse("order books", 3, 3),
    321: _invalid,
    366: lambda code, _text, about: NoData(about, code),
    420: _real_time_error,
    504: lambda _code, _text, _about: BrokerDisconnected(),
    10092: lambda code, _text, about: NoDepth(about, code),
    10189: _tick_error,
    10190: lambda _code, _text, _about: MarketDataLines(100, 100),
    10197: lambda code, _text, _about: CompetingSession(code),
    **dict.fromkeys(_NOT_SUBSCRIBED, lambda code, _text, about: MarketDataNotSubscribed(about, code)),
}
