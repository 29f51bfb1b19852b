"""The ledger: every order this gateway knows, each matched to the evidence about it.

Evidence is matched by permId, which is unique for ever; then by orderRef, which only this gateway can have made; then
by client and order id of the running session. What matches nothing was placed elsewhere: it is shown, never adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from ibkr_gateway_server.domain.events import AlarmRaised, StatusChanged
from ibkr_gateway_server.domain.evidence import (
    CommissionSeen,
    Evidence,
    ExecutionSeen,
    OpenOrderSeen,
    OrderErrorSeen,
    OrderStatusSeen,
)
from ibkr_gateway_server.domain.orders import AlarmKind, LegRole, Mark, OrderOrigin, OrderState, OrderStatus
from ibkr_gateway_server.trading.conclusions import charged, executed, reported, signed, told
from ibkr_gateway_server.trading.entries import Change, Entry, Intent, Modification
from ibkr_gateway_server.trading.transitions import Sign


class Ledger:
    """Orders by every id they have.

    `mark_of` tells whether an orderRef is a mark of this gateway; `cancel_is_lost` whether a cancel of an order that is
    listed as working has come to nothing.
    """

    def __init__(
        self, mark_of: Callable[[str], Mark], *, cancel_is_lost: Callable[[Entry], bool] = lambda _: False
    ) -> None:
        self._mark_of = mark_of
        self._cancel_is_lost = cancel_is_lost
        self._intents: dict[str, Intent] = {}
        self._changes: dict[str, Modification] = {}
        self._by_order_ref: dict[str, Entry] = {}
        self._by_perm_id: dict[int, Entry] = {}
        self._by_order_id: dict[tuple[int, int], Entry] = {}
        self._by_execution_id: dict[str, Entry] = {}
        self._early_commissions: dict[str, CommissionSeen] = {}
        # Orders with this gateway's own mark that the record does not know.
        self._orphans: dict[str, Entry] = {}
        # Orders of which more has filled, by IBKR's word, than their executions say.
        self._owing: set[Entry] = set()
        # By the permId of a second order with the same mark: the first one.
        self._with_twin: dict[int, Entry] = {}

    # --- reading -------------------------------------------------------------------------------------------------

    def intent(self, client_order_id: str) -> Intent | None:
        """What was placed under this id."""
        return self._intents.get(client_order_id)

    def change(self, modify_id: str) -> Modification | None:
        """The change with this id, of whichever order."""
        return self._changes.get(modify_id)

    def find(
        self,
        *,
        client_order_id: str = "",
        leg_role: LegRole | None = None,
        client_id: int = 0,
        order_id: int = 0,
        perm_id: int = 0,
    ) -> Entry | None:
        """The order with this id, if there is one; of a plan the entry, unless a role is named."""
        if client_order_id:
            intent = self._intents.get(client_order_id)
            return intent.legs.get(leg_role or LegRole.ENTRY) if intent is not None else None
        if perm_id:
            return self._by_perm_id.get(perm_id)
        return self._by_order_id.get((client_id, order_id)) or self._external_with(order_id)

    def _external_with(self, order_id: int) -> Entry | None:
        """The only open order placed elsewhere that has this id; ids of other programs may be the same."""
        found = [entry for entry in self.externals() if order_id and entry.status.order_id == order_id]
        return found[0] if len(found) == 1 else None

    def __iter__(self) -> Iterator[Entry]:
        """Every order, each once: this gateway's, then those placed elsewhere."""
        for intent in self._intents.values():
            yield from intent
        yield from self.externals()

    def orphan(self, order_ref: str) -> Entry | None:
        """The order that IBKR has shown with this mark of ours, where nothing is known that was placed with it."""
        return self._orphans.get(order_ref)

    def newest_intents(self) -> Iterator[Intent]:
        """What was placed through this gateway, the newest first."""
        return reversed(self._intents.values())

    def externals(self) -> Iterator[Entry]:
        """Orders placed elsewhere."""
        return (entry for entry in self._by_perm_id.values() if entry.intent is None)

    def open_entries(self) -> list[Entry]:
        """Orders of this gateway that may be working at IBKR."""
        return [entry for intent in self._intents.values() for entry in intent if entry.status.state.is_open]

    def unknown_count(self) -> int:
        """Orders of this gateway that may or may not be at IBKR."""
        return sum(entry.status.state is OrderState.UNKNOWN for entry in self.open_entries())

    def owing(self) -> list[Entry]:
        """Orders of this gateway whose executions have not all come, however they stand."""
        return [entry for entry in self._owing if entry.intent is not None]

    def entry_of(self, evidence: Evidence, client_id: int) -> Entry | None:
        """The order that a piece of evidence speaks of, once applied."""
        match evidence:
            case OpenOrderSeen() | ExecutionSeen():
                return self._match(evidence.perm_id, evidence.order_ref, evidence.client_id, evidence.order_id)
            case OrderStatusSeen():
                return self._match(evidence.perm_id, "", evidence.client_id, evidence.order_id)
            case CommissionSeen():
                return self._by_execution_id.get(evidence.execution_id)
            case OrderErrorSeen():
                return self._by_order_id.get((client_id, evidence.order_id))

    # --- writing -------------------------------------------------------------------------------------------------

    def add(self, intent: Intent) -> None:
        """Take in what a caller wants; order ids, where its legs have them, belong to them from now on."""
        self._intents[intent.client_order_id] = intent
        self._changes.update(intent.modifications)
        for entry in intent:
            self._by_order_ref[entry.order_ref] = entry
            self._index(entry)
            for fill in entry.fills.values():
                self._by_execution_id[fill.execution_id] = entry

    def add_change(self, change: Modification) -> None:
        """Take in a change of an order; its id belongs to it from now on."""
        self._changes[change.modify_id] = change

    def forget_change(self, change: Modification) -> None:
        """It could not be recorded, so it has never been."""
        del self._changes[change.modify_id]

    def _index(self, entry: Entry) -> None:
        if entry.status.perm_id:
            self._by_perm_id[entry.status.perm_id] = entry
        if entry.status.order_id:
            self._by_order_id[entry.client_id, entry.status.order_id] = entry

    def apply(self, evidence: Evidence, client_id: int, now: datetime, *, recovering: bool = False) -> list[Change]:
        """Draw what follows from one piece of evidence. `recovering`: it answers our question instead of being news."""
        entry = self.entry_of(evidence, client_id)
        changes: list[Change] = []
        if entry is None and isinstance(evidence, OpenOrderSeen | ExecutionSeen):
            entry, changes = self._external(evidence, now, recovering)
        elif (
            isinstance(evidence, OpenOrderSeen | ExecutionSeen) and entry is not None and self._is_twin(entry, evidence)
        ):
            entry, changes = self._twin(entry, evidence, now, recovering)
        match evidence:
            case OpenOrderSeen() | OrderStatusSeen() if entry is not None:
                lost = recovering and self._cancel_is_lost(entry)
                changes = reported(entry, evidence, now, recovering, cancel_is_lost=lost) + changes
            case ExecutionSeen() if entry is not None:
                changes = self._executed(entry, evidence, now) + changes
            case CommissionSeen():
                if entry is None:
                    self._early_commissions[evidence.execution_id] = evidence
                else:
                    changes = charged(entry, evidence)
            case OrderErrorSeen() if entry is not None:
                changes = told(entry, evidence, now, recovering)
        if entry is not None and entry.told_filled:
            self._owing.add(entry)
        elif entry is not None:
            self._owing.discard(entry)
        if entry is not None and entry.intent is not None:
            self._index(entry)
        elif entry is not None:
            changes += self._twin_ended(entry, now, recovering)
        return changes

    def announce(self, intent: Intent) -> list[Change]:
        """What is new as the first event of each leg."""
        return [Change(entry, StatusChanged(entry.status), recovered=False) for entry in intent]

    # --- matching ------------------------------------------------------------------------------------------------

    def _match(self, perm_id: int, order_ref: str, client_id: int, order_id: int) -> Entry | None:
        if perm_id and (known := self._by_perm_id.get(perm_id)):
            return known
        if order_ref and (marked := self._by_order_ref.get(order_ref)):
            return marked
        entry = self._by_order_id.get((client_id, order_id))
        # An order id repeats over TWS's lives: it names our order only while that has no other permId.
        if entry is not None and (not perm_id or entry.status.perm_id in (0, perm_id)):
            return entry if not order_ref or order_ref == entry.order_ref else None
        return None

    def _external(
        self, seen: OpenOrderSeen | ExecutionSeen, now: datetime, recovering: bool
    ) -> tuple[Entry, list[Change]]:
        """An order placed elsewhere. One that was first seen by its fill is known by no more than that.

        A mark of ours on it is an alarm: either the record has lost it, or somebody has made the mark up.
        """
        mark = self._mark_of(seen.order_ref)
        origin = OrderOrigin.EXTERNAL_OWN if mark is Mark.OWN else OrderOrigin.EXTERNAL
        entry = self._outside(seen, origin, now)
        if mark is Mark.NONE:
            return entry, []
        if mark is Mark.OWN:
            self._orphans[seen.order_ref] = entry
            kind, text = (
                AlarmKind.ORPHAN,
                f"order {seen.order_id} has this gateway's mark, and the record does not know it",
            )
        else:
            kind, text = (
                AlarmKind.FORGED_MARK,
                f"order {seen.order_id} has a mark like this gateway's, which made no such",
            )
        return entry, [Change(entry, AlarmRaised(kind, text), recovering)]

    def _outside(self, seen: OpenOrderSeen | ExecutionSeen, origin: OrderOrigin, now: datetime) -> Entry:
        status = OrderStatus(
            account_id=seen.account_id,
            instrument=seen.instrument,
            side=seen.side,
            quantity=seen.quantity,
            state=OrderState.UNKNOWN,
            create_time=now,
            update_time=now,
            order_id=seen.order_id,
            perm_id=seen.perm_id,
            origin=origin,
        )
        if isinstance(seen, OpenOrderSeen):
            status = replace(
                status,
                broker_order_type=seen.broker_order_type,
                trailing_amount=seen.trailing_amount,
                trailing_percent=seen.trailing_percent,
                oca_group=seen.oca_group,
                parent_order_id=seen.parent_id,
            )
        entry = Entry(status, seen.client_id, order_ref=seen.order_ref)
        # Indexed by permId alone: its order id is another client's, or zero or negative for one placed by hand.
        if seen.perm_id:
            self._by_perm_id[seen.perm_id] = entry
        return entry

    # --- two orders for one intent -------------------------------------------------------------------------------

    @staticmethod
    def _is_twin(entry: Entry, seen: OpenOrderSeen | ExecutionSeen) -> bool:
        """Whether this is another order than the one that is known under the same mark."""
        return bool(
            entry.intent is not None
            and seen.perm_id
            and entry.status.perm_id
            and seen.perm_id != entry.status.perm_id
            and seen.order_ref == entry.order_ref
        )

    def _twin(
        self, entry: Entry, seen: OpenOrderSeen | ExecutionSeen, now: datetime, recovering: bool
    ) -> tuple[Entry, list[Change]]:
        """A second order with the mark of one: never taken for it. While both live the intent is in conflict."""
        twin = self._outside(seen, OrderOrigin.EXTERNAL_OWN, now)
        entry.twins[seen.perm_id] = twin
        self._with_twin[seen.perm_id] = entry
        text = f"IBKR shows the orders with permId {entry.status.perm_id} and {seen.perm_id} for one intent"
        alarm = Change(entry, AlarmRaised(AlarmKind.CONFLICT, text), recovering)
        state = signed(entry, Sign.TWICE, now, recovered=recovering) if entry.status.state.is_open else []
        return twin, [alarm, *state]

    def _twin_ended(self, twin: Entry, now: datetime, recovering: bool) -> list[Change]:
        """Once a twin has ended, what is left of the conflict is for the evidence to say."""
        holder = self._with_twin.get(twin.status.perm_id)
        if holder is None or not twin.status.state.is_final:
            return []
        del self._with_twin[twin.status.perm_id], holder.twins[twin.status.perm_id]
        return [] if holder.twins else signed(holder, Sign.ALONE, now, recovered=recovering)

    # --- fills ---------------------------------------------------------------------------------------------------

    def _executed(self, entry: Entry, seen: ExecutionSeen, now: datetime) -> list[Change]:
        if seen.execution_id in self._by_execution_id:
            return []
        changes = executed(entry, seen, now)
        self._by_execution_id[seen.execution_id] = entry
        early = self._early_commissions.pop(seen.execution_id, None)
        return changes + (charged(entry, early) if early else [])


def changed_orders(changes: Iterable[Change]) -> list[Entry]:
    """The orders that a run of changes touches, each once, in order."""
    return list(dict.fromkeys(change.entry for change in changes))
