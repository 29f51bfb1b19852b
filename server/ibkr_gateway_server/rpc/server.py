"""The gRPC server: every service, health and reflection, and the order in which it goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ibkr_gateway_server.credentials.tls import ServerTls
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.orders import TradingStatus
from ibkr_gateway_server.domain.sessions import SessionState, SessionStatus
from ibkr_gateway_server.rpc.calls import CallWrapper
from ibkr_gateway_server.rpc.status import rpc_error

# Clients may ping every 10 s without a call; the library's default of 5 minutes ends their connections with GOAWAY.
OPTIONS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # gRPC waits as long as this for an answer, whatever the line before says; its default is a minute.
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Without this a second server would share the port silently, each getting half of the calls.
    ("grpc.so_reuseport", 0),
    # Bars come in one message; requests are small: the largest, for a hundred instruments, has 30 KiB.
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.max_receive_message_length", 64 * 1024),
    # Between the two gRPC refuses by chance.
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    # Of one connection. A client library waits with what is more until another call has ended.
    ("grpc.max_concurrent_streams", 1_000),
)

LIVENESS = "liveness"
# Names of the health service beside those of services.
SESSION, HISTORY = "ibkr_gateway.v1.Session", "ibkr_gateway.v1.History"
ORDERS = "ibkr_gateway.v1.OrdersService"
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class GatewayServer:
    """A grpc.aio server with the gateway's services."""

    def __init__(self, wrapper: CallWrapper) -> None:
        self._wrapper = wrapper
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add(self, service: ServiceDescriptor, servicer: object) -> None:
        """Serve one service."""
        self._wrapper.register(self._server, service, servicer)
        self._names.append(service.full_name)

    def bind(self, host: str, port: int, tls: ServerTls | None = None) -> int:
        """Take the port; nothing is served yet. Returns it. Raises OSError when it is taken."""
        self._add_reflection()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            raise OSError(str(error)) from error

    async def start(self) -> None:
        """Serve."""
        for name in ("", LIVENESS):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def show_health(self, status: SessionStatus) -> None:
        """Tell the health of everything that depends on the session alone."""
        for name in (*self._names, SESSION, HISTORY):
            if name != ORDERS:
                await self._show(name, is_serving(name, status))

    async def show_orders_health(self, trading: TradingStatus) -> None:
        """Tell the health of the orders' service: the session, the record, the account and every switch."""
        await self._show(ORDERS, trading.answers_orders)

    async def _show(self, name: str, is_served: bool) -> None:
        state = health_pb2.HealthCheckResponse.SERVING if is_served else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(name, state)

    async def stop(self, drain: Callable[[datetime], None], grace_s: float) -> None:
        """Refuse new calls, tell streams to end, let calls end, then close. `drain` gets the deadline."""
        await self._health.enter_graceful_shutdown()
        self._wrapper.drain()
        drain(datetime.now(UTC) + timedelta(seconds=grace_s))
        await self._idle(grace_s)
        await self._server.stop(grace=0)
        # `stop` returns before the handlers' own clean-up has run, and that still uses the record and the session.
        await self._idle(grace_s)

    async def _idle(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wrapper.idle()

    def _add_reflection(self) -> None:
        """Reflection in both versions, for whoever has a token where there are tokens. v1 is served but not listed:
        clients ask for the descriptor of what is listed, and the library has none for v1."""
        # Its annotation says a coroutine; it is an asynchronous generator.
        servicer: Any = reflection.aio.ReflectionServicer([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME])

        async def reflect(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            gate, endpoint = self._wrapper.gate, f"/{REFLECTION_V1}"
            try:
                caller = gate.known(context.invocation_metadata() or (), endpoint)
                told = servicer.ServerReflectionInfo(requests, context)
                async for response in gate.while_known(caller, endpoint, told):
                    yield response
            except DomainError as refusal:
                await context.abort_with_status(rpc_error(refusal, ""))

        handler = grpc.stream_stream_rpc_method_handler(
            reflect,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        for name in (REFLECTION_V1, reflection.SERVICE_NAME):
            handlers = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            self._server.add_generic_rpc_handlers((handlers,))


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_ca,
        require_client_auth=tls.client_ca is not None,
    )


def is_serving(name: str, status: SessionStatus) -> bool:
    """Whether a service answers as it should, as far as that depends on the session: those that need IBKR only while
    the session has it. The process itself is alive whether or not IBKR is there."""
    state, service = status.state, name.rpartition(".")[2]
    if service in ("GatewayService", "AuditService", "SimulationService"):
        return state is not SessionState.STOPPING
    if service in ("AccountService", "Session"):
        return state.is_connected
    return status.serves_data
