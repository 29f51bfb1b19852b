"""What earlier orders, and those that are placed at the same moment, have to say about a new one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ibkr_gateway_server.domain.errors import DuplicateOrder
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.trading.guard import TradingRules

from tests.failures.conftest import virtually
from tests.failures.dealings import PLACE, dealing, limit

WARY = TradingRules(orders_enabled=True, duplicate_window_s=5.0)


def test_the_same_terms_at_the_same_moment_are_placed_once_within_the_window(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path, rules=WARY) as dealings:
            placing = [dealings.life.desk.place(f"one-of-eight-{number:05d}", limit()) for number in range(8)]
            answers = await asyncio.gather(*placing, return_exceptions=True)
            assert sum(isinstance(answer, DuplicateOrder) for answer in answers) == 7
            assert dealings.frames(PLACE) == 1

    virtually(main)


def test_other_terms_and_the_same_ones_after_the_window_are_placed(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path, rules=WARY) as dealings:
            await dealings.place(limit(), "the-first-000001")
            await dealings.place(limit(quantity=11), "other-terms-00001")
            await asyncio.sleep(6.0)
            assert (await dealings.place(limit(), "the-second-00001")).state is OrderState.WORKING
            await dealings.check()

    virtually(main)


def test_what_was_rejected_is_no_precedent(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path, rules=WARY) as dealings:
            dealings.inject(Fault.REFUSE, PLACE, code=201)
            await dealings.place(limit(), "the-first-000001")
            assert (await dealings.place(limit(), "the-second-00001")).state is OrderState.WORKING
            await dealings.check()

    virtually(main)
