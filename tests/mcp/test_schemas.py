"""What clients have read of the tools stays as it is: names, schemas and annotations are frozen in tools.json.

python -m tests.mcp.test_schemas     writes it again, after a change that is meant
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.options import Options
from ibkr_gateway_mcp.server import Server

FROZEN = Path(__file__).with_name("tools.json")
WORDS = {"title", "description"}
SEED = {
    "get_quote": {"symbol", "security_type", "exchange", "currency"},
    "get_historical_data": {"symbol", "security_type", "bar_size", "duration", "what_to_show", "rth_only"},
    "get_account_status": set(),
    "get_pnl": {"timeframe"},
    "preview_order": {"symbol", "security_type", "side", "quantity", "order_type", "limit_price", "tif", "account_id"},
    "place_order": {"symbol", "security_type", "side", "quantity", "order_type", "limit_price", "tif", "account_id"},
    "get_order_status": {"order_id"},
    "cancel_order": {"order_id"},
}
READ_ONLY = {
    *("get_quote", "get_quotes", "get_historical_data", "search_symbols", "get_contract_details", "get_option_chain"),
    *("get_account_status", "get_pnl", "list_executions", "list_open_orders", "get_order_status", "preview_order"),
    *("get_trading_status", "get_health"),
}


async def offered() -> dict[str, Any]:
    """The tools of an adapter without a gateway: they are listed all the same."""
    async with Adapter(Options("127.0.0.1:1")) as adapter:
        tools = await Server(adapter).list_tools()
    return {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools}


def frozen(tools: Any) -> Any:
    """What programs rely on: everything but the words, which may become better."""
    if isinstance(tools, dict):
        kept = {name: frozen(value) for name, value in tools.items()}
        return {name: value for name, value in kept.items() if name not in WORDS or not isinstance(value, str)}
    return [frozen(each) for each in tools] if isinstance(tools, list) else tools


async def test_tools_are_as_they_were() -> None:
    assert frozen(await offered()) == json.loads(FROZEN.read_text()), "if it is meant: python -m tests.mcp.test_schemas"


async def test_the_first_eight_tools_take_what_they_were_promised_to_take() -> None:
    tools = await offered()
    for name, arguments in SEED.items():
        assert arguments <= set(tools[name]["inputSchema"]["properties"])
        needed = {"bar_size"} if name == "get_historical_data" else set()
        assert set(tools[name]["inputSchema"].get("required", [])) <= arguments | needed


async def test_every_tool_is_described_annotated_and_answers_by_a_schema() -> None:
    for name, tool in (await offered()).items():
        hints = tool["annotations"]
        assert tool["title"], name
        assert tool["description"], name
        assert hints["readOnlyHint"] is (name in READ_ONLY), name
        assert hints["destructiveHint"] is (name not in READ_ONLY), name
        assert {"idempotentHint", "openWorldHint"} <= set(hints), name
        assert tool["outputSchema"]["type"] == "object"
        for argument, schema in tool["inputSchema"]["properties"].items():
            assert schema.get("description") or schema.get("title"), (name, argument)


async def test_descriptions_of_orders_say_how_safe_they_are() -> None:
    tools = await offered()
    assert "(SAFE - read-only simulation)" in tools["preview_order"]["description"]
    assert "(SAFE BY DEFAULT - requires ORDERS_ENABLED=true)" in tools["place_order"]["description"]


if __name__ == "__main__":
    # A line a tool: short, and what has changed is still seen.
    found = {name: json.dumps(tool, sort_keys=True) for name, tool in frozen(asyncio.run(offered())).items()}
    FROZEN.write_text("{\n" + ",\n".join(f'"{name}": {tool}' for name, tool in found.items()) + "\n}\n")
