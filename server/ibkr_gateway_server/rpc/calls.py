"""One wrapper around every RPC, built when it is registered.

It gives each call its caller, its correlation id, its deadline, its error mapping, its log line and its metrics in one
function, where a chain of interceptors would cost five. Servicers below are plain classes: a method for each RPC they
serve, taking the request and a `Call`, raising domain errors. An RPC without a method answers NOT_IMPLEMENTED.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.domain.errors import (
    BrokerTimeout,
    DomainError,
    NotImplementedYet,
    Reason,
    RequestMalformed,
    ShuttingDown,
)
from ibkr_gateway_server.domain.scopes import Caller, Scope
from ibkr_gateway_server.logs import LineRate, correlation_id
from ibkr_gateway_server.metrics import Metrics
from ibkr_gateway_server.rpc.gate import Gate, Metadata
from ibkr_gateway_server.rpc.scopes import SCOPES
from ibkr_gateway_server.rpc.status import CODES, bug, rpc_error

log = logging.getLogger("ibkr_gateway_server.rpc")

# A caller's id is taken when it is one; what does not fit in a log line is replaced by one of ours.
_CALLERS_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}", re.ASCII)
_ID_KEYS = ("x-correlation-id", "x-request-id")

# Reads that succeed are logged so many times a second for each RPC; a line costs as much as a quote. Refusals and all
# calls of the orders' service are always logged, except those without a token, which the gate tells.
LINES_A_SECOND = 20
COMMANDS = ".OrdersService/"

_SAYS_NOTHING = "the deadline passed, and the command may have been sent: repeat it under its id, or ask for its state"

# The answer itself takes a moment; a wait for something else ends this much before the caller's deadline.
ANSWER_MARGIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Call:
    """What a servicer may know of the call it serves."""

    correlation_id: str
    deadline: float
    """On the event loop's clock, in seconds."""
    caller: Caller

    @property
    def cause(self) -> Cause:
        """Who and what, for the record."""
        return Cause(self.caller.name, self.correlation_id)

    def has_scope(self, scope: Scope) -> bool:
        """Whether the caller may do this as well as what the RPC needs anyway."""
        return scope in self.caller.scopes

    def require(self, scope: Scope) -> None:
        """Raises ScopeMissing."""
        self.caller.require(scope)

    @property
    def remaining_s(self) -> float:
        """Seconds left for waiting, leaving time to answer; may be negative."""
        return self.deadline - asyncio.get_running_loop().time() - ANSWER_MARGIN_S


class CallWrapper:
    """Registers servicers and serves their calls. `longest_s` bounds a unary call without a shorter deadline."""

    def __init__(self, metrics: Metrics, longest_s: float, *, is_simulation: bool, gate: Gate | None = None) -> None:
        self.unimplemented: list[str] = []
        self.gate = gate or Gate()
        self._metrics = metrics
        self._longest_s = longest_s
        self._simulation = (("x-simulation", "true"),) if is_simulation else ()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_draining = False

    def register(self, server: grpc.aio.Server, service: ServiceDescriptor, servicer: object) -> None:
        """Serve every RPC of a service by the servicer's method of its name."""
        handlers = {method.name: self._handler(method, servicer) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        server.add_registered_method_handlers(service.full_name, handlers)

    def drain(self) -> None:
        """Refuse new calls from now on."""
        self._is_draining = True

    async def idle(self) -> None:
        """Returns when no call is being served; `server.stop` returns before its handlers have ended."""
        await self._idle.wait()

    # --- building handlers ---------------------------------------------------------------------------------------

    def _handler(self, method: MethodDescriptor, servicer: object) -> grpc.RpcMethodHandler[Any, Any]:
        endpoint = f"/{method.containing_service.full_name}/{method.name}"
        scope = SCOPES[endpoint]
        serve = getattr(servicer, method.name, None)
        if serve is None:
            self.unimplemented.append(endpoint)
        request = message_factory.GetMessageClass(method.input_type)
        if method.server_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if method.client_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behaviour = self._stream(endpoint, scope, serve)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._unary(endpoint, scope, serve)
        return make(behaviour, request_deserializer=_reader_of(request), response_serializer=_serialized)

    def _unary(self, endpoint: str, scope: Scope | None, serve: Callable[..., Any] | None) -> Callable[..., Any]:
        requests, duration = self._metrics.api_requests, self._metrics.api_request_duration.labels(endpoint)
        answered = requests.labels(endpoint, "OK")
        lines = LineRate(None if COMMANDS in endpoint else LINES_A_SECOND)

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            metadata = context.invocation_metadata() or ()
            call_id = _callers_id(metadata)
            correlation_id.set(call_id)
            # An answer's metadata of its own is a message of its own, which costs as much as the answer: the id goes
            # along with the end of the call. That it is simulated is said before anything else.
            context.set_trailing_metadata(((_ID_KEYS[0], call_id),))
            if self._simulation:
                await context.send_initial_metadata(self._simulation)
            began = perf_counter()
            self._enter()
            code = "OK"
            try:
                caller = self._admit(endpoint, scope, serve, metadata)
                assert serve is not None
                call = Call(call_id, self._deadline(context), caller)
                try:
                    async with asyncio.timeout_at(call.deadline):
                        return await serve(_readable(request), call)
                except TimeoutError:
                    if scope is Scope.TRADE:
                        # A reason of ours would say that nothing has reached IBKR, and that is not known here; nor is
                        # it where a defect strikes.
                        code = grpc.StatusCode.DEADLINE_EXCEEDED.name
                        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, _SAYS_NOTHING)
                    raise BrokerTimeout(endpoint, round(perf_counter() - began, 3)) from None
            except Exception as error:
                known = _known(error)
                code = CODES[known.reason].name
                if scope is Scope.TRADE and known.reason is Reason.BUG:
                    await context.abort(CODES[known.reason], known.message)
                await context.abort_with_status(rpc_error(known, call_id))
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            finally:
                self._leave()
                elapsed = perf_counter() - began
                (answered if code == "OK" else requests.labels(endpoint, code)).inc()
                duration.observe(elapsed)
                if code != "UNAUTHENTICATED" and (code != "OK" or lines.has_room(began)):
                    extra = {"endpoint": endpoint, "status": code, "duration_s": round(elapsed, 6)}
                    log.info("rpc", extra={**extra, **lines.left_out()})

        return handle

    def _stream(self, endpoint: str, scope: Scope | None, serve: Callable[..., Any] | None) -> Callable[..., Any]:
        requests, open_streams = self._metrics.api_requests, self._metrics.open_streams.labels(endpoint)

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            metadata = context.invocation_metadata() or ()
            call_id = _callers_id(metadata)
            correlation_id.set(call_id)
            await context.send_initial_metadata(((_ID_KEYS[0], call_id), *self._simulation))
            began = perf_counter()
            self._enter()
            open_streams.inc()
            code = "OK"
            try:
                caller = self._admit(endpoint, scope, serve, metadata)
                assert serve is not None
                call = Call(call_id, self._deadline(context), caller)
                said = _all_readable(request) if isinstance(request, AsyncIterable) else _readable(request)
                async for response in self.gate.while_known(caller, endpoint, serve(said, call)):
                    yield response
            except Exception as error:
                known = _known(error)
                code = CODES[known.reason].name
                await context.abort_with_status(rpc_error(known, call_id))
            except (asyncio.CancelledError, GeneratorExit):
                # A caller that goes away cancels the handler; a deadline closes the generator where it stands.
                code = "CANCELLED"
                raise
            finally:
                self._leave()
                open_streams.dec()
                requests.labels(endpoint, code).inc()
                if code != "UNAUTHENTICATED":
                    extra = {"endpoint": endpoint, "status": code, "duration_s": round(perf_counter() - began, 6)}
                    log.info("rpc stream", extra=extra)

        return handle

    # --- every call ----------------------------------------------------------------------------------------------

    def _admit(
        self, endpoint: str, scope: Scope | None, serve: Callable[..., Any] | None, metadata: Metadata
    ) -> Caller:
        """Who calls, when he may and there is an answer. Raises why not."""
        if self._is_draining:
            raise ShuttingDown
        caller = self.gate.admit(metadata, endpoint, scope)
        if serve is None:
            raise NotImplementedYet(endpoint)
        return caller

    def _deadline(self, context: grpc.aio.ServicerContext[Any, Any]) -> float:
        """The caller's deadline or ours, whichever is sooner, on the event loop's clock."""
        remaining = context.time_remaining()
        longest_s = self._longest_s if remaining is None else min(remaining, self._longest_s)
        return asyncio.get_running_loop().time() + longest_s

    def _enter(self) -> None:
        self._running += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()


def _reader_of(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """What reads a request. One that is no such message comes as the error: raised here it would be the library's
    answer, UNKNOWN with its own words, to callers whose token has not been looked at."""

    def read(data: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(data)
        except DecodeError as error:
            return error

    return read


def _readable(request: Message | DecodeError) -> Message:
    """Raises RequestMalformed."""
    if isinstance(request, DecodeError):
        raise RequestMalformed("request", "is not the message that this RPC takes")
    return request


async def _all_readable(requests: AsyncIterable[Message | DecodeError]) -> AsyncIterator[Message]:
    async for request in requests:
        yield _readable(request)


def _serialized(response: Message | bytes) -> bytes:
    """A response's bytes; a stream that shares them between its subscribers has them already."""
    return response if isinstance(response, bytes) else response.SerializeToString()


def _known(error: Exception) -> DomainError:
    """The error that may leave. An AbortError is grpc's own way out and must pass through every `except Exception`."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    known = error if isinstance(error, DomainError) else bug(error)
    if CODES[known.reason] is not grpc.StatusCode.UNAUTHENTICATED:
        log.info("refused", extra={"reason": known.reason, "text": known.message[:500]})
    return known


def _callers_id(metadata: Metadata) -> str:
    given = {key: value for key, value in metadata if key in _ID_KEYS}
    for key in _ID_KEYS:
        value = given.get(key, "")
        if isinstance(value, str) and _CALLERS_ID.fullmatch(value):
            return value
    return str(uuid.uuid4())
