"""A market worth trading against: seeded prices that agree with each other at every scale, or a tape."""

from ibkr_gateway_server.simulator.market.chance import scramble, uniform
from ibkr_gateway_server.simulator.market.figures import Bar, Book, Level, Prices, Quote, Tick
from ibkr_gateway_server.simulator.market.market import Market
from ibkr_gateway_server.simulator.market.options import OptionModel
from ibkr_gateway_server.simulator.market.path import QUOTES_PER_S
from ibkr_gateway_server.simulator.market.tape import BadTape, Tape

__all__ = [
    "QUOTES_PER_S",
    "BadTape",
    "Bar",
    "Book",
    "Level",
    "Market",
    "OptionModel",
    "Prices",
    "Quote",
    "Tape",
    "Tick",
    "scramble",
    "uniform",
]
