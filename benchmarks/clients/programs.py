"""So many subscribers of the gateway with the Python client as programs have it, each on a connection of its own."""

from __future__ import annotations

import asyncio
import gc
import json
import sys

import grpc
import uvloop
from ibkr_gateway.connection import OPTIONS, AsyncGateway
from ibkr_gateway.v1.common_pb2 import Instrument
from ibkr_gateway.v1.market_data_service_pb2 import StreamQuotesRequest

from benchmarks.clients.ages import Ages
from benchmarks.lines import CON_IDS

WARM_UP_S = 1.0
# Channels to one address would share a connection otherwise.
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


async def main(port: int, lines: int, seconds: float, subscribers: int) -> None:
    request = StreamQuotesRequest(instruments=[Instrument(con_id=con_id) for con_id in CON_IDS[:lines]])
    ages = Ages()

    async def follow() -> None:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=(*OPTIONS, OWN_CONNECTION))
        async with AsyncGateway(channel) as gateway:
            async for response in gateway.market_data.StreamQuotes(request):
                for event in response.events:
                    if event.HasField("quote"):
                        ages.add(event.quote.bid_price, event.conflated_count)

    following = [asyncio.create_task(follow()) for _ in range(subscribers)]
    await asyncio.sleep(WARM_UP_S)
    gc.collect()
    gc.disable()
    ages.begin()
    await asyncio.sleep(seconds)
    print(json.dumps(ages.end()), flush=True)
    ended = [task for task in following if task.done()]
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for task in ended:
        task.result()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
