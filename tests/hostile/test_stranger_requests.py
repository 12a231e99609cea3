"""What strangers send: broken TLS, broken HTTP, and good HTTP that they have no right to. They get a refusal or nothing,
the administrator is still served, and the log tells no stories about it."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import socket
import ssl
import time
import warnings
from pathlib import Path

import jwt
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.support.certificates import certificate
from tests.support.cluster import Cluster
from tests.support.stranger import PORTS, Port, code

from podling.apiserver.pki import KeyPair


@pytest.fixture(params=PORTS)
def port(request: pytest.FixtureRequest, cluster: Cluster) -> Port:
    return Port(cluster, request.param)


@pytest.fixture(params=["nobody", "without rights"])
def client(request: pytest.FixtureRequest, port: Port, tmp_path: Path) -> KeyPair | None:
    """Without credentials, or with a certificate of the cluster that gives no rights."""
    return None if request.param == "nobody" else certificate(tmp_path, port.pki.ca, organization="")


TARGETS = {"server": "/api/v1/namespaces/kube-system/secrets", "agent": "/pods"}
LOG = {"server": "/api/v1/namespaces/default/pods/a/log", "agent": "/containerLogs/default/a/main"}
REFUSED = (0, 400, 401, 403, 404, 405, 413, 415, 431)
"""0: closed without an answer. The agent hears nobody without a certificate."""


def head(method: str, path: str, *headers: str) -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]) + "\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *((method, "{target}") for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")),
        *((method, "{target}") for method in ("CONNECT", "PROPFIND", "SECRET", "get", "G\u00e9T")),
        ("GET", "{log}"),
        ("GET", "{target}/../../../../../healthz/../api/v1/secrets"),
        ("GET", "/healthz/../api/v1/secrets"),
        ("GET", "/healthz/%2e%2e/api/v1/secrets"),
        ("GET", "/healthz%2f..%2fapi/v1/secrets"),
        ("GET", "//api/v1/secrets"),
        ("GET", "/./api/v1/secrets"),
        ("GET", "/version/../../pods"),
        ("GET", "/../../../../etc/shadow"),
        ("GET", "/containerLogs/default/a/..%2f..%2f..%2fetc%2fshadow"),
        ("GET", "/containerLogs/../../etc/shadow"),
        ("GET", "https://other.example{target}"),
        ("GET", "{target}?watch=1&timeoutSeconds=999999999"),
        ("GET", "{target}?limit=-1&continue=x&labelSelector=%00"),
        ("GET", "{target}#/healthz"),
        ("GET", "*"),
        ("POST", "/api/v1/namespaces/default/pods/a/exec?command=sh"),
        ("POST", "/exec/default/a/main?command=sh&input=1"),
        ("POST", "/run/default/a/main?cmd=id"),
        ("GET", "/debug/pprof/heap"),
        ("GET", "/logs/"),
        ("GET", "/metrics"),
        ("GET", "/configz"),
    ],
)
def test_nothing_is_done_without_rights(port: Port, client: KeyPair | None, method: str, path: str) -> None:
    path = path.format(target=TARGETS[port.name], log=LOG[port.name])
    answer = port.answer(head(method, path, "Content-Length: 2").encode() + b"{}", client)
    assert code(answer) in REFUSED
    assert b"kind: Secret" not in answer
    assert b'"items"' not in answer
    assert port.serves_the_administrator()


@pytest.mark.parametrize(
    "headers",
    [
        ("Authorization: Bearer",),
        ("Authorization: Bearer x",),
        ("Authorization: Basic YWRtaW46YWRtaW4=",),
        ("Authorization: Bearer " + "x" * 60_000,),
        ("Authorization: Bearer a", "Authorization: Bearer b"),
        ("Impersonate-User: kubernetes-admin", "Impersonate-Group: system:masters"),
        ("X-Remote-User: kubernetes-admin", "X-Remote-Group: system:masters"),
        ("X-Forwarded-For: 127.0.0.1", "X-Real-Ip: 127.0.0.1", "Forwarded: for=127.0.0.1"),
        ("X-Original-Url: /healthz", "X-Rewrite-Url: /healthz"),
        ("X-Http-Method-Override: GET",),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"),
        ("Connection: Upgrade", "Upgrade: SPDY/3.1"),
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        ("Expect: 100-continue", "Content-Length: 1000000"),
        ("Expect: 200-ok",),
        ("Range: bytes=0-", "If-Match: *"),
        ("Accept: application/json;as=Table;g=meta.k8s.io;v=v1;q=" + "9" * 5000,),
        tuple(f"X-{number}: y" for number in range(5000)),
        ("X: " + "y" * (1 << 20),),
        ("Host: a", "Host: b"),
        ("Cookie: a=" + "b" * 50_000,),
    ],
    ids=lambda headers: headers[0][:40],
)
def test_no_header_gives_rights(port: Port, client: KeyPair | None, headers: tuple[str, ...]) -> None:
    answer = port.answer(head("GET", TARGETS[port.name], *headers).encode(), client)
    assert code(answer) in REFUSED
    assert b"101 Switching" not in answer
    assert b"100 Continue" not in answer
    assert port.serves_the_administrator()


POST = b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
SMUGGLED = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"GET /metrics HTTP/0.9\r\n\r\n",
        b"GET /version HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"\x00" * 5000,
        b"\r\n" * 5000 + b"X",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"EHLO x\r\n",
        b"GET /version HTTP/1.1\nHost: x\n\n" + SMUGGLED,
        b"GET /ver\x00sion HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n",
        b"GET /version?" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}" + SMUGGLED,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: -1\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}" + SMUGGLED,
        POST + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
    ],
    ids=lambda value: repr(value[:170][-50:]),
)
def test_what_is_no_http_ends_the_connection(port: Port, client: KeyPair | None, request_: bytes) -> None:
    answer = port.answer(request_, client)
    assert code(answer) in (0, 400, 401, 403)
    assert b" 200 " not in answer
    assert port.serves_the_administrator()


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n{}\r\n",
        b"2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"0\r\nX: y\r\n" * 5000,
        b"1\r\nx\r\n" * 5000,
    ],
    ids=lambda value: repr(value[:30]),
)
def test_chunks_that_are_none_end_the_connection(port: Port, client: KeyPair | None, body: bytes) -> None:
    answer = port.answer(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body, client)
    assert code(answer) in (0, 400, 401, 403, 404, 405)
    assert b" 200 " not in answer
    assert port.serves_the_administrator()


def test_pipelined_requests_get_one_refusal_each_at_most(port: Port, client: KeyPair | None) -> None:
    answer = port.answer(
        f"GET {TARGETS[port.name]} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 500 + b"\x00\r\n\r\n", client
    )
    assert code(answer) in (0, 401, 403)
    assert answer.count(b"HTTP/1.1 ") <= 501
    assert b" 200 " not in answer
    assert port.serves_the_administrator()


@pytest.mark.parametrize(
    "bytes_", [b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"\x80\x2e\x01", b"\x18\x03"]
)
def test_what_is_no_tls_is_not_answered(port: Port, bytes_: bytes) -> None:
    with port.plain() as connection:
        connection.sendall(bytes_)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert b"HTTP/1.1 200" not in connection.recv(4096)
    assert port.serves_the_administrator()


def test_tls_that_breaks_off_in_the_middle_is_forgotten(port: Port) -> None:
    for cut in (6, 100, 300):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = port.context().wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        with port.plain() as connection:
            connection.sendall(outgoing.read()[:cut])
    assert port.serves_the_administrator()


def test_old_tls_is_refused(port: Port) -> None:
    context = port.context()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert port.answer(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", context=context) == b""
    assert port.serves_the_administrator()


@pytest.mark.parametrize(
    "which", ["of another authority", "expired", "for servers", "of a server", "an authority of the same name"]
)
def test_foreign_certificates_are_refused(port: Port, tmp_path: Path, which: str) -> None:
    pki = port.pki
    pairs = {
        "of another authority": lambda: certificate(tmp_path, None),
        "expired": lambda: certificate(tmp_path, pki.ca, days=-1),
        "for servers": lambda: certificate(tmp_path, pki.ca, usage=ExtendedKeyUsageOID.SERVER_AUTH),
        "of a server": lambda: pki.apiserver,
        "an authority of the same name": lambda: certificate(tmp_path, None, name="kubernetes", organization=""),
    }
    path = TARGETS[port.name]
    assert port.answer(head("GET", path).encode(), pairs[which]()) == b""
    assert port.serves_the_administrator()


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    return {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": ["https://kubernetes.default.svc.cluster.local"],
        "sub": "system:serviceaccount:kube-system:default",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "kubernetes.io": {"namespace": "kube-system", "serviceaccount": {"name": "default", "uid": "1"}},
        **changes,
    }


def unsigned(header: dict[str, object]) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part(header)}.{part(claims())}."


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "None",
        "no algorithm",
        "signed with the public key",
        "signed with the authority's certificate",
        "another key",
        "a key in the header",
        "a key by URL",
        "a path as key",
        "cut",
        "garbage",
    ],
)
def test_forged_tokens_are_refused(port: Port, kind: str, tmp_path: Path) -> None:
    public = port.pki.service_account_public_key.read_bytes()
    other = certificate(tmp_path, None).key.read_bytes()

    def symmetric(secret: bytes) -> str:
        """Signed by hand: the library refuses a public key as a secret."""
        body = unsigned({"alg": "HS256", "typ": "JWT"}).rstrip(".")
        digest = hmac.digest(secret, body.encode(), "sha256")
        return body + "." + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    tokens = {
        "none": lambda: unsigned({"alg": "none"}),
        "None": lambda: unsigned({"alg": "NoNe"}),
        "no algorithm": lambda: unsigned({"typ": "JWT"}),
        "signed with the public key": lambda: symmetric(public),
        "signed with the authority's certificate": lambda: symmetric(port.pki.ca.cert.read_bytes()),
        "another key": lambda: jwt.encode(claims(), other, "ES256"),
        "a key in the header": lambda: jwt.encode(claims(), other, "ES256", {"jwk": {"kty": "EC", "crv": "P-256"}}),
        "a key by URL": lambda: jwt.encode(claims(), other, "ES256", {"jku": "http://127.0.0.1:1/", "x5u": "file:///"}),
        "a path as key": lambda: jwt.encode(claims(), other, "ES256", {"kid": "../../../../dev/null"}),
        "cut": lambda: jwt.encode(claims(), other, "ES256")[:-20],
        "garbage": lambda: "a.b.c." + "." * 1000,
    }
    answer = port.answer(head("GET", TARGETS[port.name], f"Authorization: Bearer {tokens[kind]()}").encode())
    assert code(answer) in (0, 401)
    assert port.serves_the_administrator()


def test_clients_that_hang_up_while_they_are_answered_are_forgotten(port: Port) -> None:
    """The administrator's own, too: with answers under way, and with requests that are not complete."""
    path = {"server": "/openapi/v2", "agent": "/pods"}[port.name]
    for request in (head("GET", path), head("POST", path, "Content-Length: 100000") + "{", f"GET {path} HTT"):
        for _ in range(20):
            connection = port.connect(port.pki.admin)
            connection.sendall(request.encode())
            # With what is unread, closing resets the connection.
            connection.close()
    assert port.serves_the_administrator()


def test_the_logs_tell_no_stories_about_strangers(port: Port) -> None:
    """After all the others of this file: neither a traceback nor a line for each attempt."""
    text = port.log.read_text()
    assert "Traceback" not in text
    assert len(text.splitlines()) < 30
    assert port.serves_the_administrator()
