"""The commands of documents, and how they are run: what a reader would type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ADDRESS = "127.0.0.1:50051"


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Every console block: the comment before it, which says why it is not run (empty: it is), and its commands."""
    found = re.findall(r"(?:<!-- ([^>]*?) -->\n)?```console\n(.*?)```", text, re.DOTALL)
    return [(mark, [line.removeprefix("$ ") for line in body.splitlines()]) for mark, body in found]


def run(command: str, server: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Have a shell run a command in a folder, where the server that the documents speak of is another one."""
    environment = {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "GRPC_PORT": server.rpartition(":")[2],
    }
    return subprocess.run(
        ["bash", "-c", command.replace(ADDRESS, server)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def anchors(text: str) -> set[str]:
    """What a link within a document may name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
