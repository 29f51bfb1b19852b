"""Command line of ibkr-gateway: a client of the server, and the commands that start it."""

__version__ = "0.1.0"
