"""A simulated IB Gateway: speaks the TWS protocol over TCP, knows nothing of the rest, needs no account."""

from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.faults import Fault, Faults
from ibkr_gateway_server.simulator.listener import Address, Simulator, State

__all__ = ["Address", "Behaviour", "Fault", "Faults", "Simulator", "State"]
