"""Every command has a test, a help text, an example that parses, and its place in docs/cli.md."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ibkr_gateway_cli.__main__ import app
from ibkr_gateway_cli.examples import EXAMPLES, commands_of, summary_of

from tools import cli_reference

HERE = Path(__file__)
COMMANDS = dict(commands_of(app))
# Their options are the server's: any are taken, and passed on.
PASSED_ON = {"serve", "start-api", "simulate"}


def typed_words(path: Path) -> Iterator[list[str]]:
    """Each run of words that a test file writes next to each other: arguments of a call, items of a tuple or list."""
    for node in ast.walk(ast.parse(path.read_text())):
        items = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple | ast.List) else []
        yield [item.value if isinstance(item, ast.Constant) and isinstance(item.value, str) else "" for item in items]


def is_typed(name: str, words: list[str]) -> bool:
    parts = name.split()
    return any(words[at : at + len(parts)] == parts for at in range(len(words)))


TYPED = [words for path in sorted(HERE.parent.glob("test_*.py")) if path != HERE for words in typed_words(path)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_typed_by_a_test(name: str) -> None:
    assert any(is_typed(name, words) for words in TYPED), f"no test in tests/cli runs ibkr-gateway {name}"


def test_a_command_that_no_test_types_would_be_found() -> None:
    assert not any(is_typed("order frobnicate", words) for words in TYPED)
    assert not is_typed("order list", ["order", "status", "list"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text(name: str) -> None:
    assert len(summary_of(COMMANDS[name]).split()) >= 3


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(name: str) -> None:
    assert name in EXAMPLES, f"put an example of {name} into ibkr_gateway_cli/examples.py"
    assert "Example" in (COMMANDS[name].epilog or "")


def test_there_is_no_example_of_a_command_that_is_not_there() -> None:
    assert EXAMPLES.keys() <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - PASSED_ON))
def test_every_example_is_of_its_command_and_parses(name: str) -> None:
    words = shlex.split(EXAMPLES[name])
    parts = name.split()
    assert words[: len(parts)] == parts
    command: Any = typer.main.get_command(app)
    for part in parts:
        command = command.commands[part]
    arguments = [word for word in words[len(parts) :] if word != "--json"]
    # Raises a usage error for an option or an argument that the command does not have.
    command.make_context(name, arguments)


def test_the_page_documents_every_command_and_no_other() -> None:
    page = cli_reference.PAGE.read_text()
    documented = set(re.findall(r"^## (.+)$", page, re.MULTILINE)) - {"Exit codes"}
    assert documented == set(COMMANDS)
    assert page == cli_reference.page(), "write it again: make docs"
