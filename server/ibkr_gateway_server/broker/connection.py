"""One connection to TWS or IB Gateway: one epoch, its requests and its subscriptions.

A new connection is a new object; nothing of an old one can reach into it. Every request ends: by its end marker, by
IBKR's error, by its timeout or by the connection's end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.callbacks import FIRST_REQUEST_ID, Callbacks
from ibkr_gateway_server.broker.framing import FrameReader
from ibkr_gateway_server.broker.notices import is_notice, request_error
from ibkr_gateway_server.broker.sinks import Sink
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.errors import (
    AnswerUnreadable,
    BrokerDisconnected,
    BrokerTimeout,
    DomainError,
    SessionEnded,
)
from ibkr_gateway_server.domain.tallies import BROKER_TIMEOUTS, LATE_TICKS, OPEN_REQUESTS, Tallies

log = logging.getLogger(__name__)

# A peer that acknowledges nothing for this long is dead; without it Linux waits about 15 minutes.
TCP_USER_TIMEOUT_MS = 20_000


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where TWS or IB Gateway listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(slots=True)
class _Request:
    """Rows of one request, and the future that its callers wait for."""

    name: str
    about: str
    future: asyncio.Future[list[Any]]
    rows: list[Any] = field(default_factory=list)

    def row(self, value: Any) -> None:
        self.rows.append(value)

    def end(self) -> None:
        if not self.future.done():
            self.future.set_result(self.rows)

    def error(self, code: int, text: str) -> None:
        if is_notice(code):
            log.info("notice on a request", extra={"request": self.name, "ibkr_code": code, "text": text})
        else:
            self.fail(request_error(code, text, self.about, self.name))

    def unreadable(self) -> None:
        self.fail(AnswerUnreadable(self.name))

    def fail(self, error: DomainError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Connection:
    """An open connection. `accounts` and `server_version` are as TWS said at its start."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: int,
        epoch: int,
        observe: Callable[[str, str, float], None] | None = None,
        now: Callable[[], datetime] = utc_now,
        tallies: Tallies | None = None,
    ) -> None:
        self.address = address
        self.client_id = client_id
        self.epoch = epoch
        self.callbacks = Callbacks(now)
        self.callbacks.on_closed = self._on_closed
        # A new object for each epoch: the library keeps state that must not survive a reconnect.
        self.client = ib.Client(self.callbacks)
        # The library's own throttle queues orders and forgets them at a disconnect; broker.pacing does this instead.
        self.client.MaxRequests = 0
        self._tallies = tallies or Tallies()
        self._tallies.watch(OPEN_REQUESTS, lambda: len(self.callbacks.collectors))
        self.callbacks.on_late = lambda: self._tallies.add(LATE_TICKS)
        self.reader = FrameReader(self.client, self.callbacks, self._tallies)
        self.closed = asyncio.Event()
        self.serves: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda managed: managed
        """Which of the login's accounts are served."""
        self.failure = ""
        """What opening it failed at, in one word; empty: nothing."""
        self._old_version = 0
        # Told of every request that ended: its name, "OK" or the reason it failed for, and its seconds.
        self._observe = observe
        self._next_request_id = FIRST_REQUEST_ID

    @property
    def managed_accounts(self) -> tuple[str, ...]:
        """The accounts of this login, in IBKR's order."""
        return tuple(self.client.getAccounts())

    @property
    def accounts(self) -> tuple[str, ...]:
        """Those of them that are served."""
        return self.serves(self.managed_accounts)

    @property
    def server_version(self) -> int:
        """The protocol version agreed with TWS."""
        return self.client.serverVersion()

    @property
    def next_valid_order_id(self) -> int:
        """The lowest order id TWS accepts from this client, as it last said."""
        return self.callbacks.next_valid_order_id

    @property
    def is_open(self) -> bool:
        """True while the socket is there and the handshake is done."""
        return not self.closed.is_set() and self.client.isReady()

    async def open(
        self, connect_timeout_s: float, handshake_timeout_s: float = 10.0, on_greeted: Callable[[], None] = lambda: None
    ) -> None:
        """Connect and shake hands; ready when TWS has sent the accounts and the next order id.

        `on_greeted` is called when TWS has said its version. When it fails, `failure` says at what. Raises
        BrokerDisconnected when nothing listens there or TWS closes, BrokerTimeout when it does not answer, SessionEnded
        when it is too old.
        """
        # The library's connect would wait out its timeout when TWS closes the socket (client id in use), so both are
        # awaited; without a timeout of its own, since ours differ by what is awaited.
        connecting = asyncio.ensure_future(
            self.client.connectAsync(self.address.host, self.address.port, self.client_id, 0)
        )
        greeting = asyncio.ensure_future(self.callbacks.greeted.wait())
        closing = asyncio.ensure_future(self.closed.wait())
        tasks = (connecting, greeting, closing)
        try:
            await asyncio.wait(tasks, timeout=connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not (connecting.done() or greeting.done() or closing.done()):
                self.failure = "handshake_timeout"
                raise BrokerTimeout("the connection's handshake", connect_timeout_s)
            if greeting.done() and not (connecting.done() or closing.done()):
                on_greeted()
                await asyncio.wait(
                    (connecting, closing), timeout=handshake_timeout_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not (connecting.done() or closing.done()):
                    self.failure = "start_timeout"
                    raise BrokerTimeout("the start of the API with accounts and an order id", handshake_timeout_s)
            if not connecting.done() or self._old_version:
                self._raise_closed()
            connecting.result()
        except OSError as error:
            self.failure = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
            raise self.disconnected() from None
        finally:
            for task in tasks:
                task.cancel()
            # Waited for without their outcome: one that is awaited by itself would pass its cancellation off as ours,
            # and ours, should it come now, as its own.
            await asyncio.wait(tasks)
            _ = [task.exception() for task in tasks if not task.cancelled()]
        self._set_socket_options()

    def _raise_closed(self) -> None:
        """TWS has closed the connection before it began, or the library has, since TWS is too old for it."""
        if self._old_version:
            self.failure = "old_version"
            least = self.client.MinClientVersion
            raise SessionEnded(f"TWS speaks version {self._old_version} of its API, and {least} is the oldest served")
        self.failure = "closed"
        raise self.disconnected()

    def close(self) -> None:
        """End the connection at once; whoever waits gets BrokerDisconnected."""
        transport = self.client.conn.transport
        self.reader.stop()
        self.client.disconnect()
        if transport is not None:
            # A half-open peer never acknowledges the orderly close.
            transport.abort()
        self._on_closed()

    def request_id(self) -> int:
        """A new id for a request or subscription; never one of an order."""
        self._next_request_id += 1
        return self._next_request_id

    @contextmanager
    def _observed(self, name: str) -> Iterator[None]:
        began, status = perf_counter(), "CANCELLED"
        try:
            yield
            status = "OK"
        except DomainError as error:
            status = error.reason
            raise
        finally:
            if self._observe is not None:
                self._observe(name, status, perf_counter() - began)

    async def ask(
        self,
        name: str,
        send: Callable[[int], None],
        *,
        timeout_s: float,
        about: str = "",
        cancel: Callable[[int], None] | None = None,
        is_ended_by_cancel: bool = False,
    ) -> list[Any]:
        """One request with an id: its rows, complete.

        `cancel` tells TWS to forget the request when the caller no longer waits; where it `is_ended_by_cancel`, also
        when it has been answered.
        Raises the error IBKR's code stands for, BrokerTimeout, BrokerDisconnected.
        """
        with self._observed(name):
            request_id = self.request_id()
            request = self._register(request_id, name, about)
            try:
                self._send(lambda: send(request_id))
                async with asyncio.timeout(timeout_s):
                    rows = await request.future
                if is_ended_by_cancel:
                    self._cancel(request_id, cancel)
                return rows
            except TimeoutError:
                self._cancel(request_id, cancel)
                self._tallies.add(BROKER_TIMEOUTS, name)
                raise BrokerTimeout(name, timeout_s) from None
            except asyncio.CancelledError:
                self._cancel(request_id, cancel)
                raise
            finally:
                self.callbacks.collectors.pop(request_id, None)

    async def ask_shared(self, key: str, send: Callable[[], None], *, timeout_s: float) -> list[Any]:
        """A request without an id; callers at the same time share one, since its answers cannot be told apart.

        Raises BrokerTimeout, BrokerDisconnected.
        """
        with self._observed(key.partition(":")[0]):
            request = self.callbacks.collectors.get(key)
            if not isinstance(request, _Request) or request.future.done():
                request = self._register(key, key, "")
                self._send(send)
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(request.future)
            except TimeoutError:
                # Its end marker is lost: whoever asks next must ask TWS again, and those who share this one wait in
                # vain.
                request.fail(BrokerTimeout(key, timeout_s))
                raise BrokerTimeout(key, timeout_s) from None
            finally:
                if request.future.done() and self.callbacks.collectors.get(key) is request:
                    del self.callbacks.collectors[key]

    def listen(self, request_id: int, sink: Sink) -> None:
        """What arrives under this id goes to the sink."""
        self.callbacks.sinks[request_id] = sink

    def unlisten(self, request_id: int) -> None:
        """What still arrives under this id is ignored."""
        self.callbacks.sinks.pop(request_id, None)

    def disconnected(self) -> BrokerDisconnected:
        """The error of a request that this connection can no longer answer."""
        return BrokerDisconnected(self.address.host, self.address.port)

    def _register(self, key: int | str, name: str, about: str) -> _Request:
        if not self.is_open:
            raise self.disconnected()
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        # A shared request may fail when nobody waits any more; that is not an error of the program.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        request = _Request(name, about, future)
        self.callbacks.collectors[key] = request
        return request

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except ConnectionError:
            raise self.disconnected() from None

    def _cancel(self, request_id: int, cancel: Callable[[int], None] | None) -> None:
        if cancel is not None and self.is_open:
            with suppress(ConnectionError):
                cancel(request_id)

    def _on_closed(self) -> None:
        # The library ends a connection to a TWS that is too old and forgets its version right after this.
        if 0 < self.client.serverVersion() < self.client.MinClientVersion:
            self._old_version = self.client.serverVersion()
        self.closed.set()
        for collector in list(self.callbacks.collectors.values()):
            if isinstance(collector, _Request):
                collector.fail(self.disconnected())

    def _set_socket_options(self) -> None:
        transport = self.client.conn.transport
        sock: socket.socket | None = transport and transport.get_extra_info("socket")
        if sock is None:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
