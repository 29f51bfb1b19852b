"""A server that dies and comes back: at the same port, with the record that it left."""

from __future__ import annotations

import socket
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.conftest import program


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def life(port: int, folder: Path) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """A server on a port, with the record that is in the folder."""
    arguments = ("--mode", "simulation", "--port", str(port), "--log-level", "ERROR")
    return program("ibkr_gateway_server", *arguments, cwd=folder)
