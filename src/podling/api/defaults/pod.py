"""Defaults of Pods and of everything in their specs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from podling.api import image_name
from podling.api.core.v1 import (
    Container,
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    EphemeralContainer,
    LifecycleHandler,
    Pod,
    PodSecurityContext,
    PodSpec,
    Probe,
    Volume,
    VolumeProjection,
)
from podling.api.defaults.pod_resources import apply_pod_resources

GRACE_PERIOD_SECONDS = 30
FILE_MODE = 0o644
TERMINATION_MESSAGE_PATH = "/dev/termination-log"
SCHEDULER = "default-scheduler"

_TOKEN_SECONDS = 3600
_VOLUME_SOURCES = tuple(name for name in Volume.__struct_fields__ if name != "name")


def apply_pod(pod: Pod) -> None:
    """In place. Beyond what its spec alone has: requests from limits, service links, ports in the host's network."""
    spec = pod.spec
    apply_pod_spec(spec)
    for container in (*spec.init_containers, *spec.containers):
        requests = container.resources.requests
        for name, limit in container.resources.limits.items():
            requests.setdefault(name, limit)
    if spec.resources is not None:
        apply_pod_resources(spec)
    if spec.enable_service_links is None:
        spec.enable_service_links = True
    if spec.host_network:
        for container in (*spec.init_containers, *spec.containers):
            for port in container.ports:
                port.host_port = port.host_port or port.container_port


def apply_pod_spec(spec: PodSpec) -> None:
    """In place; what Pods and the Pod templates of controllers have in common."""
    spec.dns_policy = spec.dns_policy or "ClusterFirst"
    spec.restart_policy = spec.restart_policy or "Always"
    if spec.security_context is None:
        spec.security_context = PodSecurityContext()
    if spec.termination_grace_period_seconds is None:
        spec.termination_grace_period_seconds = GRACE_PERIOD_SECONDS
    spec.scheduler_name = spec.scheduler_name or SCHEDULER
    # serviceAccount is the older name of serviceAccountName; both are shown.
    spec.service_account_name = spec.service_account_name or spec.service_account
    spec.service_account = spec.service_account_name
    for volume in spec.volumes:
        _volume(volume)
    _containers(spec.init_containers)
    _containers(spec.containers)
    _containers(spec.ephemeral_containers)


def _containers(containers: Sequence[Container] | Sequence[EphemeralContainer]) -> None:
    for container in containers:
        if not container.image_pull_policy:
            container.image_pull_policy = _pull_policy(container.image)
        container.termination_message_path = container.termination_message_path or TERMINATION_MESSAGE_PATH
        container.termination_message_policy = container.termination_message_policy or "File"
        for port in container.ports:
            port.protocol = port.protocol or "TCP"
        for variable in container.env:
            source = variable.value_from
            if source is not None and source.field_ref is not None:
                source.field_ref.api_version = source.field_ref.api_version or "v1"
        for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
            if probe is not None:
                _probe(probe)
        if (hooks := container.lifecycle) is not None:
            for hook in (hooks.post_start, hooks.pre_stop):
                if hook is not None:
                    _handler(hook)


def _pull_policy(image: str) -> str:
    try:
        return "Always" if image_name.parse(image).tag == "latest" else "IfNotPresent"
    except image_name.InvalidImageName:
        return "IfNotPresent"  # the kubelet tells of it, as upstream's


def _probe(probe: Probe) -> None:
    _handler(probe)
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _handler(handler: Probe | LifecycleHandler) -> None:
    if handler.http_get is not None:
        handler.http_get.path = handler.http_get.path or "/"
        handler.http_get.scheme = handler.http_get.scheme or "HTTP"


def _volume(volume: Volume) -> None:
    if all(getattr(volume, source) is None for source in _VOLUME_SOURCES):
        volume.empty_dir = EmptyDirVolumeSource()
        return
    if volume.host_path is not None and volume.host_path.type is None:
        volume.host_path.type = ""
    if volume.image is not None and not volume.image.pull_policy:
        volume.image.pull_policy = _pull_policy(volume.image.reference)
    if volume.secret is not None and volume.secret.default_mode is None:
        volume.secret.default_mode = FILE_MODE
    if volume.config_map is not None and volume.config_map.default_mode is None:
        volume.config_map.default_mode = FILE_MODE
    if volume.downward_api is not None:
        if volume.downward_api.default_mode is None:
            volume.downward_api.default_mode = FILE_MODE
        _files(volume.downward_api.items)
    if volume.projected is not None:
        if volume.projected.default_mode is None:
            volume.projected.default_mode = FILE_MODE
        for source in volume.projected.sources:
            _projection(source)
    template = volume.ephemeral.volume_claim_template if volume.ephemeral is not None else None
    if template is not None and template.spec.volume_mode is None:
        template.spec.volume_mode = "Filesystem"
    _storage(volume)


def _files(files: Iterable[DownwardAPIVolumeFile]) -> None:
    for file in files:
        if file.field_ref is not None:
            file.field_ref.api_version = file.field_ref.api_version or "v1"


def _projection(source: VolumeProjection) -> None:
    if source.downward_api is not None:
        _files(source.downward_api.items)
    if source.service_account_token is not None and source.service_account_token.expiration_seconds is None:
        source.service_account_token.expiration_seconds = _TOKEN_SECONDS


def _storage(volume: Volume) -> None:
    """Sources of storage systems. Source: the defaults next to their types (+default markers)."""
    if volume.iscsi is not None:
        volume.iscsi.iscsi_interface = volume.iscsi.iscsi_interface or "default"
    if volume.rbd is not None:
        volume.rbd.pool = volume.rbd.pool or "rbd"
        volume.rbd.user = volume.rbd.user or "admin"
        volume.rbd.keyring = volume.rbd.keyring or "/etc/ceph/keyring"
    if (disk := volume.azure_disk) is not None:
        disk.caching_mode = disk.caching_mode or "ReadWrite"
        disk.kind = disk.kind or "Shared"
        disk.fs_type = disk.fs_type or "ext4"
        disk.read_only = disk.read_only or False
    if volume.scale_io is not None:
        volume.scale_io.storage_mode = volume.scale_io.storage_mode or "ThinProvisioned"
        volume.scale_io.fs_type = volume.scale_io.fs_type or "xfs"
