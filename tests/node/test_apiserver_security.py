"""What strangers and careless clients cannot do to the server, and what it keeps to itself."""

from __future__ import annotations

import json
import os
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.api import Api, pod
from tests.support.certificates import certificate
from tests.support.https import Https


@pytest.fixture
def stranger(api: Api) -> Https:
    return Https(api.server.port, api.directory / "data" / "pki")


def test_old_versions_of_tls_are_refused(stranger: Https) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        stranger.context.minimum_version = ssl.TLSVersion.TLSv1
        stranger.context.maximum_version = ssl.TLSVersion.TLSv1_1
    stranger.context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(OSError, match=r"(?i)version|protocol|alert|EOF"):
        stranger.request("GET", "/version")


def test_plain_http_is_refused(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10) as plain:
        plain.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")


def test_certificates_of_the_cluster_open_the_door(stranger: Https, api: Api, tmp_path: Path) -> None:
    stranger.identify(certificate(tmp_path, api.pki.ca))
    assert stranger.request("GET", "/api/v1/nodes").code == 200


@pytest.mark.parametrize("which", ["of another authority", "expired", "of a server"])
def test_other_certificates_do_not(stranger: Https, api: Api, tmp_path: Path, which: str) -> None:
    pairs = {
        "of another authority": lambda: certificate(tmp_path, None),
        "expired": lambda: certificate(tmp_path, api.pki.ca, days=-1),
        "of a server": lambda: api.pki.apiserver,
    }
    stranger.identify(pairs[which]())
    with pytest.raises(OSError, match=r"(?i)alert|reset|eof|certificate|broken|closed"):
        stranger.request("GET", "/version")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_nobody_does_anything_without_credentials(stranger: Https, method: str) -> None:
    paths = ("/api/v1/secrets", "/api/v1/namespaces/default/pods/a/log", "/apis", "/openapi/v2", "/metrics", "/x", "/")
    for path in paths:
        assert stranger.request(method, path, "{}").code == 401


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Basic YWRtaW46YWRtaW4=", "bearer a b", "Bearer \xff", "Negotiate x", "Bearer " + "x" * 5000],
)
def test_credentials_that_mean_nothing_open_nothing(stranger: Https, header: str) -> None:
    assert stranger.request("GET", "/api", headers={"Authorization": header}).code in (400, 401)


def test_strangers_cannot_claim_to_be_somebody(stranger: Https) -> None:
    claims = {
        "Impersonate-User": "root",
        "Impersonate-Group": "system:masters",
        "X-Remote-User": "admin",
        "X-Remote-Group": "system:masters",
        "X-Forwarded-For": "127.0.0.1",
    }
    assert stranger.request("GET", "/api/v1/secrets", headers=claims).code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/{0}/configmaps/..%2F..%2Fsecrets%2F{0}%2Fs",
        "/api/v1/namespaces/{0}%2F..%2F{0}/secrets/s",
        "/api/v1/namespaces/{0}/configmaps/..%2fs",
        "/api/v1/namespaces/{0}/configmaps/%2e%2e",
        "/api/v1/namespaces/{0}/../{0}/secrets/s",
        "/api/v1/namespaces/..%2F..%2Fnodes/pods/test",
        "/api/v1/nodes/..%2Fsecrets%2F{0}%2Fs",
        "/../../../../etc/passwd",
        "/api/v1/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_names_lead_to_no_other_place(api: Api, namespace: str, path: str) -> None:
    api.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}, "data": {"a": "c2VjcmV0"}})
    for method in ("GET", "DELETE"):
        answer = api.request(method, path.format(namespace))
        assert answer.code in (400, 404, 405)
        assert b"c2VjcmV0" not in answer.raw
    assert api.get(f"/api/v1/namespaces/{namespace}/secrets/s").code == 200


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../s", "a%2fb", "a\x00b", "a\nb", " "])
def test_names_that_could_be_paths_are_refused(api: Api, config_maps: str, name: str) -> None:
    assert api.post(config_maps, {"metadata": {"name": name}}).code == 422


HEAD = b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SMUGGLED = b"GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        HEAD + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
        HEAD + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
        HEAD + b"X: a\r\n folded\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
        b"GET /api HTTP/1.1\nHost: x\n\n" + SMUGGLED,
        b"GET /api\x00 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
        b"GET /version HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (2 << 20) + b"\r\n\r\n",
        b"GET /version?" + b"a" * (2 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100 + b"\r\n\r\n",
    ],
    ids=lambda value: repr(value[:170][-60:]),
)
def test_requests_that_can_be_read_in_two_ways_end_the_connection(api: Api, request_: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(api.server.socket))
        received, cut = b"", False
        try:
            connection.sendall(request_)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            cut = True
    assert cut or b" 400 " in received.partition(b"\r\n")[0]
    assert b" 200 " not in received
    assert b"SecretList" not in received


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"])
def test_compressed_bodies_are_refused(api: Api, config_maps: str, encoding: str) -> None:
    answer = api.post(config_maps, b"whatever", headers={"Content-Encoding": encoding})
    assert answer.code == 415
    assert encoding in answer.message


def test_bodies_with_no_encoding_are_not(api: Api, config_maps: str) -> None:
    assert api.post(config_maps, {"metadata": {"name": "a"}}, headers={"Content-Encoding": "identity"}).code == 201


@pytest.fixture
def half_requests(api: Api) -> Iterator[list[socket.socket]]:
    """Clients that never finish what they begin."""
    opened = []
    for beginning in (b"", b"GET", HEAD, HEAD + b"Content-Length: 500\r\n\r\n{"):
        for _ in range(20):
            each = socket.socket(socket.AF_UNIX)
            each.connect(str(api.server.socket))
            each.sendall(beginning)
            opened.append(each)
    yield opened
    for each in opened:
        each.close()


def test_half_requests_hold_nobody_up(api: Api, half_requests: list[socket.socket], config_maps: str) -> None:
    for _ in range(20):
        api.create(config_maps, {"metadata": {"generateName": "a-"}})


def test_secrets_are_not_logged(api: Api, namespace: str) -> None:
    marker = "aGlkZGVuLXdvcmRz"
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    api.create(secrets, {"metadata": {"name": "a"}, "data": {"key": marker}, "stringData": {"other": "hidden-words"}})
    api.post(secrets, {"metadata": {"name": "a"}, "data": {"key": marker}})
    api.post(secrets, {"metadata": {"name": "A"}, "data": {"a b": marker}})
    api.post(secrets, '{"data":{"key":"' + marker)
    api.patch(f"{secrets}/a", {"type": "x", "stringData": {"key": "hidden-words"}})
    token = api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", {"spec": {}})["status"]["token"]
    api.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token + "x"}})
    api.get("/api", headers={"Authorization": f"Bearer {token}"})
    log = (api.directory / "server.log").read_text()
    for word in (marker, "hidden-words", token, token.split(".")[2]):
        assert word not in log
    events = api.get("/api/v1/events").raw
    assert marker.encode() not in events


def test_errors_about_secrets_do_not_show_them(api: Api, namespace: str) -> None:
    secret = {"metadata": {"name": "a"}, "type": "kubernetes.io/dockerconfigjson"}
    wrong = {**secret, "stringData": {".dockerconfigjson": "hidden-words"}}
    answer = api.post(f"/api/v1/namespaces/{namespace}/secrets", wrong)
    assert answer.code == 422
    assert b"hidden-words" not in answer.raw
    assert b"<secret contents redacted>" in answer.raw


def test_warnings_cannot_forge_headers(api: Api, pods: str) -> None:
    answer = api.post(f"{pods}?dryRun=All", {**pod(), "a\r\nSet-Cookie: b=c\r\n": 1})
    assert answer.code == 201
    assert answer.headers["Set-Cookie"] is None
    assert json.loads(answer.raw)["kind"] == "Pod"


def test_the_server_outlived_all_this(api: Api) -> None:
    os.kill(api.server.pid, 0)
    assert api.get("/livez").code == 200
    assert "Traceback" not in (api.directory / "server.log").read_text()
