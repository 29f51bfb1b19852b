"""What the record keeps and gives back: orders, changes, who caused an event; and how each is written down."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from ibkr_gateway_server.domain.orders import Execution, LegRole, LegTerms, ModificationState, OrderSpec, OrderStatus
from ibkr_gateway_server.logs import correlation_id, principal

SPEC = TypeAdapter(OrderSpec)
TERMS = TypeAdapter(LegTerms)
TARGETS = TypeAdapter(dict[LegRole, LegTerms])
STATUS = TypeAdapter(OrderStatus)
EXECUTION = TypeAdapter(Execution)


def hash_of(spec: OrderSpec) -> str:
    """By this a repeated key is known to be for the same order."""
    return hashlib.sha256(SPEC.dump_json(spec)).hexdigest()


@dataclass(frozen=True, slots=True)
class Cause:
    """Who and what made something happen: the caller's name and the call's correlation id; empty when IBKR did."""

    principal: str = ""
    correlation_id: str = ""

    @classmethod
    def of_caller(cls) -> Cause:
        """The call that is being answered here."""
        return cls(principal.get(), correlation_id.get())


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """One leg of an intent as the record holds it. `was_written`: a byte of it may have reached IBKR."""

    spec: OrderSpec
    terms: LegTerms
    status: OrderStatus
    payload_hash: str
    order_ref: str
    client_id: int
    was_written: bool
    principal: str = ""


@dataclass(frozen=True, slots=True)
class OrderIds:
    """An order by its ids alone, where no more is known of it."""

    client_order_id: str = ""
    order_id: int = 0
    perm_id: int = 0


@dataclass(frozen=True, slots=True)
class StoredModification:
    """One change of an intent: `targets` are the terms that IBKR has not shown yet, by leg."""

    modify_id: str
    client_order_id: str
    payload_hash: str
    state: ModificationState
    spec: OrderSpec
    targets: dict[LegRole, LegTerms]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where and when an event stands in the record."""

    sequence: int
    record_time: datetime
