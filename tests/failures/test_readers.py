"""Readers of streams that stop reading: their program is stopped, or has other things to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from ibkr_gateway import AsyncGateway, Exhausted, stock
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import simulation_service_pb2 as simulation_pb
from ibkr_gateway_server.rpc import server
from ibkr_gateway_server.streams import orders as order_streams

from benchmarks.clients.http2 import Grpc
from benchmarks.clients.http2 import connect as connect_raw
from tests.conftest import Gateway, MakeGateway, eventually
from tests.failures.test_audit_space import place
from tests.failures.test_requests import STREAM, open_streams

AAPL = stock("AAPL")
QUOTES = market_pb.StreamQuotesRequest(instruments=[AAPL])


async def set_price(gateway: Gateway, price: float) -> None:
    """The market is there now, and goes its way from there."""
    await gateway.client.simulation.SetQuote(simulation_pb.SetQuoteRequest(instrument=AAPL, last_price=price))


async def until_price(stream: AsyncIterator[market_pb.StreamQuotesResponse], price: float) -> int:
    """Read until the last price is about this. Returns how many quotes were left out for newer ones."""
    left_out = 0
    async with asyncio.timeout(15):
        async for response in stream:
            for event in response.events:
                left_out += event.conflated_count
                if event.quote.last_price == pytest.approx(price, rel=0.05):
                    return left_out
    raise AssertionError("the stream ended")


@asynccontextmanager
async def with_little_room(gateway: Gateway) -> AsyncIterator[AsyncGateway]:
    """A client that takes what its reader asks for, and next to nothing in advance."""
    options = (("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(gateway.running.target, options=options) as channel:
        yield AsyncGateway(channel)


async def test_G01_a_program_is_stopped_while_it_reads(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program of a reader is stopped, as by SIGSTOP: its connection stays, and nothing is read or answered on it.

    The server lets go of it when a ping is not answered: it asks after 60 s and waits 20 s. Other readers get every
    quote meanwhile.
    """
    patient = dict(server.OPTIONS)
    waits = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    assert [patient[wait] for wait in waits] == [60_000, 20_000, 20_000]
    hasty = {**patient, **dict.fromkeys(waits, 200)}
    monkeypatch.setattr(server, "OPTIONS", tuple(hasty.items()))
    gateway = await make_gateway()
    stopped = await connect_raw(gateway.running.port, Grpc(lambda *_: stopped.stall()))
    stopped.call(STREAM, QUOTES.SerializeToString())
    await eventually(lambda: open_streams(gateway) == 1)
    other = aiter(gateway.client.market_data.StreamQuotes(QUOTES))
    await anext(other)
    # Both, and then the other one alone.
    await eventually(lambda: open_streams(gateway) == 2)
    await eventually(lambda: open_streams(gateway) == 1)
    await set_price(gateway, 400.0)
    await until_price(other, 400.0)
    stopped.close()


async def test_G02_a_client_that_lives_and_does_not_read(gateway: Gateway) -> None:
    """A client keeps its connection alive, and does not read its stream of quotes while the price changes six times.

    Nothing gathers for it, and its stream is not ended: when it reads on it gets the newest quote, with the number of
    those that were left out. Another reader gets every price meanwhile.
    """
    async with with_little_room(gateway) as slow:
        stream = aiter(slow.market_data.StreamQuotes(QUOTES))
        await anext(stream)
        other = aiter(gateway.client.market_data.StreamQuotes(QUOTES))
        for price in (*(100.0, 200.0) * 3, 400.0):
            await set_price(gateway, price)
            await until_price(other, price)
        assert await until_price(stream, 400.0) >= 4


async def test_G03_a_client_that_does_not_read_the_events_of_its_orders(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client does not read its stream of order events until more wait for it than may: ten thousand, here ten.

    What waits is delivered, each event as it was; then the stream ends with RESOURCE_EXHAUSTED, SLOW_CONSUMER and the
    place to go on from. From there on nothing is missing, and nothing comes twice.
    """
    assert order_streams.WAITING_LIMIT == 10_000
    monkeypatch.setattr(order_streams, "WAITING_LIMIT", 10)
    from_start = orders_pb.StreamOrderEventsRequest(resume_after_sequence=0)
    sequences: list[int] = []

    async def read(stream: AsyncIterator[orders_pb.StreamOrderEventsResponse], last: int = 0) -> None:
        async for response in stream:
            sequences.extend(event.sequence for event in response.events if event.order_id)
            if last and sequences[-1] >= last:
                return

    async with with_little_room(gateway) as slow:
        stream = aiter(slow.orders.StreamOrderEvents(from_start))
        for _ in range(8):
            await place(gateway)
        with pytest.raises(Exhausted) as ended:
            await read(stream)
        assert ended.value.reason == "SLOW_CONSUMER"
        after = int(ended.value.details["resume_after_sequence"])
        assert after == sequences[-1]
        monkeypatch.undo()
        desk = gateway.running.desk
        await desk.recorder.settle()
        last = max(status.last_sequence for status in desk.own_open_orders())
        resumed = orders_pb.StreamOrderEventsRequest(resume_after_sequence=after)
        await read(slow.orders.StreamOrderEvents(resumed), last)
    resumed_at, sequences = [each for each in sequences if each <= last], []
    await read(gateway.client.orders.StreamOrderEvents(from_start), last)
    assert resumed_at == [each for each in sequences if each <= last]
