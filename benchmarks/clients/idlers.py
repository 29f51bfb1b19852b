"""So many subscribers of a quiet line, to be held while the server's memory is looked at: all on one connection, or one
each."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial

import uvloop
from ibkr_gateway.v1.common_pb2 import Instrument
from ibkr_gateway.v1.market_data_service_pb2 import StreamQuotesRequest

from benchmarks.clients.http2 import Grpc, connect
from benchmarks.clients.readers import STREAM_QUOTES
from benchmarks.lines import CON_IDS

# What a server sets up once, it has set up with these.
FIRST = 20
SETTLED_S = 1.0


async def main(port: int, subscribers: int, is_one_connection: bool) -> None:
    request = StreamQuotesRequest(instruments=[Instrument(con_id=CON_IDS[0])]).SerializeToString()
    opened: set[int] = set()
    all_connections: list[Grpc] = []

    async def subscribe(count: int) -> None:
        for _ in range(count):
            if not all_connections or not is_one_connection:
                all_connections.append(await connect(port, Grpc(partial(heard, len(all_connections)))))
            all_connections[-1].call(STREAM_QUOTES, request)
            await asyncio.sleep(0.001)

    def heard(connection: int, stream: int, _message: bytes) -> None:
        opened.add(connection << 32 | stream)

    await subscribe(FIRST)
    await asyncio.sleep(SETTLED_S)
    print("begin", flush=True)
    await subscribe(subscribers)
    await asyncio.sleep(SETTLED_S)
    print(json.dumps({"subscribers": len(opened) - FIRST}), flush=True)
    # The harness looks at the server before this process ends.
    sys.stdin.read()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "one"))
