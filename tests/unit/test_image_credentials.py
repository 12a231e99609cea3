"""Which credentials count for which image. The tables hold the cases of upstream's keyring and config tests, and more."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.core.v1 import Secret
from podling.api.meta.v1 import ObjectMeta
from podling.kubelet import image_auth_file
from podling.kubelet.image_auth_file import NodeAuthFile
from podling.kubelet.image_credentials import (
    Credential,
    CredentialsError,
    Keyring,
    SecretSource,
    config_json,
    dockercfg,
    matches,
    secret_auths,
)
from podling.runtime.protocol import AuthConfig


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def keyring(servers: dict[str, str]) -> Keyring:
    """Server to user name."""
    ring = Keyring()
    ring.add({server: AuthConfig(username=user, password="pw") for server, user in servers.items()})
    return ring


def users(ring: Keyring, repository: str) -> list[str]:
    return [credential.auth.username for credential in ring.lookup(repository)]


@pytest.mark.parametrize(
    ("pattern", "location", "expected"),
    [
        ("*.kubernetes.io", "prefix.kubernetes.io", True),
        ("prefix.*.io", "prefix.kubernetes.io", True),
        ("prefix.kubernetes.*", "prefix.kubernetes.io", True),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io", True),
        ("*.kubernetes.io/blah", "prefix.kubernetes.io/blah", True),
        ("prefix.*.io/foo", "prefix.kubernetes.io/foo/bar", True),
        ("*.kubernetes.io:1111/blah", "prefix.kubernetes.io:1111/blah", True),
        ("prefix.*.io:1111/foo", "prefix.kubernetes.io:1111/foo/bar", True),
        ("*.kubernetes.io", "kubernetes.io", False),
        ("*.*.kubernetes.io", "prefix.kubernetes.io", False),
        ("*.*.kubernetes.io", "kubernetes.io", False),
        ("*kubernetes.io", "a.kubernetes.io", False),
        ("kubernetes.io", "kubernetes.com", False),
        ("k*.io", "quay.io", False),
        ("*.kubernetes.io:1234/blah", "prefix.kubernetes.io:1111/blah", False),
        ("prefix.*.io/foo", "prefix.kubernetes.io:1111/foo/bar", False),
        ("*.kubernetes.io/foo", "prefix.kubernetes.io/other/foo", False),
        ("reg?.io", "reg1.io", True),
        ("reg[0-4].io", "reg3.io", True),
        ("reg[0-4].io", "reg5.io", False),
        ("reg[^0-4].io", "reg5.io", True),
        ("reg[^0-4].io", "reg3.io", False),
        ("reg[.io", "reg[.io", True),
        ("reg[.io", "regx.io", False),
        ("reg\\*.io", "regx.io", False),
        ("[::1]:5000", "[::1]:5000/app", True),
        ("[::1]", "[::1]/app", True),
        ("[::1]", "[::1]:5000/app", False),
        ("(a|b).io", "a.io", False),
        ("a.*", "a/b", False),
    ],
)
def test_host_parts_match_as_globs_ports_exactly_and_paths_as_prefixes(
    pattern: str, location: str, expected: bool
) -> None:
    assert matches(pattern, location) is expected


HOSTS = st.from_regex(r"[a-z0-9]{1,5}(\.[a-z0-9]{1,5}){0,3}(:[0-9]{1,4})?", fullmatch=True)
PATHS = st.from_regex(r"(/[a-z0-9]{1,5}){0,3}", fullmatch=True)


@given(HOSTS, PATHS, PATHS)
def test_every_location_is_covered_by_itself_and_by_its_prefixes(host: str, path: str, below: str) -> None:
    assert matches(host + path, host + path + below)


@given(HOSTS, st.data())
def test_a_star_in_one_part_never_reaches_into_the_next(host: str, data: st.DataObject) -> None:
    name, colon, port = host.partition(":")
    parts = name.split(".")
    star = data.draw(st.integers(0, len(parts) - 1))
    pattern = ".".join("*" if i == star else part for i, part in enumerate(parts)) + colon + port
    assert matches(pattern, f"{host}/app")
    assert not matches(pattern, f"more.{host}/app")
    assert not matches(pattern, f"{name}.more{colon}{port}/app")


GLOBS = st.lists(st.sampled_from(["*", "?", "a", "b", "-", "[ab]", "[^a]", "[a-c]", "\\*"]), max_size=8).map("".join)
TEXTS = st.text("abcd-*", max_size=8)


@given(GLOBS, TEXTS)
def test_globs_are_those_of_regular_expressions(glob: str, text: str) -> None:
    expression = glob.replace("\\*", "\0").replace("*", ".*").replace("?", ".").replace("\0", "[*]")
    assert matches(glob, text) is bool(re.fullmatch(expression, text))


@pytest.mark.parametrize(("glob", "text"), [("*a" * 500 + "b", "a" * 2000), ("*" * 10000, "a" * 100 + "/")])
def test_hostile_globs_take_no_time(glob: str, text: str) -> None:
    started = time.process_time()
    matches(glob, text)
    assert time.process_time() - started < 2


@given(st.binary(max_size=50))
def test_any_bytes_are_either_read_or_refused(content: bytes) -> None:
    for read in (config_json, dockercfg):
        with contextlib.suppress(CredentialsError):
            read(content)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_and_no_location_is_a_failure(pattern: str, location: str) -> None:
    matches(pattern, location)
    users(keyring({pattern: "u"}), location)


@pytest.mark.parametrize(
    ("server", "repository"),
    [
        ("https://hello.kubernetes.io", "hello.kubernetes.io/foo/bar"),
        ("http://hello.kubernetes.io", "hello.kubernetes.io/foo/bar"),
        ("https://*.docker.io", "prefix.docker.io/foo/bar"),
        ("https://prefix.*.io", "prefix.docker.io/foo/bar"),
        ("https://prefix.docker.*", "prefix.docker.io/foo/bar"),
        ("https://*.docker.io/path", "prefix.docker.io/path/foo/bar"),
        ("https://prefix.*.io/path", "prefix.docker.io/path/subpath/foo/bar"),
        ("https://*.docker.io:8888", "prefix.docker.io:8888/foo/bar"),
        ("https://*.docker.io/path:1111", "prefix.docker.io/path:1111/foo/bar"),
        ("https://*.docker.io/v1/", "prefix.docker.io/path/foo/bar"),
        ("https://*.docker.io/v2/", "prefix.docker.io/path/foo/bar"),
        ("https://*.docker.io/v2/path", "prefix.docker.io/path/foo/bar"),
        ("*.docker.io:1111", "prefix.docker.io:1111/path/foo/bar"),
        ("https://index.docker.io/v1/", "docker.io/google/docker-registry"),
        ("https://index.docker.io/v1/", "docker.io/library/jenkins"),
        ("index.docker.io", "docker.io/library/jenkins"),
        ("docker.io", "docker.io/library/jenkins"),
        ("docker.io/library", "docker.io/library/jenkins"),
    ],
)
def test_a_server_may_be_written_in_many_ways(server: str, repository: str) -> None:
    assert users(keyring({server: "foo"}), repository) == ["foo"]


@pytest.mark.parametrize(
    ("server", "repository"),
    [
        ("https://hello.kubernetes.io", "world.mesos.org/foo/bar"),
        ("https://*.docker.com", "prefix.docker.io/foo/bar"),
        ("https://suffix.*.io", "prefix.docker.io/foo/bar"),
        ("https://prefix.docker.c*", "prefix.docker.io/foo/bar"),
        ("https://prefix.*.io/path:1111", "prefix.docker.io/path/subpath:1111/foo/bar"),
        ("https://index.docker.io/v1/", "world.mesos.org/foo/bar"),
        ("https://index.docker.io/v1/", "myhostdocker.io/foo/bar"),
        ("registry-1.docker.io", "docker.io/library/jenkins"),
        ("registry.tld:port", "registry.tld:port/foo"),
        ("", "registry.tld/foo"),
        ("/foo", "registry.tld/foo"),
    ],
)
def test_other_servers_credentials_are_not_offered(server: str, repository: str) -> None:
    assert users(keyring({server: "foo"}), repository) == []


def test_more_specific_entries_come_first_and_the_hubs_only_without_others() -> None:
    ring = keyring(
        {
            "reg.example.com": "host",
            "*.example.com": "glob",
            "reg.example.com/team": "team",
            "https://index.docker.io/v1/": "hub",
            "docker.io/alice": "alice",
        }
    )
    assert users(ring, "reg.example.com/team/app") == ["team", "host", "glob"]
    assert users(ring, "docker.io/alice/app") == ["alice"]
    assert users(ring, "docker.io/bob/app") == ["hub"]


def test_entries_for_the_same_server_keep_the_order_of_their_secrets() -> None:
    ring = Keyring()
    for name in ("second", "first", "third"):
        source = SecretSource(name, "ns", name)
        ring.add({"reg.io": AuthConfig(username=name)}, source)
    found = ring.lookup("reg.io/app")
    assert [credential.source and credential.source.name for credential in found] == ["second", "first", "third"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p", "email": "e"}, ("u", "p")),
        ({"auth": encoded("u:p")}, ("u", "p")),
        ({"auth": encoded("u:p:q")}, ("u", "p:q")),
        ({"auth": encoded("u:pp").rstrip("=")}, ("u", "pp")),
        ({"auth": encoded("u:p"), "username": "other", "password": "other"}, ("u", "p")),
        ({"auth": encoded("ü:ß")}, ("ü", "ß")),
        ({"auth": "", "username": "u"}, ("u", "")),
        ({}, ("", "")),
        ({"username": None, "unknown": {"x": 1}}, ("", "")),
    ],
)
def test_docker_configurations_are_read(entry: dict[str, object], expected: tuple[str, str]) -> None:
    for auths in (
        config_json(json.dumps({"auths": {"reg.io": entry}, "HttpHeaders": {"a": "b"}}).encode()),
        dockercfg(json.dumps({"reg.io": entry}).encode()),
    ):
        assert (auths["reg.io"].username, auths["reg.io"].password) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"hunter2",
        b'"hunter2"',
        b'{"auths": ["hunter2"]}',
        b'{"auths": {"reg.io": "hunter2"}}',
        b'{"auths": {"reg.io": {"auth": "hunter2!"}}}',
        b'{"auths": {"reg.io": {"auth": "%s"}}}' % base64.b64encode(b"hunter2"),
        b'{"auths": {"reg.io": {"auth": "%s"}}}' % base64.b64encode(b"\xffhunter2:"),
        b'{"auths": ' + b"[" * 100000,
    ],
)
def test_what_cannot_be_read_is_told_without_what_it_holds(content: bytes) -> None:
    with pytest.raises(CredentialsError) as error:
        config_json(content)
    assert "hunter2" not in str(error.value)
    assert encoded("hunter2") not in str(error.value)


def test_secrets_of_the_two_types_are_read_and_others_are_not() -> None:
    new = json.dumps({"auths": {"new.io": {"auth": encoded("u:p")}}})
    old = json.dumps({"old.io": {"auth": encoded("u:p")}})

    def secret(type: str, **data: str) -> Secret:
        content = {f".{key}": value.encode() for key, value in data.items()}
        return Secret(metadata=ObjectMeta(name="s"), type=type, data=content)

    assert list(secret_auths(secret("kubernetes.io/dockerconfigjson", dockerconfigjson=new))) == ["new.io"]
    assert list(secret_auths(secret("kubernetes.io/dockercfg", dockercfg=old))) == ["old.io"]
    assert secret_auths(secret("Opaque", dockerconfigjson=new)) == {}
    assert secret_auths(secret("kubernetes.io/dockerconfigjson", dockercfg=old)) == {}
    with pytest.raises(CredentialsError):
        secret_auths(Secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": b"abcde"}))


def test_hashes_tell_credentials_apart_and_nothing_else() -> None:
    def credential(**fields: str) -> str:
        return Credential(AuthConfig(**fields)).hash

    known = {credential(username="a", password="bc"), credential(username="ab", password="c"), credential()}
    known |= {credential(identity_token="a"), credential(registry_token="a")}
    assert len(known) == 5
    assert credential(username="a", password="bc", server_address="x") in known


def test_the_nodes_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    file = NodeAuthFile([first, second])
    assert file.auths() == {}
    second.write_text(json.dumps({"auths": {"two.io": {}}}))
    second.chmod(0o600)
    assert list(file.auths()) == ["two.io"]
    first.write_text(json.dumps({"auths": {"one.io": {}}}))
    first.chmod(0o600)
    assert list(file.auths()) == ["one.io"]
    first.write_text("not JSON: hunter2")
    with caplog.at_level(logging.WARNING):
        assert file.auths() == {}
        assert file.auths() == {}
    assert len(caplog.records) == 1
    assert "hunter2" not in caplog.text
    first.unlink()
    assert list(file.auths()) == ["two.io"]


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / image_auth_file.NAME
    path.write_text("{}")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        NodeAuthFile(image_auth_file.default_paths(tmp_path)).auths()
    assert "can be read by others" in caplog.text
