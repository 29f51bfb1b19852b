"""Write docs/api.md: every service, RPC, message and enum, from the comments of proto/.

`make docs` runs it. `--check` writes nothing: it fails when the page is not what the contract says today. What a
comment cannot know comes from the code: the scope that is asked for, and whether this version serves the RPC.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from ibkr_gateway_server.rpc.scopes import SCOPES

from tools.generate_stubs import described

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
PACKAGE = "ibkr_gateway.v1"

# In a FileDescriptorProto's source info: where each kind of thing is in a file, and its parts in it.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
METHODS = FIELDS = VALUES = 2

# The modules that serve a service, by its name; a method of the RPC's name serves it.
SERVICERS = {
    "AccountService": "account",
    "AuditService": "audit",
    "GatewayService": "gateway",
    "MarketDataService": "market_data",
    "OrdersService": "orders",
    "ReferenceDataService": "reference_data",
    "SimulationService": "simulation",
}

HEAD = """# The contract

Written by `make docs` from the comments in [`proto/ibkr_gateway/v1`](../proto/ibkr_gateway/v1); a test checks it.

> **⚠️ Safety.** A server that is started without settings connects to a **paper** account and sends **no orders**.
>
> - `PreviewOrder` is always safe: IBKR computes what the order would do, or the gateway estimates it and says so.
>   Nothing is sent that could trade.
> - `PlaceOrder` is safe by default: with `ORDERS_ENABLED=false` it records the order and answers the state `SIMULATED`
>   (`is_simulated` is true), and **not one byte of it has left the gateway**. `require_transmit` makes that an error,
>   `TRADING_DISABLED`, for callers who must know. With `ORDERS_ENABLED=true` it sends a real order to the account that
>   TWS is logged in to.
> - `SIMULATED` is not the simulator. A gateway with `IBKR_MODE=simulation` sends orders to the simulator that comes
>   with it, which fills them; every answer of it carries `x-simulation: true` in its initial metadata.
> - An error of ours for PlaceOrder, ModifyOrder or CancelOrder means that nothing was sent. An error without our
>   `ErrorInfo` says nothing: repeat the same `client_order_id`, or call GetOrder.
>
> How orders behave: [orders.md](orders.md). Before live orders: [safety-checklist.md](safety-checklist.md).

The package is `ibkr_gateway.v1`. Every RPC takes the metadata `authorization: Bearer TOKEN` where the server has
tokens, and `x-correlation-id` (or `x-request-id`), an id of yours that log lines and the record carry; the answer has
it in its trailing metadata, a stream in its initial. Errors are gRPC statuses with `google.rpc.ErrorInfo`; what each
reason means and what to do is in [troubleshooting.md](troubleshooting.md). An RPC marked *not served yet* answers
`NOT_IMPLEMENTED`.
"""


@dataclass(slots=True)
class Reference:
    """The files of the contract, with their comments by where they stand."""

    files: list[FileDescriptorProto]
    comments: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file in self.files:
            for place in file.source_code_info.location:
                if place.leading_comments:
                    self.comments[file.name, tuple(place.path)] = place.leading_comments

    def comment(self, file: FileDescriptorProto, *path: int) -> str:
        """What stands above something; its paragraphs, each on one line. Raises KeyError: buf asks for comments."""
        paragraphs = re.split(r"\n[ \t]*\n", self.comments[file.name, path].strip())
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    def page(self) -> str:
        """The whole page."""
        parts = [HEAD, *self._contents()]
        for file in self.files:
            for index, service in enumerate(file.service):
                parts += self._service(file, index, service)
        parts.append("## Messages\n")
        for file, index in sorted(self._places("message_type"), key=lambda at: at[0].message_type[at[1]].name):
            parts += self._message(file, index, file.message_type[index])
        parts.append("## Enums\n")
        for file, index in sorted(self._places("enum_type"), key=lambda at: at[0].enum_type[at[1]].name):
            parts += self._enum(file, index, file.enum_type[index])
        return "\n".join(parts).rstrip() + "\n"

    def _places(self, kind: str) -> Iterator[tuple[FileDescriptorProto, int]]:
        for file in self.files:
            yield from ((file, index) for index in range(len(getattr(file, kind))))

    def _contents(self) -> Iterator[str]:
        yield "| service | RPCs |\n|---|---|"
        for file in self.files:
            for service in file.service:
                methods = ", ".join(f"[{method.name}](#{method.name.lower()})" for method in service.method)
                yield f"| [{service.name}](#{service.name.lower()}) | {methods} |"
        yield ""

    def _service(self, file: FileDescriptorProto, index: int, service: ServiceDescriptorProto) -> Iterator[str]:
        yield f"## {service.name}\n\n{self.comment(file, SERVICES, index)}\n"
        for number, method in enumerate(service.method):
            yield from self._method(service.name, method, self.comment(file, SERVICES, index, METHODS, number))

    def _method(self, service: str, method: MethodDescriptorProto, comment: str) -> Iterator[str]:
        scope = SCOPES[f"/{PACKAGE}.{service}/{method.name}"]
        facts = [kind_of(method), f"scope `{scope}`" if scope else "needs no token"]
        facts += [] if is_served(service, method.name) else ["**not served yet**"]
        text, *rest = re.split(r"\b(Reasons(?: besides)?: )", comment, maxsplit=1)
        yield f"### {method.name}\n"
        yield f"{_link(method.input_type)} → {_link(method.output_type)}: {', '.join(facts)}.\n"
        yield f"{text.strip()}\n"
        if rest:
            yield f"{''.join(rest)}\n"

    def _message(self, file: FileDescriptorProto, index: int, message: DescriptorProto) -> Iterator[str]:
        yield f"### {message.name}\n\n{self.comment(file, MESSAGES, index)}\n"
        if not message.field:
            return
        yield "| field | type | meaning |\n|---|---|---|"
        maps = {f".{PACKAGE}.{message.name}.{nested.name}": nested for nested in message.nested_type}
        for number, each in enumerate(message.field):
            meaning = _cell(self.comment(file, MESSAGES, index, FIELDS, number))
            if each.HasField("oneof_index") and not each.proto3_optional:
                meaning = f"*One of `{message.oneof_decl[each.oneof_index].name}`.* {meaning}"
            yield f"| `{each.name}` | {_type(each, maps)} | {meaning} |"
        yield ""

    def _enum(self, file: FileDescriptorProto, index: int, enum: EnumDescriptorProto) -> Iterator[str]:
        yield f"### {enum.name}\n\n{self.comment(file, ENUMS, index)}\n"
        yield "| value | number | meaning |\n|---|---|---|"
        for number, value in enumerate(enum.value):
            meaning = self.comment(file, ENUMS, index, VALUES, number).partition("Example:")[0]
            yield f"| `{value.name}` | {value.number} | {_cell(meaning)} |"
        yield ""


def kind_of(method: MethodDescriptorProto) -> str:
    """In which direction messages flow."""
    if method.client_streaming:
        return "bidirectional stream"
    return "server stream" if method.server_streaming else "unary"


def is_served(service: str, rpc: str) -> bool:
    """Whether this version of the server has a method for the RPC."""
    module = import_module(f"ibkr_gateway_server.rpc.{SERVICERS[service]}")
    return hasattr(getattr(module, f"{service.removesuffix('Service')}Servicer"), rpc)


def short(name: str) -> str:
    """A type's name without its package, where that is ours."""
    return name.removeprefix(".").removeprefix(f"{PACKAGE}.")


def _link(name: str) -> str:
    if not name.startswith(f".{PACKAGE}."):
        return f"`{short(name)}`"
    return f"[`{short(name)}`](#{short(name).lower()})"


def _type(each: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    if (entry := maps.get(each.type_name)) is not None:
        key, value = (_type(part, {}) for part in entry.field)
        return f"map of {key} to {value}"
    plain = FieldDescriptorProto.Type.Name(each.type).removeprefix("TYPE_").lower()
    name = _link(each.type_name) if each.type_name else f"`{plain}`"
    if each.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if each.proto3_optional else name


def _cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def reference(files: Iterable[FileDescriptorProto] | None = None) -> Reference:
    """The reference of the contract as it is now."""
    return Reference(list(files or described()))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is out of date")
    text = reference().page()
    if not parser.parse_args(arguments).check:
        PAGE.write_text(text)
    if PAGE.read_text() != text:
        print("docs/api.md is not what proto/ says; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
