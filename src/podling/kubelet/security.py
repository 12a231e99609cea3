"""The security settings of a container: the Pod's and its own, merged, as the runtime wants them.

Source: Kubernetes documentation "Configure a Security Context for a Pod or Container", "Pod Security Standards",
"Restrict a Container's Syscalls with seccomp".
"""

from __future__ import annotations

from podling.api.core.v1 import (
    Capabilities,
    Container,
    Pod,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
)
from podling.kubelet.env import ConfigError
from podling.kubelet.pod_paths import describe
from podling.runtime.protocol import (
    ContainerSecurity,
    ImageConfig,
    NamespaceMode,
    NamespaceOption,
    Seccomp,
)


def namespaces(pod: Pod) -> NamespaceOption:
    """Which namespaces the containers of the Pod use."""
    spec = pod.spec
    pid = NamespaceMode.CONTAINER
    if spec.host_pid:
        pid = NamespaceMode.NODE
    elif spec.share_process_namespace:
        pid = NamespaceMode.POD
    return NamespaceOption(
        network=NamespaceMode.NODE if spec.host_network else NamespaceMode.POD,
        ipc=NamespaceMode.NODE if spec.host_ipc else NamespaceMode.POD,
        pid=pid,
    )


def container_security(pod: Pod, container: Container, image: ImageConfig) -> ContainerSecurity:
    """Raises ConfigError where runAsNonRoot does not hold."""
    shared = pod.spec.security_context or PodSecurityContext()
    own = container.security_context or SecurityContext()
    user = own.run_as_user if own.run_as_user is not None else shared.run_as_user
    group = own.run_as_group if own.run_as_group is not None else shared.run_as_group
    non_root = own.run_as_non_root if own.run_as_non_root is not None else shared.run_as_non_root
    if non_root:
        _require_non_root(pod, container, user, image.user)
    groups = list(shared.supplemental_groups)
    if shared.fs_group is not None:
        groups.append(shared.fs_group)
    capabilities = own.capabilities or Capabilities()
    privileged = bool(own.privileged)
    unmasked = own.proc_mount == "Unmasked"
    return ContainerSecurity(
        privileged=privileged,
        add_capabilities=[_capability(name) for name in capabilities.add],
        drop_capabilities=[_capability(name) for name in capabilities.drop],
        run_as_user=user,
        run_as_group=group,
        supplemental_groups=groups,
        supplemental_groups_policy=shared.supplemental_groups_policy or "Merge",
        readonly_rootfs=bool(own.read_only_root_filesystem),
        no_new_privs=own.allow_privilege_escalation is False,
        masked_paths=[] if unmasked else None,
        readonly_paths=[] if unmasked else None,
        seccomp=_seccomp(own.seccomp_profile or shared.seccomp_profile, privileged),
        namespaces=namespaces(pod),
    )


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _seccomp(profile: SeccompProfile | None, privileged: bool) -> Seccomp:
    if profile is None or privileged:
        return Seccomp()
    return Seccomp(profile=profile.type)


def _require_non_root(pod: Pod, container: Container, user: int | None, image_user: str) -> None:
    where = f'(pod: "{describe(pod)}", container: {container.name})'
    if user is not None:
        if user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    name = image_user.partition(":")[0]
    if name and not (name.isascii() and name.isdecimal()):
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {where}"
        )
    if not name.strip("0"):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def is_privileged(pod: Pod) -> bool:
    """Whether any container of the Pod is privileged: then its sandbox is."""
    containers = [*pod.spec.init_containers, *pod.spec.containers]
    return any(c.security_context is not None and c.security_context.privileged for c in containers)
