"""`python -m compat.official`: hold the conversation and write what became of each step."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import sys
import threading

from compat.official import accounts, history, market_data, orders, reference, refusals
from compat.official.talk import Talk, script
from compat.record import Recorder
from compat.steps import STEPS

MODULES = (reference, market_data, history, accounts, orders, refusals)


class UnreadMessages(logging.Handler):
    """ibapi says of a message that it cannot read only this, among the traces of everything else."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(logging.INFO)
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on the one that matters."""
        if record.getMessage() == "BadMessage":
            self._recorder.warn("BadMessage: ibapi could not read a message")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("closed_port", type=int)
    parser.add_argument("report")
    parser.add_argument("server_version", type=int)
    arguments = parser.parse_args()
    script.check()
    recorder = Recorder()
    logging.getLogger().addHandler(recorder)
    client_log = logging.getLogger("ibapi.client")
    client_log.setLevel(logging.INFO)
    client_log.addHandler(UnreadMessages(recorder))
    # A decoder's exception ends the library's thread.
    threading.excepthook = lambda failed: recorder.warn(f"a thread has ended: {failed.exc_value!r}")
    talk = Talk(recorder, arguments.port, arguments.closed_port, arguments.server_version)
    for name in STEPS:
        failure: BaseException | None = None
        recorder.begin()
        talk.begin()
        try:
            script[name].act(talk)
        except Exception as error:
            failure = error
        talk.end()
        recorder.end(name, script[name], failure)
        # The report is whole after each step.
        recorder.write(arguments.report, client="ibapi", version=importlib.metadata.version("ibapi-stable"))

    # The library's reader of a connection that was lost never ends, and is no daemon.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
