"""The ledger: every order this gateway knows, each matched to the evidence about it.

Evidence is matched by permId, which is unique for ever; then by orderRef, which only this gateway can have made; then
by client and order id of the running session. What matches nothing was placed elsewhere: it is shown, never adopted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ibkr_gateway_server.broker.notices import is_rejection
from ibkr_gateway_server.domain.events import (
    CommissionReported,
    Filled,
    NoticeReceived,
    OrderHappening,
    StatusChanged,
)
from ibkr_gateway_server.domain.evidence import (
    CommissionSeen,
    Evidence,
    ExecutionSeen,
    OpenOrderSeen,
    OrderErrorSeen,
    OrderStatusSeen,
)
from ibkr_gateway_server.domain.orders import (
    BrokerNotice,
    Execution,
    OrderOrigin,
    OrderSpec,
    OrderState,
    OrderStatus,
)
from ibkr_gateway_server.trading.transitions import after_error, after_fills, after_report


@dataclass(slots=True, eq=False)
class Entry:
    """One order: its terms, where it stands, what has filled.

    `recorded` and `recorded_executions` are what is durable of it, of one moment: what readers are shown.
    """

    status: OrderStatus
    client_id: int
    spec: OrderSpec | None = None
    payload_hash: str = ""
    order_ref: str = ""
    was_written: bool = False
    recorded: OrderStatus | None = None
    recorded_executions: tuple[Execution, ...] = ()
    fills: dict[str, Execution] = field(default_factory=dict)

    @property
    def executions(self) -> tuple[Execution, ...]:
        """What has filled, oldest first, each once."""
        return tuple(sorted(self.fills.values(), key=lambda fill: (fill.execution_time, fill.execution_id)))


def new_entry(client_order_id: str, spec: OrderSpec, payload_hash: str, order_ref: str, client_id: int) -> Entry:
    """An order that nothing is known of yet but its terms."""
    now = datetime.now(UTC)
    status = OrderStatus(
        account_id=spec.account_id,
        instrument=spec.instrument,
        side=spec.side,
        quantity=spec.quantity,
        state=OrderState.PENDING,
        create_time=now,
        update_time=now,
        client_order_id=client_order_id,
        order_type=spec.order_type,
        time_in_force=spec.time_in_force,
        limit_price=spec.limit_price,
        stop_price=spec.stop_price,
    )
    return Entry(status, client_id, spec, payload_hash, order_ref)


@dataclass(frozen=True, slots=True)
class Change:
    """What a piece of evidence changed: the order, and what to tell."""

    entry: Entry
    happening: OrderHappening
    recovered: bool


class Ledger:
    """Orders by every id they have. `ref_prefix` marks an orderRef as this gateway's."""

    def __init__(self, ref_prefix: str) -> None:
        self._ref_prefix = ref_prefix
        self._by_client_order_id: dict[str, Entry] = {}
        self._by_order_ref: dict[str, Entry] = {}
        self._by_perm_id: dict[int, Entry] = {}
        self._by_order_id: dict[tuple[int, int], Entry] = {}
        self._by_execution_id: dict[str, Entry] = {}
        self._early_commissions: dict[str, CommissionSeen] = {}

    # --- reading -------------------------------------------------------------------------------------------------

    def find(
        self, *, client_order_id: str = "", client_id: int = 0, order_id: int = 0, perm_id: int = 0
    ) -> Entry | None:
        """The order with this id, if there is one."""
        if client_order_id:
            return self._by_client_order_id.get(client_order_id)
        if perm_id:
            return self._by_perm_id.get(perm_id)
        return self._by_order_id.get((client_id, order_id))

    def __iter__(self) -> Iterator[Entry]:
        """Every order, each once: this gateway's, then those placed elsewhere."""
        yield from self._by_client_order_id.values()
        yield from (entry for entry in self._by_perm_id.values() if not entry.status.client_order_id)

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

    def open_entries(self) -> list[Entry]:
        """Orders of this gateway that may be working at IBKR."""
        return [entry for entry in self._by_client_order_id.values() if entry.status.state.is_open]

    # --- writing -------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Take in an order of this gateway; its order id, when it has one, belongs to it from now on."""
        self._by_client_order_id[entry.status.client_order_id] = entry
        self._by_order_ref[entry.order_ref] = entry
        self._index(entry)
        for fill in entry.fills.values():
            self._by_execution_id[fill.execution_id] = entry

    def _index(self, entry: Entry) -> None:
        if entry.status.perm_id:
            self._by_perm_id[entry.status.perm_id] = entry
        if entry.status.order_id:
            self._by_order_id[entry.client_id, entry.status.order_id] = entry

    def apply(self, evidence: Evidence, client_id: int, now: datetime, *, recovering: bool = False) -> list[Change]:
        """Draw what follows from one piece of evidence. `recovering`: it answers our question instead of being news."""
        entry = self.entry_of(evidence, client_id)
        match evidence:
            case OpenOrderSeen():
                entry = entry or self._external(evidence, now)
                return self._moved(entry, after_report(entry.status, evidence), now, recovering)
            case OrderStatusSeen():
                return self._moved(entry, after_report(entry.status, evidence), now, recovering) if entry else []
            case ExecutionSeen():
                return self._executed(entry or self._external(evidence, now), evidence, now)
            case CommissionSeen():
                return self._charged(entry, evidence)
            case OrderErrorSeen():
                return self._told(entry, evidence, now, recovering) if entry else []

    def announce(self, entry: Entry) -> list[Change]:
        """A new order as its first event."""
        return [Change(entry, StatusChanged(entry.status), recovered=False)]

    def move(self, entry: Entry, state: OrderState, now: datetime, *, recovered: bool = False) -> list[Change]:
        """A state that the gateway itself concludes: what it sent, or that it cannot know."""
        return self._moved(entry, replace(entry.status, state=state), now, recovered)

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

    def _external(self, seen: OpenOrderSeen | ExecutionSeen, now: datetime) -> Entry:
        """An order placed elsewhere. One that was first seen by its fill is known by no more than that."""
        own = seen.order_ref.startswith(self._ref_prefix)
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
            origin=OrderOrigin.EXTERNAL_OWN if own else OrderOrigin.EXTERNAL,
        )
        if isinstance(seen, OpenOrderSeen):
            status = replace(status, broker_order_type=seen.broker_order_type)
        entry = Entry(status, seen.client_id)
        # Indexed by permId alone: its order id is another client's, or zero or negative for one placed by hand.
        if seen.perm_id:
            self._by_perm_id[seen.perm_id] = entry
        return entry

    # --- drawing conclusions -------------------------------------------------------------------------------------

    def _moved(self, entry: Entry, status: OrderStatus, now: datetime, recovered: bool) -> list[Change]:
        if status == entry.status:
            return []
        if status.state.is_final and replace(status, broker_status=entry.status.broker_status) == entry.status:
            # IBKR's word for an end that its executions have told already is no news.
            entry.status = status
            return []
        entry.status = replace(status, update_time=now)
        if entry.status.client_order_id:
            self._index(entry)
        return [Change(entry, StatusChanged(entry.status), recovered)]

    def _executed(self, entry: Entry, seen: ExecutionSeen, now: datetime) -> list[Change]:
        if seen.execution_id in self._by_execution_id:
            return []
        execution = Execution(
            execution_id=seen.execution_id,
            order_id=seen.order_id,
            perm_id=seen.perm_id,
            account_id=seen.account_id,
            instrument=seen.instrument,
            side=seen.side,
            quantity=seen.quantity,
            price=seen.price,
            execution_time=seen.execution_time,
            exchange=seen.exchange,
            client_order_id=entry.status.client_order_id,
            recovered=seen.is_recovered,
        )
        replaced = entry.fills.get(execution.stem)
        if replaced is not None and replaced.execution_id > execution.execution_id:
            return []
        self._by_execution_id[execution.execution_id] = entry
        entry.fills[execution.stem] = execution
        if seen.perm_id and not entry.status.perm_id:
            entry.status = replace(entry.status, perm_id=seen.perm_id)
        changes = [Change(entry, Filled(execution), seen.is_recovered)]
        changes += self._moved(entry, after_fills(entry.status, entry.executions), now, seen.is_recovered)
        early = self._early_commissions.pop(execution.execution_id, None)
        return changes + (self._charged(entry, early) if early else [])

    def _charged(self, entry: Entry | None, seen: CommissionSeen) -> list[Change]:
        if entry is None:
            self._early_commissions[seen.execution_id] = seen
            return []
        fill = next((fill for fill in entry.fills.values() if fill.execution_id == seen.execution_id), None)
        # None: a correction has replaced the fill that this commission was for.
        charged = fill and replace(
            fill, commission=seen.commission, commission_currency=seen.currency, realized_pnl=seen.realized_pnl
        )
        if charged is None or charged == fill:
            return []
        entry.fills[charged.stem] = charged
        entry.status = replace(after_fills(entry.status, entry.executions), update_time=entry.status.update_time)
        return [Change(entry, CommissionReported(charged), charged.recovered)]

    def _told(self, entry: Entry, seen: OrderErrorSeen, now: datetime, recovered: bool) -> list[Change]:
        notice = BrokerNotice(seen.code, seen.text)
        changed = after_error(entry.status, notice, is_rejection=is_rejection(seen.code))
        changes = [] if changed.rejection == notice else [Change(entry, NoticeReceived(notice), recovered)]
        return changes + self._moved(entry, changed, now, recovered)


def changed_orders(changes: Iterable[Change]) -> list[Entry]:
    """The orders that a run of changes touches, each once, in order."""
    return list(dict.fromkeys(change.entry for change in changes))
