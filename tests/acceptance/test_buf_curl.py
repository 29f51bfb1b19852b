"""buf curl by reflection, as someone without any file of ours would use the server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BUF = Path(sys.executable).parent / "buf"
PACKAGE = "ibkr_gateway.v1"
AAPL = {"symbol": "AAPL", "security_type": "SECURITY_TYPE_STK"}


def buf_curl(address: str, *arguments: str, rpc: str = "", timeout: int = 30) -> subprocess.CompletedProcess[str]:
    command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, f"http://{address}{rpc}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
def test_reflection_lists_every_service_in_both_versions(server: str, version: str) -> None:
    done = buf_curl(server, "--reflect-protocol", version, "--list-services")
    names = done.stdout.split()
    for name in ("MarketData", "ReferenceData", "Account", "Orders", "Gateway", "Audit", "Simulation"):
        assert f"{PACKAGE}.{name}Service" in names


def test_methods_are_listed(server: str) -> None:
    assert f"{PACKAGE}.OrdersService/PlaceOrder" in buf_curl(server, "--list-methods").stdout


def test_get_quote_answers_json(server: str) -> None:
    done = buf_curl(server, "-d", json.dumps({"instrument": AAPL}), rpc=f"/{PACKAGE}.MarketDataService/GetQuote")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["quote"]["instrument"]["symbol"] == "AAPL"


def test_stream_quotes_answers_one_document_a_message(server: str) -> None:
    request = json.dumps({"instruments": [AAPL]})
    command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", request]
    command.append(f"http://{server}/{PACKAGE}.MarketDataService/StreamQuotes")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        decoder, text, messages = json.JSONDecoder(), "", []
        while len(messages) < 3:
            text += process.stdout.readline()
            try:
                message, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            messages.append(message)
            text = text[end:].lstrip()
        process.terminate()
    kinds = [kind for message in messages for event in message["events"] for kind in event]
    assert "quote" in kinds


def test_an_error_has_its_code_and_words(server: str) -> None:
    request = json.dumps({"instrument": {**AAPL, "symbol": "AAPLL"}})
    done = buf_curl(server, "-d", request, rpc=f"/{PACKAGE}.MarketDataService/GetQuote")
    assert done.returncode == 8 * 5
    assert json.loads(done.stderr)["code"] == "not_found"
