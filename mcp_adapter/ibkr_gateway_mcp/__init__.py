"""MCP adapter of ibkr-gateway: not built yet. This package only reserves its place; it offers no tools."""

__version__ = "0.1.0"
