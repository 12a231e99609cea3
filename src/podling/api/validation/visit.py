"""All containers of a Pod with their field paths."""

from __future__ import annotations

from collections.abc import Iterator

from podling.api.core.v1 import Container, EphemeralContainer, PodSpec
from podling.api.field import Path

AnyContainer = Container | EphemeralContainer


def containers_with_path(spec: PodSpec, path: Path) -> Iterator[tuple[AnyContainer, Path]]:
    """Init containers, containers, ephemeral containers. `path` is the PodSpec's."""
    if spec.init_containers:
        at = path.child("initContainers")
        for i, container in enumerate(spec.init_containers):
            yield container, at.index(i)
    at = path.child("containers")
    for i, container in enumerate(spec.containers):
        yield container, at.index(i)
    if spec.ephemeral_containers:
        at = path.child("ephemeralContainers")
        for i, ephemeral in enumerate(spec.ephemeral_containers):
            yield ephemeral, at.index(i)
