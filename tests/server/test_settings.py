"""Settings: strict, and safe in combination."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ibkr_gateway_server.settings import Settings, SettingsInvalid, load_settings

LIVE = {"TRADING_MODE": "live", "ORDERS_ENABLED": "true", "MAX_NOTIONAL": "1000", "MAX_SIZE_PER_SYMBOL": "10"}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(env_file=None)


def test_by_default_it_is_paper_without_orders_on_this_machine() -> None:
    settings = load_settings(env_file=None)
    assert (settings.mode, settings.sends_orders, settings.broker_port) == ("paper", False, 4002)
    assert settings.grpc_host == "127.0.0.1"


def test_open_orders_are_bounded_and_equal_ones_allowed_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    default = load_settings(env_file=None)
    assert (default.max_open_orders, default.duplicate_window) == (20, 0.0)
    bounded = load(monkeypatch, MAX_OPEN_ORDERS="3", DUPLICATE_WINDOW="0.5")
    assert (bounded.max_open_orders, bounded.duplicate_window) == (3, 0.5)


def test_simulation_wins_and_enables_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, IBKR_MODE="simulation", TRADING_MODE="live")
    assert (settings.mode, settings.sends_orders) == ("simulation", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRADING_MODE", "Live"),
        ("TRADING_MODE", "live "),
        ("TRADING_MODE", ""),
        ("ORDERS_ENABLED", "yes"),
        ("ORDERS_ENABLED", "1"),
        ("ORDERS_ENABLED", "TRUE"),
        ("MAX_NOTIONAL", "-1"),
        ("MAX_NOTIONAL", "NaN"),
        ("MAX_NOTIONAL", "inf"),
        ("MAX_SIZE_PER_SYMBOL", "0"),
        ("MAX_OPEN_ORDERS", "-1"),
        ("MAX_OPEN_ORDERS", "2.5"),
        ("DUPLICATE_WINDOW", "-1"),
        ("DUPLICATE_WINDOW", "3601"),
        ("DUPLICATE_WINDOW", "NaN"),
        ("GRPC_PORT", "70000"),
        ("IBKR_CLIENT_ID", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("REQUEST_TIMEOUT", "0"),
        ("GRPC_HOST", "0.0.0.0"),
        ("IBKR_GATEWAY_PORT", "4001"),
        ("IBKR_MODE", "live"),
        ("IBKR_ACCOUNT", "DU1,DU2"),
        ("RESTART_WINDOW", "at night"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_its_key(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(monkeypatch, **{name: value})
    assert any(problem.startswith(f"{name}:") for problem in refused.value.problems)


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(monkeypatch, TRADING_MODE="x", ORDERS_ENABLED="y", GRPC_PORT="z")
    assert len(refused.value.problems) == 3


def test_a_value_is_never_repeated_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(monkeypatch, TRADING_MODE="hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("missing", ["LIVE_TRADING_OVERRIDE_FILE", "MAX_NOTIONAL", "MAX_SIZE_PER_SYMBOL"])
def test_live_orders_need_the_override_file_and_both_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "live").touch(0o600)
    complete = {**LIVE, "LIVE_TRADING_OVERRIDE_FILE": str(tmp_path / "live")}
    assert load(monkeypatch, **complete).sends_orders
    monkeypatch.delenv(missing)
    with pytest.raises(SettingsInvalid, match=missing):
        load_settings(env_file=None)


def test_an_override_file_that_is_not_there_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="LIVE_TRADING_OVERRIDE_FILE"):
        load(monkeypatch, **LIVE, LIVE_TRADING_OVERRIDE_FILE=str(tmp_path / "missing"))


def test_an_override_file_that_is_too_old_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "live").touch(0o600)
    os.utime(tmp_path / "live", (0, 0))
    complete = {**LIVE, "LIVE_TRADING_OVERRIDE_FILE": str(tmp_path / "live")}
    assert load(monkeypatch, **complete).sends_orders
    with pytest.raises(SettingsInvalid, match="older than LIVE_OVERRIDE_MAX_AGE"):
        load(monkeypatch, LIVE_OVERRIDE_MAX_AGE="24")


def test_the_clients_variables_and_those_of_others_are_none_of_the_servers_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = {"IBKR_GATEWAY_TOKEN_FILE": "x", "IBKR_GATEWAY_TLS_CA": "x", "GRPC_VERBOSITY": "info", "MAX_NOTINAL": "x"}
    assert load(monkeypatch, **others).mode == "paper"


def test_a_port_of_the_other_mode_needs_a_reasoned_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, IBKR_GATEWAY_PORT="4001", ALLOW_PORT_MISMATCH="true").broker_port == 4001


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("GRPC_PORT=1111\nLOG_LEVEL=ERROR\n")
    monkeypatch.setenv("GRPC_PORT", "2222")
    settings = load_settings(env_file=str(file))
    assert (settings.grpc_port, settings.log_level) == (2222, "ERROR")


def test_the_example_file_names_every_setting_and_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parents[2] / ".env.example"
    named = {line.lstrip("#").partition("=")[0] for line in example.read_text().splitlines() if "=" in line}
    assert {name.upper() for name in Settings.model_fields} <= named
    settings = load_settings(env_file=str(example))
    assert (settings.mode, settings.sends_orders) == ("paper", False)
