"""Registries on loopback, filled with images built out of Debian packages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import images
from tools.registry import Registry


@pytest.fixture(scope="session")
def image_cache() -> Path:
    """Where built images are kept from one run to the next."""
    return Path(os.environ.get("PODLING_IMAGE_CACHE", images.CACHE))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, image_cache: Path) -> Iterator[Registry]:
    """Holds everything in tools.registry.STANDARD; `registry.registries_conf` maps docker.io and the others to it.

    One per test process, started in well under a second. Tests push further names, and leave the standard ones alone.
    """
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        registry.push_standard(image_cache)
        yield registry


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory, image_cache: Path) -> Iterator[Registry]:
    """Asks for user `alice` with password `wonderland`; holds dregistry.azurecr.io/acr-auth-example:latest (nginx)."""
    directory = tmp_path_factory.mktemp("private-registry")
    with Registry(directory, users={"alice": "wonderland"}) as registry:
        registry.push(images.build("nginx", image_cache), "dregistry.azurecr.io/acr-auth-example:latest")
        registry.push(images.build("busybox", image_cache), "docker.io/alice/private:1")
        yield registry
