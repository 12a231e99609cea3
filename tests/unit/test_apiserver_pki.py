"""Certificates: made once, reused, renewed when they no longer fit."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podling.apiserver import authentication, pki
from podling.apiserver.pki import PKI, PKIError


def _ensure(directory: Path, *, node: str = "n1", addresses: tuple[str, ...] = ("192.0.2.7",)) -> PKI:
    return pki.ensure(
        directory, node_name=node, addresses=addresses, service_address="10.96.0.1", cluster_domain="cluster.local"
    )


def _cert(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _usages(path: Path) -> set[x509.ObjectIdentifier]:
    return set(_cert(path).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_every_file_is_private_and_there(tmp_path: Path) -> None:
    _ensure(tmp_path / "pki")
    names = {"ca", "apiserver", "admin", "kubelet", "apiserver-kubelet-client"}
    expected = {f"{name}.{end}" for name in names for end in ("crt", "key")} | {"sa.key", "sa.pub"}
    assert {path.name for path in (tmp_path / "pki").iterdir()} == expected
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "pki").iterdir()} == {0o600}


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    _ensure(tmp_path)
    before = _contents(tmp_path)
    _ensure(tmp_path)
    assert _contents(tmp_path) == before


def test_a_new_address_renews_the_serving_certificates_only(tmp_path: Path) -> None:
    _ensure(tmp_path)
    before = _contents(tmp_path)
    _ensure(tmp_path, addresses=("192.0.2.7", "192.0.2.8"))
    changed = {name for name, content in _contents(tmp_path).items() if content != before[name]}
    assert changed == {"apiserver.crt", "apiserver.key", "kubelet.crt", "kubelet.key"}
    again = _contents(tmp_path)
    _ensure(tmp_path)  # fewer addresses are no reason
    assert _contents(tmp_path) == again


def test_certificates_say_who_and_where(tmp_path: Path) -> None:
    made = _ensure(tmp_path)
    server = _cert(made.apiserver.cert)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        *("localhost", "n1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
        "kubernetes.default.svc.cluster.local",
    }
    addresses = {ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", "192.0.2.7", "10.96.0.1")}
    assert set(names.get_values_for_type(x509.IPAddress)) == addresses
    kubelet = _cert(made.kubelet.cert)
    assert kubelet.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:n1"
    assert kubelet.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    assert _usages(made.kubelet.cert) == {ExtendedKeyUsageOID.SERVER_AUTH}
    for pair in (made.apiserver, made.admin, made.kubelet, made.kubelet_client):
        _cert(pair.cert).verify_directly_issued_by(_cert(made.ca.cert))


def test_a_pair_cut_short_is_made_anew(tmp_path: Path) -> None:
    made = _ensure(tmp_path)
    made.admin.cert.unlink()
    made.apiserver.key.write_bytes(made.kubelet.key.read_bytes())
    made.kubelet.cert.write_bytes(b"")
    authority = made.ca.cert.read_bytes()
    _ensure(tmp_path)
    for pair in (made.admin, made.apiserver, made.kubelet):
        _cert(pair.cert).verify_directly_issued_by(_cert(made.ca.cert))
    assert made.ca.cert.read_bytes() == authority


def test_an_authority_without_its_key_is_an_error(tmp_path: Path) -> None:
    made = _ensure(tmp_path)
    made.ca.key.unlink()
    with pytest.raises(PKIError, match=r"ca\.crt exists, but its key"):
        _ensure(tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ca.crt", "a certificate in PEM"),
        ("ca.key", "a private key in PEM without a password"),
        ("sa.key", "a private key in PEM without a password"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\xff", b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"])
def test_a_damaged_file_of_the_authority_is_named(tmp_path: Path, name: str, what: str, content: bytes) -> None:
    _ensure(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PKIError) as caught:
        _ensure(tmp_path)
    assert str(caught.value) == f"{tmp_path / name} is not {what}; restore it from a copy"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff,a,b", " is not a token file: it is not UTF-8 text: it holds the byte 0xff"),
        (b"a,b\n", ":1: token, user and uid expected"),
        (b'a,b,"' + b"x" * 200_000, " is not a token file: field larger than field limit (131072)"),
    ],
)
def test_a_wrong_token_file_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "tokens.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="tokens") as caught:
        authentication.load_static_tokens(path)
    assert str(caught.value) == f"{path}{text}"


def test_a_renamed_node_gets_its_own_certificate(tmp_path: Path) -> None:
    made = _ensure(tmp_path)
    _ensure(tmp_path, node="n2")
    assert _cert(made.kubelet.cert).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:n2"


def test_a_certificate_for_more_than_it_needs_is_replaced_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Former versions gave the kubelet one certificate for both of its sides."""
    with monkeypatch.context() as former:
        former.setattr(pki, "SERVER", ExtendedKeyUsageOID.CLIENT_AUTH)
        made = _ensure(tmp_path)
    assert _usages(made.kubelet.cert) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    before = _contents(tmp_path)
    _ensure(tmp_path)
    assert _usages(made.kubelet.cert) == {ExtendedKeyUsageOID.SERVER_AUTH}
    changed = {name for name, content in _contents(tmp_path).items() if content != before[name]}
    assert changed == {"apiserver.crt", "apiserver.key", "kubelet.crt", "kubelet.key"}
    assert _cert(made.kubelet.cert).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:n1"
