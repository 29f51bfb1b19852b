"""Commands as programs of their own, without waiting for an interpreter: forked from one that has imported the CLI.

What is forked has done nothing with what it imported; streams, environment, folder and arguments are the command's own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

TIMEOUT_S = 60.0

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["ibkr_gateway_cli.__main__"])


def run_forked(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], stdin: str
) -> subprocess.CompletedProcess[str]:
    """Runs `ibkr-gateway` to its end. Raises TimeoutExpired, and the command is killed."""
    with TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(stdin)
        process = _FORKS.Process(target=_become, args=(list(arguments), cwd, dict(environment), streams))
        process.start()
        process.join(TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), TIMEOUT_S)
        printed = [stream.read_text() if stream.exists() else "" for stream in streams[1:]]
        return subprocess.CompletedProcess(list(arguments), process.exitcode, *printed)


def _become(arguments: list[str], cwd: Path, environment: dict[str, str], streams: list[Path]) -> None:
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for number, (path, how) in enumerate(zip(streams, flags, strict=True)):
        os.dup2(os.open(path, how, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate(("r", "w", "w")))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["ibkr-gateway", *arguments]
    from ibkr_gateway_cli.__main__ import main

    try:
        main()
    finally:
        sys.stdout.flush()
