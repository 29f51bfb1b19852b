"""The README: its commands run, its tables are the code's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from ibkr_gateway_cli.session import EXIT_CODES
from ibkr_gateway_server.settings import Settings

from tests.documents import ADDRESS, ROOT, blocks, run

README = (ROOT / "README.md").read_text()

# Blocks marked by a comment in the README, and why they are not run here as they stand.
NOT_RUN = {
    "runs until Ctrl-C": "serve and simulate are started by many tests",
    "needs grpcurl": "a Go program; buf curl does the same and is run",
    "needs a running IB Gateway": "there is none",
}
# The two commands that run this very suite and its install; CI runs them in a fresh clone.
RUN_BY_CI = ("make demo", "make test")


RUNNABLE = [
    command for mark, commands in blocks(README) if not mark for command in commands if command not in RUN_BY_CI
]


def test_every_block_that_is_not_run_says_why() -> None:
    assert {mark for mark, _ in blocks(README) if mark} == set(NOT_RUN)
    assert len(RUNNABLE) >= 14


@pytest.mark.parametrize("command", RUNNABLE)
def test_a_command_of_the_readme_works(command: str, server: str, tmp_path: Path) -> None:
    done = run(command, server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout or "events" in command or "list" in command


def test_the_python_example_works(server: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    program = example.replace(ADDRESS, server)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 5


def test_the_table_of_settings_is_the_codes() -> None:
    table = README.partition("## Settings")[2].partition("## Errors")[0]
    named = set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE))
    assert named == {name.upper() for name in Settings.model_fields}


def test_the_table_of_errors_is_the_contracts() -> None:
    table = README.partition("## Errors")[2].partition("## What works")[0]
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| (.*) \|$", table, re.MULTILINE))
    written = {reason: status for status, reasons in rows.items() for reason in reasons.split(", ")}
    reasons = json.loads(files("ibkr_gateway").joinpath("errors.json").read_text())
    assert written == {reason["reason"]: reason["status"] for reason in reasons}


def test_the_table_of_exit_codes_is_the_codes() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}


def test_safety_comes_before_the_quick_start_and_fits_one_screen() -> None:
    assert README.index("Safety first") < README.index("Quick start")
    section = README.partition("Safety first")[2].partition("## Quick start")[0]
    assert len(section.splitlines()) <= 25


def test_links_within_the_repository_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
