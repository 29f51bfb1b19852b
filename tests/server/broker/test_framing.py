"""Bytes become messages: however they are cut, whatever is wrong with them, and never at the loop's expense."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.framing import MAX_FRAME, SLICE
from ibkr_gateway_server.broker.sinks import Sink
from ibkr_gateway_server.domain.tallies import DECODE_ERRORS, FRAMES_AFTER_END, UNKNOWN_MESSAGES, Tallies
from ibkr_gateway_server.simulator.virtual_time import run_virtually


def frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return len(payload).to_bytes(4, "big") + payload


GREETING = frame(178, "20261123 10:00:00 EST")
START = frame(15, 1, "DU1,DU2,") + frame(9, 1, 1)


class Peer(asyncio.Protocol):
    """The other end of the socket: greets as TWS does and then sends what it is told."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._has_greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, _data: bytes) -> None:
        if not self._has_greeted:
            self._has_greeted = True
            self.transport.write(GREETING + START)


class Heard(Sink):
    """Every tick that came, and how many reads they came in."""

    def __init__(self) -> None:
        self.ticks: list[tuple[object, ...]] = []
        self.batches = 0

    def tick_price(self, tick_type: int, price: float, size: float) -> None:
        self.ticks.append((1, tick_type, price, size))

    def tick_size(self, tick_type: int, size: float) -> None:
        self.ticks.append((2, tick_type, size))

    def tick_generic(self, tick_type: int, value: float) -> None:
        self.ticks.append((45, tick_type, value))

    def tick_string(self, tick_type: int, value: str) -> None:
        self.ticks.append((46, tick_type, value))

    def batch_end(self) -> None:
        self.batches += 1


class Met:
    """An open connection, its other end, and a sink under a request id."""

    def __init__(self, connection: Connection, peer: Peer, tallies: Tallies) -> None:
        self.connection = connection
        self.peer = peer
        self.tallies = tallies
        self.heard = Heard()
        self.req_id = connection.request_id()
        connection.listen(self.req_id, self.heard)

    async def send(self, data: bytes) -> None:
        """Send it, and return when it has been worked off."""
        self.peer.transport.write(data)
        done = asyncio.Event()
        self.connection.callbacks.on_notice = lambda _code, _text: done.set()
        self.peer.transport.write(frame(4, 2, -1, 2104, "done", ""))
        await asyncio.wait([asyncio.ensure_future(done.wait()), asyncio.ensure_future(self.connection.closed.wait())],
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip


@asynccontextmanager
async def met() -> AsyncIterator[Met]:
    loop, peers = asyncio.get_running_loop(), []

    def made() -> Peer:
        peers.append(Peer())
        return peers[-1]

    server = await loop.create_server(made, "127.0.0.1", 4002)
    tallies = Tallies()
    connection = Connection(BrokerAddress("127.0.0.1", 4002), 1, 1, tallies=tallies)
    try:
        await connection.open(5.0)
        yield Met(connection, peers[0], tallies)
    finally:
        connection.close()
        server.close()


def virtually(body: Callable[[Met], Awaitable[None]]) -> None:
    async def main() -> None:
        async with met() as both:
            await body(both)

    run_virtually(main())


def ticks(req_id: int, count: int) -> tuple[bytes, list[tuple[object, ...]]]:
    """So many ticks of every kind, as bytes and as they are to be heard."""
    dice, data, heard = random.Random(count), [], []
    for number in range(count):
        kind = dice.choice((1, 2, 45, 46))
        if kind == 1:
            data.append(frame(1, 6, req_id, 4, number / 4, 100, 0))
            heard.append((1, 4, number / 4, 100.0))
        elif kind == 2:
            data.append(frame(2, 6, req_id, 8, number))
            heard.append((2, 8, float(number)))
        elif kind == 45:
            data.append(frame(45, 6, req_id, 49, 0.0))
            heard.append((45, 49, 0.0))
        else:
            data.append(frame(46, 6, req_id, 45, "1795446000"))
            heard.append((46, 45, "1795446000"))
    return b"".join(data), heard


def test_the_greeting_gives_accounts_version_and_order_id() -> None:
    async def body(both: Met) -> None:
        assert both.connection.accounts == ("DU1", "DU2")
        assert both.connection.server_version == 178
        assert both.connection.next_valid_order_id == 1

    virtually(body)


@given(cuts=st.lists(st.integers(1, 2000), max_size=20))
@settings(max_examples=30, deadline=None)
def test_however_the_bytes_are_cut_the_messages_are_the_same(cuts: list[int]) -> None:
    async def body(both: Met) -> None:
        data, expected = ticks(both.req_id, 100)
        for cut in cuts:
            both.peer.transport.write(data[:cut])
            data = data[cut:]
            await asyncio.sleep(0)
        await both.send(data)
        assert both.heard.ticks == expected

    virtually(body)


def test_one_read_is_published_once() -> None:
    async def body(both: Met) -> None:
        data, _ = ticks(both.req_id, 100)
        both.peer.transport.write(data)
        while len(both.heard.ticks) < 100:
            await asyncio.sleep(0)
        assert both.heard.batches == 1

    virtually(body)


def test_a_burst_is_worked_off_in_slices_with_the_loop_in_between() -> None:
    async def body(both: Met) -> None:
        data, expected = ticks(both.req_id, 20_000)
        both.peer.transport.write(data)
        turns = 0
        while len(both.heard.ticks) < 20_000:
            before = len(both.heard.ticks)
            await asyncio.sleep(0)
            turns += 1
            # A slice, the message that it ends in, and not more.
            assert (len(both.heard.ticks) - before) * len(frame(45, 6, both.req_id, 49, 0.0)) < SLICE + 2000
        assert both.heard.ticks == expected
        assert turns >= len(data) // SLICE

    virtually(body)


def test_bytes_that_come_while_a_burst_is_worked_off_are_next() -> None:
    async def body(both: Met) -> None:
        first, expected = ticks(both.req_id, 10_000)
        both.peer.transport.write(first)
        second, more = ticks(both.req_id, 500)
        await both.send(second)
        assert both.heard.ticks == expected + more

    virtually(body)


def test_what_came_whole_before_the_connection_broke_still_counts() -> None:
    async def body(both: Met) -> None:
        data, expected = ticks(both.req_id, 40_000)
        both.peer.transport.write(data)
        while not both.heard.ticks:
            await asyncio.sleep(0)
        both.peer.transport.abort()
        await both.connection.closed.wait()
        assert both.heard.ticks == expected
        assert both.tallies.value(FRAMES_AFTER_END) > 0

    virtually(body)


def test_nothing_is_heard_after_the_connection_was_closed_here() -> None:
    async def body(both: Met) -> None:
        data, _ = ticks(both.req_id, 40_000)
        both.peer.transport.write(data)
        while not both.heard.ticks:
            await asyncio.sleep(0)
        both.connection.close()
        heard = len(both.heard.ticks)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(both.heard.ticks) == heard

    virtually(body)


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF, MAX_FRAME + 1])
def test_a_length_that_cannot_be_ends_the_connection_within_one_read(length: int) -> None:
    async def body(both: Met) -> None:
        both.peer.transport.write(length.to_bytes(4, "big") + frame(1, 6, both.req_id, 4, 1, 1, 0))
        await both.connection.closed.wait()
        assert both.connection.reader.protocol_error == f"a message of {length} bytes"
        assert both.heard.ticks == []

    virtually(body)


def test_a_long_message_in_many_reads_is_one_message() -> None:
    async def body(both: Met) -> None:
        notices: list[str] = []
        both.connection.callbacks.on_notice = lambda _code, text: notices.append(text)
        text = "x" * 3_000_000
        data = frame(4, 2, -1, 2104, text, "")
        for begin in range(0, len(data), 100_000):
            both.peer.transport.write(data[begin : begin + 100_000])
            await asyncio.sleep(0)
        while not notices:
            await asyncio.sleep(0)
        assert notices == [text]

    virtually(body)


def test_a_kind_that_nobody_knows_is_counted_and_left_out() -> None:
    async def body(both: Met) -> None:
        await both.send(frame(4711, "x") + frame(2, 6, both.req_id, 8, 5))
        assert both.tallies.value(UNKNOWN_MESSAGES, "4711") == 1
        assert both.heard.ticks == [(2, 8, 5.0)]
        assert both.connection.is_open

    virtually(body)


def test_what_cannot_be_read_is_counted_by_kind_and_told_by_its_hash() -> None:
    async def body(both: Met) -> None:
        told: list[tuple[int, str]] = []
        both.connection.callbacks.on_undecodable = lambda message_id, digest: told.append((message_id, digest))
        await both.send(frame(3, 1, "Filled", "not a number") + frame("not", "a", "message"))
        assert both.tallies.value(DECODE_ERRORS, "3") == 1
        assert both.tallies.value(DECODE_ERRORS, "0") == 1
        assert [message_id for message_id, _ in told] == [3, 0]
        assert len({digest for _, digest in told}) == 2

    virtually(body)


def test_an_answer_with_an_unreadable_row_fails_rather_than_losing_it() -> None:
    async def body(both: Met) -> None:
        def answer(req_id: int) -> None:
            both.peer.transport.write(frame(17, req_id, "many bars") + frame(52, 1, req_id))

        with pytest.raises(Exception, match="cannot be read"):
            await both.connection.ask("reqHistoricalData", answer, timeout_s=5.0)

    virtually(body)


@pytest.mark.parametrize("value", ["", "?", "NaN"])
def test_a_tick_without_a_number_is_a_number_that_is_not_known(value: str) -> None:
    async def body(both: Met) -> None:
        await both.send(frame(1, 6, both.req_id, 4, value, 100, 0) + frame(2, 6, both.req_id, 8, value))
        (_, _, price, size), (_, _, volume) = both.heard.ticks
        assert price != price
        assert size == 100
        assert volume != volume
        assert both.tallies.value(DECODE_ERRORS, "1") == 0

    virtually(body)
