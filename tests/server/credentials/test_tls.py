"""The server's certificate: what no client would accept is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from ibkr_gateway_server.credentials.tls import TlsUnfit, load_tls

from tests.certificates import Authority


def test_a_certificate_and_its_key_are_read_with_the_time_it_ends(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("server", valid_for=timedelta(hours=5))
    tls = load_tls(identity.cert, identity.key, authority.file)
    assert tls.certificate == identity.cert.read_bytes()
    assert tls.key == identity.key.read_bytes()
    assert tls.client_ca == authority.file.read_bytes()
    assert abs(tls.expire_time - datetime.now(UTC) - timedelta(hours=5)) < timedelta(minutes=1)


def test_a_chain_of_certificates_is_one_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("server")
    identity.cert.write_bytes(identity.cert.read_bytes() + authority.file.read_bytes())
    assert load_tls(identity.cert, identity.key).client_ca is None


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with pytest.raises(TlsUnfit, match="TLS_KEY_FILE: must be the key of the certificate"):
        load_tls(authority.issue("server").cert, authority.issue("other").key)


@pytest.mark.parametrize(
    ("valid_for", "said"), [(timedelta(seconds=-1), "has expired"), (timedelta(days=-2), "expired")]
)
def test_an_expired_certificate_is_refused(tmp_path: Path, valid_for: timedelta, said: str) -> None:
    identity = Authority(tmp_path).issue("server", valid_for=valid_for)
    with pytest.raises(TlsUnfit, match=said):
        load_tls(identity.cert, identity.key)


def test_a_key_with_a_passphrase_is_refused_at_once(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("server")
    key = serialization.load_pem_private_key(identity.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    identity.key.write_bytes(key.private_bytes(encoding, form, locked))
    with pytest.raises(TlsUnfit, match="without a passphrase"):
        load_tls(identity.cert, identity.key)


@pytest.mark.parametrize("content", [b"", b"no certificate", "ungültig".encode()])
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    identity = Authority(tmp_path).issue("server")
    identity.cert.write_bytes(content)
    with pytest.raises(TlsUnfit, match=r"TLS_CERT_FILE: .*PEM"):
        load_tls(identity.cert, identity.key)


def test_clients_need_an_authority_that_may_sign_and_has_not_expired(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server")
    with pytest.raises(TlsUnfit, match="TLS_CLIENT_CA_FILE: must have a certificate that may sign"):
        load_tls(server.cert, server.key, server.cert)
    with pytest.raises(TlsUnfit, match="TLS_CLIENT_CA_FILE: must name a file"):
        load_tls(server.cert, server.key, tmp_path / "missing.pem")
    (tmp_path / "noise.pem").write_bytes(b"noise")
    with pytest.raises(TlsUnfit, match="TLS_CLIENT_CA_FILE: must be the PEM"):
        load_tls(server.cert, server.key, tmp_path / "noise.pem")
