"""Prints what the broker's tests need with ib_insync instead of ib_async; for an environment of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
ours = [need for need in project["dependencies"] if not need.startswith(("ib_async", "uvloop"))]
tests = [need for need in extras["dev"] if need.startswith(("pytest", "hypothesis"))]
print("\n".join([*ours, *extras["ib-insync"], *tests]))
