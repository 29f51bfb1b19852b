"""MCP adapter of ibkr-gateway: its RPCs as tools, resources and prompts for a language model, and nothing of its own.

`python -m ibkr_gateway_mcp` serves MCP on stdin and stdout, or by streamable HTTP.
"""

__version__ = "0.1.0"
