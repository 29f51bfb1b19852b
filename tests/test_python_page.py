"""docs/python.md: its programs run, its table is the client's, and its names are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import ibkr_gateway
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# What a program says at least, beside ending well.
SAID = ("\\d+\\.\\d+ \\d+", "AAPL", "close", "CANCEL", "CONTRACT_NOT_FOUND NOSUCH", "AAPL", "ORDER_STATE_FILLED")


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page_works(number: int, server: str, tmp_path: Path) -> None:
    program = PROGRAMS[number].replace("127.0.0.1:50051", server)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(SAID[number], done.stdout), done.stdout


def test_every_program_is_expected_to_say_something() -> None:
    assert len(PROGRAMS) == len(SAID)


def test_the_table_of_exceptions_is_the_clients() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert named == {kind.__name__ for kind in ibkr_gateway.GatewayError.__subclasses__()}


def test_what_makes_an_order_and_follows_a_stream_is_on_the_page() -> None:
    for name in ibkr_gateway.__all__:
        if name.endswith("_order") or name.startswith("follow_"):
            assert f"`{name}`" in PAGE
