"""What the containers of one Pod share, what two Pods do not, and what a Pod may have of its node."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.pods import RUN, container, items, mount, pod

# BusyBox has no ipcmk and no ipcs: the node's is run in the namespaces of the container, and the kernel is asked.
MAKE_SHM = "chroot /node ipcmk -M 64 >/dev/null"
NODE = {"name": "node", "hostPath": {"path": "/"}}
ON_NODE = mount("node", "/node", readOnly=True)
SHM_IDS = "echo shm $(awk '$4 == 64 {print $2}' /proc/sysvipc/shm)"


def finished(cluster: Cluster, name: str) -> str:
    """The log of a Pod, once it has succeeded."""
    cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    return cluster.logs(name, "-c", "main")


def once(script: str, **fields: Any) -> dict[str, Any]:
    """The main container of a Pod that does one thing."""
    return container(script=script, **fields)


def test_containers_of_a_pod_share_network_ipc_and_volumes(cluster: Cluster, namespace: str) -> None:
    offers = (
        f"echo by file > /scratch/file; echo by memory > /dev/shm/message; {MAKE_SHM}; echo ready > /scratch/ready; "
        "exec httpd -f -p 127.0.0.1:8080 -h /scratch"
    )
    takes = (
        "until wget -qO /dev/null http://localhost:8080/ready; do sleep 0.05; done 2>/dev/null; "
        f"wget -qO - http://localhost:8080/file; cat /their/file /dev/shm/message; {SHM_IDS}; hostname; {RUN}"
    )
    volumes = [{"name": "scratch", "emptyDir": {}}, NODE]
    server = container("server", offers, volumeMounts=[mount("scratch", "/scratch"), ON_NODE])
    client = container("client", takes, volumeMounts=[mount("scratch", "/their")])
    cluster.apply(pod("talk", server, client, volumes=volumes, terminationGracePeriodSeconds=0))
    cluster.wait("pod/talk", "condition=Ready")
    with cluster.kubectl_lines("logs", "-f", "talk", "-c", "client") as lines:
        seen = [next(lines) for _ in range(5)]
    assert seen[:3] == ["by file", "by file", "by memory"]
    assert re.fullmatch(r"shm \d+", seen[3])
    assert seen[4] == "talk"
    # Another Pod has a loopback, shared memory and volumes of its own.
    alone = (
        "ls /dev/shm /scratch; " + SHM_IDS + "; wget -qO - http://127.0.0.1:8080/file 2>&1 || echo no answer; hostname"
    )
    apart = once(alone, volumeMounts=[mount("scratch", "/scratch")])
    cluster.apply(pod("apart", apart, volumes=volumes, restartPolicy="Never"))
    told = finished(cluster, "apart").splitlines()
    assert told[:3] == ["/dev/shm:", "", "/scratch:"]
    assert told[3] == "shm"
    assert "Connection refused" in told[4]
    assert told[5:] == ["no answer", "apart"]


def test_process_namespaces_are_shared_only_on_request(cluster: Cluster, namespace: str) -> None:
    marked = container("other", "exec sleep 31415")
    look = "ps -o pid,args; echo end; exec sleep 9999"
    for name, shared in (("shared", True), ("separate", False)):
        both = [marked, container(script=look)]
        cluster.apply(pod(name, *both, shareProcessNamespace=shared, terminationGracePeriodSeconds=0))
        cluster.wait(f"pod/{name}", "condition=Ready")
        with cluster.kubectl_lines("logs", "-f", name, "-c", "main") as lines:
            table = [line.split(None, 1) for line in iter(lines.__next__, "end")]
        first = next(args for pid, args in table if pid == "1")
        others = [args for pid, args in table if "31415" in args]
        if shared:
            assert others == ["sleep 31415"]
            assert "sleep" not in first
        else:
            assert others == []
            assert first.startswith("sh -c")


def test_a_pod_may_have_the_namespaces_of_its_node(cluster: Cluster, namespace: str) -> None:
    segment = subprocess.run(["ipcmk", "-M", "64"], capture_output=True, text=True, check=True).stdout.split()[-1]
    try:
        process = os.getpid()
        look = f"ls -d /proc/{process} 2>/dev/null; {SHM_IDS}; cat /proc/net/dev; hostname"
        asked: dict[str, Any] = {
            "none": {},
            "pid": {"hostPID": True},
            "ipc": {"hostIPC": True},
            "net": {"hostNetwork": True},
        }
        cluster.apply(items(*(pod(name, once(look), restartPolicy="Never", **more) for name, more in asked.items())))
        logs = {name: finished(cluster, name) for name in ("none", "pid", "ipc", "net")}
    finally:
        subprocess.run(["ipcrm", "-m", segment], check=True)
    assert [name for name in logs if f"/proc/{process}\n" in logs[name]] == ["pid"]
    segments = {name: logs[name].partition("shm")[2].splitlines()[0].split() for name in logs}
    assert [name for name in logs if segment in segments[name]] == ["ipc"]
    assert [name for name in logs if f"{cluster.bridge}:" in logs[name]] == ["net"]
    assert {name: logs[name].splitlines()[-1] for name in logs} == {
        "none": "none",
        "pid": "pid",
        "ipc": "ipc",
        "net": socket.gethostname(),
    }
    status = cluster.get("pod", "net")["status"]
    assert status["podIP"] == status["hostIP"]


def test_names_and_resolver(cluster: Cluster, namespace: str) -> None:
    look = "cat /etc/hosts; echo --; cat /etc/resolv.conf; echo --; hostname; hostname -f"
    own = once(look)
    dns = {
        "nameservers": ["192.0.2.53"],
        "searches": ["one.example", "two.example"],
        "options": [{"name": "ndots", "value": "3"}],
    }
    aliases = [{"ip": "10.1.2.3", "hostnames": ["db", "db.example"]}]
    fields: dict[str, Any] = {
        "hostAliases": aliases,
        "hostname": "web",
        "subdomain": "sites",
        "dnsPolicy": "None",
        "dnsConfig": dns,
    }
    cluster.apply(pod("p", own, restartPolicy="Never", **fields))
    hosts, resolver, names = finished(cluster, "p").split("--\n")
    ip = cluster.get("pod", "p")["status"]["podIP"]
    assert hosts.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    full = f"web.sites.{namespace}.svc.cluster.local"
    assert f"\n{ip}\t{full}\tweb\n" in hosts
    assert hosts.endswith("\n# Entries added by HostAliases.\n10.1.2.3\tdb\tdb.example\n")
    assert resolver.splitlines() == ["search one.example two.example", "nameserver 192.0.2.53", "options ndots:3"]
    assert names.splitlines() == ["web", full]
    # A name too long for a host name is cut.
    long = "a-name-of-more-than-sixty-three-characters-which-is-too-long-for-a-host"
    cluster.apply(pod(long, once("hostname"), restartPolicy="Never"))
    assert finished(cluster, long) == long[:63] + "\n"


@pytest.fixture
def node_server(cluster: Cluster) -> Iterator[str]:
    """An HTTP server of the node, at its address on the Pods' bridge."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the node answers " + self.client_address[0].encode() + b"\n")

        def log_message(self, *args: object) -> None:
            pass

    gateway = str(next(ip_network(cluster.pod_cidr).hosts()))
    # The bridge comes with the first Pod; binding to all addresses needs none.
    with ThreadingHTTPServer(("", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{gateway}:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pods_and_node_reach_each_other_by_address(cluster: Cluster, namespace: str, node_server: str) -> None:
    serve = "echo I am $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    cluster.apply(pod("server", container(script=serve), terminationGracePeriodSeconds=0))
    cluster.wait("pod/server", "condition=Ready")
    ip = cluster.get("pod", "server")["status"]["podIP"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answer() -> str:
        text: bytes = opener.open(f"http://{ip}:8080/", timeout=10).read()
        return text.decode()

    fetch = f"until wget -qO - http://{ip}:8080/ 2>/dev/null; do sleep 0.05; done; wget -qO - http://{node_server}/"
    cluster.apply(pod("client", once(fetch), restartPolicy="Never"))
    told = finished(cluster, "client")
    client_ip = cluster.get("pod", "client")["status"]["podIP"]
    assert told == f"I am server\nthe node answers {client_ip}\n"
    assert answer() == "I am server\n"
    # A Pod reaches itself by its own address as well.
    assert {ip, client_ip} <= {str(address) for address in ip_network(cluster.pod_cidr).hosts()}
    assert ip != client_ip


def test_host_ports_lead_to_the_pod(cluster: Cluster, namespace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    serve = "echo by host port > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    ports = [{"containerPort": 8080, "hostPort": port, "hostIP": "127.0.0.1"}]
    cluster.apply(pod("p", container(script=serve, ports=ports), terminationGracePeriodSeconds=0))
    cluster.wait("pod/p", "condition=Ready")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"by host port\n"
    cluster.apply(pod("q", container(script=serve, ports=ports)))
    cluster.wait("pod/q", "condition=PodScheduled=false")
    (condition,) = cluster.get("pod", "q")["status"]["conditions"]
    assert condition["message"].startswith(
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    )
