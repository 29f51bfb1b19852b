"""Files that must be their owner's alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ibkr_gateway_server.credentials.files import exposure, override_problem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch(0o600)
    return path


def test_a_file_of_its_owner_alone_is_trusted(file: Path) -> None:
    assert exposure(file) is None
    file.chmod(0o400)
    assert exposure(file) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_a_file_that_others_can_read_or_change_is_not(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert exposure(file) == "must be its owner's alone: chmod 600"


def test_a_link_a_folder_and_what_is_not_there_are_not(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert exposure(link) == "must be the file itself, not a link to it"
    assert exposure(file.parent) == "must be a file"
    assert exposure(file.with_name("missing")) == "must name a file that is there"


def test_a_file_of_somebody_else_is_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = file.stat().st_uid
    if owner == 0:
        os.chown(file, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert exposure(file) == "must belong to the user who runs the server"


def test_the_override_file_counts_until_it_is_too_old(file: Path) -> None:
    os.utime(file, (1_000_000, 1_000_000))
    assert override_problem(file, None, 9_000_000.0) is None
    assert override_problem(file, 2.0, 1_000_000.0 + 7200) is None
    found = override_problem(file, 2.0, 1_000_000.0 + 7201)
    assert found is not None
    assert "LIVE_OVERRIDE_MAX_AGE of 2 h" in found
    file.chmod(0o644)
    assert override_problem(file, None, 0.0) == "must be its owner's alone: chmod 600"
