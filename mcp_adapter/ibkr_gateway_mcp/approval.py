"""What a person is asked before anything leaves. Without an answer, and without a way to ask, the answer is no."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from mcp import MCPError
from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit
from mcp.types.version import is_version_at_least
from pydantic import BaseModel, Field

from ibkr_gateway_mcp.plain import word
from ibkr_gateway_mcp.previews import Preview
from ibkr_gateway_mcp.refusals import Refusal
from ibkr_gateway_mcp.terms import PRICES

ASKED_BY_RESULT = "2026-07-28"
"""From this version on a client answers by calling again; before it is asked in the middle of the call."""


class Approval(BaseModel):
    """A person's answer."""

    approve: bool = Field(description="Yes: send it to IBKR.")


def require_way_to_ask(context: Context) -> None:
    """Raises Refusal when the client cannot show a person a form."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        raise Refusal(
            "APPROVAL_REQUIRED",
            "this MCP client cannot ask a person (it has no form elicitation), so nothing is sent through it",
            next_step="tell the person; orders can be placed by `ibkr-gateway order place`, or by a client that asks",
        )


async def ask(text: str, context: Context, timeout_s: float) -> Approval | Elicit[Approval]:
    """Ask, in the way that the client's protocol has. Raises Refusal when nobody answers."""
    if is_version_at_least(context.protocol_version or "", ASKED_BY_RESULT):
        return Elicit(text, Approval)
    try:
        async with asyncio.timeout(timeout_s):
            outcome = await context.elicit(text, Approval)
    except TimeoutError:
        raise Refusal("APPROVAL_REQUIRED", f"nobody answered within {timeout_s:g} s; nothing was sent") from None
    except (MCPError, ValueError):
        raise Refusal("APPROVAL_REQUIRED", "the question could not be asked or answered; nothing was sent") from None
    return outcome.data if isinstance(outcome, AcceptedElicitation) else Approval(approve=False)


def declined() -> Refusal:
    """What follows when a person says no."""
    return Refusal(
        "APPROVAL_REQUIRED",
        "the person did not approve; nothing was sent",
        next_step="do not try again unless the person asks for it",
    )


def order_question(preview: Preview) -> str:
    """What is asked before an order leaves. Made of its terms alone: no text of others, no note of a model's."""
    shown = preview.shown
    lines = [f"{world(preview.status)}: send this order?", terms(preview.spec, preview.instrument, preview.account_id)]
    for label, name in (("Value", "total_notional"), ("Commission", "commission"), ("Margin", "initial_margin_change")):
        money = getattr(shown, name)
        known = f"{money.amount} {money.currency_code}"
        lines.append(f"{label}: {known if shown.HasField(name) else 'not known'}")  # type: ignore[arg-type]
    return "\n".join(lines)


def change_question(before: pb.OrderSpec, after: pb.OrderSpec, key: str, status: gateway_pb.TradingStatus) -> str:
    """What is asked before a working order is changed."""
    return "\n".join(
        [
            f"{world(status)}: change the working order {key}?",
            f"From: {terms(before, before.instrument, before.account_id)}",
            f"To: {terms(after, after.instrument, after.account_id)}",
        ]
    )


def cancel_question(order: pb.OrderStatus, key: str, status: gateway_pb.TradingStatus) -> str:
    """What is asked before an order is cancelled."""
    words = [_word(common_pb2.Side, order.side), order.quantity, name_of(order.instrument)]
    words.append(_word(pb.OrderType, order.order_type) or _safe(order.broker_order_type))
    words += [f"limit {order.limit_price}"] if order.HasField("limit_price") else []
    words += [f"stop {order.stop_price}"] if order.HasField("stop_price") else []
    return f"{world(status)}: cancel the order {key}?\n{' '.join(words)}, account {_safe(order.account_id)}"


def world(status: gateway_pb.TradingStatus) -> str:
    """Where the order would go, as nobody can overlook."""
    mode = _word(gateway_pb.TradingMode, status.trading_mode)
    return "LIVE ACCOUNT, REAL MONEY" if mode == "LIVE" else f"{mode} (no real money)"


def terms(spec: pb.OrderSpec, instrument: common_pb2.Instrument, account_id: str) -> str:
    """All terms of an order in one line."""
    words = [_word(common_pb2.Side, spec.side), spec.quantity, name_of(instrument)]
    words.append(_word(pb.OrderType, spec.order_type))
    words += [f"{name.removesuffix('_price').replace('_', ' ')} {getattr(spec, name)}" for name in _given(spec, PRICES)]
    words.append(_word(pb.TimeInForce, spec.time_in_force) or "DAY")
    for name in _given(spec, ("good_till_time", "good_after_time")):
        words += [name.removesuffix("_time").replace("_", " "), getattr(spec, name).ToJsonString()]
    words += ["outside regular hours"] if spec.outside_regular_hours else []
    words += ["all or none"] if spec.all_or_none else []
    words += ["hidden"] if spec.hidden else []
    words += [f"display {spec.display_size}"] if spec.display_size else []
    words += [f"OCA group {_safe(spec.oca_group)}"] if spec.oca_group else []
    words += ["not transmitted"] if spec.HasField("bracket_transmit") and not spec.bracket_transmit else []
    return " ".join(words) + f", account {_safe(account_id)}"


def name_of(instrument: common_pb2.Instrument) -> str:
    """A contract by its own fields, so that no other has the same words."""
    right = _word(common_pb2.OptionRight, instrument.right)
    kind = _word(common_pb2.SecurityType, instrument.security_type)
    fields = [instrument.symbol, kind, instrument.expiry, instrument.strike, right]
    fields += [instrument.exchange, instrument.currency]
    fields += [f"con_id {instrument.con_id}"] if instrument.con_id else []
    return " ".join(_safe(field) for field in fields if field)


def _given(spec: pb.OrderSpec, names: Iterable[str]) -> list[str]:
    given = {field.name for field, _ in spec.ListFields()}
    return [name for name in names if name in given]


def _word(enum: Any, number: int) -> str:
    return word(enum.DESCRIPTOR, number) if number else ""


def _safe(text: str) -> str:
    """Short and printable: even a code that IBKR sends is not to write sentences here."""
    return re.sub(r"[^A-Za-z0-9 ./_:-]", "?", text)[:40]
