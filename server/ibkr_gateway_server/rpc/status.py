"""From a domain error to a gRPC status: one table, and the details that clients read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from ibkr_gateway.v1 import error_reason_pb2

from ibkr_gateway_server.domain.errors import DomainError, FieldsInvalid, Reason, Refused
from ibkr_gateway_server.logs import redact

if TYPE_CHECKING:
    from google.protobuf.message import Message

log = logging.getLogger(__name__)

DOMAIN = "ibkr-gateway"

# Clients refuse metadata above 8 KiB; the details travel in it, base64-encoded, so about 6 KiB may be said.
MAX_TEXT = 500
MAX_VALUE = 300
MAX_VIOLATIONS = 12
MAX_DESCRIPTION = 150

_C = grpc.StatusCode
CODES: dict[Reason, grpc.StatusCode] = {
    **dict.fromkeys(
        (
            Reason.REQUEST_MALFORMED,
            Reason.FIELD_INVALID,
            Reason.TICK_SIZE,
            Reason.CONTRACT_AMBIGUOUS,
            Reason.QUANTITY_FRACTIONAL,
            Reason.CLIENT_ORDER_ID_MISSING,
            Reason.ACCOUNT_REQUIRED,
        ),
        _C.INVALID_ARGUMENT,
    ),
    **dict.fromkeys((Reason.TOKEN_MISSING, Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED), _C.UNAUTHENTICATED),
    **dict.fromkeys((Reason.SCOPE_MISSING, Reason.MARKET_DATA_NOT_SUBSCRIBED), _C.PERMISSION_DENIED),
    **dict.fromkeys(
        (Reason.CONTRACT_NOT_FOUND, Reason.ORDER_NOT_FOUND, Reason.ACCOUNT_NOT_FOUND, Reason.NO_DATA), _C.NOT_FOUND
    ),
    Reason.CLIENT_ORDER_ID_CONFLICT: _C.ALREADY_EXISTS,
    **dict.fromkeys(
        (
            Reason.TRADING_DISABLED,
            Reason.LIVE_NOT_AUTHORIZED,
            Reason.TRADING_HALTED,
            Reason.ACCOUNT_MISMATCH,
            Reason.MAX_NOTIONAL,
            Reason.MAX_SIZE,
            Reason.NO_REFERENCE_PRICE,
            Reason.NOT_CANCELLABLE,
            Reason.NOT_MODIFIABLE,
            Reason.READ_ONLY_API,
            Reason.COMPETING_SESSION,
            Reason.RECONCILIATION_REQUIRED,
            Reason.PREVIEW_EXPIRED,
            Reason.APPROVAL_REQUIRED,
            Reason.DUPLICATE_ORDER,
            Reason.MAX_OPEN_ORDERS,
            Reason.AUDIT_ROLLED_BACK,
        ),
        _C.FAILED_PRECONDITION,
    ),
    **dict.fromkeys(
        (
            Reason.PACING_HISTORICAL,
            Reason.MARKET_DATA_LINES,
            Reason.ORDER_RATE,
            Reason.RATE_LIMITED,
            Reason.TOO_MANY_STREAMS,
            Reason.MESSAGE_TOO_LARGE,
            Reason.SLOW_CONSUMER,
        ),
        _C.RESOURCE_EXHAUSTED,
    ),
    **dict.fromkeys(
        (
            Reason.BROKER_DISCONNECTED,
            Reason.BROKER_LINK_DOWN,
            Reason.SESSION_SYNCING,
            Reason.RESTART_WINDOW,
            Reason.AUDIT_UNAVAILABLE,
            Reason.SHUTTING_DOWN,
        ),
        _C.UNAVAILABLE,
    ),
    Reason.BROKER_TIMEOUT: _C.DEADLINE_EXCEEDED,
    Reason.RESUME_TOO_OLD: _C.OUT_OF_RANGE,
    Reason.NOT_IMPLEMENTED: _C.UNIMPLEMENTED,
    Reason.BUG: _C.INTERNAL,
}


def gateway_error(error: DomainError, correlation_id: str) -> error_reason_pb2.GatewayError:
    """The error as the contract's own message."""
    details = {name: redact(value)[:MAX_VALUE] for name, value in error.metadata.items()}
    return error_reason_pb2.GatewayError(
        error_code=error.reason, message=_text(error), details={**details, "correlation_id": correlation_id}
    )


def rpc_error(error: DomainError, correlation_id: str) -> grpc.Status:
    """The error as a gRPC status with its details."""
    plain = gateway_error(error, correlation_id)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(plain.details)),
        plain,
    ]
    if isinstance(error, FieldsInvalid):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=violation.field, description=violation.description[:MAX_DESCRIPTION], reason=violation.reason
            )
            for violation in error.violations[:MAX_VIOLATIONS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, Refused):
        violation = error_details_pb2.PreconditionFailure.Violation(type=error.reason, description=_text(error))
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    code = CODES[error.reason]
    status = Status(code=code.value[0], message=_text(error), details=[_packed(detail) for detail in details])
    return rpc_status.to_status(status)


class Bug(DomainError):
    """A defect of ours; all that leaves is the correlation id."""

    reason = Reason.BUG
    text = "internal error; its log line is found by the correlation id"


def bug(error: BaseException) -> Bug:
    """Log a defect with the place it came from, without values, and give the error that may leave."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    log.error("a defect", extra={"error": type(error).__name__, "trace": " > ".join(frames[-12:])})
    log.debug("the defect in its own words", exc_info=error)
    return Bug()


def _text(error: DomainError) -> str:
    return redact(error.message)[:MAX_TEXT]


def _packed(message: Message) -> PackedAny:
    packed = PackedAny()
    packed.Pack(message)
    return packed
