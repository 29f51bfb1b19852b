"""Every way the gateway says no.

    DomainError
    ├── Invalid ............ the request is wrong: FieldsInvalid, TickSize, ContractAmbiguous, ClientOrderIdMissing, …
    ├── Missing ............ what it names is not there: ContractNotFound, OrderNotFound, AccountNotFound, NoData
    ├── Refused ............ the gateway's rules or IBKR's forbid it: TradingDisabled, MaxNotional, NotCancellable, …
    ├── Exhausted .......... a budget is used up: MarketDataLines, PacingHistorical, SlowConsumer, …
    └── Unavailable ........ not now: BrokerTimeout, AuditUnavailable, SessionEnded, …
        └── SessionAway .... until it comes: BrokerDisconnected, BrokerLinkDown, SessionSyncing

Each error is a dataclass whose fields are exactly what its text names; `rpc.status` turns it into a gRPC status by one
table. Nothing here knows gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """The reasons of the contract's ErrorReason, without their prefix."""

    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    FIELD_INVALID = "FIELD_INVALID"
    TICK_SIZE = "TICK_SIZE"
    CONTRACT_AMBIGUOUS = "CONTRACT_AMBIGUOUS"
    QUANTITY_FRACTIONAL = "QUANTITY_FRACTIONAL"
    CLIENT_ORDER_ID_MISSING = "CLIENT_ORDER_ID_MISSING"
    ACCOUNT_REQUIRED = "ACCOUNT_REQUIRED"
    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    SCOPE_MISSING = "SCOPE_MISSING"
    MARKET_DATA_NOT_SUBSCRIBED = "MARKET_DATA_NOT_SUBSCRIBED"
    CONTRACT_NOT_FOUND = "CONTRACT_NOT_FOUND"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    NO_DATA = "NO_DATA"
    CLIENT_ORDER_ID_CONFLICT = "CLIENT_ORDER_ID_CONFLICT"
    TRADING_DISABLED = "TRADING_DISABLED"
    LIVE_NOT_AUTHORIZED = "LIVE_NOT_AUTHORIZED"
    TRADING_HALTED = "TRADING_HALTED"
    ACCOUNT_MISMATCH = "ACCOUNT_MISMATCH"
    MAX_NOTIONAL = "MAX_NOTIONAL"
    MAX_SIZE = "MAX_SIZE"
    NO_REFERENCE_PRICE = "NO_REFERENCE_PRICE"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    NOT_MODIFIABLE = "NOT_MODIFIABLE"
    READ_ONLY_API = "READ_ONLY_API"
    COMPETING_SESSION = "COMPETING_SESSION"
    RECONCILIATION_REQUIRED = "RECONCILIATION_REQUIRED"
    PREVIEW_EXPIRED = "PREVIEW_EXPIRED"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    PACING_HISTORICAL = "PACING_HISTORICAL"
    MARKET_DATA_LINES = "MARKET_DATA_LINES"
    ORDER_RATE = "ORDER_RATE"
    RATE_LIMITED = "RATE_LIMITED"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    BROKER_DISCONNECTED = "BROKER_DISCONNECTED"
    BROKER_LINK_DOWN = "BROKER_LINK_DOWN"
    SESSION_SYNCING = "SESSION_SYNCING"
    RESTART_WINDOW = "RESTART_WINDOW"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    BROKER_TIMEOUT = "BROKER_TIMEOUT"
    RESUME_TOO_OLD = "RESUME_TOO_OLD"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    BUG = "BUG"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    MAX_OPEN_ORDERS = "MAX_OPEN_ORDERS"
    AUDIT_ROLLED_BACK = "AUDIT_ROLLED_BACK"


@dataclass(eq=False)
class DomainError(Exception):
    """What every refusal has: a reason, one fixed sentence, and the values that the sentence names."""

    reason: ClassVar[Reason] = Reason.BUG
    text: ClassVar[str] = "internal error"

    def __post_init__(self) -> None:
        super().__init__(self.message)

    @property
    def metadata(self) -> dict[str, str]:
        """The values the sentence names, as text; what is absent is left out."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: str(value) for name, value in values if isinstance(value, str | int | float) and value != ""}

    @property
    def message(self) -> str:
        """One sentence: what failed, with which value, what to do."""
        return self.text.format_map(_Named(self.metadata))

    def __str__(self) -> str:
        return self.message


class _Named(dict[str, str]):
    """A value that is absent is left out of the sentence instead of breaking it."""

    def __missing__(self, key: str) -> str:
        return ""


# --- Invalid: the caller must change the request -----------------------------------------------------------------


@dataclass(eq=False)
class Invalid(DomainError):
    """The request is wrong and will be wrong again."""


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field: its path in the request, and what is wrong with it and what would be right."""

    field: str
    description: str
    reason: Reason = Reason.FIELD_INVALID
    values: tuple[tuple[str, str], ...] = ()


@dataclass(eq=False)
class FieldsInvalid(Invalid):
    """One or more fields are wrong; all of them are named at once."""

    violations: tuple[FieldViolation, ...] = ()
    text: ClassVar[str] = "{fields}"

    @property
    def reason(self) -> Reason:  # type: ignore[override]  # a reason of its own when all violations share it
        """FIELD_INVALID, or the more exact reason that every violation shares."""
        reasons = {violation.reason for violation in self.violations}
        return reasons.pop() if len(reasons) == 1 else Reason.FIELD_INVALID

    @property
    def metadata(self) -> dict[str, str]:
        values = dict(self.violations[0].values) if len(self.violations) == 1 else {}
        return {"fields": ",".join(violation.field for violation in self.violations), **values}

    @property
    def message(self) -> str:
        return "; ".join(f"{violation.field}: {violation.description}" for violation in self.violations)


class Violations:
    """Gathers every wrong field of a request before refusing it."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str, reason: Reason = Reason.FIELD_INVALID, **values: str) -> None:
        """Note one wrong field; `values` are what the description names, for the error's metadata."""
        self._found.append(FieldViolation(field, description, reason, tuple(values.items())))

    def extend(self, others: Violations, *, new_fields_only: bool = False) -> None:
        """Note what others have found as well; with `new_fields_only` but of fields that are not noted as wrong yet."""
        known = {violation.field for violation in self._found} if new_fields_only else set()
        self._found += [violation for violation in others._found if violation.field not in known]

    @contextmanager
    def under(self, prefix: str) -> Iterator[Violations]:
        """Note fields of a nested message: their paths get the prefix."""
        nested = Violations()
        yield nested
        for violation in nested._found:
            self._found.append(replace(violation, field=f"{prefix}.{violation.field}"))

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raises FieldsInvalid with all of them, each once, if there is one."""
        if self._found:
            raise FieldsInvalid(tuple(dict.fromkeys(self._found)))


@dataclass(eq=False)
class RequestMalformed(Invalid):
    """The request cannot be read."""

    field: str
    problem: str
    reason: ClassVar[Reason] = Reason.REQUEST_MALFORMED
    text: ClassVar[str] = "{field}: {problem}"


@dataclass(eq=False)
class ContractAmbiguous(Invalid):
    """Several contracts match; one must be named."""

    symbol: str
    candidates: str
    reason: ClassVar[Reason] = Reason.CONTRACT_AMBIGUOUS
    text: ClassVar[str] = "{symbol} names several contracts; choose one by con_id: {candidates}"


@dataclass(eq=False)
class AccountRequired(Invalid):
    """Several accounts, and none named."""

    account_count: int
    reason: ClassVar[Reason] = Reason.ACCOUNT_REQUIRED
    text: ClassVar[str] = "this login manages {account_count} accounts; give account_id"


# --- Missing -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Missing(DomainError):
    """What the request names is not there."""


@dataclass(eq=False)
class ContractNotFound(Missing):
    """IBKR knows no such contract."""

    symbol: str
    security_type: str
    ibkr_code: int = 200
    reason: ClassVar[Reason] = Reason.CONTRACT_NOT_FOUND
    text: ClassVar[str] = (
        "IBKR knows no contract {symbol} {security_type}; check symbol, type, exchange, currency and expiry"
    )


@dataclass(eq=False)
class OrderNotFound(Missing):
    """No order has this id."""

    order: str
    reason: ClassVar[Reason] = Reason.ORDER_NOT_FOUND
    text: ClassVar[str] = "no order {order} is known here or at IBKR"


@dataclass(eq=False)
class AccountNotFound(Missing):
    """Not an account of this login; the text is the same whether it exists or not."""

    reason: ClassVar[Reason] = Reason.ACCOUNT_NOT_FOUND
    text: ClassVar[str] = "this login does not manage that account; ListAccounts names those it does"


@dataclass(eq=False)
class NoData(Missing):
    """IBKR has no data for the request."""

    request: str
    ibkr_code: int
    reason: ClassVar[Reason] = Reason.NO_DATA
    text: ClassVar[str] = "IBKR has no data for {request} (code {ibkr_code}); check period, product and what_to_show"


@dataclass(eq=False)
class NoDepth(Missing):
    """There is no order book of this instrument at its exchange."""

    instrument: str
    ibkr_code: int
    reason: ClassVar[Reason] = Reason.NO_DATA
    text: ClassVar[str] = (
        "IBKR has no order book of {instrument} at this exchange (code {ibkr_code}); name an exchange that has one"
    )


# --- Refused -----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Refused(DomainError):
    """A rule forbids it, whatever the request says."""


@dataclass(eq=False)
class MarketDataNotSubscribed(Refused):
    """No market-data subscription; the account must buy one or use delayed data."""

    symbol: str
    ibkr_code: int
    reason: ClassVar[Reason] = Reason.MARKET_DATA_NOT_SUBSCRIBED
    text: ClassVar[str] = (
        "the account has no market-data subscription for {symbol} (IBKR code {ibkr_code}); "
        "subscribe in IBKR's Account Management or set MARKET_DATA_TYPE=delayed"
    )


@dataclass(eq=False)
class RequestRejected(Invalid):
    """IBKR refuses a request with a code that says no more."""

    request: str
    ibkr_code: int
    reason: ClassVar[Reason] = Reason.REQUEST_MALFORMED
    text: ClassVar[str] = "IBKR refuses {request} with code {ibkr_code}; see IBKR's list of message codes"


@dataclass(eq=False)
class CompetingSession(Refused):
    """Another login of the user holds the market data."""

    ibkr_code: int = 10197
    reason: ClassVar[Reason] = Reason.COMPETING_SESSION
    text: ClassVar[str] = "another login of this user holds the market data (IBKR code {ibkr_code}); close it"


@dataclass(eq=False)
class ReadOnlyApi(Refused):
    """TWS has its Read-Only API setting on."""

    ibkr_code: int = 321
    reason: ClassVar[Reason] = Reason.READ_ONLY_API
    text: ClassVar[str] = "TWS has Read-Only API on (IBKR code {ibkr_code}); turn it off in its API settings"


@dataclass(eq=False)
class TokenMissing(Refused):
    """This server asks for a bearer token and none came."""

    reason: ClassVar[Reason] = Reason.TOKEN_MISSING
    text: ClassVar[str] = "this server needs a token; send the metadata authorization: Bearer <token>"


@dataclass(eq=False)
class TokenInvalid(Refused):
    """The token is not one of this server's."""

    reason: ClassVar[Reason] = Reason.TOKEN_INVALID
    text: ClassVar[str] = "the token is not known here; have the operator issue one"


@dataclass(eq=False)
class TokenExpired(Refused):
    """The token was one of this server's."""

    reason: ClassVar[Reason] = Reason.TOKEN_EXPIRED
    text: ClassVar[str] = "the token has expired; have the operator issue a new one"


@dataclass(eq=False)
class ScopeMissing(Refused):
    """The caller may not do this."""

    scope: str
    reason: ClassVar[Reason] = Reason.SCOPE_MISSING
    text: ClassVar[str] = "this needs the scope {scope}"


@dataclass(eq=False)
class ClientOrderIdConflict(Refused):
    """The same key names another order."""

    client_order_id: str
    reason: ClassVar[Reason] = Reason.CLIENT_ORDER_ID_CONFLICT
    text: ClassVar[str] = "client_order_id {client_order_id} was used for another order; make a new id for a new order"


@dataclass(eq=False)
class TradingDisabled(Refused):
    """ORDERS_ENABLED is false."""

    setting: str = "ORDERS_ENABLED"
    reason: ClassVar[Reason] = Reason.TRADING_DISABLED
    text: ClassVar[str] = "orders are disabled; set {setting}=true, on a paper account first"


@dataclass(eq=False)
class LiveNotAuthorized(Refused):
    """One of the conditions for live trading is missing."""

    missing: str
    reason: ClassVar[Reason] = Reason.LIVE_NOT_AUTHORIZED
    text: ClassVar[str] = "live trading is not authorized: {missing}"


@dataclass(eq=False)
class AccountMismatch(Refused):
    """A live account where paper is configured, or the reverse."""

    expected: str
    reason: ClassVar[Reason] = Reason.ACCOUNT_MISMATCH
    text: ClassVar[str] = "the account is not a {expected} account; correct IBKR_GATEWAY_PORT or TRADING_MODE"


@dataclass(eq=False)
class AccountNotPinned(Refused):
    """The login does not have the account that is set."""

    setting: str = "IBKR_ACCOUNT"
    reason: ClassVar[Reason] = Reason.ACCOUNT_MISMATCH
    text: ClassVar[str] = "the login of TWS does not have the account that {setting} names; log in to the right one"


@dataclass(eq=False)
class AccountGone(Refused):
    """TWS came back with another login."""

    missing_count: int
    reason: ClassVar[Reason] = Reason.ACCOUNT_MISMATCH
    text: ClassVar[str] = (
        "TWS came back without {missing_count} of the accounts it had when the gateway started; "
        "log in to the same user, or restart the gateway"
    )


@dataclass(eq=False)
class MaxNotional(Refused):
    """The order is worth more than allowed."""

    notional: str
    limit: str
    reason: ClassVar[Reason] = Reason.MAX_NOTIONAL
    text: ClassVar[str] = "the order is worth {notional}, more than MAX_NOTIONAL={limit}; nothing was sent"


@dataclass(eq=False)
class MaxSize(Refused):
    """The quantity is above the limit."""

    quantity: str
    limit: str
    reason: ClassVar[Reason] = Reason.MAX_SIZE
    text: ClassVar[str] = "quantity {quantity} is above MAX_SIZE_PER_SYMBOL={limit}; nothing was sent"


@dataclass(eq=False)
class NoReferencePrice(Refused):
    """A limit on value is set and there is no fresh price to value the order by."""

    symbol: str
    reason: ClassVar[Reason] = Reason.NO_REFERENCE_PRICE
    text: ClassVar[str] = "MAX_NOTIONAL is set and {symbol} has no fresh price to value the order by; nothing was sent"


@dataclass(eq=False)
class NotCancellable(Refused):
    """The order is in a final state."""

    state: str
    reason: ClassVar[Reason] = Reason.NOT_CANCELLABLE
    text: ClassVar[str] = "the order cannot be cancelled: it is {state}"


@dataclass(eq=False)
class NotModifiable(Refused):
    """The order is in a state, or the change of a kind, that allows none."""

    state: str
    why: str = ""
    reason: ClassVar[Reason] = Reason.NOT_MODIFIABLE
    text: ClassVar[str] = "the order is {state} and cannot be changed so; {why}"


@dataclass(eq=False)
class ReconciliationRequired(Refused):
    """Something that this command builds on is not known for sure yet."""

    client_order_id: str
    why: str = ""
    reason: ClassVar[Reason] = Reason.RECONCILIATION_REQUIRED
    text: ClassVar[str] = "{why}; wait until the evidence about {client_order_id} is in"


@dataclass(eq=False)
class PreviewExpired(Refused):
    """The preview that this order refers to is not one that it can be placed by."""

    why: str
    reason: ClassVar[Reason] = Reason.PREVIEW_EXPIRED
    text: ClassVar[str] = "the preview token {why}; preview the order again"


@dataclass(eq=False)
class TradingHalted(Refused):
    """Somebody has stopped trading."""

    level: str
    since: str
    reason: ClassVar[Reason] = Reason.TRADING_HALTED
    text: ClassVar[str] = (
        "trading is halted ({level}) since {since}; cancels go on, and someone with admin scope resumes the rest"
    )


@dataclass(eq=False)
class DuplicateOrder(Refused):
    """The same order was placed a moment ago under another key, which the operator's window does not allow."""

    client_order_id: str
    window_s: float
    reason: ClassVar[Reason] = Reason.DUPLICATE_ORDER
    text: ClassVar[str] = (
        "the same order was placed as {client_order_id} within the last {window_s} s; wait if a second one is meant"
    )


@dataclass(eq=False)
class MaxOpenOrders(Refused):
    """IBKR takes only so many open orders of one contract, side and account."""

    open_count: int
    limit: int
    reason: ClassVar[Reason] = Reason.MAX_OPEN_ORDERS
    text: ClassVar[str] = (
        "{open_count} orders of this contract and side are open; {limit} are allowed: cancel one first"
    )


@dataclass(eq=False)
class AuditRolledBack(Refused):
    """The record has fewer events than it once had."""

    head_sequence: int
    watermark_sequence: int
    reason: ClassVar[Reason] = Reason.AUDIT_ROLLED_BACK
    text: ClassVar[str] = (
        "the record ends at {head_sequence} and once had {watermark_sequence} events; reconcile it, then accept that"
    )


@dataclass(eq=False)
class OrderIdsExhausted(Refused):
    """TWS counts order ids in 31 bits and repeats them silently beyond."""

    order_id: int
    reason: ClassVar[Reason] = Reason.RECONCILIATION_REQUIRED
    text: ClassVar[str] = "order id {order_id} is too high; reset the API order id sequence in TWS's API settings"


# --- Exhausted ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Exhausted(DomainError):
    """A budget is used up; `retry_after_s`, where known, says for how long."""


@dataclass(eq=False)
class MarketDataLines(Exhausted):
    """All lines are in use."""

    used: int
    limit: int
    reason: ClassVar[Reason] = Reason.MARKET_DATA_LINES
    text: ClassVar[str] = "{used} of {limit} market-data lines are in use; end a subscription"


@dataclass(eq=False)
class SubscriptionsInUse(Exhausted):
    """All subscriptions of a kind of its own are in use: order books, bars that are kept up to date."""

    kind: str
    used: int
    limit: int
    reason: ClassVar[Reason] = Reason.MARKET_DATA_LINES
    text: ClassVar[str] = "{used} of {limit} {kind} are in use; end one"


@dataclass(eq=False)
class TooManySubscriptions(Exhausted):
    """One connection has as many as it may."""

    limit: int
    reason: ClassVar[Reason] = Reason.TOO_MANY_STREAMS
    text: ClassVar[str] = "a connection has at most {limit} subscriptions; end one, or open another connection"


@dataclass(eq=False)
class PacingHistorical(Exhausted):
    """IBKR's rule for historical requests."""

    retry_after_s: float
    is_ibkrs: bool = False
    """IBKR has said so; otherwise the request was not sent."""
    reason: ClassVar[Reason] = Reason.PACING_HISTORICAL
    text: ClassVar[str] = "IBKR's historical-data pacing allows no more now; retry in {retry_after_s} s"


@dataclass(eq=False)
class OrderRate(Exhausted):
    """No room for the order's message within its wait; nothing was sent."""

    retry_after_s: float
    reason: ClassVar[Reason] = Reason.ORDER_RATE
    text: ClassVar[str] = "too many order messages at this moment, nothing was sent; retry in {retry_after_s} s"


@dataclass(eq=False)
class RateLimited(Exhausted):
    """No room for the request's message within its wait."""

    retry_after_s: float
    reason: ClassVar[Reason] = Reason.RATE_LIMITED
    text: ClassVar[str] = "too many requests at this moment; retry in {retry_after_s} s"


@dataclass(eq=False)
class SlowConsumer(Exhausted):
    """The reader fell too far behind a stream that loses nothing."""

    resume_after_sequence: int
    reason: ClassVar[Reason] = Reason.SLOW_CONSUMER
    text: ClassVar[str] = "the reader fell behind; resume after sequence {resume_after_sequence}"


@dataclass(eq=False)
class ReaderTooSlow(Exhausted):
    """The reader fell too far behind a stream that has no record to resume from."""

    waiting_limit: int
    reason: ClassVar[Reason] = Reason.SLOW_CONSUMER
    text: ClassVar[str] = "the reader fell behind by more than {waiting_limit} events; subscribe again and read faster"


# --- Unavailable -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Unavailable(DomainError):
    """Not now; the same request may succeed later."""


@dataclass(eq=False)
class SessionAway(Unavailable):
    """The session with IBKR is not there yet, or not at the moment; it comes by itself, and waiting mends this."""


@dataclass(eq=False)
class BrokerDisconnected(SessionAway):
    """No connection to TWS or IB Gateway."""

    host: str = ""
    port: int | str = ""
    reason: ClassVar[Reason] = Reason.BROKER_DISCONNECTED
    text: ClassVar[str] = (
        "not connected to TWS or IB Gateway at {host}:{port}; the gateway reconnects by itself, "
        "check that it runs there with its API enabled"
    )


@dataclass(eq=False)
class SessionEnded(Unavailable):
    """The session has ended for good; only a person can help."""

    why: str
    reason: ClassVar[Reason] = Reason.BROKER_DISCONNECTED
    text: ClassVar[str] = "{why}; correct that and restart the gateway, it does not try again by itself"


@dataclass(eq=False)
class RestartWindow(Unavailable):
    """A planned restart of TWS."""

    setting: str = "RESTART_WINDOW"
    reason: ClassVar[Reason] = Reason.RESTART_WINDOW
    text: ClassVar[str] = "TWS restarts as {setting} says, and orders are not sent meanwhile; retry when it is back"


@dataclass(eq=False)
class BrokerLinkDown(SessionAway):
    """TWS has lost its link to IBKR."""

    ibkr_code: int = 1100
    reason: ClassVar[Reason] = Reason.BROKER_LINK_DOWN
    text: ClassVar[str] = "TWS has lost its link to IBKR (code {ibkr_code}); retry when it is restored"


@dataclass(eq=False)
class SessionSyncing(SessionAway):
    """Connected, not yet read in."""

    state: str
    reason: ClassVar[Reason] = Reason.SESSION_SYNCING
    text: ClassVar[str] = "the session with TWS is {state}; retry in seconds"


@dataclass(eq=False)
class BrokerTimeout(Unavailable):
    """IBKR did not answer in time."""

    request: str
    timeout_s: float
    reason: ClassVar[Reason] = Reason.BROKER_TIMEOUT
    text: ClassVar[str] = "IBKR did not answer {request} within {timeout_s} s"


@dataclass(eq=False)
class BadBar(Unavailable):
    """One of the bars TWS sent cannot be read, so none is returned."""

    index: int
    instrument: str
    reason: ClassVar[Reason] = Reason.BROKER_TIMEOUT
    text: ClassVar[str] = "bar {index} of {instrument} cannot be read; ask again"


@dataclass(eq=False)
class AnswerUnreadable(Unavailable):
    """Part of an answer of TWS's cannot be read, so none of it is returned."""

    request: str
    reason: ClassVar[Reason] = Reason.BROKER_TIMEOUT
    text: ClassVar[str] = "part of TWS's answer to {request} cannot be read; ask again"


@dataclass(eq=False)
class AuditUnavailable(Unavailable):
    """The record cannot be written; without it no order leaves."""

    reason: ClassVar[Reason] = Reason.AUDIT_UNAVAILABLE
    text: ClassVar[str] = "the audit store cannot be written, so nothing was sent; free disk space or repair it"


@dataclass(eq=False)
class ShuttingDown(Unavailable):
    """The gateway is stopping."""

    reason: ClassVar[Reason] = Reason.SHUTTING_DOWN
    text: ClassVar[str] = "the gateway is stopping; connect again later"


@dataclass(eq=False)
class NotImplementedYet(DomainError):
    """The contract has the RPC, this version does not serve it."""

    rpc: str
    reason: ClassVar[Reason] = Reason.NOT_IMPLEMENTED
    text: ClassVar[str] = "{rpc} is in the contract but this version of the server does not serve it yet"


@dataclass(eq=False)
class ResumeTooOld(DomainError):
    """The cursor is older than what is kept."""

    oldest_sequence: int
    reason: ClassVar[Reason] = Reason.RESUME_TOO_OLD
    text: ClassVar[str] = "events before sequence {oldest_sequence} are not kept; start without a cursor"
