"""Write the table of docs/monitoring.md: every metric with its kind, labels, unit and meaning, from the registry.

`make docs` runs it. `--check` writes nothing: it fails when a table is not what the code registers today.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ibkr_gateway_server.domain.tallies import KINDS, Count, Level, Tallies
from ibkr_gateway_server.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "monitoring.md"

BEGIN, END = "<!-- metrics: written by make docs -->\n", "<!-- end of metrics -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str

    @property
    def unit(self) -> str:
        """By Prometheus's convention it is in the name."""
        if self.name.endswith("_seconds"):
            return "seconds"
        return "count" if self.kind == "counter" else "number"

    def line(self) -> str:
        """The row of the table."""
        labels = ", ".join(f"`{label}`" for label in self.labels)
        return f"| `{self.name}` | {self.kind} | {labels} | {self.unit} | {self.about} |"


def rows() -> list[Row]:
    """Every metric that a gateway registers, the gateway's own before those of the session."""
    registered = [
        Row(_name(each), each._type, tuple(each._labelnames), each._documentation)
        for each in vars(Metrics()).values()
        if hasattr(each, "_documentation")
    ]
    tallied = [Row(kind.name, _kind(kind), (kind.label,) if kind.label else (), kind.about) for kind in KINDS]
    return [*registered, *tallied]


def names_in_the_registry() -> set[str]:
    """What a scrape shows, by the names of its families; counters with their `_total`."""
    families = Metrics(Tallies()).registry.collect()
    return {f"{each.name}_total" if each.type == "counter" else each.name for each in families}


def _kind(kind: Count | Level) -> str:
    return "counter" if isinstance(kind, Count) else "gauge"


def _name(metric: object) -> str:
    name, kind = str(getattr(metric, "_name", "")), getattr(metric, "_type", "")
    return f"{name}_total" if kind == "counter" else name


def table() -> Iterator[str]:
    """The lines of the table."""
    yield "| name | kind | labels | unit | meaning |\n|---|---|---|---|---|"
    for row in rows():
        yield row.line()


def page(text: str) -> str:
    """The page with its table as it is today. Raises ValueError when the table's place is not marked."""
    made = f"{BEGIN}\n" + "\n".join(table()) + f"\n\n{END}"
    new, count = re.subn(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: made, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} places for the table of metrics")
    return new


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the table is out of date")
    before = PAGE.read_text()
    text = page(before)
    if not parser.parse_args(arguments).check:
        PAGE.write_text(text)
    elif before != text:
        print("docs/monitoring.md is not what the code registers; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
