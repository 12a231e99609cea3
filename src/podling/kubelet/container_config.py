"""A Pod and its containers as the runtime wants them: SandboxConfig and ContainerConfig.

Source: API reference PodSpec and Container; CRI v1 messages; label and annotation names as the kubelet's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from podling.api.core.v1 import Container, Pod, VolumeMount
from podling.kubelet import cgroups, dns, env, security
from podling.kubelet.pod_actions import BACKOFF_ANNOTATION, IMAGE_ANNOTATION, Start
from podling.kubelet.pod_context import PodContext
from podling.kubelet.volumes.plugin import Mounted
from podling.kubelet.volumes.subpath import mount_subpath
from podling.runtime.protocol import (
    ContainerConfig,
    ContainerMetadata,
    Image,
    Mount,
    MountPropagation,
    PortMapping,
    SandboxConfig,
    SandboxMetadata,
)

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
GRACE_ANNOTATION = "io.kubernetes.pod.terminationGracePeriod"
TERMINATION_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"

_PROPAGATION = {
    "": MountPropagation.PRIVATE,
    "None": MountPropagation.PRIVATE,
    "HostToContainer": MountPropagation.HOST_TO_CONTAINER,
    "Bidirectional": MountPropagation.BIDIRECTIONAL,
}


def _labels(pod: Pod) -> dict[str, str]:
    meta = pod.metadata
    return {POD_NAME: meta.name, POD_NAMESPACE: meta.namespace, POD_UID: meta.uid}


def sandbox_config(context: PodContext, pod: Pod, attempt: int) -> SandboxConfig:
    """The sandbox of this Pod; `attempt` counts its sandboxes."""
    meta, spec = pod.metadata, pod.spec
    shared = spec.security_context
    resolver, omitted = dns.limited(dns.resolver(pod, context.cluster_dns, context.cluster_domain))
    for message in omitted:
        context.recorder.event(pod, "Warning", "DNSConfigForming", message)
    return SandboxConfig(
        metadata=SandboxMetadata(name=meta.name, namespace=meta.namespace, uid=meta.uid, attempt=attempt),
        hostname=dns.uts_hostname(pod, context.cluster_domain),
        log_directory=str(context.paths.pod_logs(pod)),
        dns=resolver,
        port_mappings=[] if spec.host_network else _port_mappings(pod),
        labels={**meta.labels, **_labels(pod)},
        annotations={GRACE_ANNOTATION: str(spec.termination_grace_period_seconds or 0)},
        cgroup_parent=cgroups.pod_cgroup(context.cgroup_root, pod),
        namespaces=security.namespaces(pod),
        sysctls={sysctl.name: sysctl.value for sysctl in shared.sysctls} if shared is not None else {},
        privileged=security.is_privileged(pod),
    )


def _port_mappings(pod: Pod) -> list[PortMapping]:
    return [
        PortMapping(
            protocol=port.protocol or "TCP",
            container_port=port.container_port,
            host_port=port.host_port,
            host_ip=port.host_ip,
        )
        for container in [*pod.spec.init_containers, *pod.spec.containers]
        for port in container.ports
        if port.host_port
    ]


async def container_config(
    context: PodContext, pod: Pod, start: Start, image: Image, volumes: dict[str, Mounted]
) -> ContainerConfig:
    """`pod` has its status.podIPs. Raises env.ConfigError."""
    container = start.container
    room = env.Room()
    variables = await env.container_env(pod, container, context.objects, context.services(), context.allocatable, room)
    known = dict(variables)
    path = context.paths.termination_log(pod.metadata.uid, container.name, start.attempt)
    mounts = await asyncio.to_thread(_mounts, context, pod, container, volumes, known, path)
    return ContainerConfig(
        metadata=ContainerMetadata(name=container.name, attempt=start.attempt),
        image=image.id,
        command=room.expand_all(container.command, known),
        args=room.expand_all(container.args, known),
        working_dir=container.working_dir,
        env=variables,
        mounts=mounts,
        labels={**_labels(pod), CONTAINER_NAME: container.name},
        annotations={
            IMAGE_ANNOTATION: container.image,
            BACKOFF_ANNOTATION: str(start.backoff),
            TERMINATION_PATH: str(path) if container.termination_message_path else "",
            TERMINATION_POLICY: container.termination_message_policy,
            GRACE_ANNOTATION: str(pod.spec.termination_grace_period_seconds or 0),
        },
        log_path=context.paths.log_path(container.name, start.attempt),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdin_once),
        tty=bool(container.tty),
        resources=cgroups.container_resources(pod, container, context.memory),
        security=security.container_security(pod, container, image.config),
        stop_signal=(container.lifecycle.stop_signal or "") if container.lifecycle is not None else "",
    )


def _mounts(
    context: PodContext,
    pod: Pod,
    container: Container,
    volumes: dict[str, Mounted],
    variables: dict[str, str],
    termination_log: Path,
) -> list[Mount]:
    parts = context.paths.subpaths(pod.metadata.uid) / container.name
    mounts = [
        _volume_mount(container, mount, volumes[mount.name], variables, parts / str(index))
        for index, mount in enumerate(container.volume_mounts)
    ]
    taken = {mount.container_path.rstrip("/") for mount in mounts}
    if "/etc/hosts" not in taken:
        hosts = context.paths.etc_hosts(pod.metadata.uid)
        content = dns.etc_hosts(pod, [ip.ip for ip in pod.status.pod_ips], context.cluster_domain)
        hosts.write_text(content, errors="surrogateescape")  # the machine's own is not always UTF-8
        mounts.append(Mount(container_path="/etc/hosts", host_path=str(hosts)))
    if container.termination_message_path:
        termination_log.parent.mkdir(parents=True, exist_ok=True)
        termination_log.write_bytes(b"")
        termination_log.chmod(0o666)
        mounts.append(Mount(container_path=container.termination_message_path, host_path=str(termination_log)))
    return mounts


def _volume_mount(
    container: Container, mount: VolumeMount, volume: Mounted, variables: dict[str, str], part: Path
) -> Mount:
    """`part` is where a subPath is mounted on the node."""
    relative = mount.sub_path or _sub_path_expr(mount, variables)
    source = ""
    if not volume.image:
        source = str(part if relative else volume.path)
        if relative:
            mount_subpath(volume.path, relative, mount.name, container.name, part)
    path = mount.mount_path if mount.mount_path.startswith("/") else f"/{mount.mount_path}"
    return Mount(
        container_path=path,
        host_path=source,
        image=volume.image,
        image_sub_path=relative if volume.image else "",
        readonly=bool(mount.read_only) or volume.readonly,
        recursive_read_only=mount.recursive_read_only in ("Enabled", "IfPossible"),
        propagation=_PROPAGATION[mount.mount_propagation or ""],
    )


def _sub_path_expr(mount: VolumeMount, variables: dict[str, str]) -> str:
    if not mount.sub_path_expr:
        return ""
    expanded = env.Room().expand(mount.sub_path_expr, variables)
    if "$(" in expanded:
        raise env.ConfigError(f"missing value for {mount.sub_path_expr!r}")
    return expanded
