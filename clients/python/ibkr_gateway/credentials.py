"""What a caller shows a gateway, and what it wants to be shown: tokens and certificates, and where they may go."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc

# A server accepts none that is shorter or longer.
LEAST_CHARACTERS = 32
MOST_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS: whom to trust, and who one is.

    `ca_file`: the certificates that sign the server's, PEM; None: those that gRPC comes with. `cert_file` and
    `key_file`: one's own certificate and its key, for a server that asks for one. `server_name`: the name in the
    server's certificate, where it is not the one it is reached by.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel. Raises ValueError when only one of `cert_file` and `key_file` is given, OSError."""
        if (self.cert_file is None) is not (self.key_file is None):
            raise ValueError("one's own certificate needs its key, and the key its certificate")
        ca, key, certificate = (
            None if path is None else Path(path).read_bytes() for path in (self.ca_file, self.key_file, self.cert_file)
        )
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def read_token(path: str | os.PathLike[str]) -> str:
    """The token in a file. Raises ValueError when others can read the file, or it holds no token; OSError."""
    file = Path(path)
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"others can read {file}: chmod 600 it, and have a new token issued if they may have")
    token = file.read_text("ascii", "replace").strip()
    check_token(token)
    return token


def check_token(token: str) -> None:
    """Raises ValueError, which repeats nothing of it, when this cannot be a token."""
    fits = LEAST_CHARACTERS <= len(token) <= MOST_CHARACTERS
    if not fits or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"a token is {LEAST_CHARACTERS} to {MOST_CHARACTERS} printable characters of ASCII, no blanks")


def stays_on_this_machine(target: str) -> bool:
    """Whether what is sent to a target in plain text never leaves this machine; False when that is not sure."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("ipv4:", "ipv6:", "dns:///", "dns:"):
        target = target.removeprefix(scheme)
    return all(is_loopback(_host(each)) for each in target.split(","))


def _host(address: str) -> str:
    return address[1:].partition("]")[0] if address.startswith("[") else address.rpartition(":")[0] or address


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a host by this name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
