"""Every requirement has a row, and what a row names is there."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
from ibkr_gateway_cli.__main__ import app
from ibkr_gateway_server.rpc.scopes import SCOPES
from ibkr_gateway_server.settings import Settings

from tests.documents import ROOT

PAGE = (ROOT / "docs" / "seed.md").read_text()

# How many requirements each section has; their ids are numbered from 1.
COUNTS = {
    "M": 22,
    "0": 13,
    "1": 11,
    "2": 16,
    "3": 14,
    "4": 20,
    "4.5": 18,
    "5": 10,
    "6": 16,
    "6.1": 7,
    "6.2": 6,
    "6.3": 9,
    "6.4": 13,
    "7": 2,
    "8.1": 3,
    "8.2": 9,
    "8.3": 6,
    "8.4": 11,
    "8.5": 10,
    "T": 12,
    "E": 14,
    "D": 15,
}
IDS = [f"{section}.{number}" for section, count in COUNTS.items() for number in range(1, count + 1)]

RPCS = {endpoint.rpartition(".")[2].replace("/", ".") for endpoint in SCOPES}
SETTINGS = {name.upper() for name in Settings.model_fields}


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Of every row: its section, its id, what it names, what it says besides."""
    section = ""
    for line in PAGE.splitlines():
        if heading := re.match(r"## ([\w.]+):", line):
            section = heading[1]
        elif cells := re.match(r"\| ([\w.]+\.\d+) \| [^|]+ \| ([^|]+) \|([^|]*)\|$", line):
            yield section, cells[1], cells[2], cells[3].strip()


def test_every_requirement_has_one_row_in_its_section() -> None:
    assert [f"{section}.{found.rpartition('.')[2]}" for section, found, _, _ in rows()] == IDS
    assert [found for _, found, _, _ in rows()] == IDS


@pytest.mark.parametrize(("named", "says"), [row[2:] for row in rows()], ids=[row[1] for row in rows()])
def test_what_a_row_names_is_there(named: str, says: str) -> None:
    names = re.findall(r"`([^`]+)`", named)
    assert names
    assert re.sub(r"`[^`]+`", "", named).strip(", ") == ""
    assert [name for name in names if not is_there(name)] == []
    assert "Not built" not in says or says.startswith("**Not built**: ")


@pytest.mark.parametrize(
    "name",
    [
        "docs/gone.md",
        "tests/test_suite.py::test_gone",
        "OrdersService.Gone",
        "GONE_SETTING",
        "make gone",
        "ibkr-gateway order gone",
    ],
)
def test_what_is_gone_is_noticed(name: str) -> None:
    assert not is_there(name)


def is_there(name: str) -> bool:
    """Whether a setting, an RPC, a make target, a command, a file, or a test in a file exists."""
    if re.fullmatch(r"[A-Z_]{4,}", name) and name not in ("LICENSE",):
        return name in SETTINGS
    if re.fullmatch(r"\w+Service\.\w+", name):
        return name in RPCS
    if name.startswith("make "):
        return bool(re.search(rf"^{name.removeprefix('make ')}:", (ROOT / "Makefile").read_text(), re.MULTILINE))
    if name.startswith("ibkr-gateway "):
        return is_command(shlex.split(name)[1:])
    path, _, test = name.partition("::")
    return (ROOT / path).exists() and (not test or test in functions_in(ROOT / path))


def is_command(words: list[str]) -> bool:
    """Whether the command line has this command."""
    command = typer.main.get_command(app)
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            return False
        command = found
    return True


@cache
def functions_in(path: Path) -> frozenset[str]:
    """The tests of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
