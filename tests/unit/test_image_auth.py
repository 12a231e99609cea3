"""Where a pull's credentials go, and in what form."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from podling.api import image_name
from podling.runtime.native import image_auth, image_registries
from podling.runtime.protocol import AuthConfig, ImagePullError

CONF = """
[[registry]]
prefix = "docker.io"
location = "proxy.example.com/hub"
[[registry]]
prefix = "docker.io/team"
location = "team.example.com"
[[registry.mirror]]
location = "mirror.example.com/team"
[[registry]]
location = "quay.io"
[[registry.mirror]]
location = "mirror.example.com/quay"
[[registry]]
prefix = "*.azurecr.io"
location = "127.0.0.1:5000/azure"
[[registry]]
prefix = "*.example.org"
"""


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("nginx", ["docker.io/library/nginx", "proxy.example.com/hub/library/nginx"]),
        ("team/app", ["docker.io/team/app", "team.example.com/app", "mirror.example.com/team/app"]),
        ("teamwork/app", ["docker.io/teamwork/app", "proxy.example.com/hub/teamwork/app"]),
        ("quay.io/a/b:1", ["quay.io/a/b", "mirror.example.com/quay/a/b"]),
        ("x.azurecr.io/app", ["x.azurecr.io/app", "127.0.0.1:5000/azure/app"]),
        ("a.example.org/app", ["a.example.org/app"]),
        ("ghcr.io/app", ["ghcr.io/app"]),
    ],
)
def test_credentials_go_to_the_registry_and_its_mirrors_only(tmp_path: Path, name: str, places: list[str]) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(CONF)
    auth = AuthConfig(username="u", password="p:w")
    with image_auth.auth_file(image_name.parse(name), auth, conf) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        content = json.loads(path.read_text())
    assert not path.exists()
    entry = {"auth": base64.b64encode(b"u:p:w").decode()}
    assert content == {"auths": dict.fromkeys(places, entry)}


@pytest.mark.parametrize(
    "conf",
    [
        "[[registry]]\nlocation = 3",
        '[[registry]]\nlocation = "a"\nmirror = 3',
        '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = 3',
        "registry = 3",
        "[[registry]]\n",
        "a = ",
    ],
)
def test_a_registries_conf_that_is_wrong_counts_as_none(tmp_path: Path, conf: str) -> None:
    """skopeo, which reads it too, says what is wrong."""
    path = tmp_path / "registries.conf"
    path.write_text(conf)
    endpoints = image_registries.route("quay.io/a", path).endpoints
    assert endpoints == (image_registries.Endpoint("quay.io/a"),)


def test_identity_token_is_passed_on_and_registry_token_refused(tmp_path: Path) -> None:
    name = image_name.parse("ghcr.io/app")
    with image_auth.auth_file(name, AuthConfig(identity_token="t"), tmp_path / "absent") as path:
        assert json.loads(path.read_text())["auths"]["ghcr.io/app"]["identitytoken"] == "t"
    refused = image_auth.auth_file(name, AuthConfig(registry_token="t"), None)
    with pytest.raises(ImagePullError, match="registry tokens are not supported"), refused:
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("localhost/x", True),
        ("localhost:5000/x", True),
        ("127.0.0.1:5000/x", True),
        ("[::1]:5000/x", True),
        ("[::1]/x", True),
        ("127.example.com/x", False),
        ("localhost.example.com/x", False),
        ("nginx", False),
    ],
)
def test_only_loopback_registries_may_speak_plain_http(name: str, loopback: bool) -> None:
    assert image_auth.is_loopback(image_name.parse(name)) is loopback
