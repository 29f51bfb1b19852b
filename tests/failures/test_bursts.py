"""More ticks than anybody can read: what is kept of them, and who waits for them."""

from __future__ import annotations

import asyncio

from ibkr_gateway_server.broker.framing import SLICE
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.streams.quotes import QuoteHub, QuoteSubscription

from tests.failures.conftest import virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
MSFT = Instrument(symbol="MSFT", security_type=SecurityType.STK)

LAST_PRICE = 4


def last_price(broker: Broker, symbol: str, price: float) -> bytes:
    """A tick of this line's, as TWS sends it."""
    line = next(line for line in broker.market_data.lines if line.instrument.symbol == symbol)
    payload = f"1\x006\0{line.request_id}\0{LAST_PRICE}\0{price}\x00100\x000\0".encode()
    return len(payload).to_bytes(4, "big") + payload


class Reader:
    """One reader of a stream: the quotes that it took, and how many each stood for."""

    def __init__(self) -> None:
        self.quotes: list[Quote] = []
        self.stood_for = 0
        self.most_in_one_batch = 0

    async def read(self, stream: QuoteSubscription, pause_s: float) -> None:
        async for batch in stream:
            taken = [event for event in batch if isinstance(event.happening, Quote)]
            self.quotes += [event.happening for event in taken if isinstance(event.happening, Quote)]
            self.stood_for += sum(event.conflated_count + 1 for event in taken)
            self.most_in_one_batch = max(self.most_in_one_batch, len(taken))
            await asyncio.sleep(pause_s)


def test_M12_fifty_thousand_ticks_a_second_for_ten_seconds() -> None:
    """Ticks of two contracts, 50,000 a second for ten seconds, to a reader that is quick and to one that is slow.

    The newest quote of each contract and a count of those it stands for; the slow reader holds up neither the other one
    nor the gateway, and one quote for each contract waits for it.
    """

    async def main() -> None:
        # The market itself is still: every tick is one of these.
        async with virtual_broker(tick_interval_s=1e6) as broker:
            await broker.session.wait_until_ready(20)
            hub = QuoteHub(broker.market_data, lambda: broker.session.status)
            quick, slow = Reader(), Reader()
            async with hub.subscribe((AAPL, MSFT)) as first, hub.subscribe((AAPL, MSFT)) as second:
                reading = [
                    asyncio.ensure_future(quick.read(first, 0.0)),
                    asyncio.ensure_future(slow.read(second, 1.0)),
                ]
                while not all(line.quote for line in broker.market_data.lines):
                    await asyncio.sleep(0.1)
                await asyncio.sleep(2.0)
                before = quick.stood_for, slow.stood_for
                connection = broker.session.connection()
                count = 0
                for _ in range(10_000):
                    ticks = b"".join(
                        last_price(broker, symbol, 100 + (count := count + 1) / 1000) for symbol in ("AAPL", "MSFT") * 2
                    )
                    # A millisecond's, as one read brings them: the line publishes once.
                    connection.reader.data_received(ticks)
                    await asyncio.sleep(0.001)
                await asyncio.sleep(2.0)
                for task in reading:
                    task.cancel()
            newest = {"AAPL": 100 + (count - 1) / 1000, "MSFT": 100 + count / 1000}
            for reader, had in zip((quick, slow), before, strict=True):
                # Each read is one quote of each contract: all are told or counted.
                assert reader.stood_for - had == 20_000
                assert reader.most_in_one_batch == 2
                last = {quote.instrument.symbol: quote.last_price for quote in reader.quotes}
                assert last == newest
            assert len(slow.quotes) < 40

    virtually(main)


def test_M13_four_megabytes_of_ticks_in_one_piece() -> None:
    """Four megabytes of ticks arrive in one read, as after a stall of the network.

    The newest quote; meanwhile the loop has served everybody else after every slice of it.
    """

    async def main() -> None:
        async with virtual_broker(tick_interval_s=1e6) as broker:
            await broker.session.wait_until_ready(20)
            line = await broker.market_data.acquire(AAPL)
            while line.quote is None:
                await asyncio.sleep(0.1)
            ticks = [last_price(broker, "AAPL", 100 + number % 1000 / 100) for number in range(100)]
            burst = b"".join(ticks) * (4 * 1024 * 1024 // len(b"".join(ticks))) + last_price(broker, "AAPL", 321.0)
            reader = broker.session.connection().reader
            reader.data_received(burst)
            turns = 0
            while not reader.is_idle:
                turns += 1
                await asyncio.sleep(0)
            assert turns >= len(burst) // SLICE - 1
            assert line.quote.last_price == 321.0
            # Answers that came behind it are not lost.
            assert await broker.session.server_time()

    virtually(main)
