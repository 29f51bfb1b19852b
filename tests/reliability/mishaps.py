"""What goes wrong in a run: every class of failure that orders can meet, each a name and what it does to the world.

The letters are those of docs/failures.md: C connections, O orders, D the record. Faults of messages are counted when
they strike, not when they are prepared; many never do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.faults import outage
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms

from tests.reliability.intents import SYMBOLS
from tests.reliability.mishaps_within import (
    MOMENTS,
    clock_jumps,
    disk_full,
    killed,
    lost_on_the_way,
    record_locked,
    saturated,
    write_fails,
)
from tests.reliability.world import World

PLACE, CANCEL = 3, 4
STATUS, OPEN, FILL, FEE, COMPLETED = 3, 5, 11, 59, 101
OPEN_END, FILLS_END, COMPLETED_END = 53, 55, 102
ALL_FILLS, ALL_OPEN, ALL_COMPLETED = 7, 16, 99
_ABOUT_ORDERS = (STATUS, OPEN, FILL, FEE)

# Rows of each kind that cannot be read, at most.
GARBLED = 1000

Act = Callable[[World, random.Random], None]


@dataclass(frozen=True, slots=True)
class Mishap:
    """One class of failure. `weight`: how often it is chosen, beside the others."""

    name: str
    act: Act
    weight: int = 2


def _rule(fault: Fault, message_id: int | None = None, **how: Any) -> Act:
    def act(world: World, _chance: random.Random) -> None:
        world.inject(Rule(fault, message_id, **how))

    return act


def _one_of(fault: Fault, message_ids: tuple[int, ...], **how: Any) -> Act:
    def act(world: World, chance: random.Random) -> None:
        world.inject(Rule(fault, chance.choice(message_ids), times=chance.choice((1, 1, 2, 4)), **how))

    return act


def _late_orders(world: World, chance: random.Random) -> None:
    """Up to 90 s late, as observed; rarely later than any quarantine."""
    delay_s = chance.choice((0.5, 8.0, 30.0, 60.0, 90.0, 200.0, 200.0, 400.0))
    world.late_until = max(world.late_until, world.loop.time() + 60.0 + delay_s)
    world.inject(Rule(Fault.LATE, PLACE, delay_s=delay_s, duration_s=60.0))


def _late_words(world: World, chance: random.Random) -> None:
    delay_s = chance.choice((0.2, 5.0, 20.0))
    message_id = chance.choice(_ABOUT_ORDERS)
    world.inject(Rule(Fault.DELAY_REPLY, message_id, times=chance.choice((1, 3)), delay_s=delay_s, duration_s=60.0))


def _refused(world: World, chance: random.Random) -> None:
    code = chance.choice((201, 110, 200, 203, 460, 321, 103))
    world.inject(Rule(Fault.REFUSE, PLACE, code=code))


def _cancel_refused(world: World, chance: random.Random) -> None:
    world.inject(Rule(Fault.REFUSE, CANCEL, code=chance.choice((10147, 10148, 161))))


def _remarked(world: World, chance: random.Random) -> None:
    """Codes that are only notices, 202 among them, which says "cancelled" of an order that works."""
    world.inject(Rule(Fault.WARN, PLACE, code=chance.choice((399, 10349, 2109, 202, 404))))


def _unreadable(world: World, chance: random.Random) -> None:
    message_id, field = chance.choice(((STATUS, 3), (STATUS, 6), (OPEN, 1), (FILL, 2), (FEE, 3), (COMPLETED, 1)))
    times = chance.choice((1, 2, 5))
    world.inject(Rule(Fault.CORRUPT_FIELD, message_id, field=field, value="x", times=times, duration_s=200.0))


def _senseless(world: World, chance: random.Random) -> None:
    fault = chance.choice((Fault.BAD_LENGTH, Fault.RESET_MID_FRAME, Fault.PRECEDE_UNKNOWN))
    value = chance.choice(("0", "-1", "0x7fffffff")) if fault is Fault.BAD_LENGTH else ""
    world.inject(Rule(fault, chance.choice((STATUS, OPEN, FILL)), value=value))


def _order_ids_go_back(world: World, chance: random.Random) -> None:
    world.inject(Rule(Fault.ORDER_ID, value=chance.choice(("1", "2", "3")), times=3, duration_s=120.0))
    if chance.random() < 0.5:
        killed(world, chance)
    else:
        world.inject(Rule(Fault.DISCONNECT))


def _half_open(world: World, chance: random.Random) -> None:
    world.inject(Rule(Fault.HALF_OPEN, duration_s=chance.choice((3.0, 40.0))))


def _link_lost(world: World, chance: random.Random) -> None:
    fault = chance.choice((Fault.LINK_LOST, Fault.LINK_LOST, Fault.SERVER_LINK_BROKEN))
    world.inject(Rule(fault, duration_s=chance.choice((0.5, 5.0, 30.0)), value=chance.choice(("", "data_lost"))))


def _away(world: World, chance: random.Random) -> None:
    world.inject(Rule(Fault.REFUSE_CONNECTIONS, duration_s=chance.choice((2.0, 20.0))))
    world.inject(Rule(Fault.DISCONNECT))


def _client_id_in_use(world: World, chance: random.Random) -> None:
    world.inject(Rule(Fault.CLIENT_ID_IN_USE, times=chance.choice((1, 3)), duration_s=60.0))
    world.inject(Rule(Fault.DISCONNECT))


def _no_end(world: World, chance: random.Random) -> None:
    message_id = chance.choice((OPEN_END, FILLS_END, COMPLETED_END))
    world.inject(Rule(Fault.LOSE_REPLY, message_id, times=chance.choice((1, 2)), duration_s=120.0))
    if chance.random() < 0.5:
        world.inject(Rule(Fault.DISCONNECT))


def _not_asked(world: World, chance: random.Random) -> None:
    """The gateway's questions about orders are read and forgotten, for longer than it would take to give up on one."""
    message_id = chance.choice((ALL_OPEN, ALL_COMPLETED, ALL_FILLS))
    world.inject(Rule(Fault.LOSE, message_id, times=None, duration_s=chance.choice((40.0, 300.0))))


def _link_said_lost(world: World, chance: random.Random) -> None:
    """1100, while words on orders still come, then 1102."""
    world.simulator.notify(*outage.LOST)
    for after_s, factor in ((0.08, 1.03), (0.1, 0.94)):
        world.loop.call_later(after_s, _move_all, world, factor)
    world.loop.call_later(chance.choice((0.1, 4.0, 20.0)), world.simulator.notify, *outage.DATA_KEPT)
    world.struck["C12 words while the link is lost"] += 1


def _deaf(world: World, _chance: random.Random) -> None:
    """Not a word of an order arrives, and questions about orders are forgotten: for longer than any quarantine."""
    for message_id in _ABOUT_ORDERS:
        world.inject(Rule(Fault.LOSE_REPLY, message_id, times=None, duration_s=12.0))
    for message_id in (ALL_OPEN, ALL_COMPLETED, ALL_FILLS):
        world.inject(Rule(Fault.LOSE, message_id, times=None, duration_s=300.0))
    world.stay(250.0)


def _garbled(world: World, chance: random.Random) -> None:
    """What is said of orders cannot be read: lists with rows that are missing, whole to the eye."""
    about = [(STATUS, 3), (OPEN, 1), (COMPLETED, 2)] + [(FILL, 2)] * (chance.random() < 0.3)
    for message_id, field in about:
        world.inject(Rule(Fault.CORRUPT_FIELD, message_id, field=field, value="x", times=GARBLED, duration_s=300.0))
    world.stay(chance.choice((20.0, 250.0, 250.0)))


def _held_over_a_loss(world: World, chance: random.Random) -> None:
    """TWS takes an order, loses its link to IBKR, and sends the order on when the link is back."""
    lost_s = chance.choice((5.0, 150.0, 150.0))

    def lose() -> None:
        world.inject(Rule(Fault.LINK_LOST, duration_s=lost_s))

    world.inject(Rule(Fault.LATE, PLACE, delay_s=25.0 + lost_s + chance.choice((2.0, 20.0)), duration_s=10.0, times=3))
    # Until then the order is unknown already, and one list without it has been read.
    world.loop.call_later(25.0, lose)
    world.stay(lost_s + 80.0)


def _fill_told_late(world: World, chance: random.Random) -> None:
    """Fills are told long after they were made, when what was left of the order has been cancelled."""
    delay_s = chance.choice((3.0, 10.0))
    world.inject(Rule(Fault.DELAY_REPLY, FILL, times=None, delay_s=delay_s, duration_s=40.0))
    for after_s, factor in ((2.0, 1.03), (2.3, 0.94)):
        world.loop.call_later(after_s, _move_all, world, factor)
    world.loop.call_later(2.6, _cancel_all_by_hand, world)


def _fill_as_changed(world: World, chance: random.Random) -> None:
    """Orders fill just after a change of one has been made, and nobody hears of the change: openOrder is lost."""

    def fill() -> None:
        world.struck["O32 filled before a change is told"] += 1
        for message_id in (OPEN, *((STATUS,) if chance.random() < 0.5 else ())):
            world.inject(Rule(Fault.LOSE_REPLY, message_id, times=None, duration_s=chance.choice((5.0, 40.0))))
        # A little, so that large orders fill in part, or much.
        for after_s, factor in ((0.5, chance.choice((1.002, 1.03))), (0.9, chance.choice((0.996, 0.94)))):
            world.loop.call_later(after_s, _move_all, world, factor)

    world.on_changed += [fill] * 3


def _cancel_all_by_hand(world: World) -> None:
    for order in world.simulator.gateway.open_orders():
        with suppress(OrderRefused):
            world.simulator.gateway.cancel_manually(order.perm_id)
    world.simulator.flush()


def _cancelled_in_tws(world: World, chance: random.Random) -> None:
    """Somebody cancels one of our orders in TWS, once there is one."""

    def cancel() -> bool:
        open_orders = world.simulator.gateway.open_orders()
        if not open_orders:
            return False
        with suppress(OrderRefused):
            world.simulator.gateway.cancel_manually(chance.choice(open_orders).perm_id)
            world.struck["O09 cancelled in TWS"] += 1
            world.simulator.flush()
        return True

    _as_soon_as(world, cancel)


def _placed_in_tws(world: World, _chance: random.Random) -> None:
    """Somebody places an order of his own."""
    terms = Terms(action="BUY", quantity=5, order_type="LMT", limit_price=20.0, account="DU1234567")
    world.simulator.gateway.place_manually(ContractQuery(symbol="AAPL", sec_type="STK", exchange="SMART"), terms)
    world.struck["O35 placed in TWS"] += 1
    world.simulator.flush()


def _corrected(world: World, chance: random.Random) -> None:
    """The exchange corrects the price of a fill, once there is one."""

    def correct() -> bool:
        executions = world.simulator.gateway.executions
        if not executions:
            return False
        wrong = chance.choice(executions)
        world.simulator.gateway.correct_execution(wrong.execution_id, round(wrong.price + 0.01, 2))
        world.struck["O28 execution corrected"] += 1
        world.simulator.flush()
        return True

    _as_soon_as(world, correct)


def _as_soon_as(world: World, act: Callable[[], bool], tries: int = 20) -> None:
    """Do it as soon as it can be done: at first there is often nothing yet that it could befall."""
    if not act() and tries:
        world.loop.call_later(1.0, _as_soon_as, world, act, tries - 1)


def _move_all(world: World, factor: float) -> None:
    """Every price moves, so that what rests nearby fills."""
    for symbol in SYMBOLS:
        world.simulator.set_quote(symbol, last=round(world.price(symbol) * factor, 2))


def _price_jumps(world: World, chance: random.Random) -> None:
    symbol = chance.choice(SYMBOLS)
    last = world.price(symbol)
    world.simulator.set_quote(symbol, last=round(last * chance.choice((0.97, 0.995, 1.005, 1.03)), 2))
    world.struck["price jumps"] += 1


MISHAPS = (
    Mishap("O06 reset before an order is read", _rule(Fault.DISCONNECT_BEFORE, PLACE), 6),
    Mishap("O07 reset after an order is taken", _rule(Fault.DISCONNECT_AFTER, PLACE), 6),
    Mishap("C08 end after an order is taken", _rule(Fault.CLOSE_AFTER, PLACE), 6),
    Mishap("O10 order read and forgotten", _rule(Fault.LOSE, PLACE), 6),
    Mishap("O12 order taken late", _late_orders, 7),
    Mishap("O22 order refused", _refused, 6),
    Mishap("O23 notice on an order", _remarked, 5),
    Mishap("C29 read-only", _rule(Fault.READ_ONLY, duration_s=8.0, times=None), 5),
    Mishap("C22 too fast", _rule(Fault.TOO_FAST, PLACE), 4),
    Mishap("O30 cancel read and forgotten", _rule(Fault.LOSE, CANCEL), 6),
    Mishap("O30 reset before a cancel is read", _rule(Fault.DISCONNECT_BEFORE, CANCEL), 7),
    Mishap("O30 reset after a cancel is taken", _rule(Fault.DISCONNECT_AFTER, CANCEL), 8),
    Mishap("O25 cancel refused", _cancel_refused, 7),
    Mishap("O11 word on an order lost", _one_of(Fault.LOSE_REPLY, _ABOUT_ORDERS, duration_s=15.0), 4),
    Mishap("C06 no word of orders, no answer about them", _deaf, 2),
    Mishap("C24 nothing about orders can be read", _garbled, 4),
    Mishap("O12 order held over a lost link", _held_over_a_loss, 5),
    Mishap("O29 fills told late", _fill_told_late, 6),
    Mishap("O32 filled before a change is told", _fill_as_changed, 8),
    Mishap("O27 word on an order late", _late_words, 3),
    Mishap("O28 word on an order twice", _one_of(Fault.DUPLICATE_REPLY, _ABOUT_ORDERS), 3),
    Mishap("O27 words on an order out of order", _one_of(Fault.REORDER_REPLY, _ABOUT_ORDERS), 3),
    Mishap("C24 unreadable word on an order", _unreadable, 4),
    Mishap("C23 senseless bytes", _senseless, 4),
    Mishap("O19 order ids go back", _order_ids_go_back, 4),
    Mishap("C09 half-open", _half_open, 3),
    Mishap("C11 link to IBKR lost", _link_lost, 4),
    Mishap("C07 every connection breaks", _rule(Fault.DISCONNECT), 3),
    Mishap("C08 every connection ends", _rule(Fault.CLOSE), 3),
    Mishap("C01 nobody listens", _away, 2),
    Mishap("C02 never greeted", _rule(Fault.NEVER_GREET), 4),
    Mishap("C20 client id in use", _client_id_in_use, 2),
    Mishap("C04 bytes in pieces", _rule(Fault.SPLIT, duration_s=20.0, value="3"), 4),
    Mishap("C04 bytes in one piece", _rule(Fault.MERGE, duration_s=20.0), 3),
    Mishap("C17 farm broken", _rule(Fault.FARM_BROKEN, duration_s=10.0, value="market"), 3),
    Mishap("C06 end marker lost", _no_end, 4),
    Mishap("C06 question about orders forgotten", _not_asked, 3),
    Mishap("C12 words while the link is lost", _link_said_lost, 5),
    Mishap("O45 lost between record and write", lost_on_the_way, 4),
    Mishap("O18 the write fails", write_fails, 5),
    Mishap("O43 messages saturated", saturated, 3),
    Mishap("D12 clock jumps", clock_jumps, 3),
    Mishap("D01 disk full", disk_full, 3),
    Mishap("D04 record locked", record_locked, 3),
    Mishap("killed", killed, 20),
    Mishap("O09 cancelled in TWS", _cancelled_in_tws, 5),
    Mishap("O35 placed in TWS", _placed_in_tws, 4),
    Mishap("O28 execution corrected", _corrected, 5),
    Mishap("price jumps", _price_jumps, 3),
)
WEIGHTS = tuple(mishap.weight for mishap in MISHAPS)


def strike(world: World, chance: random.Random) -> None:
    """Let one of them happen, or wait to happen."""
    mishap = chance.choices(MISHAPS, WEIGHTS)[0]
    world.note(f"mishap: {mishap.name}")
    with world.counting(mishap.name):
        mishap.act(world, chance)


# Under which names things that went wrong are counted: those of the table, and what some of them turn into.
CLASSES = (
    *(mishap.name for mishap in MISHAPS if mishap.name != "killed"),
    *(f"O18 killed {moment.replace('_', ' ')}" for moment in MOMENTS),
    "O18 killed at a time",
)
