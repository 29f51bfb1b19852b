"""docs/cookbook.md: every command runs, section by section, and ends as the page says.

The section for grpcurl, a Go program, is run where there is one: `make examples` installs it and runs this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "cookbook.md").read_text()
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"(?:<!-- (.*?) -->\n)?```(console|bash)\n(.*?)```", re.DOTALL)
NOT_RUN = "runs until Ctrl-C"
GRPCURL = "The same with grpcurl"
SERVICES = ("MarketData", "ReferenceData", "Account", "Orders", "Gateway", "Audit", "Simulation")


@dataclass(frozen=True)
class Command:
    """A command line, and the exit code that the page gives it."""

    line: str
    code: int


def function() -> str:
    """What every command may use."""
    (found,) = (body for _, language, body in BLOCK.findall(PAGE) if language == "bash")
    return str(found)


def sections() -> dict[str, list[Command]]:
    """The commands below every heading."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    found = {}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        found[title] = [
            Command(line.removeprefix("$ "), int(mark.removeprefix("ends with ")) if mark else 0)
            for mark, _, body in BLOCK.findall(text)
            for line in body.splitlines()
        ]
    return found


SECTIONS = sections()
RUN = [title for title in SECTIONS if title != GRPCURL or shutil.which("grpcurl")]


def test_every_service_is_in_it_and_nothing_is_left_out_but_what_never_ends() -> None:
    marks = {mark for mark, language, _ in BLOCK.findall(PAGE) if mark and language == "console"}
    assert {mark for mark in marks if not mark.startswith("ends with ")} == {NOT_RUN}
    lines = [command.line for commands in SECTIONS.values() for command in commands]
    assert len(lines) >= 60
    for service in SERVICES:
        assert any(f"{service}Service/" in line for line in lines)


@pytest.mark.parametrize("title", RUN)
def test_the_commands_of_a_section_work(title: str, server: str, tmp_path: Path) -> None:
    folder = tmp_path / "shell"
    folder.mkdir()
    environment = {
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
    }
    assert SECTIONS[title]
    for command in SECTIONS[title]:
        script = f"{function()}\n{command.line}".replace("127.0.0.1:50051", server)
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, cwd=folder, env=environment, timeout=90
        )
        assert done.returncode == command.code, f"{command.line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        # A stream that is cut short by head has no exit code of its own: what it said is what tells.
        assert done.stdout or command.code, f"{command.line}\n{done.stderr[-2000:]}"
        assert '"code":' not in done.stderr or command.code, f"{command.line}\n{done.stderr[-2000:]}"


def test_the_export_of_the_record_is_a_csv_with_its_order(server: str, tmp_path: Path) -> None:
    place, *_, export = SECTIONS["The record"]
    said = []
    for command in (place, export):
        script = f"{function()}\n{command.line}".replace("127.0.0.1:50051", server)
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            env={"PATH": path, "HOME": str(tmp_path)},
            timeout=90,
            check=True,
        )
        said.append(done.stdout)
    heading, row = said[1].splitlines()
    assert heading.startswith("client_order_id,")
    assert row.startswith("cookbook-order-3,")
