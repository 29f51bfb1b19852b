"""`python -m compat.ib_library`: hold the conversation and write what became of each step."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging

from compat.ib_library import accounts, history, market_data, orders, reference, refusals
from compat.ib_library.talk import Talk, library, script
from compat.record import Recorder
from compat.steps import STEPS

MODULES = (reference, market_data, history, accounts, orders, refusals)


async def converse(talk: Talk, report: str) -> None:
    """All steps, one after the other, whatever becomes of one; the report is whole after each."""
    for name in STEPS:
        step, failure = script[name], None
        talk.recorder.begin()
        try:
            async with asyncio.timeout(60):
                found = step.act(talk)
                if inspect.isawaitable(found):
                    await found
        except Exception as error:
            failure = error
        talk.recorder.end(name, step, failure)
        talk.recorder.write(report, client=library.__name__, version=library.__version__)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("closed_port", type=int)
    parser.add_argument("report")
    # Each library's own highest version is below what it is offered.
    parser.add_argument("server_version", type=int)
    arguments = parser.parse_args()
    script.check()
    recorder = Recorder()
    logging.getLogger().addHandler(recorder)
    await converse(Talk(recorder, arguments.port, arguments.closed_port), arguments.report)


if __name__ == "__main__":
    asyncio.run(main())
