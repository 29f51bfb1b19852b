# The peers are an extra that type checkers need not have.
# pyright: reportMissingImports=false
"""FastAPI under uvicorn, as its tutorials write it: quotes by SSE, by WebSocket and by GET."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from uvicorn.config import LOGGING_CONFIG

from benchmarks.peers.upstream import Upstream


class Quote(BaseModel):
    """What a GET answers."""

    con_id: int
    symbol: str
    bid_price: float
    ask_price: float
    last_price: float
    bid_size: float
    ask_size: float
    last_size: float


def made(broker_port: int, is_batched: bool, port: int) -> Any:
    """The app. Batched: what has gathered goes out as one message, a list."""
    upstream = Upstream()

    async def texts() -> AsyncIterator[str]:
        if is_batched:
            async for batch in upstream.batches():
                yield json.dumps([asdict(update) for update in batch])
        else:
            async for update in upstream.updates():
                yield json.dumps(asdict(update))

    async def sse() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            async for text in texts():
                yield f"data: {text}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def websocket(peer: WebSocket) -> None:
        await peer.accept()
        try:
            async for text in texts():
                await peer.send_text(text)
        except WebSocketDisconnect:
            return

    async def quote(con_id: int) -> Quote:
        return Quote(
            con_id=con_id,
            symbol="AAPL",
            bid_price=190.01,
            ask_price=190.02,
            last_price=190.01,
            bid_size=300.0,
            ask_size=200.0,
            last_size=100.0,
        )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if broker_port:
            await upstream.start(broker_port)
        print(f"listening on 127.0.0.1:{port}", flush=True)
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/quotes", sse, methods=["GET"])
    app.add_api_websocket_route("/quotes", websocket)
    app.add_api_route("/quotes/{con_id}", quote, methods=["GET"])
    return app


def main(broker_port: int, is_batched: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = made(broker_port, is_batched, listening.getsockname()[1])
        # A line for every request is its default, as it is ours; both go to standard error, which is a file. WebSockets
        # are not compressed on this machine.
        logs = deepcopy(LOGGING_CONFIG)
        logs["handlers"]["access"]["stream"] = "ext://sys.stderr"
        config = uvicorn.Config(app, log_config=logs, ws_per_message_deflate=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "batched")
