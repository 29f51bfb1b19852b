"""The documents: their commands work, their links lead somewhere, their tables are the code's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_cli import servers
from ibkr_gateway_server.domain.orders import AlarmKind, OrderState
from ibkr_gateway_server.settings import Settings

from tests.documents import ROOT, anchors, blocks, run
from tools import metrics_table

DOCS = ROOT / "docs"
SERVER = ROOT / "server" / "ibkr_gateway_server"
PAGES = sorted(DOCS.glob("*.md"))
# Documents whose commands a reader types one after another on one server.
WITH_COMMANDS = ("deployment", "monitoring", "orders", "safety-checklist", "troubleshooting")
# Why a block is not run as it stands.
NOT_RUN = {
    "runs until Ctrl-C",
    "needs docker",
    "needs docker and an account",
    "needs systemd",
    "needs systemd or docker",
    "needs a live account",
    "needs a record that was rolled back",
    "needs that server",
}
REASONS: list[dict[str, Any]] = json.loads(files("ibkr_gateway").joinpath("errors.json").read_text())


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_document_work_one_after_another(name: str, server: str, tmp_path: Path) -> None:
    commands = [command for mark, block in blocks(page(name)) if not mark for command in block]
    assert commands
    for command in commands:
        done = run(command, server, tmp_path)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_block_that_is_not_run_says_why(name: str) -> None:
    assert {mark for mark, _ in blocks(page(name)) if mark} <= NOT_RUN


def broken_links(path: Path) -> Iterator[str]:
    """Links of a document within the repository that lead nowhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        name, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = path.parent / name if name else path
        if not found.exists() or (anchor and anchor not in anchors(found.read_text())):
            yield target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert list(broken_links(path)) == []


def test_the_map_names_every_document() -> None:
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", page("README")))
    assert {path.name for path in PAGES} - {"README.md"} <= named


def test_the_table_of_metrics_is_the_registrys() -> None:
    assert metrics_table.main(["--check"]) == 0, "run `make docs`"
    assert {row.name for row in metrics_table.rows()} == metrics_table.names_in_the_registry()


def test_alarms_ask_for_metrics_that_there_are() -> None:
    rules = page("monitoring").partition("### Alarms")[2].partition("## Log lines")[0]
    known = {row.name for row in metrics_table.rows()} | {"up"}
    asked = {name for line in re.findall(r"expr: (.*)", rules) for name in re.findall(r"\b[a-z_]+(?=[\[{ ]|$)", line)}
    assert len(asked) > 8
    assert asked - {"sum", "increase", "abs"} <= known


def test_states_that_alarms_name_are_states() -> None:
    assert set(re.findall(r'status="([A-Z_]+)"', page("monitoring"))) - {"INTERNAL"} <= set(OrderState)


def test_every_exit_code_of_the_healthcheck_is_explained() -> None:
    rows = set(re.findall(r"^\| (\d+) \|", page("monitoring"), re.MULTILINE))
    codes = (servers.EX_UNAVAILABLE, servers.EX_TEMPFAIL, servers.EX_NOPERM, servers.EX_CONFIG)
    assert rows == {"0", *(str(code) for code in codes)}


@pytest.mark.parametrize("reason", [entry["reason"] for entry in REASONS])
def test_a_reason_has_a_symptom_and_is_in_the_index(reason: str) -> None:
    symptoms, _, index = page("troubleshooting").partition("## Every reason")
    assert re.search(rf"^\*\*.*`{reason}`", symptoms, re.MULTILINE)
    assert re.search(rf"\b{reason}\b", index)


# Strings of the code that look like a kind of the record's and are the name of a field.
NO_KINDS = {"order.quantity"}


KIND_OF = (
    "account|audit|authz|cancel|decode|emergency|external|halt|"
    "order|orderref|orphan|reconcile|recovery|rollback|session"
)


def test_every_kind_of_the_record_is_explained() -> None:
    rooms = [path for room in ("trading", "audit", "broker") for path in (SERVER / room).rglob("*.py")]
    text = "".join(path.read_text() for path in rooms)
    in_code = set(re.findall(rf'"((?:{KIND_OF})\.[a-z_.]+)"', text)) - NO_KINDS
    rows = re.findall(r"^\| (`.*?`) \|", page("monitoring").partition("## The record")[2], re.MULTILINE)
    assert in_code | {"execution", "commission"} == {kind for row in rows for kind in re.findall("`(.*?)`", row)}


def test_every_state_and_alarm_of_an_order_is_explained() -> None:
    states = page("orders").partition("<!-- states -->")[2].partition("<!-- end of states -->")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", states, re.MULTILINE)) == set(OrderState)
    alarms = page("orders").partition("### Alarms")[2]
    assert set(re.findall(r"^\| `([A-Z_]+)`", alarms, re.MULTILINE)) == set(AlarmKind)


def test_the_safety_checklist_has_its_three_phases_and_every_doubtful_state() -> None:
    text = page("safety-checklist")
    assert len(text.splitlines()) > 200
    assert all(f"## Phase {number}" in text for number in (1, 2, 3))
    doubtful = {"UNKNOWN", "PRESUMED_NOT_PLACED", "CONFLICT", "CLOSED_UNCONFIRMED", "CANCEL_PENDING"}
    assert doubtful <= set(re.findall(r"^\*\*`([A-Z_]+)`", text, re.MULTILINE))


def test_settings_that_documents_set_are_settings() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in WITH_COMMANDS:
        for _, block in blocks(page(name)):
            for command in block:
                named = set(re.findall(r"\b([A-Z][A-Z_]{3,})=", command)) - {"TWS_USERID"}
                assert named <= known, f"{name}: {command}"
