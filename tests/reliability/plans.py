"""What must be true of changes and brackets: what was asked is what the broker has, each change once and in its turn,
and no leg works without those that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ibkr_gateway_server.audit.stored import StoredModification
from ibkr_gateway_server.domain.orders import LegRole, ModificationState, OrderType
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.orders import Order

from tests.reliability.intents import Intent, Word, leg_name
from tests.reliability.invariants import (
    CHANGED,
    EXPLAINED,
    PROTECTED,
    QUARANTINE_S,
    REDUCING,
    TRUE,
    UNSENT,
    Finding,
    orders_of,
)
from tests.reliability.terms import at_broker, wanted
from tests.reliability.world import World


class _Leg:
    """One order of an intent: what was written of it, what the broker did with that."""

    def __init__(self, world: World, word: Word, intent: Intent, role: LegRole) -> None:
        ref = word.order_ref(intent.key, role)
        self.name = leg_name(intent.key, role)
        self.frames = [frame for frame in world.frames if frame.order_ref == ref and frame.modify_id]
        self.order: Order | None = next(iter(orders_of(world.simulator.gateway, ref)), None)
        self.made: set[str] = set()
        """Changes that the broker has made of it."""
        self.late: set[str] = set()
        """Those of them that it made when nobody could wait for them any more."""
        self.found: list[Finding] = []
        self._shown = wanted(intent.spec, role)
        self._wanted = {modify_id: wanted(spec, role) for modify_id, spec in intent.changes.items()}
        if self.order is not None:
            self._follow(world, self.order)

    def is_as_wanted(self, modify_id: str) -> bool:
        """Whether the broker has what this change asked for, so that there was nothing of it to make."""
        return self._shown == self._wanted[modify_id]

    @property
    def is_alive(self) -> bool:
        """Whether it may still fill."""
        return self.order is not None and not self.order.is_done

    def _follow(self, world: World, order: Order) -> None:
        """The broker's changes of the order against the frames: in their order, but for what was under way too long."""
        position = 0
        for at, terms in world.changed.get(order.perm_id, []):
            self._shown = shown = at_broker(terms)
            same = [number for number, frame in enumerate(self.frames) if self._wanted[frame.modify_id] == shown]
            late = [n for n in same if world.waited_s(self.frames[n].time, at) > QUARANTINE_S]
            following = [number for number in same if number >= position]
            if not (following or late):
                why = "over a newer one" if same else "that nobody asked for"
                self.found.append((CHANGED, f"{self.name}: the broker made a change {why}: {shown}"))
                continue
            number = (following or late)[0]
            self.made.add(self.frames[number].modify_id)
            if number in late:
                self.late.add(self.frames[number].modify_id)
            position = max(position, number + 1)

    def has_other_terms(self, *, may_be_reduced: bool) -> Iterator[Finding]:
        """Where the broker's order is not the one that was asked for last."""
        if self.order is None:
            return
        found = at_broker(self.order.terms)
        if found == self._shown or (found.quantity < self._shown.quantity and may_be_reduced):
            return
        if self.order.status == "Filled" and found.quantity == self.order.filled >= self._shown.quantity:
            # Changed to less than had filled by then: as by FIX it is an order for what it has.
            return
        yield TRUE, f"{self.name} is {found} at the broker, and {self._shown} was asked for"


def planned(
    world: World, word: Word, intents: Sequence[Intent], changes: Sequence[StoredModification]
) -> Iterator[Finding]:
    """Terms, changes and brackets of these intents, once everything has settled. `changes`: what the record has."""
    recorded = {change.modify_id: change for change in changes}
    gateway = world.simulator.gateway
    for intent in intents:
        legs = {role: _Leg(world, word, intent, role) for role in intent.roles}
        is_reduced = intent.spec.oca_type in REDUCING
        for role, leg in legs.items():
            yield from leg.found
            may_be_reduced = (is_reduced or role is not LegRole.ENTRY) and _has_filled_sibling(gateway, leg.order)
            yield from leg.has_other_terms(may_be_reduced=may_be_reduced)
        for modify_id in intent.changes:
            yield from _told_truly(modify_id, recorded.get(modify_id), list(legs.values()))
        if intent.spec.order_type is OrderType.BRACKET:
            yield from _protected(world, legs)


def _has_filled_sibling(gateway: Gateway, order: Order | None) -> bool:
    """Whether another order of its group has filled, so that the broker had this one reduced."""
    group = order.terms.oca_group if order is not None else ""
    return any(fill.order is not order and fill.order.terms.oca_group == group != "" for fill in gateway.executions)


def _told_truly(modify_id: str, change: StoredModification | None, legs: Sequence[_Leg]) -> Iterator[Finding]:
    """What the record says has become of a change, against what the broker has made of it."""
    written = [leg for leg in legs if any(frame.modify_id == modify_id for frame in leg.frames)]
    made = [leg for leg in written if modify_id in leg.made]
    if change is None:
        if written:
            yield EXPLAINED, f"the change {modify_id} was written and is not in the record"
        return
    text = f"the change {modify_id} is {change.state}; the broker has made it of: {[leg.name for leg in made]}"
    # IBKR takes a bracket's legs one by one, so that it may refuse or lose one and make the other: then the change as a
    # whole is not confirmed, and the terms of each leg, which are compared elsewhere, say what is.
    is_whole = bool(made) and all(leg in made or leg.is_as_wanted(modify_id) for leg in legs)
    match change.state:
        case ModificationState.NOT_SENT if written:
            yield UNSENT, text
        case ModificationState.CONFIRMED if not made or any(leg not in made and leg.is_alive for leg in written):
            yield CHANGED, text
        case ModificationState.REFUSED if is_whole:
            yield CHANGED, text
        case ModificationState.PRESUMED_NOT_APPLIED if is_whole and not any(modify_id in leg.late for leg in made):
            yield CHANGED, text
        case ModificationState.MOOT if written and all(leg.is_alive for leg in written):
            yield CHANGED, text


def _protected(world: World, legs: dict[LegRole, _Leg]) -> Iterator[Finding]:
    """The leg that is written last sends all, so that none is at work before all that were taken are there."""
    entry, loss = legs[LegRole.ENTRY].order, legs[LegRole.STOP_LOSS].order
    begun = world.released.get(entry.perm_id) if entry is not None else None
    if begun is not None and (loss is None or world.taken[loss.perm_id].number > begun.number):
        yield PROTECTED, f"{legs[LegRole.ENTRY].name} has gone to work without its stop-loss"
    for role in (LegRole.TAKE_PROFIT, LegRole.STOP_LOSS):
        order = legs[role].order
        if order is not None and order.perm_id in world.released and (entry is None or order.parent is not entry):
            yield PROTECTED, f"{legs[role].name} has gone to work without its entry"
