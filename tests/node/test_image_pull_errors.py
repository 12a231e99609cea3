"""What a pull that fails says, in a real registry or without one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.image_store import NOTHING, leftovers, pull_failure, store
from tools import images
from tools.registry import Registry

from podling.runtime.protocol import AuthConfig

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYER_BYTES = 3 << 20
ALICE = AuthConfig(username="alice", password="wonderland")


@pytest.mark.parametrize(
    ("name", "complete", "missing"),
    [
        ("nginx:nope", "docker.io/library/nginx:nope", 'repository "docker.io/library/nginx" has no tag "nope"'),
        ("nope", "docker.io/library/nope:latest", 'there is no repository "docker.io/library/nope"'),
        (
            "nginx@sha256:" + "0" * 64,
            "docker.io/library/nginx@sha256:" + "0" * 64,
            f'repository "docker.io/library/nginx" has no digest "sha256:{"0" * 64}"',
        ),
    ],
)
def test_missing_image_is_said_to_be_not_found(
    registry: Registry, tmp_path: Path, name: str, complete: str, missing: str
) -> None:
    error = pull_failure(tmp_path, registry.registries_conf, name)
    assert error.reason == "ErrImagePull"
    assert error.message == (
        f'failed to pull and unpack image "{complete}": failed to resolve reference "{complete}": {complete}: not found: '
        f"{missing}"
    )


def test_unknown_host_is_named(registry: Registry, tmp_path: Path) -> None:
    error = pull_failure(tmp_path, registry.registries_conf, "no-such-registry.invalid/app:1")
    assert error.message.startswith(
        'failed to pull and unpack image "no-such-registry.invalid/app:1": failed to resolve reference '
        '"no-such-registry.invalid/app:1": failed to do request: Get "https://no-such-registry.invalid/v2/": '
        "dial tcp: lookup no-such-registry.invalid"
    )


def test_registry_that_is_down_is_named(registry: Registry, tmp_path: Path) -> None:
    error = pull_failure(tmp_path, registry.registries_conf, "127.0.0.1:1/app:1")
    assert error.message.endswith("dial tcp 127.0.0.1:1: connect: connection refused")


def test_certificate_of_unknown_authority_is_named(
    tmp_path: Path, image_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path / "registry", tls=True) as secure:
        secure.push(images.build("busybox", image_cache), "docker.io/library/busybox:latest")
        error = pull_failure(tmp_path, secure.registries_conf, "busybox")
        assert "x509: certificate signed by unknown authority" in error.message

        async def run() -> None:
            async with store(tmp_path, secure.registries_conf) as images_store:
                await images_store.pull_image("busybox")

        monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca))
        asyncio.run(run())


def test_blocked_registry_is_an_error(tmp_path: Path) -> None:
    conf = tmp_path / "blocked.conf"
    conf.write_text('[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\nblocked = true\n')
    error = pull_failure(tmp_path, conf, "nginx")
    assert "registry docker.io is blocked in" in error.message


@pytest.mark.parametrize(
    ("auth", "detail"),
    [
        (None, "no basic auth credentials"),
        (AuthConfig(username="alice", password="wrong"), "the registry refused the credentials"),
    ],
)
def test_private_image_is_denied_without_right_credentials(
    private_registry: Registry, tmp_path: Path, auth: AuthConfig | None, detail: str
) -> None:
    name = "docker.io/alice/private:1"
    error = pull_failure(tmp_path, private_registry.registries_conf, "alice/private:1", auth)
    assert error.message == (
        f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": pull access denied, '
        f"repository does not exist or may require authorization: authorization failed: {detail}"
    )
    assert leftovers(tmp_path) == NOTHING


@pytest.mark.parametrize("name", ["alice/private:1", "dregistry.azurecr.io/acr-auth-example"])
def test_credentials_reach_the_place_that_registries_conf_names(
    private_registry: Registry, tmp_path: Path, name: str
) -> None:
    async def run() -> None:
        async with store(tmp_path, private_registry.registries_conf) as images_store:
            image_id = await images_store.pull_image(name, ALICE)
            status = await images_store.image_status(name)
            assert status is not None
            assert status.id == image_id

    asyncio.run(run())
