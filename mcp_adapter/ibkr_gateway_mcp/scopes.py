"""What the adapter's token allows, as the gateway says: a tool that it would refuse is not offered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ibkr_gateway import AsyncGateway, GatewayError
from ibkr_gateway.v1 import orders_service_pb2 as pb

NEEDED: Mapping[str, str] = {
    "preview_order": "preview",
    "place_order": "trade",
    "modify_order": "trade",
    "cancel_order": "trade",
    "halt_trading": "trade",
}
"""Scopes of the tools that need another than read."""
PROBE_TIMEOUT_S = 2.0


class Scopes:
    """Learned once; until the gateway can be asked, everything is offered and the gateway refuses by itself."""

    def __init__(self, gateway: AsyncGateway, *, read_only: bool) -> None:
        self._gateway = gateway
        self._read_only = read_only
        self._lacking: frozenset[str] | None = None

    async def missing_for(self, tool: str) -> str:
        """The scope that a tool lacks; empty: none."""
        scope = NEEDED.get(tool, "")
        if not scope:
            return ""
        return scope if scope in await self.lacking() else ""

    async def lacking(self) -> frozenset[str]:
        """Scopes that the token does not have."""
        if self._read_only:
            return frozenset(NEEDED.values())
        if self._lacking is None:
            try:
                self._lacking = await self._ask()
            except GatewayError:
                return frozenset()
        return self._lacking

    async def _ask(self) -> frozenset[str]:
        """Empty commands name no order: a caller who may is told so, and nothing can come of them."""
        orders = self._gateway.orders
        probes: dict[str, Awaitable[Any]] = {
            "preview": orders.PreviewOrder(pb.PreviewOrderRequest(), timeout=PROBE_TIMEOUT_S),
            "trade": orders.CancelOrder(pb.CancelOrderRequest(), timeout=PROBE_TIMEOUT_S),
        }
        lacks = await asyncio.gather(*(_lacks(probe) for probe in probes.values()))
        return frozenset(scope for scope, lacked in zip(probes, lacks, strict=True) if lacked)

    def forget(self) -> None:
        """Ask again at the next occasion: the token, or the gateway, may be another."""
        self._lacking = None


async def _lacks(call: Awaitable[Any]) -> bool:
    """Raises GatewayError when the answer says nothing about scopes."""
    try:
        await call
    except GatewayError as error:
        if error.reason == "SCOPE_MISSING":
            return True
        if error.reason not in ("FIELD_INVALID", "REQUEST_MALFORMED"):
            raise
    return False
