"""What the steps share: the library, the connections, waiting, the contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from compat.record import Recorder, Script

try:
    import ib_async as library
except ImportError:
    import ib_insync as library  # type: ignore[no-redef]

IS_IB_ASYNC = library.__name__ == "ib_async"
ACCOUNT = "DU1234567"
CLIENT, WATCHER, LATE = 3, 9, 5
# Far above what any step takes, so that a busy machine fails none.
PATIENCE_S = 15.0

__all__ = ["ACCOUNT", "CLIENT", "IS_IB_ASYNC", "LATE", "WATCHER", "Talk", "library", "order", "script", "step"]

script = Script()
step = script.step


class Talk:
    """One client's conversation: its connection, and a second one that sees its orders as the wire told them."""

    def __init__(self, recorder: Recorder, port: int, closed_port: int) -> None:
        self.port, self.closed_port = port, closed_port
        self.recorder = recorder
        # Any: what their methods return, the two libraries type differently.
        self.ib: Any = library.IB()
        self.watcher: Any = library.IB()
        self.ib.errorEvent += self._errored
        self.watcher.errorEvent += self._errored
        self.aapl = library.Stock("AAPL", "SMART", "USD", conId=265598, primaryExchange="NASDAQ", localSymbol="AAPL")
        self.ibm = library.Stock("IBM", "SMART", "USD", conId=8314, primaryExchange="NYSE", localSymbol="IBM")
        self.filled: Any = None
        """A trade that has filled."""

    def _errored(self, req_id: int, code: int, text: str, _contract: Any) -> None:
        self.recorder.error(req_id, code, text)

    async def until(self, what: str, is_so: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
        """Wait for a condition. Raises TimeoutError with what was waited for."""
        try:
            async with asyncio.timeout(patience_s):
                while not is_so():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise TimeoutError(f"not within {patience_s:g} s: {what}") from None

    async def until_error(self, code: int) -> None:
        """Wait for an error code."""
        await self.until(f"error {code}", lambda: self.recorder.has(code))

    async def quote(self) -> tuple[float, float]:
        """Bid and ask of AAPL now."""
        (ticker,) = await self.ib.reqTickersAsync(self.aapl)
        return ticker.bid, ticker.ask

    async def place(self, order: Any, status: str, contract: Any = None) -> Any:
        """Place an order and wait until it has a status."""
        trade = self.ib.placeOrder(contract or self.aapl, order)
        seen = trade.orderStatus
        await self.until(f"{status}, not {seen.status}", lambda: trade.orderStatus.status == status)
        return trade

    async def seen(self, trade: Any) -> Any:
        """The trade as another client is told of it."""
        trades = await self.watcher.reqAllOpenOrdersAsync()
        (found,) = [other for other in trades if other.order.permId == trade.order.permId]
        return found

    async def cancel(self, trade: Any) -> None:
        """Cancel an order, wait for both its words."""
        before = len(self.recorder.errors)
        self.ib.cancelOrder(trade.order)
        await self.until("the cancel", lambda: trade.orderStatus.status == "Cancelled")
        await self.until("202", lambda: (trade.order.orderId, 202) in [e[:2] for e in self.recorder.errors[before:]])


def order(kind: str, action: str = "BUY", quantity: float = 10, **more: Any) -> Any:
    """An order of a type."""
    return library.Order(action=action, totalQuantity=quantity, orderType=kind, **more)
