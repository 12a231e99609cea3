"""Where the kubelet keeps the files of a Pod."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from podling.api.core.v1 import Pod


class PodPaths(Struct, frozen=True):
    """`root` holds one directory a Pod (named by UID), `logs` one log directory a Pod."""

    root: Path
    logs: Path

    def directory(self, uid: str) -> Path:
        return self.root / uid

    def volumes(self, uid: str) -> Path:
        return self.root / uid / "volumes"

    def volume(self, uid: str, plugin: str, name: str) -> Path:
        """`plugin` is the volume type as upstream's directories name it: kubernetes.io~empty-dir."""
        return self.volumes(uid) / plugin / name

    def subpaths(self, uid: str) -> Path:
        """Where parts of volumes are mounted for containers that ask for a part only."""
        return self.root / uid / "volume-subpaths"

    def etc_hosts(self, uid: str) -> Path:
        return self.root / uid / "etc-hosts"

    def termination_log(self, uid: str, container: str, attempt: int) -> Path:
        return self.root / uid / "containers" / container / f"{attempt}.termination-log"

    def log_directory(self, namespace: str, name: str, uid: str) -> Path:
        return self.logs / f"{namespace}_{name}_{uid}"

    def pod_logs(self, pod: Pod) -> Path:
        return self.log_directory(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)

    def log_directories(self, uid: str) -> list[Path]:
        """The log directory of a Pod of which only the UID is known."""
        return list(self.logs.glob(f"*_{uid}"))

    @staticmethod
    def log_path(container: str, attempt: int) -> str:
        """Relative to the Pod's log directory."""
        return f"{container}/{attempt}.log"


def describe(pod: Pod) -> str:
    """How messages name a Pod: name_namespace(uid)."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
