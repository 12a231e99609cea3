"""The objects of its namespace that a Pod refers to. Source: upstream pkg/api/pod (VisitPodSecretNames and its like)."""

from __future__ import annotations

from collections.abc import Iterator

from podling.api.core.v1 import Container, EphemeralContainer, Pod, Volume
from podling.api.resources import all_containers


def secrets(pod: Pod) -> set[str]:
    """Return the names of Secrets that pulls, variables and volumes take something from."""
    found = {reference.name for reference in pod.spec.image_pull_secrets}
    for container in _containers(pod):
        found.update(_secrets_in_environment(container))
    for volume in pod.spec.volumes:
        found.update(_secrets_in_volume(volume))
    return found - {""}


def config_maps(pod: Pod) -> set[str]:
    """Return the names of ConfigMaps that variables and volumes take something from."""
    found: set[str] = set()
    for container in _containers(pod):
        for source in container.env_from:
            if source.config_map_ref is not None:
                found.add(source.config_map_ref.name)
        for variable in container.env:
            if variable.value_from is not None and variable.value_from.config_map_key_ref is not None:
                found.add(variable.value_from.config_map_key_ref.name)
    for volume in pod.spec.volumes:
        if volume.config_map is not None:
            found.add(volume.config_map.name)
        for projection in volume.projected.sources if volume.projected is not None else ():
            if projection.config_map is not None:
                found.add(projection.config_map.name)
    return found - {""}


def claims(pod: Pod) -> set[str]:
    """Return the names of PersistentVolumeClaims, those of ephemeral volumes among them."""
    found: set[str] = set()
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            found.add(volume.persistent_volume_claim.claim_name)
        if volume.ephemeral is not None:
            found.add(f"{pod.metadata.name}-{volume.name}")
    return found - {""}


def token_audiences(pod: Pod) -> set[str]:
    """Return the audiences for which volumes of the Pod hold tokens; "" stands for the API server."""
    return {
        projection.service_account_token.audience
        for volume in pod.spec.volumes
        for projection in (volume.projected.sources if volume.projected is not None else ())
        if projection.service_account_token is not None
    }


def _containers(pod: Pod) -> Iterator[Container | EphemeralContainer]:
    yield from all_containers(pod.spec)
    yield from pod.spec.ephemeral_containers


def _secrets_in_environment(container: Container | EphemeralContainer) -> Iterator[str]:
    for source in container.env_from:
        if source.secret_ref is not None:
            yield source.secret_ref.name
    for variable in container.env:
        if variable.value_from is not None and variable.value_from.secret_key_ref is not None:
            yield variable.value_from.secret_key_ref.name


def _secrets_in_volume(volume: Volume) -> Iterator[str]:
    if volume.secret is not None:
        yield volume.secret.secret_name
    if volume.azure_file is not None:
        yield volume.azure_file.secret_name
    for projection in volume.projected.sources if volume.projected is not None else ():
        if projection.secret is not None:
            yield projection.secret.name
    for source in (
        volume.cephfs,
        volume.cinder,
        volume.flex_volume,
        volume.iscsi,
        volume.rbd,
        volume.scale_io,
        volume.storageos,
    ):
        if source is not None and source.secret_ref is not None:
            yield source.secret_ref.name
    if volume.csi is not None and volume.csi.node_publish_secret_ref is not None:
        yield volume.csi.node_publish_secret_ref.name
