"""The cluster's public key infrastructure: one certificate authority, the certificates it issues, the service-account key.

Files (PEM, mode 0600) in <data-dir>/pki; layout as kubeadm's: ca, apiserver, admin, kubelet, apiserver-kubelet-client
(.crt and .key each), sa.key and sa.pub. Keys are EC P-256. What exists and still serves its purpose is reused.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from podling.kit import file_error

log = logging.getLogger(__name__)

_VALID = timedelta(days=3650)
_RENEW_BEFORE = timedelta(days=90)
_CLOCK_SKEW = timedelta(minutes=5)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


class PKIError(Exception):
    """The files in the directory contradict each other in a way that only a person can settle."""


class KeyPair(Struct, frozen=True):
    """Paths of a certificate and of its private key."""

    cert: Path
    key: Path


class PKI(Struct, frozen=True):
    directory: Path

    def pair(self, name: str) -> KeyPair:
        return KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    @property
    def ca(self) -> KeyPair:
        return self.pair("ca")

    @property
    def apiserver(self) -> KeyPair:
        """Serving certificate of the API server."""
        return self.pair("apiserver")

    @property
    def admin(self) -> KeyPair:
        """Client certificate of kubernetes-admin, in group system:masters."""
        return self.pair("admin")

    @property
    def kubelet(self) -> KeyPair:
        """Serving certificate of this machine's kubelet, which is a client by its unix socket."""
        return self.pair("kubelet")

    @property
    def kubelet_client(self) -> KeyPair:
        """Client certificate with which the API server calls kubelets."""
        return self.pair("apiserver-kubelet-client")

    @property
    def service_account_key(self) -> Path:
        """Private key that signs service-account tokens."""
        return self.directory / "sa.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.directory / "sa.pub"


class _Request(Struct, frozen=True):
    """What a leaf certificate must say."""

    name: str
    common_name: str
    organization: str = ""
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)


def ensure(
    directory: Path, *, node_name: str, addresses: Sequence[str], service_address: str, cluster_domain: str
) -> PKI:
    """Makes what is missing and renews what no longer fits (names, addresses, usages, issuer, under 90 days left).

    addresses: IP addresses of this machine. service_address: cluster IP of the Service "kubernetes".
    Raises PKIError, OSError. Blocking: call it in a thread.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    pki = PKI(directory)
    ca_cert, ca_key = _ensure_ca(pki.ca)
    machine = tuple(dict.fromkeys(["127.0.0.1", "::1", *addresses]))
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{cluster_domain}")
    for request in (
        _Request(
            "apiserver",
            "kube-apiserver",
            dns_names=("localhost", node_name, *service),
            addresses=(*machine, service_address),
            usages=(SERVER,),
        ),
        _Request("admin", "kubernetes-admin", "system:masters"),
        _Request(
            "kubelet",
            f"system:node:{node_name}",
            "system:nodes",
            dns_names=("localhost", node_name),
            addresses=machine,
            usages=(SERVER,),
        ),
        _Request("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    ):
        _ensure_leaf(pki.pair(request.name), request, ca_cert, ca_key)
    _ensure_service_account_key(pki)
    return pki


def write_private(path: Path, data: bytes) -> None:
    """Replaces the file atomically and durably, readable by its owner only."""
    _replace({path: data})


def _replace(files: dict[Path, bytes]) -> None:
    """All of them, in their order, or (on a full disk, say) none."""
    temporary: dict[Path, str] = {}
    try:
        for path, data in files.items():
            descriptor, temporary[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            os.replace(temporary[path], path)
            del temporary[path]
    finally:
        for name in temporary.values():
            os.unlink(name)


def _ensure_ca(pair: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if pair.cert.exists():
        if not pair.key.exists():
            raise PKIError(f"{pair.cert} exists, but its key {pair.key} does not")
        cert, key = _load_cert(pair.cert), _load_key(pair.key)
        if cert.public_key() != key.public_key():
            raise PKIError(f"{pair.key} is not the key of {pair.cert}")
        return cert, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    cert = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(pair, cert, key)
    return cert, key


def _ensure_leaf(
    pair: KeyPair, request: _Request, ca_cert: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> None:
    if pair.cert.exists() and pair.key.exists() and _serves(pair, request, ca_cert):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, request.common_name)]
    if request.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, request.organization))
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        _builder(x509.Name(attributes), ca_cert.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(request.usages)), critical=False)
        .add_extension(authority, critical=False)
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in request.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in request.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    try:
        _write_pair(pair, builder.sign(ca_key, hashes.SHA256()), key)
    except OSError as error:
        if not (pair.cert.exists() and pair.key.exists()):
            raise
        # It may lack a new address of the machine. On a full disk that is better than no server at all.
        log.warning("%s cannot be renewed, the old one is used: %s", pair.cert, file_error.reason(error))


def _serves(pair: KeyPair, request: _Request, ca_cert: x509.Certificate) -> bool:
    """Whether the certificate on disk is one that `request` would give, though it may name more addresses."""
    try:
        cert, key = _load_cert(pair.cert), _load_key(pair.key)
        cert.verify_directly_issued_by(ca_cert)
    except (ValueError, PKIError, InvalidSignature):
        return False
    if cert.public_key() != key.public_key() or cert.not_valid_after_utc - datetime.now(UTC) < _RENEW_BEFORE:
        return False
    names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [request.common_name] or _usages(cert) != set(request.usages):
        return False
    if not request.dns_names and not request.addresses:
        return True
    try:
        alternative = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    dns = set(alternative.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in alternative.get_values_for_type(x509.IPAddress)}
    wanted = {str(ipaddress.ip_address(address)) for address in request.addresses}
    return dns >= set(request.dns_names) and addresses >= wanted


def _usages(cert: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()


def _ensure_service_account_key(pki: PKI) -> None:
    path = pki.service_account_key
    if path.exists():
        key = _load_key(path)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(path, _private_pem(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if not pki.service_account_public_key.exists() or pki.service_account_public_key.read_bytes() != public:
        write_private(pki.service_account_public_key, public)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(pair: KeyPair, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    # The certificate last: a pair cut short by a crash has no certificate or one of another key, and is made anew.
    _replace({pair.key: _private_pem(key), pair.cert: cert.public_bytes(serialization.Encoding.PEM)})


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_cert(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise PKIError(f"{path} is not a certificate in PEM; restore it from a copy") from None


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        raise PKIError(f"{path} is not a private key in PEM without a password; restore it from a copy") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PKIError(f"{path} is not an EC private key")
    return key
