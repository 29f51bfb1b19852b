"""Files of settings that change while the gateway runs are told of, and only told of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ibkr_gateway_server.settings_watch import SettingsWatch


def test_a_change_is_told_once_and_so_is_its_being_undone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file, told = tmp_path / ".env", []
    watch = SettingsWatch({".env": file, "TOKENS_FILE": tmp_path / "tokens.toml"}, told.append)
    assert watch.look() == frozenset()
    file.write_text("MAX_NOTIONAL=1")
    assert watch.look() == watch.look() == {".env"}
    file.unlink()
    assert watch.look() == frozenset()
    assert told == [1, 0]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_writing_the_same_again_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MAX_NOTIONAL=1")
    watch = SettingsWatch({".env": file}, lambda _count: None)
    file.write_text("MAX_NOTIONAL=1")
    assert watch.look() == frozenset()
