"""One caller who places so many orders, each after the answer to the one before: through the gateway, or by ib_async.

Prints when each was given to the library, on the clock that all processes of the machine share, and how long until
IBKR's first word was there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

import uvloop

WARM_UP = 20
# IBKR takes 50 messages a second, and a simulator that is asked to be strict no more.
EVERY_S = 0.05


async def main(kind: str, port: int, count: int) -> None:
    place = await (_gateway(port) if kind == "grpc" else _direct(port))
    began: list[float] = []
    answered: list[float] = []
    for number in range(WARM_UP + count):
        if number == WARM_UP:
            print("begin", flush=True)
        moment = time.monotonic()
        await place()
        if number >= WARM_UP:
            began.append(moment)
            answered.append(time.monotonic() - moment)
        await asyncio.sleep(EVERY_S)
    print(json.dumps({"began": began, "answered": answered}), flush=True)


async def _gateway(port: int) -> Callable[[], Awaitable[None]]:
    from ibkr_gateway import connect, stock
    from ibkr_gateway.v1 import common_pb2, orders_service_pb2

    gateway = connect(f"127.0.0.1:{port}")
    order = orders_service_pb2.OrderSpec(
        instrument=stock("AAPL"),
        side=common_pb2.SIDE_BUY,
        quantity="1",
        order_type=orders_service_pb2.ORDER_TYPE_LMT,
        limit_price="1",
    )

    async def place() -> None:
        request = orders_service_pb2.PlaceOrderRequest(client_order_id=uuid.uuid4().hex, order=order)
        result = (await gateway.orders.PlaceOrder(request)).result
        if result.state != orders_service_pb2.ORDER_STATE_WORKING:
            raise ValueError(f"an order that does not work: {result}")

    return place


async def _direct(port: int) -> Callable[[], Awaitable[None]]:
    import ib_async

    ib = ib_async.IB()
    await ib.connectAsync("127.0.0.1", port, clientId=7, fetchFields=ib_async.StartupFetch(0))
    contract = ib_async.Stock("AAPL", "SMART", "USD")
    await ib.qualifyContractsAsync(contract)

    async def place() -> None:
        trade = ib.placeOrder(contract, ib_async.LimitOrder("BUY", 1, 1.0))
        while not trade.isActive() or trade.orderStatus.status in ("PendingSubmit", ""):
            await trade.statusEvent

    return place


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
