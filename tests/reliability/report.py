"""What was found, in figures: a table, JSON, and the measured parts of docs/reliability.md."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.reliability.invariants import INVARIANTS
from tests.reliability.mishaps import CLASSES
from tests.reliability.run import Outcome

# A class of failure that has struck less often in a run of so many seeds has hardly been tried.
OFTEN, MANY_SEEDS = 500, 10_000


@dataclass(slots=True)
class Totals:
    """Sums over seeds."""

    jobs: int
    first_seed: int
    seeds: int = 0
    seconds: float = 0.0
    sums: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    seeds_s: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one more seed."""
        self.seeds += 1
        self.sums.update(
            {
                "intents": outcome.intents,
                "orders sent": outcome.orders,
                "fills": outcome.fills,
                "programs started": outcome.lives,
                "calls to place": outcome.calls["place"],
                "calls to change": outcome.calls["change"],
                "calls to cancel": outcome.calls["cancel"],
            }
        )
        self.struck += outcome.struck
        self.states += outcome.states
        self.changes += outcome.changes
        self.broken.update(invariant for invariant, _ in outcome.findings)
        self.seeds_s.append(outcome.seconds)

    @property
    def rare(self) -> list[str]:
        """Classes of failure that a run of many seeds has hardly tried; of a short run none is expected to strike."""
        if self.seeds < MANY_SEEDS:
            return []
        return [f"{name} ({self.struck[name]})" for name in CLASSES if self.struck[name] < OFTEN]

    @property
    def command(self) -> str:
        """What does the same again."""
        first = f" SEED={self.first_seed}" if self.first_seed != 1 else ""
        return f"make explore SEEDS={self.seeds}{first} JOBS={self.jobs}"

    def figures(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "command": self.command,
            "seeds": self.seeds,
            "seconds": round(self.seconds, 1),
            "median_seed_cpu_s": round(statistics.median(self.seeds_s), 3) if self.seeds_s else None,
            **{name.replace(" ", "_"): self.sums[name] for name in self.sums},
            "broken": {name: self.broken[name] for name in INVARIANTS},
            "states": dict(sorted(self.states.items())),
            "changes": dict(sorted(self.changes.items())),
            "struck": {name: self.struck[name] for name in CLASSES},
        }

    def tables(self) -> str:
        """Everything, as Markdown."""
        rows = [(name, f"{count:,}") for name, count in [("seeds", self.seeds), *self.sums.items()]]
        broken = [(name, f"{self.broken[name]:,}") for name in INVARIANTS]
        struck = [(name, f"{self.struck[name]:,}") for name in CLASSES]
        states = [(name, f"{count:,}") for name, count in sorted(self.states.items())]
        changes = [(name, f"{count:,}") for name, count in sorted(self.changes.items())]
        return "\n\n".join(
            (
                table(("run", "number"), rows),
                table(("invariant", "times broken"), broken),
                table(("order's state in the end", "orders"), states),
                table(("what became of a change", "changes"), changes),
                table(("what went wrong", "times it struck"), struck),
            )
        )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows as Markdown; what is not the first column is a number."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Where and beside what it was measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    )


def write(page: Path, part: str, command: str, seconds: float, body: str) -> None:
    """Put a measured part in its place on the page. Raises ValueError when the page has no such place."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- measured: {part} -->", f"<!-- end of {part} -->"
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    measured = f"{begin}\n\n`{command}` on {when}, {seconds:,.0f} s; {machine()}.\n\n{body}\n\n{end}"
    changed, count = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: measured, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{page} has no place for what is measured of {part}")
    page.write_text(changed, encoding="utf-8")


PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
