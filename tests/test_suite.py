"""The suite's own rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SKIPPING = """
import pytest

@pytest.mark.skipif(True, reason="no compiler here")
def test_marked(): ...

def test_skipping(): pytest.skip("no compiler here")
"""


@pytest.mark.parametrize(("ci", "outcome"), [("", "2 skipped"), ("true", "1 failed, 1 error")])
def test_a_skipped_test_is_a_failure_in_ci_and_says_why(ci: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest", str(tmp_path)]
    environment = {**os.environ, "CI": ci, "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert outcome in ran.stdout
    assert ran.stdout.count("no compiler here") >= 2 or not ci


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_warning.py").write_text("import warnings\n\ndef test_warns(): warnings.warn('old')\n")
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "UserWarning: old" in ran.stdout
    assert "1 failed" in ran.stdout
