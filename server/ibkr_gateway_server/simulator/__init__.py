"""A simulated IB Gateway: speaks the TWS protocol over TCP, knows nothing of the rest, needs no account."""

from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.faults import Fault, Faults, Rule, WrongRule
from ibkr_gateway_server.simulator.listener import Address, Simulator, State
from ibkr_gateway_server.simulator.scenario import Scenario, WrongScenario, parse, read

__all__ = [
    "Address",
    "Behaviour",
    "Fault",
    "Faults",
    "Rule",
    "Scenario",
    "Simulator",
    "State",
    "WrongRule",
    "WrongScenario",
    "parse",
    "read",
]
