"""The example manifests, applied as they are."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.support.cluster import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_nginx_runs_and_answers(cluster: Cluster, namespace: str) -> None:
    assert cluster.kubectl("apply", "-f", str(EXAMPLES / "nginx.yaml")) == "pod/nginx created\n"
    cluster.wait("pod/nginx", "condition=Ready")
    assert cluster.kubectl("get", "pod", "nginx", "-o", "jsonpath={.status.phase}") == "Running"
    ip = cluster.get("pod", "nginx")["status"]["podIP"]
    with urllib.request.urlopen(f"http://{ip}/", timeout=10) as answer:
        page = answer.read().decode()
    assert "Welcome to nginx!" in page


def test_redis_keeps_its_data_in_an_empty_dir(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-f", str(EXAMPLES / "redis.yaml"))
    cluster.wait("pod/redis", "condition=Ready")
    pod = cluster.get("pod", "redis")
    uid = pod["metadata"]["uid"]
    volume = cluster.data_dir / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "redis-storage"
    assert volume.is_dir()
    cluster.kubectl("delete", "pod", "redis")
    assert not volume.exists()
    assert cluster.leftovers(uid) == []


def test_the_downward_api_fills_the_environment(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-f", str(EXAMPLES / "downward-env.yaml"))
    cluster.wait("pod/test", "jsonpath={.status.phase}=Succeeded")
    env = dict(line.split("=", 1) for line in cluster.logs("test").splitlines() if "=" in line)
    status = cluster.get("pod", "test")["status"]
    first = ".".join([*cluster.service_cidr.split(".")[:3], "1"])
    expected = {
        "HOSTNAME": "test",
        "MY_NODE_NAME": cluster.node,
        "MY_POD_NAME": "test",
        "MY_POD_NAMESPACE": namespace,
        "MY_POD_IP": status["podIP"],
        "MY_POD_SERVICE_ACCOUNT": "default",
        "MY_CPU_REQUEST": "1",
        "MY_CPU_LIMIT": "1",
        "MY_MEM_REQUEST": str(32 << 20),
        "MY_MEM_LIMIT": str(64 << 20),
        "KUBERNETES_SERVICE_HOST": first,
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        "KUBERNETES_PORT": f"tcp://{first}:443",
        "KUBERNETES_PORT_443_TCP": f"tcp://{first}:443",
        "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
        "KUBERNETES_PORT_443_TCP_PORT": "443",
        "KUBERNETES_PORT_443_TCP_ADDR": first,
    }
    assert {name: env.get(name) for name in expected} == expected
