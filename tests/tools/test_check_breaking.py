"""A contract that clients are built on can grow and cannot break."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
COMMON = "proto/ibkr_gateway/v1/common.proto"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of this repository, to be changed."""
    git(tmp_path, "clone", "-q", str(ROOT), "clone")
    return tmp_path / "clone"


def test_a_contract_as_it_was_passes(clone: Path) -> None:
    assert check(clone).returncode == 0


def test_a_new_message_passes(clone: Path) -> None:
    common = clone / COMMON
    common.write_text(common.read_text() + "\nmessage Added {\n  string text = 1;\n}\n")
    assert check(clone).returncode == 0


def test_a_field_that_is_gone_fails_and_is_named(clone: Path) -> None:
    common = clone / COMMON
    lines = common.read_text().splitlines()
    field = next(index for index, line in enumerate(lines) if line.startswith("  string symbol = "))
    common.write_text("\n".join(lines[:field] + lines[field + 1 :]) + "\n")
    checked = check(clone)
    assert checked.returncode != 0
    assert '"symbol"' in checked.stdout


def test_after_a_release_it_is_the_release_that_counts(clone: Path) -> None:
    git(clone, "tag", "v9.9.9")
    assert "against v9.9.9" in check(clone).stdout


def test_without_history_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    checked = check(tmp_path)
    assert (checked.returncode, "no earlier contract" in checked.stdout) == (0, True)


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "check_breaking.py")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
