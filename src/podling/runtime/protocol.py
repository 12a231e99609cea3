"""What the kubelet asks of a container runtime: an async protocol shaped like CRI v1.

Source of names and semantics: the CRI v1 API (k8s.io/cri-api, runtime.v1 RuntimeService and ImageService). Messages are
plain structs; enums are strings. Times are nanoseconds since the epoch, memory is in bytes, CPU time in nanoseconds.
A runtime knows nothing of PodSpec: whatever it needs is in the configurations given here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct, field


class CRIError(Exception):
    """A runtime operation failed. `reason` is a CamelCase word for machines, `message` a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class NotFound(CRIError):
    """The sandbox, container or image does not exist (gRPC NOT_FOUND in CRI)."""

    def __init__(self, message: str) -> None:
        super().__init__("NotFound", message)


class ImagePullError(CRIError):
    """A pull failed. `reason` is one of ErrImagePull, InvalidImageName, RegistryUnavailable, SignatureValidationFailed."""


class SandboxState(StrEnum):
    READY = "SANDBOX_READY"
    NOT_READY = "SANDBOX_NOTREADY"


class ContainerState(StrEnum):
    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"


class NamespaceMode(StrEnum):
    """Where a namespace of a container comes from: its Pod, itself, the node, or another container (target_id)."""

    POD = "POD"
    CONTAINER = "CONTAINER"
    NODE = "NODE"
    TARGET = "TARGET"


class NamespaceOption(Struct, kw_only=True):
    network: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    target_id: str = ""


class MountPropagation(StrEnum):
    PRIVATE = "PROPAGATION_PRIVATE"
    HOST_TO_CONTAINER = "PROPAGATION_HOST_TO_CONTAINER"
    BIDIRECTIONAL = "PROPAGATION_BIDIRECTIONAL"


class SandboxMetadata(Struct, kw_only=True, frozen=True):
    """Identifies the Pod; `attempt` counts the sandboxes made for it."""

    name: str
    namespace: str
    uid: str
    attempt: int = 0


class ContainerMetadata(Struct, kw_only=True, frozen=True):
    name: str
    attempt: int = 0


class PortMapping(Struct, kw_only=True):
    protocol: str = "TCP"
    container_port: int = 0
    host_port: int = 0
    host_ip: str = ""


class DNSConfig(Struct, kw_only=True):
    """The content of /etc/resolv.conf. All empty means that the runtime writes no such file."""

    servers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


class LinuxResources(Struct, kw_only=True):
    """cgroup settings; None leaves the kernel's default. `cpu_period` and `cpu_quota` in µs, `memory_limit` in bytes."""

    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    memory_limit: int | None = None
    oom_score_adj: int | None = None
    pids_limit: int | None = None
    hugepage_limits: dict[str, int] = field(default_factory=dict)
    """Page size as the kernel names it ("2MB") to bytes."""


class SandboxConfig(Struct, kw_only=True):
    metadata: SandboxMetadata
    hostname: str = ""
    """Empty for a Pod in the host's network: it keeps the host's name."""
    log_directory: str = ""
    """Container log paths are relative to it."""
    dns: DNSConfig | None = None
    port_mappings: list[PortMapping] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    """The Pod's cgroup, made by the kubelet, below each hierarchy's root: "/podling/burstable/pod<uid>"."""
    namespaces: NamespaceOption = field(default_factory=NamespaceOption)
    sysctls: dict[str, str] = field(default_factory=dict)
    privileged: bool = False


class Mount(Struct, kw_only=True):
    container_path: str
    host_path: str
    readonly: bool = False
    recursive_read_only: bool = False
    propagation: MountPropagation = MountPropagation.PRIVATE
    image: str = ""
    """For image volumes: mount this image's content instead of host_path."""
    image_sub_path: str = ""


class Device(Struct, kw_only=True):
    container_path: str
    host_path: str
    permissions: str = "rwm"


class Seccomp(Struct, kw_only=True):
    """`profile` is RuntimeDefault, Unconfined or Localhost; `path` is the file of a Localhost profile."""

    profile: str = "Unconfined"
    path: str = ""


class ContainerSecurity(Struct, kw_only=True):
    privileged: bool = False
    add_capabilities: list[str] = field(default_factory=list)
    """Without the CAP_ prefix; "ALL" means all."""
    drop_capabilities: list[str] = field(default_factory=list)
    run_as_user: int | None = None
    run_as_username: str = ""
    run_as_group: int | None = None
    supplemental_groups: list[int] = field(default_factory=list)
    supplemental_groups_policy: str = "Merge"
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    masked_paths: list[str] | None = None
    """None: the runtime's default list."""
    readonly_paths: list[str] | None = None
    seccomp: Seccomp = field(default_factory=Seccomp)
    apparmor_profile: str = ""
    namespaces: NamespaceOption = field(default_factory=NamespaceOption)


class ContainerConfig(Struct, kw_only=True):
    metadata: ContainerMetadata
    image: str
    """The image's ID, as image_status returned it."""
    command: list[str] = field(default_factory=list)
    """Replaces the image's entrypoint; then the image's cmd does not count."""
    args: list[str] = field(default_factory=list)
    working_dir: str = ""
    env: list[tuple[str, str]] = field(default_factory=list)
    """Over the image's own environment. The order is kept, the last of equal names wins."""
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    log_path: str = ""
    """Relative to the sandbox's log_directory; CRI log format."""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: LinuxResources = field(default_factory=LinuxResources)
    security: ContainerSecurity = field(default_factory=ContainerSecurity)
    stop_signal: str = ""
    """Over the image's STOPSIGNAL; empty: the image's, else SIGTERM."""


class SandboxStatus(Struct, kw_only=True):
    id: str
    metadata: SandboxMetadata
    state: SandboxState
    created_at: int
    ips: list[str] = field(default_factory=list)
    """Primary address first; empty in the host's network."""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    netns_path: str = ""
    """For kubelet features that enter the Pod's network (probes, port-forward); empty in the host's network."""


class ContainerStatus(Struct, kw_only=True):
    id: str
    sandbox_id: str
    metadata: ContainerMetadata
    state: ContainerState
    created_at: int
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    """128 + signal number for a process that died of a signal."""
    reason: str = ""
    """Completed, Error, OOMKilled, ContainerCannotRun, or ContainerStatusUnknown."""
    message: str = ""
    image: str = ""
    """As the user wrote it."""
    image_ref: str = ""
    """A digest reference (repo@sha256:...) or the image's ID where it has none."""
    image_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    log_path: str = ""
    """Absolute path on the node."""
    pid: int = 0
    stop_signal: str = ""
    """The signal that stop_container sends first: SIGTERM, ..."""
    resources: LinuxResources | None = None
    user: tuple[int, int, list[int]] | None = None
    """uid, gid, supplementary groups of the first process, once known."""
    mounts: list[Mount] = field(default_factory=list)
    """As the configuration asked for them."""


class EventType(StrEnum):
    CREATED = "CONTAINER_CREATED_EVENT"
    STARTED = "CONTAINER_STARTED_EVENT"
    STOPPED = "CONTAINER_STOPPED_EVENT"
    DELETED = "CONTAINER_DELETED_EVENT"


class ContainerEvent(Struct, kw_only=True):
    container_id: str
    sandbox_id: str
    pod_uid: str
    type: EventType
    created_at: int


class ImageConfig(Struct, kw_only=True):
    """What the kubelet needs of an image's configuration (OCI image-spec, config.md)."""

    user: str = ""
    """As the image has it: "", "1000", "1000:1000", "redis"."""
    env: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    working_dir: str = ""
    volumes: list[str] = field(default_factory=list)
    stop_signal: str = ""


class Image(Struct, kw_only=True):
    id: str
    """sha256:<hex> of the configuration; of an artifact, of the manifest."""
    repo_tags: list[str] = field(default_factory=list)
    repo_digests: list[str] = field(default_factory=list)
    size: int = 0
    """Bytes that it takes on the disk, with the layers that it shares."""
    pinned: bool = False
    config: ImageConfig = field(default_factory=ImageConfig)
    artifact: bool = False
    """An OCI artifact: files for a volume, without a root file system. An extension of CRI's message."""


class AuthConfig(Struct, kw_only=True):
    """Credentials of one registry. Never logged: repr hides them."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server_address: str = ""

    def __repr__(self) -> str:
        return f"AuthConfig(server_address={self.server_address!r}, ...)"


class ContainerStats(Struct, kw_only=True):
    id: str
    metadata: ContainerMetadata
    timestamp: int
    cpu_usage_core_ns: int
    memory_working_set: int
    memory_usage: int
    memory_rss: int
    writable_layer_bytes: int = 0
    writable_layer_inodes: int = 0


class FilesystemUsage(Struct, kw_only=True):
    timestamp: int
    mountpoint: str
    used_bytes: int
    inodes_used: int


class ExecResult(Struct, kw_only=True):
    stdout: bytes
    stderr: bytes
    exit_code: int


class RuntimeCondition(Struct, kw_only=True):
    """`type` is RuntimeReady or NetworkReady."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


class RuntimeVersion(Struct, kw_only=True):
    runtime_name: str
    runtime_version: str
    runtime_api_version: str = "v1"


class RuntimeService(Protocol):
    """CRI RuntimeService. Stop and remove are idempotent; removing what is gone is no error."""

    async def version(self) -> RuntimeVersion: ...

    async def status(self) -> Sequence[RuntimeCondition]: ...

    async def run_pod_sandbox(self, config: SandboxConfig, runtime_handler: str = "") -> str: ...

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kills what still runs in it and releases the network. Idempotent."""

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Removes it with all its containers; nothing of it remains on the node."""

    async def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus: ...

    async def list_pod_sandbox(self, pod_uid: str = "") -> Sequence[SandboxStatus]: ...

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """Sends the stop signal, waits, then SIGKILL. Returns when the container has exited."""

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> ContainerStatus: ...

    async def list_containers(self, sandbox_id: str = "", pod_uid: str = "") -> Sequence[ContainerStatus]: ...

    async def update_container_resources(self, container_id: str, resources: LinuxResources) -> None: ...

    async def reopen_container_log(self, container_id: str) -> None: ...

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_seconds: float) -> ExecResult: ...

    async def container_stats(self, container_id: str) -> ContainerStats: ...

    def events(self) -> AsyncIterator[ContainerEvent]:
        """Events from the moment of the first `anext`; a consumer lists first what was there before."""


class ImageService(Protocol):
    """CRI ImageService."""

    async def list_images(self) -> Sequence[Image]: ...

    async def image_status(self, image: str) -> Image | None:
        """By name, digest reference or ID; None when it is not on the node."""

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        on_start: Callable[[], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> str:
        """Returns the image's ID. Raises ImagePullError.

        `on_start` is called when the transfer begins, after waiting for other pulls; never, if there is none.
        `on_progress` is called now and then while the transfer goes on, with the bytes that have arrived so
        far; of a transfer that others share, for each of them. A runtime that cannot tell never calls it.
        """

    async def remove_image(self, image: str) -> None: ...

    async def image_fs_info(self) -> FilesystemUsage: ...


class NetworkPlugin(Protocol):
    """Gives a sandbox its network: the built-in bridge or CNI."""

    async def setup(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> list[str]:
        """Makes interfaces, addresses and routes (loopback included); returns the addresses, primary first."""

    async def teardown(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> None:
        """Idempotent; works also when the namespace is gone. Frees addresses, links and host-port rules."""

    async def status(self) -> RuntimeCondition: ...
