"""One connection to a gateway.

A typed stub per service, with deadlines, correlation ids and typed errors on every call.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import grpc

from ibkr_gateway.credentials import Tls, check_token, read_token, stays_on_this_machine
from ibkr_gateway.errors import from_rpc_error
from ibkr_gateway.v1.account_service_pb2_grpc import AccountServiceStub
from ibkr_gateway.v1.audit_service_pb2_grpc import AuditServiceStub
from ibkr_gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from ibkr_gateway.v1.market_data_service_pb2_grpc import MarketDataServiceStub
from ibkr_gateway.v1.orders_service_pb2_grpc import OrdersServiceStub
from ibkr_gateway.v1.reference_data_service_pb2_grpc import ReferenceDataServiceStub
from ibkr_gateway.v1.simulation_service_pb2_grpc import SimulationServiceStub

if TYPE_CHECKING:
    from ibkr_gateway.v1.account_service_pb2_grpc import AccountServiceAsyncStub
    from ibkr_gateway.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from ibkr_gateway.v1.gateway_service_pb2_grpc import GatewayServiceAsyncStub
    from ibkr_gateway.v1.market_data_service_pb2_grpc import MarketDataServiceAsyncStub
    from ibkr_gateway.v1.orders_service_pb2_grpc import OrdersServiceAsyncStub
    from ibkr_gateway.v1.reference_data_service_pb2_grpc import ReferenceDataServiceAsyncStub
    from ibkr_gateway.v1.simulation_service_pb2_grpc import SimulationServiceAsyncStub

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0

_PACKAGE = "ibkr_gateway.v1"
# Reads only: a command is repeated by its client_order_id, and by who gave it.
READS: dict[str, tuple[str, ...]] = {
    "MarketDataService": ("GetQuote", "GetQuotes", "GetHistoricalBars", "GetHeadTimestamp", "GetMarketDataUsage"),
    "ReferenceDataService": (
        "ResolveContract",
        "ResolveContracts",
        "GetContractDetails",
        "SearchSymbols",
        "ListFutures",
        "GetOptionChain",
        "GetTradingSchedule",
        "GetMarketRule",
    ),
    "AccountService": (
        "ListAccounts",
        "GetAccountSummary",
        "GetAccountValues",
        "GetPositions",
        "GetAccountStatus",
        "GetPnl",
        "ListExecutions",
    ),
    "OrdersService": ("GetOrder", "GetOrderStatus", "GetOrderSetStatus", "ListOpenOrders", "ListOrders"),
    "GatewayService": (
        "GetHealth",
        "GetServerInfo",
        "GetServerTime",
        "GetTradingStatus",
        "GetUsage",
        "GetMetrics",
        "ListErrorReasons",
    ),
    "AuditService": ("QueryAuditEvents", "VerifyAuditChain"),
    "SimulationService": ("GetState",),
}
"""Unary RPCs that gRPC tries again by itself, up to three times, when the gateway is UNAVAILABLE."""

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": f"{_PACKAGE}.{service}", "method": method}
                for service, methods in READS.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

# Pings keep a quiet connection known to be alive; the server allows one every 10 s.
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC waits as long as this for an answer, whatever the line before says; its default is a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


# A proxy of the environment would be shown what is meant for this machine alone.
_DIRECT = (("grpc.enable_http_proxy", 0),)


def connect(
    target: str = DEFAULT_TARGET,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    tls: Tls | bool = False,
) -> AsyncGateway:
    """A connection for asyncio; use it by `async with`. Nothing is sent until the first call.

    `timeout_s` bounds every unary call that is given no timeout of its own; streams are not bounded. `token`, or the
    one in `token_file`, goes with every call. `tls` True: the server's certificate is signed by one that gRPC knows.

    Raises ValueError when a token would leave this machine in plain text, is none, or is in a file that others can
    read; OSError when a file cannot be read.
    """
    shown = _token(target, token, token_file, tls)
    if tls:
        made = _tls(tls)
        channel = grpc.aio.secure_channel(target, made.credentials(), options=(*OPTIONS, *_name(made)))
    else:
        channel = grpc.aio.insecure_channel(target, options=(*OPTIONS, *(_DIRECT if shown else ())))
    return AsyncGateway(channel, timeout_s, shown)


def connect_sync(
    target: str = DEFAULT_TARGET,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    tls: Tls | bool = False,
) -> SyncGateway:
    """A connection for ordinary code; use it by `with`. Otherwise as `connect`."""
    shown = _token(target, token, token_file, tls)
    if tls:
        made = _tls(tls)
        channel = grpc.secure_channel(target, made.credentials(), options=(*OPTIONS, *_name(made)))
    else:
        channel = grpc.insecure_channel(target, options=(*OPTIONS, *(_DIRECT if shown else ())))
    return SyncGateway(channel, timeout_s, shown)


def _token(target: str, token: str | None, token_file: str | os.PathLike[str] | None, tls: Tls | bool) -> str | None:
    """The token to show, if any, when it may go there."""
    if token is not None and token_file is not None:
        raise ValueError("give a token or the file that it is in, not both")
    if token is None and token_file is None:
        return None
    if not tls and not stays_on_this_machine(target):
        raise ValueError(f"a token is not sent to {target} in plain text: use TLS")
    if token_file is not None:
        return read_token(token_file)
    assert token is not None
    check_token(token)
    return token


def _tls(tls: Tls | bool) -> Tls:
    return tls if isinstance(tls, Tls) else Tls()


def _name(tls: Tls) -> tuple[tuple[str, Any], ...]:
    return (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()


class AsyncGateway:
    """A stub per service. Calls raise GatewayError; unary ones are awaited, streams are iterated by `async for`."""

    market_data: MarketDataServiceAsyncStub
    reference_data: ReferenceDataServiceAsyncStub
    account: AccountServiceAsyncStub
    orders: OrdersServiceAsyncStub
    gateway: GatewayServiceAsyncStub
    audit: AuditServiceAsyncStub
    simulation: SimulationServiceAsyncStub

    def __init__(
        self, channel: grpc.aio.Channel, timeout_s: float = DEFAULT_TIMEOUT_S, token: str | None = None
    ) -> None:
        self.channel = channel
        for name, stub in _STUBS.items():
            setattr(self, name, _AsyncService(stub(channel), timeout_s, token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()


class SyncGateway:
    """A stub per service. Calls raise GatewayError; streams are iterated by `for`."""

    market_data: MarketDataServiceStub
    reference_data: ReferenceDataServiceStub
    account: AccountServiceStub
    orders: OrdersServiceStub
    gateway: GatewayServiceStub
    audit: AuditServiceStub
    simulation: SimulationServiceStub

    def __init__(self, channel: grpc.Channel, timeout_s: float = DEFAULT_TIMEOUT_S, token: str | None = None) -> None:
        self.channel = channel
        for name, stub in _STUBS.items():
            setattr(self, name, _SyncService(stub(channel), timeout_s, token))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()


_STUBS: dict[str, Any] = {
    "market_data": MarketDataServiceStub,
    "reference_data": ReferenceDataServiceStub,
    "account": AccountServiceStub,
    "orders": OrdersServiceStub,
    "gateway": GatewayServiceStub,
    "audit": AuditServiceStub,
    "simulation": SimulationServiceStub,
}


class _Service:
    """Stands in for a stub: every call gets a deadline, a correlation id and typed errors."""

    def __init__(self, stub: Any, timeout_s: float, token: str | None) -> None:
        self._stub = stub
        self._timeout_s = timeout_s
        self._authorization = (("authorization", f"Bearer {token}"),) if token else ()

    def _metadata(self, given: Sequence[tuple[str, str]] | None) -> tuple[tuple[str, str], ...]:
        metadata = (*(given or ()), *self._authorization)
        if any(key == "x-correlation-id" for key, _ in metadata):
            return metadata
        return (*metadata, ("x-correlation-id", str(uuid.uuid4())))


class _AsyncService(_Service):
    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)

        def call(
            request: Any, *, timeout: float | None = None, metadata: Sequence[tuple[str, str]] | None = None
        ) -> Any:
            headers = self._metadata(metadata)
            if isinstance(method, grpc.aio.UnaryUnaryMultiCallable):
                return _awaited(method(request, timeout=timeout or self._timeout_s, metadata=headers))
            return _iterated(method(request, timeout=timeout, metadata=headers))

        return call


class _SyncService(_Service):
    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)

        def call(
            request: Any, *, timeout: float | None = None, metadata: Sequence[tuple[str, str]] | None = None
        ) -> Any:
            headers = self._metadata(metadata)
            if isinstance(method, grpc.UnaryUnaryMultiCallable):
                try:
                    return method(request, timeout=timeout or self._timeout_s, metadata=headers)
                except grpc.RpcError as error:
                    raise from_rpc_error(error) from None
            return _iterated_sync(method(request, timeout=timeout, metadata=headers))

        return call


async def _awaited(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def _iterated(call: Any) -> AsyncIterator[Any]:
    try:
        async for message in call:
            yield message
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    finally:
        call.cancel()


def _iterated_sync(call: Any) -> Iterator[Any]:
    try:
        yield from call
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    finally:
        cast("grpc.Call", call).cancel()
