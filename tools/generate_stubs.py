"""Generates the committed stubs and errors.json from proto/. `make proto` runs it; a test compares its output.

The contract imports nothing but google/protobuf, and its path is its Python package, so what protoc writes is used as
it is. Usage: generate_stubs.py [OUTPUT_ROOT], by default clients/python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"

# In a FileDescriptorProto's source info, enums are field 5 of a file and values field 2 of an enum.
_ENUM, _VALUE = 5, 2


def generate(output: Path) -> None:
    """Write every generated file below `output`."""
    package = output / "ibkr_gateway" / "v1"
    package.mkdir(parents=True, exist_ok=True)
    protos = _protos()
    services = [path for path in protos if path.endswith("_service.proto")]
    _protoc(protos, f"--python_out={output}", f"--mypy_out=quiet:{output}")
    _protoc(services, f"--grpc_python_out={output}", f"--mypy_grpc_out=quiet:{output}")
    (package / "__init__.py").write_text('"""Generated from proto/ibkr_gateway/v1; `make proto` writes it again."""\n')
    errors = json.dumps(error_reasons(), indent=2) + "\n"
    (output / "ibkr_gateway" / "errors.json").write_text(errors)


def error_reasons() -> list[dict[str, Any]]:
    """Every error reason with its number, gRPC status, description and example, from the contract's comments."""
    (file,) = described("ibkr_gateway/v1/error_reason.proto")
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    values = enumerate(file.enum_type[0].value)
    return [
        _reason(value.name, value.number, comments[_ENUM, 0, _VALUE, index]) for index, value in values if value.number
    ]


def described(*protos: str) -> list[FileDescriptorProto]:
    """Files of the contract with their comments, which stubs have not; without names all, by name."""
    names = protos or tuple(_protos())
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.pb"
        _protoc(list(names), f"--descriptor_set_out={image}", "--include_source_info")
        files = FileDescriptorSet.FromString(image.read_bytes()).file
    return sorted((file for file in files if file.name in names), key=lambda file: file.name)


def _reason(name: str, number: int, comment: str) -> dict[str, Any]:
    """A comment is sentences, then a line "Status: NAME." and a line "Example: {json}"."""
    text, _, example = comment.partition("Example:")
    description, _, status = text.partition("Status:")
    return {
        "reason": name.removeprefix("ERROR_REASON_"),
        "number": number,
        "status": status.strip().rstrip("."),
        "description": re.sub(r"\s+", " ", description).strip(),
        "example": json.loads(example),
    }


def _protos() -> list[str]:
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def _protoc(protos: list[str], *options: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", *options, *protos]
    # mypy-protobuf's plugins are scripts beside the interpreter.
    subprocess.run(command, check=True, env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "clients" / "python")
