"""What can be made to go wrong, on command and by a seed: one module for each part of a conversation.

`rules` says what a fault is, `plan` when it strikes, `requests` and `replies` what it does to messages, `outage` what
the gateway has lost, `acts` what strikes at once.
"""

from __future__ import annotations

from ibkr_gateway_server.simulator.faults.plan import Faults
from ibkr_gateway_server.simulator.faults.rules import Fault, Rule, WrongRule

__all__ = ["Fault", "Faults", "Rule", "WrongRule"]
