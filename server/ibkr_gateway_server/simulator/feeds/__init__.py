"""Subscriptions of one connection: what each has sent, and what is new at the next look. One module for each kind."""

from __future__ import annotations

from ibkr_gateway_server.simulator.feeds.registry import Feed, Feeds

__all__ = ["Feed", "Feeds"]
