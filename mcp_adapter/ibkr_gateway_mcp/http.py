"""Streamable HTTP: on this machine alone unless told otherwise, for those who name its host and know the token."""

from __future__ import annotations

import asyncio
import hmac
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from ibkr_gateway.credentials import is_loopback
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ibkr_gateway_mcp.server import Server

log = logging.getLogger(__name__)

PATH = "/mcp"


class Bearer:
    """Lets in who shows the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] == "http":
            shown = [value for name, value in scope["headers"] if name == b"authorization"]
            if len(shown) != 1 or not hmac.compare_digest(shown[0], self._wanted):
                refusal = JSONResponse({"error": "invalid_token"}, 401, {"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Door:
    """Where HTTP clients come in: a socket that listens, the names they may call it by, the token they must show."""

    listening: socket.socket
    host: str
    allowed_hosts: list[str]
    token: str | None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.listening.getsockname()[1])

    async def serve(self, server: Server) -> None:
        """Serve until SIGINT or SIGTERM. The log says where."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        # A web page can have a browser call this address under a name of its own: only these names are answered.
        names = [f"{name}:{self.port}" for name in dict.fromkeys([shown, "127.0.0.1", "localhost", "[::1]"])]
        names += self.allowed_hosts
        origins = [f"{scheme}://{name}" for name in names for scheme in ("http", "https")]
        app: ASGIApp = server.streamable_http_app(
            streamable_http_path=PATH,
            transport_security=TransportSecuritySettings(allowed_hosts=names, allowed_origins=origins),
            host=self.host,
        )
        served = Bearer(app, self.token) if self.token else app
        # Its own logging writes to stdout.
        config = uvicorn.Config(served, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        log.info("listening", extra={"url": f"http://{shown}:{self.port}{PATH}"})
        await _Server(config).serve(sockets=[self.listening])


def listen(host: str, port: int, *, allowed_hosts: list[str], token: str | None) -> Door:
    """Begin to listen. `port` 0: a free one. Raises ValueError for an address that needs a token, OSError."""
    if not is_loopback(host) and token is None:
        raise ValueError(f"{host} is reached by other machines: give --http-token-file, and --allowed-host")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Door(socket.create_server((host, port), family=family), host, allowed_hosts, token)


class _Server(uvicorn.Server):
    """Ends by signal without passing the signal on: what is around it closes in its own time."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM while it serves."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
