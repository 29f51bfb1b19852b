"""What goes wrong as a model reads it: {error_code, message, details}, with the next step among the details."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from ibkr_gateway import GatewayError
from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

# What a model can do about a reason; of the others the contract's own words are passed on.
_NEXT = {
    "FIELD_INVALID": "correct the fields that details name and call again",
    "TICK_SIZE": "choose one of the valid prices in details and preview again",
    "CONTRACT_AMBIGUOUS": "call again with symbol = the contract id of the candidate that is meant; if unsure, ask",
    "CONTRACT_NOT_FOUND": "check the spelling with search_symbols; never guess another symbol",
    "ACCOUNT_REQUIRED": "ask the person which account is meant and give account_id",
    "ORDER_NOT_FOUND": "look at list_open_orders; do not place the order again to be sure",
    "TRADING_DISABLED": "tell the person that orders are disabled; only the operator can enable them",
    "LIVE_NOT_AUTHORIZED": "tell the person; only the operator can authorize live trading",
    "TRADING_HALTED": "tell the person; only someone with the scope admin resumes, by `ibkr-gateway resume`",
    "MAX_NOTIONAL": "tell the person about the limit; do not split the order to get around it",
    "MAX_SIZE": "tell the person about the limit; do not split the order to get around it",
    "SCOPE_MISSING": "tell the person that this adapter's token does not allow it; do not try another way",
    "APPROVAL_REQUIRED": "nothing was sent; follow the message",
    "PREVIEW_EXPIRED": "call preview_order again, show what it answers, then place_order with the new preview_id",
    "ORDER_RATE": "stop; tell the person that the budget for orders is used up, and wait as long as details say",
    "DUPLICATE_ORDER": "check list_open_orders: the order may be there already",
    "BROKER_DISCONNECTED": "tell the person that TWS or IB Gateway is not connected; reads may be repeated in a minute",
    "GATEWAY_UNREACHABLE": "tell the person to start the gateway (ibkr-gateway serve) or to correct --target",
    "ANSWER_LOST": "call the same tool again with the same arguments: the same order is never sent twice",
    "TOKEN_MISSING": "tell the person to start this adapter with --token-file",
    "NOT_IMPLEMENTED": "tell the person that the gateway is too old for this tool",
}


class Refusal(Exception):
    """The adapter's own word: it refuses, or does not know. `error_code`: one of the contract's, or ANSWER_LOST."""

    def __init__(self, error_code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message
        self.details = details


def answer_lost() -> Refusal:
    """For a command that got no answer from a gateway."""
    return Refusal("ANSWER_LOST", "the gateway did not answer the command: it is not known whether it was sent")


def told(error: BaseException) -> dict[str, Any]:
    """An error in the contract's flat shape."""
    if isinstance(error, Refusal):
        return _shape(error.error_code, error.message, error.details)
    if isinstance(error, GatewayError):
        code = error.reason or _UNEXPLAINED.get(error.code.name, "UNKNOWN_ERROR")
        details = error.details | error.fields
        if error.retry_after_s is not None:
            details["retry_after_s"] = f"{error.retry_after_s:g}"
        return _shape(code, error.message if error.reason else _WORDS[code], details)
    if isinstance(error, ValidationError):
        fields = {".".join(map(str, each["loc"])): _problem(each) for each in error.errors()}
        return _shape("FIELD_INVALID", f"not valid: {', '.join(fields)}", fields)
    return _shape("BUG", "a defect in the adapter; its log has the rest", {})


def result(shape: dict[str, Any]) -> CallToolResult:
    """An error as the result of a tool: the model reads it and can act."""
    # As text alone: clients of the TypeScript SDK hold structured content against the schema of answers even when it is
    # an error, and show their own error instead (seen with @modelcontextprotocol/inspector 0.15.0).
    return CallToolResult(content=[TextContent(type="text", text=json.dumps(shape))], is_error=True)


# Of a status that no gateway made.
_UNEXPLAINED = {"UNAVAILABLE": "GATEWAY_UNREACHABLE", "DEADLINE_EXCEEDED": "GATEWAY_TIMEOUT"}
_WORDS = {
    "GATEWAY_UNREACHABLE": "the gateway does not answer",
    "GATEWAY_TIMEOUT": "the gateway did not answer in time",
    "UNKNOWN_ERROR": "something between the adapter and the gateway failed",
}


def _shape(code: str, message: str, details: dict[str, str]) -> dict[str, Any]:
    step = details.get("next_step") or _NEXT.get(code) or _descriptions().get(code, "")
    return {"error_code": code, "message": message, "details": details | ({"next_step": step} if step else {})}


def _problem(error: Any) -> str:
    """What is wrong with a field, without what was given: it may be 10 kB, or not meant to be read."""
    if error["type"] == "string_pattern_mismatch":
        return f"does not match {error['ctx']['pattern']}"
    return re.sub(r"[^ -~]", "?", str(error["msg"]))[:200]


@cache
def _descriptions() -> dict[str, str]:
    reasons = json.loads(files("ibkr_gateway").joinpath("errors.json").read_text())
    return {each["reason"]: each["description"] for each in reasons}
