"""`make examples` on a machine without a language's tools: said, and in CI a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.run_examples import EXAMPLE_OF, SHOWN, first_lacking

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("ci", "code", "word"), [("", 0, "skipped"), ("true", 4, "failed")])
def test_a_language_whose_tools_are_missing_is_skipped_visibly_and_fails_in_ci(
    ci: str, code: int, word: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "tools" / "run_examples.py"), "rust", "go", "inspector"]
    ran = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path), "CI": ci}, timeout=60)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout.splitlines() == [
        f"=== go: {word}: no go on this machine",
        f"=== rust: {word}: no cargo on this machine",
        f"=== grpcurl's part of docs/cookbook.md: {word}: no go on this machine",
        f"=== MCP Inspector: {word}: no npx on this machine",
    ]


def test_an_example_that_leaves_something_out_is_noticed() -> None:
    whole = "\n".join(SHOWN)
    assert first_lacking(whole) is None
    for words in SHOWN:
        assert first_lacking(whole.replace(words, "")) == words


def test_every_language_has_its_folder_and_a_recipe_only_of_plugins_on_this_machine() -> None:
    folders = {path.name for path in (ROOT / "examples").iterdir() if path.is_dir()}
    assert set(EXAMPLE_OF) <= folders
    for recipe in (ROOT / "examples").glob("*/buf.gen.yaml"):
        plugins = yaml.safe_load(recipe.read_text())["plugins"]
        assert plugins
        assert all("local" in plugin for plugin in plugins)
