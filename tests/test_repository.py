"""The repository's own files: what contributors and CI go by is what there is."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.documents import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
JOBS: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def read(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", ".github/workflows/ci.yml", ".ci/run", "README.md"])
def test_targets_of_make_that_are_named_are_there(name: str) -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)(?= |$|`|\.)", read(name), re.MULTILINE))
    assert {target for target in named if target not in TARGETS} <= {"no", "what"}


def test_every_target_is_explained_by_make_help_and_to_contributors() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    assert explained == TARGETS
    missing = {target for target in TARGETS - {"help"} if f"make {target}" not in read("CONTRIBUTING.md")}
    assert missing == set()


def test_ci_looks_at_everything_on_every_python() -> None:
    run = "\n".join(step.get("run", "") for step in STEPS)
    needed = ("make lint", "make test", "make coverage", "make examples", "make explore", "make crash", "make compat")
    assert all(command in run for command in (*needed, "pip-audit", "bandit", ".ci/run"))
    versions = {str(step["with"]["python-version"]) for step in STEPS if "setup-python" in step.get("uses", "")}
    assert {"3.11", "3.13"} <= versions
    assert "3.12" in JOBS["tests"]["strategy"]["matrix"]["python"]


def test_what_installs_much_keeps_it_for_the_next_run() -> None:
    installs = [step for step in STEPS if "setup-python" in step.get("uses", "")]
    assert sum("cache" in step["with"] for step in installs) >= len(installs) - 1


def test_marks_of_tests_are_explained() -> None:
    marks = {mark.partition(":")[0] for mark in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert marks == set(re.findall(r"^\| `(\w+)` \|", read("CONTRIBUTING.md"), re.MULTILINE))


def test_codecov_and_the_floor_agree() -> None:
    status = yaml.safe_load(read("codecov.yml"))["coverage"]["status"]
    assert (status["project"]["default"]["target"], status["patch"]["default"]["target"]) == ("80%", "70%")
    assert PROJECT["tool"]["coverage"]["report"]["fail_under"] >= 80


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_an_issue_form_asks_for_what_it_needs(name: str) -> None:
    form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert form["name"]
    assert form["description"]
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    ids = [part["id"] for part in asked]
    assert len(set(ids)) == len(ids)
    assert any(part.get("validations", {}).get("required") for part in asked)
    assert {part["type"] for part in asked} <= {"dropdown", "textarea", "input", "checkboxes"}
    assert all(part["attributes"]["label"] for part in asked)


def test_security_says_how_and_how_soon() -> None:
    assert all(word in read("SECURITY.md") for word in ("advisory", "48 hours", "7 days", "coordinated"))
