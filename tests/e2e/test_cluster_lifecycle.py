"""`podling up`, `down`, `reset`, `status` and `kubeconfig`, on clusters of these tests' own."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.cluster import Cluster
from tools.registry import Registry

NGINX = (Path(__file__).parents[2] / "examples" / "nginx.yaml").read_text()


@pytest.fixture
def fresh(registry: Registry) -> Iterator[Cluster]:
    """A cluster that was not started yet; gone without a trace after the test."""
    cluster = Cluster(registry.registries_conf)
    yield cluster
    cluster.reset()


def fails(cluster: Cluster, *argv: str, code: int = 1) -> str:
    """The one line that the command says before it leaves with that code."""
    done = cluster.podling(*argv, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def page(cluster: Cluster) -> str:
    address = cluster.get("pod", "nginx")["status"]["podIP"]
    return fetch(address)


def fetch(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    content: bytes = opener.open(f"http://{address}/", timeout=5).read()
    return content.decode()


def start_nginx(cluster: Cluster) -> str:
    """Its container's ID."""
    cluster.apply(NGINX)
    cluster.wait("pod/nginx", "condition=Ready")
    assert "Welcome to nginx" in page(cluster)
    return container(cluster)


def container(cluster: Cluster) -> str:
    status = cluster.get("pod", "nginx")["status"]["containerStatuses"][0]
    assert status["restartCount"] == 0
    return str(status["containerID"])


def test_up_starts_what_is_missing_and_remembers_its_flags(fresh: Cluster) -> None:
    fresh.up()
    server, agent = fresh.pid("server"), fresh.pid("agent")
    data_dir = str(fresh.data_dir)
    assert "is up already" in fresh.podling("up", "--data-dir", data_dir).stdout
    fresh.kill("agent")
    fresh.podling("up", "--data-dir", data_dir)
    assert fresh.pid("server") == server
    assert fresh.pid("agent") != agent
    fresh.podling("down", "--data-dir", data_dir)
    fresh.podling("up", "--data-dir", data_dir)
    assert json.loads(fresh.kubectl("config", "view", "-o", "json"))["clusters"][0]["cluster"]["server"].endswith(
        f":{fresh.port}"
    )
    assert fresh.get("node", fresh.node)["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == fresh.agent_port


def test_two_that_start_it_at_once_both_find_it_ready(fresh: Cluster) -> None:
    with ThreadPoolExecutor() as pool:
        starts = [pool.submit(fresh.podling, "up", *fresh.up_flags) for _ in range(3)]
        said = sorted(start.result().stdout for start in starts)
    assert sum("is up after" in text for text in said) == 1
    assert sum("is up already" in text for text in said) == 2
    fresh.up()
    assert fresh.get("node", fresh.node)["status"]["conditions"]


def test_containers_outlive_down_and_kill(fresh: Cluster) -> None:
    fresh.up()
    before = start_nginx(fresh)
    address = fresh.get("pod", "nginx")["status"]["podIP"]
    assert "Containers go on running" in fresh.podling("down", "--data-dir", str(fresh.data_dir)).stdout
    assert "Welcome to nginx" in fetch(address)
    fresh.up()
    assert container(fresh) == before
    for name in ("server", "agent"):
        fresh.kill(name)
    assert "Welcome to nginx" in fetch(address)
    fresh.up()
    assert container(fresh) == before
    assert "Welcome to nginx" in page(fresh)


def test_reset_removes_everything_after_a_kill(fresh: Cluster) -> None:
    fresh.up()
    start_nginx(fresh)
    for name in ("server", "agent"):
        fresh.kill(name)
    fresh.podling("reset", "--data-dir", str(fresh.data_dir))
    assert not fresh.leftovers()
    assert not fresh.data_dir.exists()
    assert not fresh.run_dir.exists()
    assert "Nothing to remove" in fresh.podling("reset", "--data-dir", str(fresh.data_dir)).stdout


def test_reset_removes_a_running_cluster(fresh: Cluster) -> None:
    fresh.up()
    start_nginx(fresh)
    fresh.podling("reset", "--data-dir", str(fresh.data_dir))
    assert not fresh.leftovers()


def test_two_clusters_side_by_side_share_nothing(cluster: Cluster, fresh: Cluster, namespace: str) -> None:
    fresh.up()
    start_nginx(fresh)
    cluster.apply(NGINX)
    cluster.wait("pod/nginx", "condition=Ready")
    assert "Welcome to nginx" in page(cluster)
    assert [node["metadata"]["name"] for node in fresh.get("nodes")["items"]] == [fresh.node]
    fresh.podling("reset", "--data-dir", str(fresh.data_dir))
    assert "Welcome to nginx" in page(cluster)


def test_reset_spares_a_cluster_that_has_taken_over_the_name_of_the_bridge(fresh: Cluster) -> None:
    fresh.up()
    config = json.loads((fresh.data_dir / "config.json").read_text())
    before = start_nginx(fresh)
    stale = fresh.directory / "stale"
    stale.mkdir()
    (stale / "config.json").write_text(json.dumps({**config, "run_dir": str(fresh.directory / "stale-run")}))
    assert "is gone" in fresh.podling("reset", "--data-dir", str(stale)).stdout
    assert container(fresh) == before
    assert "Welcome to nginx" in page(fresh)


def test_status_tells_of_processes_node_and_pods(fresh: Cluster) -> None:
    data_dir = ("--data-dir", str(fresh.data_dir))
    assert "no cluster in" in fails(fresh, "status", *data_dir)
    fresh.up()
    start_nginx(fresh)
    told = fresh.podling("status", *data_dir).stdout
    assert f"pid {fresh.pid('server')}" in told
    assert f"{fresh.node} Ready" in told
    assert "1 Running" in told
    fresh.kill("agent")
    assert "agent not running" in fails(fresh, "status", *data_dir)
    fresh.podling("down", *data_dir)
    assert "server and agent not running" in fails(fresh, "status", *data_dir)


def test_the_kubeconfig_is_for_root_only(fresh: Cluster) -> None:
    fresh.up()
    file = fresh.data_dir / "admin.kubeconfig"
    assert file.stat().st_mode & 0o777 == 0o600
    assert fresh.podling("kubeconfig", "--data-dir", str(fresh.data_dir)).stdout == file.read_text()


def test_up_names_what_stands_in_its_way_and_starts_nothing(fresh: Cluster) -> None:
    flags = ["--data-dir", str(fresh.data_dir), "--run-dir", str(fresh.run_dir), "--node-name", fresh.node]
    flags += ["--bridge", fresh.bridge, "--agent-port", str(fresh.agent_port), "--service-cidr", fresh.service_cidr]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} is in use" in fails(fresh, "up", *flags, "--port", port, "--pod-cidr", fresh.pod_cidr)
    flags += ["--port", str(fresh.port)]
    subprocess.run(["ip", "link", "add", f"x{fresh.bridge}", "type", "bridge"], check=True)
    try:
        gateway = fresh.pod_cidr.replace(".0/24", ".77/25")
        subprocess.run(["ip", "address", "add", gateway, "dev", f"x{fresh.bridge}"], check=True)
        subprocess.run(["ip", "link", "set", f"x{fresh.bridge}", "up"], check=True)
        line = fails(fresh, "up", *flags, "--pod-cidr", fresh.pod_cidr)
        assert f"overlaps {fresh.pod_cidr.replace('/24', '/25')} of x{fresh.bridge}" in line
    finally:
        subprocess.run(["ip", "link", "del", f"x{fresh.bridge}"], check=True)
    fresh.data_dir.mkdir()
    (fresh.data_dir / "mine").touch()
    assert 'holds "mine"' in fails(fresh, "up", *flags, "--pod-cidr", fresh.pod_cidr)
    (fresh.data_dir / "mine").unlink()
    assert "no such file" in fails(fresh, "up", *flags, "--registries-conf", "/no/such/file")
    assert "is not installed" in fails(fresh, "up", *flags, "--oci-runtime", "/no/such/runtime")
    assert not (fresh.data_dir / "config.json").exists()


def test_what_pods_depend_on_changes_by_reset_only(fresh: Cluster) -> None:
    fresh.up()
    data_dir = ("--data-dir", str(fresh.data_dir))
    assert "only `podling reset" in fails(fresh, "up", *data_dir, "--bridge", "other0")
    assert "the cluster is up with another --port" in fails(fresh, "up", *data_dir, "--port", "7999")


def test_up_says_why_the_server_does_not_start_and_leaves_nothing_running(fresh: Cluster) -> None:
    fresh.up()
    fresh.down()
    authority = fresh.data_dir / "pki" / "ca.crt"
    content = authority.read_text()
    authority.write_text("broken")
    line = fails(fresh, "up", "--data-dir", str(fresh.data_dir))
    assert line.startswith(f"podling up: server: {authority} is not a certificate in PEM")
    assert str(fresh.data_dir / "logs" / "server.log") in line
    assert "server and agent not running" in fails(fresh, "status", "--data-dir", str(fresh.data_dir))
    authority.write_text(content)
    fresh.up()
