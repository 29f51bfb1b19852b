"""What must not be read anywhere: tokens, passwords, account numbers; searched for in all that the gateway says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
from ibkr_gateway import AsyncGateway, GatewayError, connect, new_client_order_id
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import simulation_service_pb2 as simulation_pb
from ibkr_gateway_cli.__main__ import app as command_line
from ibkr_gateway_mcp.__main__ import _parser as adapters_parser
from ibkr_gateway_server.__main__ import _parser as servers_parser
from ibkr_gateway_server.logs import configure_logs

from tests.callers import TokenFile
from tests.conftest import program
from tests.failures.test_audit_space import order
from tests.failures.test_stopping import SERVER, ready

ACCOUNT = "DU1234567"


def canary(name: str) -> str:
    """A secret that is recognised wherever it is."""
    return f"canary-{name}-4c8e2f6a9b1d7e3f5a0c"


@dataclass
class Said:
    """All that a gateway has said, and the files that it has left."""

    token: str
    log: str
    errors: str
    metrics: str
    command: str
    files: dict[str, bytes]


class Caller:
    """Asks, and keeps what it is refused with."""

    def __init__(self, target: str, metadata: Sequence[tuple[str, str]], errors: list[str]) -> None:
        self.client: AsyncGateway = connect(target, timeout_s=10)
        self._metadata = metadata
        self._errors = errors

    async def ask(self, rpc: Any, request: Any) -> Any:
        """The answer; None: it was refused."""
        try:
            return await rpc(request, metadata=self._metadata)
        except GatewayError as error:
            self._errors.append(f"{error.code} {error.message} {error.reason} {error.details} {error.fields}")
            return None


async def a_day(target: str, token: str, errors: list[str]) -> str:
    """Callers show secrets wherever one may be shown. Returns the metrics."""
    status = pb.GetTradingStatusRequest()
    for number, shown in enumerate(
        [
            [("authorization", f"Bearer {canary('unknown')}")],
            [("authorization", f"Basic {canary('basic')}")],
            [("authorization", canary("bare"))],
            [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {canary('second')}")],
            [("x-api-key", canary("api-key")), ("cookie", f"session={canary('cookie')}")],
            [("x-correlation-id", f"{canary('correlation')} with a blank")],
        ],
        1,
    ):
        stranger = Caller(target, shown, errors)
        async with stranger.client as client:
            await stranger.ask(client.gateway.GetTradingStatus, status)
        assert len(errors) == number
    trader = Caller(target, [("authorization", f"Bearer {token}"), ("x-note", canary("metadata"))], errors)
    async with trader.client as client:
        place, key = client.orders.PlaceOrder, new_client_order_id()
        foreign = order(account_id="DU7654321")
        await trader.ask(place, orders_pb.PlaceOrderRequest(client_order_id=key, order=foreign))
        await trader.ask(client.account.GetPositions, account_pb.GetPositionsRequest(account_id="U7654321"))
        preview = orders_pb.PlaceOrderRequest(client_order_id=key, order=order(), preview_token=canary("preview"))
        await trader.ask(place, preview)
        pages = audit_pb.QueryAuditEventsRequest(page_token=canary("page"))
        await trader.ask(client.audit.QueryAuditEvents, pages)
        # IBKR's words name the account, of an order that it refuses.
        refusal = simulation_pb.InjectFaultRequest(
            fault=simulation_pb.FAULT_REFUSE, message_id=3, code=201, text=f"Order rejected: {ACCOUNT} has no margin"
        )
        assert await trader.ask(client.simulation.InjectFault, refusal) is not None
        await trader.ask(place, orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order()))
        assert len(errors) == 10
        return str(await trader.ask(client.gateway.GetMetrics, pb.GetMetricsRequest()))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """A gateway that logs all it can, with secrets in its environment and shown to it by callers."""
    folder = tmp_path_factory.mktemp("secrets")
    tokens = TokenFile(folder / "tokens.toml")
    token = tokens.issue("trader", "read", "trade", "preview", "admin")
    environment = {
        "TOKENS_FILE": str(tokens.path),
        "TWS_PASSWORD": canary("tws-password"),
        "AWS_SECRET_ACCESS_KEY": canary("cloud"),
    }
    errors: list[str] = []
    arguments = ("--mode", "simulation", "--port", "0", "--log-level", "DEBUG")
    with program(SERVER, *arguments, cwd=folder, **environment) as (process, address):
        command = Path(f"/proc/{process.pid}/cmdline").read_text()

        async def day() -> str:
            async with connect(address, token=token) as client:
                await ready(client)
            return await a_day(address, token, errors)

        metrics = asyncio.run(day())
        process.terminate()
        _, log = process.communicate(timeout=20)
    files = {path.name: path.read_bytes() for path in (folder / "data").iterdir() if path.suffix != ".key"}
    return Said(token, log, "\n".join(errors), metrics, command, files)


def test_S01_secrets_are_shown_wherever_one_may_be(said: Said) -> None:
    """Callers show tokens, good and bad, in every place of the metadata, wrong preview and page tokens, and accounts of
    others; the environment has passwords; IBKR's words name the account. The server logs at DEBUG.

    None of it is in a line of the log, the text or a detail of an error, a metric or a file beside the record; account
    numbers are cut to `DU***567`. In the record itself is what IBKR said, as it said it.
    """
    for place, text in {"log": said.log, "errors": said.errors, "metrics": said.metrics}.items():
        assert text
        for secret in ("canary-", said.token, ACCOUNT, "DU7654321", "U7654321"):
            assert secret not in text, place
    assert set(said.files) >= {"simulation.db"}
    for name, content in said.files.items():
        for secret in (b"canary-", said.token.encode(), b"DU7654321"):
            assert secret not in content, name


def test_S02_everything_is_logged(said: Said) -> None:
    """LOG_LEVEL is DEBUG.

    Account numbers are cut to `DU***567` all the same, each line is one JSON object, and of the messages to and from
    TWS there is none: no setting shows them.
    """
    lines = [json.loads(line) for line in said.log.splitlines()]
    assert {"DEBUG", "INFO"} <= {line["level"] for line in lines}
    assert {line["logger"].partition(".")[0] for line in lines}.isdisjoint({"ib_async", "ib_insync", "eventkit"})
    assert ACCOUNT not in said.log


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before


@pytest.mark.parametrize("form", ["json", "text"])
def test_S03_an_error_knows_a_secret(
    form: str, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error is logged with its traceback, while a function on its way holds a secret; its words name an account.

    The log has the files, the lines and the error's words, with the account cut. No values of variables.
    """
    stop = configure_logs("DEBUG", form)

    def fail(password: str) -> None:
        raise ValueError(f"no order for {ACCOUNT}, {len(password)}")

    try:
        fail(canary("local"))
    except ValueError:
        logging.getLogger("x").exception("failed")
    stop()
    written = capsys.readouterr().err
    assert "in fail" in written
    assert "no order for DU***567" in written
    assert "canary-" not in written


def options_of(command: click.Command) -> Iterator[click.Parameter]:
    """Every option and argument of a command and those below it."""
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from options_of(below)


def test_S04_secrets_among_the_arguments_of_a_program(said: Said) -> None:
    """Somebody reads the arguments of every process, as `ps` shows them.

    No secret is there: the server, the command line and the adapter have no option that takes one, but files that hold
    one.
    """
    names = {name for each in options_of(typer.main.get_command(command_line)) for name in each.opts}
    for parser in (servers_parser(), adapters_parser()):
        names |= {name for action in parser._actions for name in action.option_strings}
    secretive = {name for name in names if any(word in name for word in ("token", "password", "secret", "key"))}
    # The last one binds an order to its preview, and lets nobody in.
    assert secretive == {"--token-file", "--http-token-file", "--tls-key", "--preview-token"}
    assert "canary-" not in said.command
