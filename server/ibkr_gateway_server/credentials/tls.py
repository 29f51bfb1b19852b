"""The server's certificate: whether clients would accept it, found out by being one for a moment."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

# OpenSSL's numbers for a certificate whose time has not come, or is over. Source: openssl/x509_vfy.h.
_OUT_OF_TIME = {9: "is not valid yet", 10: "has expired"}


class TlsUnfit(ValueError):
    """A certificate or a key cannot be served with; `setting` names the file, `problem` says what is allowed."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What the server shows, and from whom it wants to be shown something.

    `client_ca` None: clients need no certificate. `expire_time` is when clients begin to refuse the server.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    expire_time: datetime


def load_tls(cert_file: Path, key_file: Path, client_ca_file: Path | None = None) -> ServerTls:
    """Read the files, and have a client accept them. Raises TlsUnfit."""
    certificate = _read("TLS_CERT_FILE", cert_file)
    key = _read("TLS_KEY_FILE", key_file)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a passphrase must fail here: nobody is there to type it.
        server.load_cert_chain(cert_file, key_file, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise TlsUnfit("TLS_KEY_FILE", "must be the key of the certificate in TLS_CERT_FILE") from None
        problem = (
            "and TLS_KEY_FILE must be PEM: the certificate, those that signed it, and its key without a passphrase"
        )
        raise TlsUnfit("TLS_CERT_FILE", problem) from None
    expire_time = _expiry_as_a_client_sees_it(server, certificate)
    client_ca = None if client_ca_file is None else _client_ca(client_ca_file)
    return ServerTls(certificate, key, client_ca, expire_time)


def _expiry_as_a_client_sees_it(server: ssl.SSLContext, certificate: bytes) -> datetime:
    """Shake hands in memory with a client that trusts this very certificate. Raises TlsUnfit when it does not."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=certificate.decode("ascii"))
        found = _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        problem = _OUT_OF_TIME.get(error.verify_code, "is refused by clients")
        raise TlsUnfit("TLS_CERT_FILE", f"its certificate {problem}; a valid one is needed") from None
    except (ssl.SSLError, UnicodeDecodeError):
        raise TlsUnfit("TLS_CERT_FILE", "must be a certificate that a server may show, in PEM") from None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(found), UTC)


def _handshake(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> str:
    """Returns until when the server's certificate is valid. Raises ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):  # TLS 1.3 needs two rounds, 1.2 three
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert()
    assert shown
    return str(shown["notAfter"])


def _client_ca(path: Path) -> bytes:
    """The certificates that sign those of clients. Raises TlsUnfit when there is none, or one that has expired."""
    text = _read("TLS_CLIENT_CA_FILE", path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        raise TlsUnfit("TLS_CLIENT_CA_FILE", "must be the PEM of certificates that sign those of clients") from None
    authorities = context.get_ca_certs()
    if not authorities:
        raise TlsUnfit("TLS_CLIENT_CA_FILE", "must have a certificate that may sign those of clients (CA: true)")
    now = datetime.now(UTC).timestamp()
    if any(ssl.cert_time_to_seconds(str(each["notAfter"])) <= now for each in authorities):
        raise TlsUnfit("TLS_CLIENT_CA_FILE", "one of its certificates has expired; valid ones are needed")
    return text


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise TlsUnfit(setting, "must name a file that can be read") from None


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
