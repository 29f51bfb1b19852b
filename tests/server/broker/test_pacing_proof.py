"""Whatever is demanded of the gateway, IBKR's rules of pacing are kept, and orders are not held up by it.

A quarter of an hour of hostile demand in virtual time, on a simulator that counts what comes too fast; two hours, or
more, with `make pacing HOURS=24`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from ibkr_gateway_server.broker.pacing import Priority
from ibkr_gateway_server.domain.bars import BarSize, BarsRequest, DurationUnit, LiveBarsRequest, WhatToShow
from ibkr_gateway_server.domain.depth import DepthRequest
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.ticks import TickType
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.simulator.feeds.quotes import Quotes
from ibkr_gateway_server.simulator.session import Session

from tests.failures.conftest import inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

HOURS = float(os.environ.get("PACING_HOURS", "0.25"))
# What an order may wait for its turn.
ORDER_WAIT_S = 0.25
SYMBOLS = ("AAPL", "MSFT", "AMZN", "TSLA", "NVDA", "SPY", "QQQ", "IBM")
STOCKS = [Instrument(symbol=symbol, security_type=SecurityType.STK) for symbol in SYMBOLS]
HISTORY = [
    (BarSize.SECS_5, 1800, DurationUnit.SECOND),
    (BarSize.SECS_30, 3600, DurationUnit.SECOND),
    (BarSize.MIN_1, 3600, DurationUnit.SECOND),
    (BarSize.DAY_1, 1, DurationUnit.WEEK),
]
SHOWN = (WhatToShow.TRADES, WhatToShow.BID_ASK, WhatToShow.MIDPOINT)


class Demand:
    """Everything that is asked for, and what came of it."""

    def __init__(self, broker: Broker, contracts: list[Instrument]) -> None:
        self.broker = broker
        self.contracts = contracts
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.most_lines = 0
        self.shortest_retry_s = 1.0
        self.order_waits: list[float] = []
        self.dice = random.Random(7)

    async def ask(self, what: str, asked: Awaitable[object]) -> None:
        """Ask for it; refusals are answers, and say when to come back where there is such a time."""
        try:
            await asked
            self.answered[what] += 1
        except DomainError as error:
            self.refused[f"{what}: {error.reason}"] += 1
            self.shortest_retry_s = min(self.shortest_retry_s, getattr(error, "retry_after_s", 1.0))

    async def again_and_again(self, act: Callable[[], Awaitable[None]], mean_s: float) -> None:
        """At random moments, until it is cancelled."""
        while True:
            await asyncio.sleep(self.dice.expovariate(1 / mean_s))
            await act()

    async def quote(self) -> None:
        await self.ask("quote", self.broker.market_data.snapshot(self.dice.choice(self.contracts), 5.0))

    async def watch(self) -> None:
        async def held() -> None:
            line = await self.broker.market_data.acquire(self.dice.choice(self.contracts))
            await asyncio.sleep(self.dice.choice((0.0, 300.0, 600.0)))
            self.broker.market_data.release(line)

        await self.ask("line", held())

    async def history(self) -> None:
        size, value, unit = self.dice.choice(HISTORY)
        request = BarsRequest(self.dice.choice(STOCKS), size, value, unit, self.dice.choice(SHOWN))
        await self.ask("history", self.broker.history.bars(request, self.dice.choice((2.0, 20.0))))

    async def burst_of_history(self) -> None:
        """Eight of one contract and kind at once, and the same again."""
        stock = self.dice.choice(STOCKS)
        for _ in range(2):
            requests = [BarsRequest(stock, BarSize.SECS_5, 600 + n, DurationUnit.SECOND) for n in range(8)]
            await asyncio.gather(*(self.ask("burst", self.broker.history.bars(each, 5.0)) for each in requests))

    async def ticks(self) -> None:
        async def held() -> None:
            kind = self.dice.choice((TickType.LAST, TickType.BID_ASK))
            feed = await self.broker.feeds.acquire(self.dice.choice(STOCKS), kind)
            await asyncio.sleep(self.dice.choice((0.0, 5.0)))
            self.broker.feeds.release(feed)

        await self.ask("ticks", held())

    async def live_bars(self) -> None:
        async def held() -> None:
            stock, real_time = self.dice.choice(STOCKS), self.dice.random() < 0.5
            wanted = LiveBarsRequest(stock, BarSize.SECS_5, self.dice.choice(SHOWN[::2]), is_real_time=real_time)
            feed = await self.broker.live_bars.acquire(wanted)
            await asyncio.sleep(self.dice.choice((0.0, 30.0)))
            self.broker.live_bars.release(feed)

        await self.ask("bars", held())

    async def depth(self) -> None:
        async def held() -> None:
            feed = await self.broker.depth.acquire(DepthRequest(self.dice.choice(STOCKS), 5, is_smart=True))
            await asyncio.sleep(self.dice.choice((0.0, 5.0)))
            self.broker.depth.release(feed)

        await self.ask("depth", held())

    async def account(self) -> None:
        what = self.dice.choice(
            (self.broker.accounts.summary, self.broker.accounts.pnl, self.broker.accounts.positions)
        )
        await self.ask("account", what())

    async def search(self) -> None:
        letters = "".join(self.dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3))
        await self.ask("search", self.broker.listings.search(letters))

    async def order(self) -> None:
        """An order's turn, and a cancel's."""
        loop = asyncio.get_running_loop()
        for priority in (Priority.ORDER, Priority.CANCEL):
            began = loop.time()
            await self.broker.pacer.take(priority, 10.0)
            self.order_waits.append(loop.time() - began)

    async def trouble(self) -> None:
        """The link is lost with all data, or the connection."""
        if self.dice.random() < 0.5:
            inject(self.broker.simulator, Fault.LINK_LOST, duration_s=5.0, value="data_lost")
        else:
            inject(self.broker.simulator, Fault.DISCONNECT)

    async def count_lines(self) -> None:
        sessions = [each for each in self.broker.simulator.gateway.sessions if isinstance(each, Session)]
        self.most_lines = max([self.most_lines, *(len(session.feeds.of(Quotes)) for session in sessions)])

    async def run(self, seconds: float) -> None:
        """All of it at once."""
        actors = [
            *[(self.quote, 3.0)] * 12,
            *[(self.watch, 10.0)] * 150,
            *[(self.history, 15.0)] * 12,
            (self.burst_of_history, 60.0),
            *[(self.ticks, 10.0)] * 4,
            *[(self.live_bars, 20.0)] * 3,
            *[(self.depth, 20.0)] * 2,
            *[(self.account, 10.0)] * 2,
            *[(self.search, 10.0)] * 2,
            (self.order, 2.0),
            (self.trouble, 300.0),
            (self.count_lines, 1.0),
        ]
        tasks = [asyncio.ensure_future(self.again_and_again(act, mean_s)) for act, mean_s in actors]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        for task in done:
            task.result()


def test_hours_of_hostile_demand_violate_no_rule_and_hold_up_no_order() -> None:
    async def main() -> None:
        async with virtual_broker(tick_interval_s=120.0, line_limit=100, linger_s=1.0) as broker:
            await broker.session.wait_until_ready(20)
            options = await broker.contracts.details(
                Instrument(symbol="SPY", security_type=SecurityType.OPT, exchange="SMART")
            )
            demand = Demand(broker, STOCKS + [details.instrument for details in options[:300]])
            await demand.run(HOURS * 3600)

        assert +broker.simulator.gateway.pacing_violations == Counter()
        assert 90 < demand.most_lines <= 100
        assert demand.shortest_retry_s > 0
        assert max(demand.order_waits) <= ORDER_WAIT_S
        assert len(demand.order_waits) > 1000 * HOURS
        # Each kind of demand was served, and what there is only so much of was refused by its name.
        for what in ("quote", "line", "history", "burst", "ticks", "bars", "depth", "account", "search"):
            assert demand.answered[what] > 20 * HOURS, (what, demand.answered, demand.refused)
        assert demand.refused["history: PACING_HISTORICAL"] > 0
        assert "BUG" not in str(demand.refused)

    virtually(main)
