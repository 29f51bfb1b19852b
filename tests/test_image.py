"""The image, without an engine to build it: what it copies builds, and what it runs starts, is healthy and stops."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ibkr_gateway_server.settings import Settings

from tests.conftest import program

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.demo.yml").read_text())["services"]


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of this name."""
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def copies() -> list[tuple[str, str]]:
    """Every file or folder that is copied, and where to."""
    found = []
    for arguments in instructions("COPY"):
        *sources, target = arguments.split()
        found += [(source, target) for source in sources]
    return found


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in instructions("ENV") for pair in line.split())


def test_what_is_copied_is_enough_to_build_the_wheel(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name, target in copies():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / target)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = [name for name, _ in copies() if (ROOT / name).is_dir()]
    tracked = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    packaged = {
        "/".join(dropwhile(lambda part: not part.startswith("ibkr_gateway"), line.split("/")))
        for line in tracked.split()
        if (ROOT / line).exists()
    }
    assert packaged - {""} <= names


def test_the_build_sees_only_what_is_copied() -> None:
    excluded, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert excluded == "*"
    assert {line.removeprefix("!") for line in rest if line.startswith("!")} == {name for name, _ in copies()}


def test_what_the_image_runs_starts_is_healthy_and_ends_at_its_stop_signal(tmp_path: Path) -> None:
    launcher, option, module = json.loads(instructions("CMD")[-1])
    assert (launcher, option) == ("python", "-m")
    settings = environment() | {"AUDIT_DB_PATH": str(tmp_path / "audit.db"), "GRPC_PORT": "0"}
    health = json.loads(instructions("HEALTHCHECK")[-1].partition("CMD ")[2])
    with program(module, cwd=tmp_path, **settings) as (process, address):
        checked = subprocess.run(
            [str(BIN / health[0]), *health[1:]],
            env={"PATH": os.environ["PATH"], **settings, "GRPC_PORT": address.rpartition(":")[2]},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "simulation" in checked.stdout
        process.send_signal(signal.Signals[instructions("STOPSIGNAL")[-1]])
        assert process.wait(timeout=20) == 0


def test_what_the_demo_watches_is_served(server: str, tmp_path: Path) -> None:
    command, *arguments = SERVICES["watch"]["command"]
    watched = subprocess.run(
        [str(BIN / command), *arguments, "--count", "3"],
        env={"PATH": os.environ["PATH"], "GRPC_PORT": server.rpartition(":")[2], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert watched.returncode == 0, watched.stderr


@pytest.mark.parametrize("names", [environment(), SERVICES["gateway"]["environment"]], ids=["image", "demo"])
def test_every_variable_is_a_setting(names: dict[str, str]) -> None:
    assert {name.lower() for name in names} <= Settings.model_fields.keys()
    assert names["IBKR_MODE"] == "simulation"


def test_nothing_runs_as_root() -> None:
    assert int(instructions("USER")[-1]) > 0
    assert DOCKERFILE.rindex("\nRUN ") < DOCKERFILE.rindex("\nUSER ")
