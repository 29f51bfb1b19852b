"""Where a token may go, and which files it may come from."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from ibkr_gateway import Tls, connect_sync
from ibkr_gateway.credentials import read_token, stays_on_this_machine

from tests.certificates import Authority

TOKEN = "t" * 43


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "localhost:50051",
        "localhost",
        "127.8.8.8",
        "[::1]:50051",
        "unix:/run/gateway.sock",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:50051",
        "dns:///localhost:50051",
    ],
)
def test_a_token_goes_to_this_machine_in_plain_text(target: str) -> None:
    assert stays_on_this_machine(target)
    connect_sync(target, token=TOKEN).channel.close()


@pytest.mark.parametrize(
    "target",
    [
        "192.0.2.1:50051",
        "gateway.example:50051",
        "localhost.example:50051",
        "ipv4:127.0.0.1:1,192.0.2.1:2",
        "dns://192.0.2.1/localhost:50051",
        "[2001:db8::1]:50051",
        "::1",
        "",
    ],
)
def test_a_token_goes_to_no_other_machine_without_tls(target: str) -> None:
    assert not stays_on_this_machine(target)
    with pytest.raises(ValueError, match="plain text") as refused:
        connect_sync(target, token=TOKEN)
    assert TOKEN not in str(refused.value)
    connect_sync(target).channel.close()


def test_with_tls_a_token_goes_anywhere(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    connect_sync("192.0.2.1:50051", token=TOKEN, tls=Tls(authority.file)).channel.close()
    connect_sync("192.0.2.1:50051", token=TOKEN, tls=True).channel.close()


def test_a_token_is_read_from_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    file.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        read_token(file)
    with pytest.raises(FileNotFoundError):
        read_token(tmp_path / "missing")


@pytest.mark.parametrize("text", ["", "short", "t" * 31, "t" * 257, "t" * 20 + " " + "t" * 20, "ü" * 40, "t\n" * 20])
def test_what_can_be_no_token_is_not_shown_to_anybody(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(text)
    with pytest.raises(ValueError, match="a token is 32 to 256") as refused:
        connect_sync(token_file=file)
    assert not text or text not in str(refused.value)


def test_a_token_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        connect_sync(token=TOKEN, token_file=tmp_path / "token")


def test_a_certificate_of_ones_own_needs_its_key(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("client")
    for half in (Tls(cert_file=identity.cert), Tls(key_file=identity.key)):
        with pytest.raises(ValueError, match="needs its key"):
            half.credentials()
    assert isinstance(Tls(None, identity.cert, identity.key).credentials(), grpc.ChannelCredentials)
