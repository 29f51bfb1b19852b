"""Orders that belong together: brackets whose legs do not all arrive, and groups of which one fills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_server.domain.orders import LegRole, OrderState
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import virtually
from tests.failures.dealings import (
    ASKED_AGAIN_S,
    CANCEL,
    OPEN_ORDER,
    PLACE,
    QUARANTINE_S,
    STATUS,
    Dealings,
    bracket,
    dealing,
    limit,
)
from tests.reliability.invariants import orders_of

S = OrderState
ENTRY, PROFIT, LOSS = LegRole.ENTRY, LegRole.TAKE_PROFIT, LegRole.STOP_LOSS
KEY = "the-order-000001"


def legs(dealings: Dealings) -> dict[LegRole, OrderState]:
    """Where each leg stands, as told."""
    return {leg.leg_role: leg.state for leg in dealings.order().legs if leg.leg_role is not None}


def each(state: OrderState) -> dict[LegRole, OrderState]:
    return dict.fromkeys((ENTRY, PROFIT, LOSS), state)


def at_broker(dealings: Dealings) -> dict[LegRole, str]:
    """What the broker has of each leg that has arrived; "" for one that waits untransmitted."""
    found = {}
    for role in (ENTRY, PROFIT, LOSS):
        for order in orders_of(dealings.simulator.gateway, dealings.life.store.order_ref(KEY, role)):
            assert role not in found
            found[role] = "" if order.is_staged else order.status
    return found


def after_leg(dealings: Dealings, count: int, act: Callable[[], None]) -> None:
    """Let this happen as soon as the broker has taken so many legs."""
    gateway = dealings.simulator.gateway
    place, left = gateway.place, count

    def counted(*request: Any) -> None:
        nonlocal left
        place(*request)
        left -= 1
        if left == 0:
            act()

    gateway.place = counted  # type: ignore[method-assign]


@pytest.mark.parametrize("count", [1, 2])
def test_O38_the_connection_breaks_between_the_legs_of_a_bracket(tmp_path: Path, count: int) -> None:
    """TWS takes one or two legs of a bracket, and the connection breaks before the last, which transmits all.

    PlaceOrder answers OK, with the state of each leg, UNKNOWN. TWS holds what it has untransmitted: nothing works, and
    nothing is sent again. After the quarantine each leg is PRESUMED_NOT_PLACED.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            after_leg(dealings, count, dealings.simulator.drop_connections)
            await dealings.place(bracket())
            assert legs(dealings) == each(S.UNKNOWN)
            assert at_broker(dealings) == dict.fromkeys((ENTRY, PROFIT)[:count], "")
            await asyncio.sleep(QUARANTINE_S + ASKED_AGAIN_S)
            assert legs(dealings) == each(S.PRESUMED_NOT_PLACED)
            assert dealings.simulator.gateway.open_orders() == []
            assert len(dealings.recorded("order.send")) == 3
            assert dealings.frames(PLACE) == count

    virtually(main)


def test_O38_the_last_leg_of_a_bracket_is_late(tmp_path: Path) -> None:
    """The leg that transmits a bracket takes effect 60 s after it was sent.

    Until then nothing works and each leg is UNKNOWN; then all three are WORKING. Nothing was cancelled or sent again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            after_leg(dealings, 2, lambda: dealings.inject(Fault.LATE, PLACE, delay_s=60.0))
            await dealings.place(bracket())
            assert legs(dealings) == each(S.UNKNOWN)
            assert dealings.simulator.gateway.open_orders() == []
            await asyncio.sleep(ASKED_AGAIN_S)
            assert legs(dealings) == each(S.WORKING)
            assert at_broker(dealings).keys() == {ENTRY, PROFIT, LOSS}
            assert (dealings.frames(PLACE), dealings.frames(CANCEL)) == (3, 0)

    virtually(main)


def test_O38_a_bracket_is_taken_and_the_connection_breaks(tmp_path: Path) -> None:
    """TWS takes all legs of a bracket, and the connection breaks before its word on any.

    PlaceOrder answers OK: once the gateway is back each leg is found by its mark and WORKING, with its own permId.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            after_leg(dealings, 3, dealings.simulator.drop_connections)
            await dealings.place(bracket())
            await dealings.until(lambda: legs(dealings) == each(S.WORKING), 10.0)
            told = {leg.leg_role: leg.perm_id for leg in dealings.order().legs}
            assert told == {role: dealings.truth(role=role).perm_id for role in (ENTRY, PROFIT, LOSS)}
            assert dealings.frames(PLACE) == 3

    virtually(main)


def test_O38_a_bracket_without_its_stop_is_transmitted_in_tws(tmp_path: Path) -> None:
    """The stop-loss of a bracket never arrives, and somebody transmits in TWS what is there: an entry without its stop.

    The entry and the take-profit are WORKING. When the stop-loss is presumed never placed, after the quarantine, the
    gateway cancels the rest: each leg's state is told, the record has cancel.incomplete, and nothing is left that would
    open a position without protection.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            after_leg(dealings, 2, lambda: dealings.inject(Fault.LOSE, PLACE))
            await dealings.place(bracket())
            dealings.simulator.gateway._exchange.transmit(dealings.truth())
            await dealings.until(lambda: legs(dealings) == {**each(S.WORKING), LOSS: S.UNKNOWN}, 20.0)
            assert dealings.frames(CANCEL) == 0
            await asyncio.sleep(QUARANTINE_S + ASKED_AGAIN_S)
            assert legs(dealings) == {**each(S.CANCELLED), LOSS: S.PRESUMED_NOT_PLACED}
            assert dealings.simulator.gateway.open_orders() == []
            assert dealings.recorded("cancel.incomplete")
            assert dealings.frames(PLACE) == 3

    virtually(main)


def test_O38_the_stop_of_a_bracket_is_rejected(tmp_path: Path) -> None:
    """IBKR rejects the stop-loss of a bracket, the leg that transmits all, with 201.

    PlaceOrder answers OK with the stop-loss REJECTED, IBKR's words with it, and the others UNKNOWN: TWS holds them
    untransmitted. Nothing works; after the quarantine they are PRESUMED_NOT_PLACED.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            after_leg(dealings, 2, lambda: dealings.inject(Fault.REFUSE, PLACE, code=201))
            await dealings.place(bracket())
            assert legs(dealings) == {**each(S.UNKNOWN), LOSS: S.REJECTED}
            await asyncio.sleep(QUARANTINE_S + ASKED_AGAIN_S)
            assert legs(dealings) == {**each(S.PRESUMED_NOT_PLACED), LOSS: S.REJECTED}
            assert dealings.simulator.gateway.open_orders() == []

    virtually(main)


def test_O38_the_stop_of_a_working_bracket_is_rejected(tmp_path: Path) -> None:
    """All legs of a bracket are WORKING, and the exchange rejects the stop-loss.

    The stop-loss is REJECTED, with IBKR's words. The gateway cancels the entry and the take-profit at once, before a
    position without protection can be opened; each is told as CANCELLED, and the record has cancel.incomplete.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(bracket())
            dealings.simulator.gateway._exchange._reject(dealings.truth(role=LOSS), "Order rejected - reason:stop")
            dealings.simulator.flush()
            await dealings.until(lambda: legs(dealings) == {**each(S.CANCELLED), LOSS: S.REJECTED})
            assert dealings.simulator.gateway.open_orders() == []
            assert dealings.recorded("cancel.incomplete")

    virtually(main)


def test_O38_the_stop_is_rejected_once_the_entry_has_filled(tmp_path: Path) -> None:
    """The entry of a bracket has filled, and the exchange rejects the stop-loss.

    The stop-loss is REJECTED, with IBKR's words. The take-profit, which can only close the position, works on: what
    protects the position now is the caller's to decide, and nothing is cancelled or sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(bracket())
            dealings.trade(10)
            await dealings.until(lambda: legs(dealings)[ENTRY] is S.FILLED)
            await dealings.settle()
            dealings.simulator.gateway._exchange._reject(dealings.truth(role=LOSS), "Order rejected - reason:stop")
            dealings.simulator.flush()
            await asyncio.sleep(ASKED_AGAIN_S)
            assert legs(dealings) == {ENTRY: S.FILLED, PROFIT: S.WORKING, LOSS: S.REJECTED}
            assert (dealings.frames(PLACE), dealings.frames(CANCEL)) == (3, 0)

    virtually(main)


def test_O38_the_entry_of_a_bracket_is_cancelled(tmp_path: Path) -> None:
    """A caller cancels a bracket before its entry has filled, and the connection breaks after TWS has taken the cancel.

    CancelOrder answers OK with the entry CANCELLED; its exits go with it, by IBKR's evidence. One cancel was sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(bracket())
            dealings.inject(Fault.DISCONNECT_AFTER, CANCEL)
            assert (await dealings.cancel()).state is S.CANCELLED
            await dealings.until(lambda: legs(dealings) == each(S.CANCELLED), 10.0)
            assert dealings.frames(CANCEL) == 1

    virtually(main)


@pytest.mark.parametrize("is_heard", [True, False], ids=["as it happens", "while disconnected"])
def test_O39_one_of_a_group_fills(tmp_path: Path, is_heard: bool) -> None:
    """Of three orders of one group, oca_type CANCEL_WITH_BLOCK, one fills, and IBKR cancels the others.

    The one is FILLED and the others are CANCELLED, each once IBKR says so of it: as it happens, or from its lists when
    the gateway is back. The gateway itself cancels nothing.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            keys = [f"one-of-group-{number:04d}" for number in range(3)]
            for key in keys:
                await dealings.place(limit("10", oca_group="a group"), key)
            if not is_heard:
                dealings.inject(Fault.REFUSE_CONNECTIONS, duration_s=5.0)
                dealings.inject(Fault.DISCONNECT)
            dealings.trade(10, order=dealings.truth(keys[1]))
            await asyncio.sleep(20.0)
            assert [dealings.status(key).state for key in keys] == [S.CANCELLED, S.FILLED, S.CANCELLED]
            assert dealings.frames(CANCEL) == 0
            await dealings.check()

    virtually(main)


def test_O39_a_group_is_not_concluded_from_a_fill(tmp_path: Path) -> None:
    """One of a group fills, and IBKR's word that the other is cancelled is lost.

    The other stays WORKING, as far as is known; when IBKR is asked, within 5 minutes, its list makes it CANCELLED.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            filling, other = "one-of-group-0000", "one-of-group-0001"
            for key in (filling, other):
                await dealings.place(limit("10", oca_group="a group"), key)
            dealings.trade(10, order=dealings.truth(filling))
            for message_id in (STATUS, OPEN_ORDER, 4):
                dealings.inject(Fault.LOSE_REPLY, message_id, times=None, duration_s=0.5)
            await asyncio.sleep(10.0)
            assert dealings.truth(other).status == "Cancelled"
            assert dealings.status(filling).state is S.FILLED
            assert dealings.status(other).state is S.WORKING
            await asyncio.sleep(ASKED_AGAIN_S)
            assert dealings.status(other).state is S.CANCELLED
            await dealings.check()

    virtually(main)
