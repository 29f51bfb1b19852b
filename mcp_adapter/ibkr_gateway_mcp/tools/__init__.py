"""Tools, a module for each service of the gateway. Each is thin: its arguments as a request, the answer as a model."""

from __future__ import annotations

from mcp.types import ToolAnnotations

READ = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
"""It changes nothing, anywhere."""
COMMAND = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)
"""It can cost money; repeated with the same arguments it does nothing more."""
