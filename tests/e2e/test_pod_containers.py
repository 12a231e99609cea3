"""What a container gets: its environment, its user and rights, its share of the node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.pods import RUN, container, items, mount, object_, pod


def finished(cluster: Cluster, name: str = "p", *argv: str) -> list[str]:
    """The lines of a Pod's log, once it has succeeded."""
    cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    return cluster.logs(name, *argv).splitlines()


def test_the_environment(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        items(
            object_("ConfigMap", "c", data={"COLOUR": "red", "SIZE": "9"}),
            object_("Secret", "s", stringData={"PASSWORD": "wonderland"}),
            object_("Service", "web-site", spec={"ports": [{"port": 80}]}),
        )
    )
    env: list[dict[str, Any]] = [
        {"name": "PLAIN", "value": "v"},
        {"name": "EXPANDED", "value": "$(PLAIN)-$(COLOUR)-$$(PLAIN)-$(UNKNOWN)"},
        {"name": "SIZE", "value": "overridden"},
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "COLOUR"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "PASSWORD"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "absent", "optional": True}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
    ]
    sources = [
        {"configMapRef": {"name": "c"}},
        {"prefix": "S_", "secretRef": {"name": "s"}},
        {"configMapRef": {"name": "absent", "optional": True}},
    ]
    main = {
        **container(env=env, envFrom=sources, workingDir="/tmp"),
        "command": ["sh", "-c", 'env; echo "ARGS=$0,$1"; echo "CWD=$(pwd)"'],
        "args": ["$(PLAIN)", "$$(PLAIN)"],
    }
    cluster.apply(pod("p", main, restartPolicy="Never", metadata={"labels": {"app": "x"}}))
    seen = dict(line.split("=", 1) for line in finished(cluster))
    found = cluster.get("pod", "p")
    service = cluster.get("service", "web-site")["spec"]["clusterIP"]
    expected = {
        "PLAIN": "v",
        "EXPANDED": "v-red-$(PLAIN)-$(UNKNOWN)",
        "COLOUR": "red",
        "SIZE": "overridden",
        "ONE": "red",
        "KEY": "wonderland",
        "S_PASSWORD": "wonderland",
        "LABEL": "x",
        "UID": found["metadata"]["uid"],
        "HOST_IP": found["status"]["hostIP"],
        "HOSTNAME": "p",
        "WEB_SITE_SERVICE_HOST": service,
        "WEB_SITE_PORT_80_TCP": f"tcp://{service}:80",
        "ARGS": "v,$(PLAIN)",
        "CWD": "/tmp",
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "MAYBE" not in seen


def test_users_and_groups(cluster: Cluster, namespace: str) -> None:
    look = "id -u; id -g; id -G; stat -c %u:%g:%a /data; touch /data/$(id -u); stat -c %u:%g /data/$(id -u)"
    mounts = [mount("data", "/data")]
    own = container("own", look, volumeMounts=mounts, securityContext={"runAsUser": 2000, "runAsGroup": 2001})
    cluster.apply(
        pod(
            "p",
            container(script=look, volumeMounts=mounts),
            own,
            securityContext={"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 3000, "supplementalGroups": [4000]},
            volumes=[{"name": "data", "emptyDir": {}}],
            restartPolicy="Never",
        )
    )
    main = finished(cluster, "p", "-c", "main")
    assert main[:2] == ["1000", "1001"]
    assert sorted(main[2].split()) == ["1001", "3000", "4000"]
    assert main[3] == "0:3000:2777"
    assert main[4] == "1000:3000"
    assert cluster.logs("p", "-c", "own").splitlines()[:2] == ["2000", "2001"]
    user = cluster.get("pod", "p")["status"]["containerStatuses"][0]["user"]["linux"]
    assert (user["uid"], user["gid"], sorted(user["supplementalGroups"])) == (1000, 1001, [1001, 3000, 4000])


def test_rights(cluster: Cluster, namespace: str) -> None:
    look = (
        "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status; "
        "touch /x 2>/dev/null && echo writable || echo read-only; ls /dev | wc -l; "
        "echo 1 2>/dev/null > /proc/sys/kernel/domainname && echo free || echo guarded"
    )
    contexts: dict[str, dict[str, Any]] = {
        "plain": {},
        "strict": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "some": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["CHOWN"]}},
        "all": {"privileged": True},
    }
    cluster.apply(
        pod("p", *(container(n, look, securityContext=c) for n, c in contexts.items()), restartPolicy="Never")
    )
    logs = {name: finished(cluster, "p", "-c", name) for name in contexts}
    caps = {name: int(lines[0].split()[1], 16) for name, lines in logs.items()}
    # The default set of every container runtime: CHOWN ... SETFCAP.
    assert caps["plain"] == 0xA80425FB
    assert caps["strict"] == 0
    assert caps["some"] == 0xA80425FB & ~1 | 1 << 12
    assert bin(caps["all"]).count("1") > bin(caps["plain"]).count("1")
    assert [logs[n][1].split()[1] for n in contexts] == ["0", "1", "0", "0"]
    assert [logs[n][2].split()[1] for n in contexts] == ["0", "2", "0", "0"]
    assert [logs[n][3] for n in contexts] == ["writable", "read-only", "writable", "writable"]
    assert int(logs["all"][4]) > int(logs["plain"][4])
    assert [logs[n][5] for n in contexts] == ["guarded", "guarded", "guarded", "free"]


def cgroup_file(cluster: Cluster, container_id: str, controller: str, name: str) -> str:
    """A file of the container's control group."""
    root = Path("/sys/fs/cgroup") / controller
    (found,) = [path for path in root.rglob(f"*{container_id}*") if (path / name).exists()]
    return (found / name).read_text().strip()


@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="the machine has control groups of version 2")
def test_resources_become_control_groups(cluster: Cluster, namespace: str) -> None:
    sizes = {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "250m", "memory": "32Mi"}}
    cluster.apply(items(pod("p", container(resources=sizes)), pod("free")))
    cluster.wait("pods", "condition=Ready", "--all")
    found = cluster.get("pod", "p")
    uid = found["metadata"]["uid"]
    identifier = found["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    assert cgroup_file(cluster, identifier, "memory", "memory.limit_in_bytes") == str(32 << 20)
    assert cgroup_file(cluster, identifier, "cpu", "cpu.cfs_quota_us") == "25000"
    assert cgroup_file(cluster, identifier, "cpu", "cpu.cfs_period_us") == "100000"
    assert cgroup_file(cluster, identifier, "cpu", "cpu.shares") == "102"
    # The Pod as a whole is bounded, too, below its quality of service.
    assert cgroup_file(cluster, f"pod{uid}", "memory", "memory.limit_in_bytes") == str(32 << 20)
    (group,) = [path for path in Path("/sys/fs/cgroup/cpu").rglob(f"pod{uid}") if path.is_dir()]
    assert group.parent.name == "burstable"
    assert found["status"]["qosClass"] == "Burstable"
    free = cluster.get("pod", "free")["status"]
    assert free["qosClass"] == "BestEffort"
    other = free["containerStatuses"][0]["containerID"].rpartition("/")[2]
    assert cgroup_file(cluster, other, "cpu", "cpu.shares") == "2"
    assert cgroup_file(cluster, other, "cpu", "cpu.cfs_quota_us") == "-1"


def test_running_out_of_memory_ends_the_container(cluster: Cluster, namespace: str) -> None:
    greedy = container("greedy", "exec tail /dev/zero", resources={"limits": {"memory": "16Mi"}})
    cluster.apply(pod("p", greedy, container("other"), restartPolicy="Never"))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[?(@.name=='greedy')].state.terminated.exitCode}=137")
    status = cluster.get("pod", "p")["status"]
    by_name = {s["name"]: s["state"] for s in status["containerStatuses"]}
    assert by_name["greedy"]["terminated"]["reason"] == "OOMKilled"
    assert "running" in by_name["other"]
    assert re.search(r"^p +1/2 +OOMKilled +0 ", cluster.kubectl("get", "pods"), re.MULTILINE)


def test_sysctls_of_the_pod(cluster: Cluster, namespace: str) -> None:
    sysctls = [{"name": "net.ipv4.ip_local_port_range", "value": "40000 50000"}]
    look = "cat /proc/sys/net/ipv4/ip_local_port_range; " + "exit 0"
    cluster.apply(pod("p", container(script=look), securityContext={"sysctls": sysctls}, restartPolicy="Never"))
    assert finished(cluster)[0].split() == ["40000", "50000"]


def test_the_images_own_user_entrypoint_and_directory(cluster: Cluster, namespace: str) -> None:
    redis = {"name": "main", "image": "redis", "imagePullPolicy": "IfNotPresent"}
    cluster.apply(
        items(pod("image", redis), pod("args", {**redis, "command": ["sh"], "args": ["-c", f"id -u; pwd; {RUN}"]}))
    )
    cluster.wait("pods", "condition=Ready", "--all")
    status = cluster.get("pod", "image")["status"]["containerStatuses"][0]
    assert status["user"]["linux"]["uid"] == 999
    with cluster.kubectl_lines("logs", "-f", "args") as lines:
        assert [next(lines), next(lines)] == ["999", "/data"]
