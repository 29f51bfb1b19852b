"""What can be made to go wrong, on command and by a seed: messages, connections, the link to IBKR."""

from ibkr_gateway_server.simulator.faults.replies import spoiled
from ibkr_gateway_server.simulator.faults.rules import HANDSHAKE, REFUSALS, Faults, OnReply, OnRequest, Rule

__all__ = ["HANDSHAKE", "REFUSALS", "Faults", "OnReply", "OnRequest", "Rule", "spoiled"]
