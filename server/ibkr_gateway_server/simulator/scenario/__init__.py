"""Scenarios: what happens on a simulated gateway and when, in a TOML file.

    name = "Nightly reset"

    [gateway]                     # optional: begin with a fresh gateway of this kind
    seed = 11
    accounts = ["DU1234567"]
    start = 2026-11-24T04:40:00Z

    [[event]]
    at = 30                       # seconds after the start
    fault = "link_lost"
    duration = 180

Everything is checked when it is read; what is wrong is named by its place.
"""

from __future__ import annotations

from ibkr_gateway_server.simulator.scenario.events import Scenario
from ibkr_gateway_server.simulator.scenario.reading import parse, read
from ibkr_gateway_server.simulator.scenario.table import WrongScenario

__all__ = ["Scenario", "WrongScenario", "parse", "read"]
