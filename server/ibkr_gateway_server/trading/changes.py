"""Changes: what may be changed of an order, and which of its legs a restatement changes."""

from __future__ import annotations

from ibkr_gateway_server.domain.errors import NotModifiable, ReconciliationRequired, Violations
from ibkr_gateway_server.domain.orders import LegRole, LegTerms, OrderSpec, OrderState
from ibkr_gateway_server.trading.entries import Intent

# States in which an order's terms may be changed, and those in which it is not known yet whether they may.
CHANGEABLE = frozenset({OrderState.WORKING, OrderState.PARTIAL})
UNCLEAR = frozenset({OrderState.PENDING, OrderState.SENT, OrderState.UNKNOWN})

_PRICES_AND_QUANTITY = frozenset(
    {
        "quantity",
        "limit_price",
        "stop_price",
        "trailing_amount",
        "trailing_percent",
        "trail_stop_price",
        "limit_offset",
        "take_profit_price",
        "stop_loss_price",
        "stop_loss_limit_price",
    }
)
# Of the record or of the placing alone: they may differ and change nothing at IBKR.
_OF_NO_CONSEQUENCE = frozenset({"strategy_id", "note", "bracket_transmit"})


def targets(intent: Intent, spec: OrderSpec, legs: tuple[LegTerms, ...]) -> dict[LegRole, LegTerms]:
    """The new terms of those legs that a resolved restatement changes; legs that have ended are left as they are.

    Raises FieldsInvalid, NotModifiable, ReconciliationRequired.
    """
    found = Violations()
    with found.under("order") as nested:
        for name in _differing(intent.spec, spec):
            nested.add(name, "only prices and quantity may be changed; cancel the order and place another")
        filled = intent.entry.status.filled_quantity
        if spec.quantity < filled:
            nested.add("quantity", f"{filled:f} have filled already; {spec.quantity:f} is less")
    found.raise_if_any()
    wanted = {
        terms.role: terms
        for terms in legs
        if intent.legs[terms.role].terms != terms and not intent.legs[terms.role].status.state.is_final
    }
    if intent.pending is not None:
        raise ReconciliationRequired(intent.client_order_id, "an earlier change is not confirmed")
    for role in wanted or (LegRole.ENTRY,):
        _check_state(intent.client_order_id, intent.legs[role].status.state)
    return wanted


def _check_state(client_order_id: str, state: OrderState) -> None:
    if state in UNCLEAR:
        raise ReconciliationRequired(client_order_id, f"the order is {state}")
    if state not in CHANGEABLE:
        raise NotModifiable(state, "place another one" if state.is_final else "wait until that is over")


def _differing(known: OrderSpec, wanted: OrderSpec) -> list[str]:
    """Terms that differ and may not; contracts are compared by their ids."""
    names = [name for name in OrderSpec.__dataclass_fields__ if name not in _PRICES_AND_QUANTITY | _OF_NO_CONSEQUENCE]
    differing = [name for name in names if name != "instrument" and getattr(known, name) != getattr(wanted, name)]
    return differing + (["instrument"] if known.instrument.con_id != wanted.instrument.con_id else [])
