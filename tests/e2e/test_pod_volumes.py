"""Volumes: ConfigMaps, Secrets, the downward API and all of them projected, live; emptyDir and hostPath."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from tests.support.pods import RUN, container, items, mount, object_, pod


def finished(cluster: Cluster, name: str) -> list[str]:
    """The lines of a Pod's log, once it has succeeded."""
    cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    return cluster.logs(name).splitlines()


def test_config_maps_and_secrets_as_files(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        items(
            object_("ConfigMap", "c", data={"a": "config a\n", "b": "config b\n"}, binaryData={"bin": "AAEC"}),
            object_("Secret", "s", stringData={"user": "alice\n", "password": "wonderland\n"}),
        )
    )
    volumes: list[dict[str, Any]] = [
        {"name": "all", "configMap": {"name": "c"}},
        {"name": "some", "configMap": {"name": "c", "items": [{"key": "b", "path": "deep/down/file", "mode": 0o400}]}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o440}},
        {"name": "none", "configMap": {"name": "absent", "optional": True}},
    ]
    look = (
        "ls /all; cat /all/a /all/b; wc -c < /all/bin; cat /some/deep/down/file /secret/user; "
        "stat -L -c %a /all/a /some/deep/down/file /secret/password; ls /none; "
        "echo x 2>/dev/null > /all/new || echo read-only; cat /single; mount | grep -c ' /secret type tmpfs'"
    )
    mounts = [mount(v["name"], f"/{v['name']}") for v in volumes] + [mount("all", "/single", subPath="a")]
    cluster.apply(pod("p", container(script=look, volumeMounts=mounts), volumes=volumes, restartPolicy="Never"))
    assert finished(cluster, "p") == [
        *("a", "b", "bin"),
        *("config a", "config b", "3", "config b", "alice"),
        *("644", "400", "440"),
        "read-only",
        "config a",
        "1",
    ]


def test_downward_api_and_projected_volumes(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        items(object_("ConfigMap", "c", data={"k": "config"}), object_("Secret", "s", stringData={"k": "secret"}))
    )
    fields = [
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "one", "fieldRef": {"fieldPath": "metadata.annotations['note']"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
    ]
    sources = [
        {"configMap": {"name": "c", "items": [{"key": "k", "path": "config"}]}},
        {"secret": {"name": "s", "items": [{"key": "k", "path": "secret"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    volumes = [{"name": "down", "downwardAPI": {"items": fields}}, {"name": "all", "projected": {"sources": sources}}]
    look = "cd /down; for f in name labels one cpu; do cat $f; echo; done; cd /all; cat config secret namespace"
    mounts = [mount("down", "/down"), mount("all", "/all")]
    main = container(script=look, volumeMounts=mounts, resources={"limits": {"cpu": "250m"}})
    meta = {"labels": {"b": "2", "a": "1"}, "annotations": {"note": "so be it"}}
    cluster.apply(pod("p", main, metadata=meta, volumes=volumes, restartPolicy="Never"))
    assert finished(cluster, "p") == ["p", 'a="1"', 'b="2"', "so be it", "250", f"configsecret{namespace}"]


def test_changes_reach_running_containers_but_not_sub_paths(cluster: Cluster, namespace: str) -> None:
    cluster.apply(items(object_("ConfigMap", "c", data={"k": "old"}), object_("Secret", "s", stringData={"k": "old"})))
    volumes: list[dict[str, Any]] = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "d", "downwardAPI": {"items": [{"path": "k", "fieldRef": {"fieldPath": "metadata.labels['k']"}}]}},
    ]
    watch = (
        "until [ $(cat /c/k /s/k /d/k | tr -d '\\n') = newnewnew ]; do sleep 0.02; done; "
        f"echo all new; echo single $(cat /single); {RUN}"
    )
    mounts = [*(mount(v["name"], f"/{v['name']}") for v in volumes), mount("c", "/single", subPath="k")]
    main = container(script=watch, volumeMounts=mounts)
    cluster.apply(pod("p", main, volumes=volumes, metadata={"labels": {"k": "old"}}))
    cluster.wait("pod/p", "condition=Ready")
    cluster.apply(items(object_("ConfigMap", "c", data={"k": "new"}), object_("Secret", "s", stringData={"k": "new"})))
    cluster.kubectl("label", "pod", "p", "k=new", "--overwrite")
    with cluster.kubectl_lines("logs", "-f", "p") as lines:
        assert [next(lines), next(lines)] == ["all new", "single old"]


def test_empty_dirs(cluster: Cluster, namespace: str) -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    look = (
        "stat -c %a /disk /memory; mount | grep -o ' /memory type tmpfs'; "
        "dd if=/dev/zero of=/memory/f bs=1k count=2000 2>/dev/null || echo full; stat -c %s /memory/f; "
        "echo kept > /disk/file; ls /disk/sub; echo x 2>/dev/null > /ro/y || echo read-only"
    )
    mounts = [
        *(mount(v["name"], f"/{v['name']}") for v in volumes),
        mount("disk", "/sub", subPath="sub"),
        mount("disk", "/ro", readOnly=True),
    ]
    setup = container("setup", "touch /sub/made; exit 0", volumeMounts=mounts)
    cluster.apply(
        pod(
            "p",
            container(script=look, volumeMounts=mounts),
            initContainers=[setup],
            volumes=volumes,
            restartPolicy="Never",
        )
    )
    assert finished(cluster, "p") == ["777", "777", " /memory type tmpfs", "full", "1048576", "made", "read-only"]
    # An emptyDir outlives its containers, not its Pod.
    again = "n=$(ls /disk | wc -l); touch /disk/$n; echo run $n; [ $n = 1 ] && exec sleep 3600; exit 1"
    main = container(script=again, volumeMounts=[mount("disk", "/disk")])
    cluster.apply(pod("q", main, volumes=volumes[:1], terminationGracePeriodSeconds=0))
    cluster.wait("pod/q", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    cluster.wait("pod/q", "condition=Ready")
    assert cluster.logs("q", "--previous") == "run 0\n"
    with cluster.kubectl_lines("logs", "-f", "q") as lines:
        assert next(lines) == "run 1"


def test_host_paths(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the node\n")
    kinds = {
        "dir": ("dir", "DirectoryOrCreate"),
        "file": ("file", "File"),
        "made": ("made", "FileOrCreate"),
        "any": ("", ""),
    }
    volumes: list[dict[str, Any]] = [
        {"name": name, "hostPath": {"path": str(tmp_path / path), "type": kind}} for name, (path, kind) in kinds.items()
    ]
    device = {"name": "device", "hostPath": {"path": "/dev/null", "type": "CharDevice"}}
    write = "cat /file; echo from the pod > /dir/new; echo more > /made; ls /any; ls -l /device | cut -c1"
    mounts = [mount(name, f"/{name}") for name in (*kinds, "device")]
    main = container(script=write, volumeMounts=mounts)
    cluster.apply(pod("p", main, volumes=[*volumes, device], restartPolicy="Never"))
    assert finished(cluster, "p") == ["of the node", "dir", "file", "made", "c"]
    assert (tmp_path / "dir" / "new").read_text() == "from the pod\n"
    assert (tmp_path / "made").read_text() == "more\n"
    cluster.kubectl("delete", "pod", "p")
    # What belongs to the node stays.
    assert (tmp_path / "file").read_text() == "of the node\n"


def test_sub_path_expressions_and_escapes(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    volume = {"name": "v", "hostPath": {"path": str(tmp_path)}}
    name = {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    main = container(
        script="echo mine > /v/file", env=[name], volumeMounts=[mount("v", "/v", subPathExpr="logs/$(NAME)")]
    )
    cluster.apply(pod("p", main, volumes=[volume], restartPolicy="Never"))
    finished(cluster, "p")
    assert (tmp_path / "logs" / "p" / "file").read_text() == "mine\n"
    # A link out of the volume leads nowhere.
    (tmp_path / "out").symlink_to("/etc")
    main = container(script="ls /v", volumeMounts=[mount("v", "/v", subPath="out")])
    cluster.apply(pod("q", main, volumes=[volume]))
    cluster.wait("pod/q", "jsonpath={.status.containerStatuses[0].state.waiting.message}")
    (status,) = cluster.get("pod", "q")["status"]["containerStatuses"]
    assert status["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert re.search(
        'failed to prepare subPath for volumeMount "v" of container "main"', status["state"]["waiting"]["message"]
    )
