"""What deploys the gateway names settings and programs that there are."""

from __future__ import annotations

import re
from typing import Any

import yaml
from ibkr_gateway_server import __main__ as server
from ibkr_gateway_server.app import DRAIN_S
from ibkr_gateway_server.settings import CLIENT_VARIABLES, PAPER_PORTS, Settings

from tests.documents import ROOT

UNIT = (ROOT / "deploy" / "ibkr-gateway.service").read_text()
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "docker-compose.paper.yml").read_text())["services"]
SETTINGS = {name.upper() for name in Settings.model_fields}


def unit(key: str) -> list[str]:
    """The values of a key of the unit."""
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def test_the_unit_starts_the_server_itself() -> None:
    (command,) = unit("ExecStart")
    assert command.split()[1:] == ["-m", "ibkr_gateway_server"]
    assert unit("User") == ["ibkr-gateway"]


def test_what_the_unit_sets_are_settings() -> None:
    assert {pair.partition("=")[0] for pair in unit("Environment")} <= SETTINGS


def test_the_unit_does_not_start_again_what_needs_a_person() -> None:
    assert unit("RestartPreventExitStatus") == [f"{server.EX_DATAERR} {server.EX_CONFIG}"]


def test_the_server_has_time_to_end() -> None:
    assert all(float(seconds) > 2 * DRAIN_S for seconds in unit("TimeoutStopSec"))
    assert float(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) > 2 * DRAIN_S


def test_the_compose_file_sets_settings_and_is_safe() -> None:
    environment = SERVICES["gateway"]["environment"]
    assert environment.keys() <= SETTINGS | CLIENT_VARIABLES
    assert (environment["TRADING_MODE"], environment["ORDERS_ENABLED"]) == ("paper", "false")
    assert int(environment["IBKR_GATEWAY_PORT"]) in PAPER_PORTS
    assert SERVICES["ib-gateway"]["environment"]["TRADING_MODE"] == "paper"


def test_nothing_but_the_gateway_is_published_and_that_on_this_machine_only() -> None:
    assert "ports" not in SERVICES["ib-gateway"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["gateway"]["ports"])
