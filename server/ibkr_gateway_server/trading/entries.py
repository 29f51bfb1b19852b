"""What the ledger holds: an intent of a caller, the orders that it is at IBKR, and what happened to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from ibkr_gateway_server.domain.events import OrderHappening
from ibkr_gateway_server.domain.orders import (
    Execution,
    LegRole,
    LegTerms,
    ModificationState,
    OrderSpec,
    OrderState,
    OrderStatus,
)


@dataclass(slots=True, eq=False)
class Entry:
    """One order at IBKR, or on its way there: what was asked for, where it stands, what has filled.

    `recorded` and `recorded_executions` are what is durable of it, of one moment: what readers are shown. An order that
    was placed elsewhere has no `terms` and no `intent`.
    """

    status: OrderStatus
    client_id: int
    terms: LegTerms | None = None
    order_ref: str = ""
    intent: Intent | None = None
    was_written: bool = False
    """A byte of it may have reached IBKR."""
    recorded: OrderStatus | None = None
    recorded_executions: tuple[Execution, ...] = ()
    fills: dict[str, Execution] = field(default_factory=dict)
    told_filled: Decimal = Decimal(0)
    """What orderStatus says has filled, until the executions say as much."""
    doubt: Doubt | None = None
    cancel: CancelSent | None = None
    twins: dict[int, Entry] = field(default_factory=dict)
    """Live orders with this one's mark and another permId, by that."""

    @property
    def executions(self) -> tuple[Execution, ...]:
        """What has filled, oldest first, each once."""
        return tuple(sorted(self.fills.values(), key=lambda fill: (fill.execution_time, fill.execution_id)))

    @property
    def is_acknowledged(self) -> bool:
        """True once IBKR has named it."""
        return self.status.perm_id != 0 or bool(self.fills)

    @property
    def change(self) -> Modification | None:
        """The change of this order that IBKR has not confirmed."""
        pending = self.intent.pending if self.intent is not None else None
        return pending if pending is not None and self.status.leg_role in pending.targets else None


@dataclass(slots=True, eq=False)
class Intent:
    """What a caller wants, under one client_order_id: one order, or the legs of a plan, the entry first."""

    client_order_id: str
    spec: OrderSpec
    payload_hash: str
    principal: str = ""
    """Whose order it is, by the name of the token it was placed with; empty: without one."""
    legs: dict[LegRole, Entry] = field(default_factory=dict)
    modifications: dict[str, Modification] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        """The first leg."""
        return self.legs[LegRole.ENTRY]

    @property
    def is_staged(self) -> bool:
        """True when TWS keeps all of it until a person transmits it there; until then it says nothing of it."""
        return not any(leg.terms is not None and leg.terms.transmits for leg in self)

    @property
    def pending(self) -> Modification | None:
        """The change that IBKR has not confirmed."""
        return next((each for each in self.modifications.values() if each.state.is_pending), None)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.legs.values()


@dataclass(slots=True, eq=False)
class Modification:
    """A change of an intent: `targets` are the new terms of those legs that IBKR has not shown changed yet."""

    modify_id: str
    client_order_id: str
    payload_hash: str
    spec: OrderSpec
    state: ModificationState
    targets: dict[LegRole, LegTerms] = field(default_factory=dict)
    doubt: Doubt | None = None
    has_ended_on_record: bool = False
    """Its end is durable, so that there is nothing of it to write any more."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Since when complete evidence has not named an order, on the monotonic clock, while `watch` lasted: an unbroken
    time in which TWS was connected and linked."""

    since: float
    watch: int
    ripe_at: float | None = None
    """When a set was silent for the first time after long enough; one more must be, a little later."""


@dataclass(frozen=True, slots=True)
class CancelSent:
    """A cancel: when it was sent, on the monotonic clock. `is_owed`: while TWS had no link, so that it may be lost, and
    is sent once more when the link is back and the order still open."""

    at: float
    is_owed: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What a piece of evidence changed: the order, and what to tell."""

    entry: Entry
    happening: OrderHappening
    recovered: bool


def new_intent(
    client_order_id: str,
    spec: OrderSpec,
    payload_hash: str,
    legs: dict[LegRole, tuple[LegTerms, str]],
    client_id: int,
    now: datetime,
    principal: str = "",
) -> Intent:
    """An intent that nothing is known of yet but its terms. `legs` has each one's terms and mark."""
    intent = Intent(client_order_id, spec, payload_hash, principal)
    for role, (terms, order_ref) in legs.items():
        status = OrderStatus(
            account_id=spec.account_id,
            instrument=spec.instrument,
            side=terms.side,
            quantity=terms.quantity,
            state=OrderState.PENDING,
            create_time=now,
            update_time=now,
            client_order_id=client_order_id,
            leg_role=role,
        )
        intent.legs[role] = Entry(with_terms(status, terms), client_id, terms, order_ref, intent)
    return intent


def with_terms(status: OrderStatus, terms: LegTerms) -> OrderStatus:
    """The status of an order that has these terms."""
    return replace(
        status,
        side=terms.side,
        quantity=terms.quantity,
        order_type=terms.order_type,
        time_in_force=terms.time_in_force,
        limit_price=terms.limit_price,
        stop_price=terms.stop_price,
        trailing_amount=terms.trailing_amount,
        trailing_percent=terms.trailing_percent,
        oca_group=terms.oca_group,
    )
