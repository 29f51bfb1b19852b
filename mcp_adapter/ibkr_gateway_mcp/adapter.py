"""One adapter: a connection to the gateway, and what it remembers between calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from ibkr_gateway_mcp.asking import Asking
from ibkr_gateway_mcp.changing import Changing
from ibkr_gateway_mcp.feeds import Feeds
from ibkr_gateway_mcp.options import Options
from ibkr_gateway_mcp.placing import Placing
from ibkr_gateway_mcp.scopes import Scopes


class Adapter:
    """Use it by `async with`. Raises ValueError, OSError for a token or certificate that cannot be used."""

    def __init__(self, options: Options, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.options = options
        self.gateway = options.connect()
        asking = Asking(self.gateway, options.limits, now)
        self.placing = Placing(self.gateway, asking, options.limits, now)
        self.changing = Changing(self.gateway, asking)
        self.scopes = Scopes(self.gateway, read_only=options.read_only)
        self.feeds = Feeds(self.gateway)

    async def __aenter__(self) -> Self:
        await self.feeds.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.feeds.__aexit__(kind, error, trace)
        finally:
            await self.gateway.channel.close()
