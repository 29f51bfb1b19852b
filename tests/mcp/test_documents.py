"""What is written about the adapter is what it does: its page, and its entry for the registry."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from ibkr_gateway_mcp import __version__
from ibkr_gateway_mcp.__main__ import _parser
from ibkr_gateway_mcp.feeds import OPEN_ORDERS, POSITIONS, QUOTES, TRADING_STATUS
from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.scopes import NEEDED

from tests.mcp.test_schemas import offered

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mcp.md").read_text()
ENTRY = json.loads((ROOT / "mcp_adapter" / "server.json").read_text())


async def test_the_page_has_every_tool_and_its_scope() -> None:
    table = PAGE.partition("## Tools")[2].partition("## Safety")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (\w+) \|$", table, re.MULTILINE))
    assert set(rows) == set(await offered())
    assert {tool: scope for tool, scope in rows.items() if scope not in ("read", "none")} == dict(NEEDED)


def test_the_page_has_every_option_and_its_default() -> None:
    table = PAGE.partition("## Options")[2].partition("## Tools")[0]
    named = set(re.findall(r"`(--[a-z-]+)", table)) | {"--help", "--version"}
    assert named == {option for action in _parser()._actions for option in action.option_strings} - {"-h"}
    limits = Limits()
    for default in (
        f"| {limits.per_minute}, {limits.per_day} |",
        f"| {limits.approval_timeout_s:g} |",
        f"| {limits.drift_percent:g} |",
    ):
        assert default in table


def test_the_page_has_every_resource() -> None:
    for uri in (QUOTES + "{symbol}", POSITIONS, OPEN_ORDERS, TRADING_STATUS):
        assert f"`{uri}`" in PAGE


def test_every_configuration_on_the_page_is_json_that_starts_the_adapter() -> None:
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert len(blocks) == 2
    for block in blocks:
        ((name, started),) = next(iter(block.values())).items()
        assert (name, started["command"]) == ("ibkr", "/abs/ibkr-gateway-mcp")
        assert _parser().parse_args(started["args"]).read_only


def test_the_entry_for_the_registry_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "mcp_adapter" / "pyproject.toml").read_text())["project"]
    (package,) = ENTRY["packages"]
    assert ENTRY["version"] == package["version"] == __version__
    assert package["identifier"] == project["name"]
    assert len(ENTRY["description"]) <= 100
    assert f"mcp-name: {ENTRY['name']}" in (ROOT / "mcp_adapter" / "README.md").read_text()
    source = (ROOT / "mcp_adapter" / "ibkr_gateway_mcp" / "__main__.py").read_text()
    for variable in package["environmentVariables"]:
        assert f'"{variable["name"]}"' in source
