"""Errors of the gateway as exceptions, one class for each way to react.

    GatewayError
    ├── InvalidRequest ..... correct the request (fields names every wrong one)
    ├── NotFound ........... what it names is not there
    ├── Conflict ........... the client_order_id was used for another order
    ├── Unauthenticated .... no valid token
    ├── Refused ............ a rule of the gateway or of IBKR forbids it
    ├── Exhausted .......... a budget is used up (retry_after_s, where known)
    ├── Unavailable ........ not now
    ├── TimedOut ........... no answer in time
    └── NotServed .......... this version of the server does not serve the RPC

`reason` is the contract's ErrorReason without its prefix; empty when the status did not come from a gateway (a broken
connection, the caller's own deadline): then it is not known whether an order was sent, and the same client_order_id
must be used again.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

DOMAIN = "ibkr-gateway"
_DETAILS_KEY = "grpc-status-details-bin"


class GatewayError(Exception):
    """What the gateway, or the way to it, answered instead of a result."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        details: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.details = details or {}
        self.fields = fields or {}
        self.retry_after_s = retry_after_s

    @property
    def correlation_id(self) -> str:
        """By which the server's log and record know the call."""
        return self.details.get("correlation_id", "")


class InvalidRequest(GatewayError):
    """The request is wrong; `fields` has every wrong field with what is wrong."""


class NotFound(GatewayError):
    """What the request names is not there."""


class Conflict(GatewayError):
    """The client_order_id was used for another order."""


class Unauthenticated(GatewayError):
    """No valid token."""


class Refused(GatewayError):
    """A rule of the gateway or of IBKR forbids it."""


class Exhausted(GatewayError):
    """A budget is used up; `retry_after_s`, where known, says for how long."""


class Unavailable(GatewayError):
    """Not now: the gateway or IBKR cannot be reached."""


class TimedOut(GatewayError):
    """No answer in time."""


class NotServed(GatewayError):
    """This version of the server does not serve the RPC."""


_CLASSES: dict[grpc.StatusCode, type[GatewayError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.UNIMPLEMENTED: NotServed,
}


def from_rpc_error(error: grpc.RpcError) -> GatewayError:
    """The exception for a call's error: its class from the status, its reason and values from the details."""
    code = _called(error, "code") or grpc.StatusCode.UNKNOWN
    message = _called(error, "details") or code.name
    found: dict[str, Any] = {}
    for key, value in _called(error, "trailing_metadata") or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            found = _read(Status.FromString(value))
    return _CLASSES.get(code, GatewayError)(message, code=code, **found)


def _read(status: Status) -> dict[str, Any]:
    found: dict[str, Any] = {}
    info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            found |= {"reason": info.reason, "details": dict(info.metadata)}
        elif detail.Unpack(fields):
            found["fields"] = {violation.field: violation.description for violation in fields.field_violations}
        elif detail.Unpack(retry):
            found["retry_after_s"] = retry.retry_delay.ToNanoseconds() / 1e9
    return found


def _called(error: grpc.RpcError, name: str) -> Any:
    """grpc's errors are calls as well; their methods are on no common base class."""
    method = getattr(error, name, None)
    return method() if method is not None else None
