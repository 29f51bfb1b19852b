"""Prints what the broker's tests need with ib_insync instead of ib_async; for an environment of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

settings = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
project = settings["project"]
# Its dependency eventkit makes an event loop at import, which uvloop does not run on.
ours = [need for need in project["dependencies"] if not need.startswith(("ib_async", "uvloop"))]
tests = [need for need in project["optional-dependencies"]["dev"] if need.startswith(("pytest", "hypothesis"))]
print("\n".join([*ours, *settings["dependency-groups"]["ib-insync"], *tests]))
