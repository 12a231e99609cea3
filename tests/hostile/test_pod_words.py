"""A Pod author who writes what the agent reads as root: paths, names, numbers and annotations that lead elsewhere.

A canary lies where such a path would end. Each Pod either fails with a reason, or runs and has got nothing.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.images import busybox_layer, push
from tests.support.pod_end import create, end_of, ended
from tests.support.pods import container, mount, pod
from tools.registry import Registry

Run = Callable[[dict[str, Any]], dict[str, Any]]
"""Create the Pod and return it once it has ended."""


@pytest.fixture(scope="module")
def canary() -> Iterator[Path]:
    """A directory of the machine that nobody may read through a Pod, let alone write."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="podling-canary-") as directory:
        path = Path(directory)
        (path / "secret").write_text("canary\n")
        yield path
        assert [(entry.name, entry.read_text()) for entry in path.iterdir()] == [("secret", "canary\n")]


def nft(*args: str) -> str:
    return subprocess.run(["nft", *args], capture_output=True, text=True, check=True).stdout


def nft_tables(cluster: Cluster) -> list[str]:
    """The machine's tables but for those of other clusters, which come and go beside this one."""
    own = f"podling-{cluster.bridge}"
    return [line for line in nft("list", "tables").splitlines() if " podling-" not in line or line.endswith(f" {own}")]


# paths


@pytest.mark.parametrize("form", ["..{0}", "../../../../../../../../..{0}", "/proc/1/root{0}", "/proc/self/cwd/..{0}"])
def test_a_termination_message_path_ends_in_the_container(
    cluster: Cluster, admin: Https, canary: Path, form: str
) -> None:
    path = form.format(canary / "secret")
    end_of(cluster, admin, pod(unique("p"), container(script="true", terminationMessagePath=path)))
    assert (canary / "secret").read_text() == "canary\n"


def test_a_termination_message_is_never_read_through_a_link(cluster: Cluster, admin: Https, canary: Path) -> None:
    """The file is mounted: what lies in its place cannot be replaced by a link."""
    swap = f"rm -f /dev/termination-log; ln -sf {canary}/secret /dev/termination-log; echo mine > /dev/termination-log; exit 1"
    name = unique("p")
    create(admin, "default", pod(name, container(script=swap), restartPolicy="Never"))
    over = ended(admin, "default", name)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert "canary" not in over.get("message", "")


@pytest.mark.parametrize(
    "directory",
    [
        *(f"/proc/self/fd/{number}" for number in range(3, 13)),
        "/proc/1/cwd",
        "/proc/1/root",
        "../../../..",
        "/proc/self/root",
    ],
)
def test_a_working_directory_is_in_the_container(cluster: Cluster, admin: Https, canary: Path, directory: str) -> None:
    look = f"cat ../../../../../../../..{canary}/secret .{canary}/secret; ls -d ../../../var/tmp/podling*; true"
    _, said = end_of(cluster, admin, pod(unique("p"), container(script=look, workingDir=directory)))
    assert "canary" not in said.splitlines()


@pytest.mark.parametrize(
    ("link", "sub_path"),
    [
        ("/", "link{0}"),
        ("/var/tmp", "link"),
        ("../../../../../../../../../..", "link{0}"),
        ("/proc/1/root", "link{0}"),
        ("/proc/self/fd", "link"),
        ("{0}", "link"),
        ("{0}/secret", "link"),
        ("{0}/made", "link"),
        ("link", "link"),
    ],
)
def test_a_sub_path_does_not_follow_a_link_out_of_its_volume(
    cluster: Cluster, admin: Https, canary: Path, link: str, sub_path: str
) -> None:
    init = container("init", f"ln -s {link.format(canary)} /v/link", volumeMounts=[mount("v", "/v")])
    look = "cat /s /s/secret; echo x > /s; touch /s/x; ls /s; true"
    body = pod(
        unique("p"),
        container(script=look, volumeMounts=[mount("v", "/s", subPath=sub_path.format(canary))]),
        initContainers=[init],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    reason, said = end_of(cluster, admin, body)
    assert reason == "CreateContainerConfigError"
    assert "failed to prepare subPath" in said


@pytest.mark.parametrize("expression", ["$(UP)", "a/$(UP)/b", "$(ROOT)", "$(MISSING)"])
def test_a_sub_path_expression_cannot_leave_its_volume(cluster: Cluster, admin: Https, expression: str) -> None:
    env = [{"name": "UP", "value": "../../.."}, {"name": "ROOT", "value": "/etc"}]
    part = container(env=env, volumeMounts=[mount("v", "/s", subPathExpr=expression)])
    reason, _ = end_of(cluster, admin, pod(unique("p"), part, volumes=[{"name": "v", "emptyDir": {}}]))
    assert reason == "CreateContainerConfigError"


# annotations, labels and an image's own words


ORDERS = {
    "run.oci.seccomp_bpf_data": "BgAAAAAA/38=",
    "run.oci.hooks.stdout": "{0}/out",
    "run.oci.hooks.stderr": "{0}/err",
    "run.oci.seccomp.receiver": "{0}/socket",
    "run.oci.handler": "krun",
    "run.oci.keep_original_groups": "1",
    "org.criu.config": "{0}/criu",
    "io.kubernetes.container.terminationMessagePath": "{0}/secret",
    "io.podling.image": "nginx",
}


@pytest.mark.parametrize("where", ["annotations", "labels of the image"])
def test_no_annotation_gives_orders_to_the_runtime(
    cluster: Cluster, admin: Https, registry: Registry, canary: Path, where: str
) -> None:
    orders = {key: value.format(canary) for key, value in ORDERS.items()}
    image = push(registry, busybox_layer(), config={"Labels": orders if where != "annotations" else {}})
    look = container(script="grep ^Seccomp: /proc/self/status; cat /dev/termination-log; exit 1", image=image)
    body = pod(
        unique("p"),
        {**look, "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
        metadata={"annotations": orders if where == "annotations" else {}},
    )
    reason, said = end_of(cluster, admin, body)
    assert (reason, said.split()) == ("Failed", ["Seccomp:", "2"])


@pytest.mark.parametrize(
    "config",
    [
        {"User": "0:../../etc/passwd"},
        {"User": "root\nroot"},
        {"WorkingDir": "/proc/self/fd/7"},
        {"WorkingDir": "../../../../../../var/tmp"},
        {"Volumes": {"/proc": {}}},
        {"Volumes": {"../../../..": {}, "/../../var/tmp": {}}},
        {"Volumes": {"/link": {}}},
        {"StopSignal": "../../9"},
        {"Env": ["LD_PRELOAD={0}/secret", "PATH={0}", "=", "NOVALUE"]},
    ],
    ids=str,
)
def test_the_configuration_of_an_image_reaches_nothing_of_the_node(
    cluster: Cluster, admin: Https, registry: Registry, canary: Path, config: dict[str, Any]
) -> None:
    layer = busybox_layer()
    layer.symlink("link", str(canary))
    if "Env" in config:
        config = {"Env": [entry.format(canary) for entry in config["Env"]]}
    image = push(registry, layer, config=config)
    look = f"cat secret link/secret /link/secret {canary}/secret; touch /link/x; /bin/ls -d /var/tmp/podling*; true"
    _, said = end_of(
        cluster, admin, pod(unique("p"), {**container(script=look, image=image), "command": ["/bin/sh", "-c", look]})
    )
    assert "canary" not in said.splitlines()


@pytest.mark.parametrize("command", ["/proc/self/exe", "/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/exe"])
def test_no_program_of_the_node_is_executed(cluster: Cluster, admin: Https, command: str) -> None:
    body = pod(unique("p"), {**container(), "command": [command, "--version"]})
    reason, said = end_of(cluster, admin, body)
    assert reason in ("StartError", "Failed", "Succeeded")
    assert "crun version" not in said


# words that Python or C reads otherwise


NUL = "x\0y"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"workingDir": f"/{NUL}"}, "working_dir"),
        ({"command": ["true", NUL]}, "command[1]"),
        ({"args": [NUL]}, "args[0]"),
        ({"env": [{"name": "A", "value": NUL}]}, "env["),
        ({"terminationMessagePath": f"/{NUL}"}, "mounts["),
        ({"volumeMounts": [mount("v", f"/{NUL}")]}, "mounts[0].container_path"),
        ({"volumeMounts": [mount("v", "/proc\0x")]}, "mounts[0].container_path"),
        ({"volumeMounts": [mount("v", "/\0")]}, "mounts[0].container_path"),
        ({"volumeMounts": [mount("v", "/v", subPath=NUL)]}, "subPath"),
        (
            {"env": [{"name": "A", "value": NUL}], "volumeMounts": [mount("v", "/v", subPathExpr="$(A)")]},
            "subPath",
        ),
    ],
    ids=str,
)
def test_a_word_with_a_nul_is_refused_by_its_name(
    cluster: Cluster, admin: Https, spec: dict[str, Any], field: str
) -> None:
    body = pod(unique("p"), container(**spec), volumes=[{"name": "v", "emptyDir": {}}])
    reason, message = end_of(cluster, admin, body)
    assert reason in ("CreateContainerError", "CreateContainerConfigError")
    assert field in message
    assert "NUL" in message


@pytest.mark.parametrize(
    "volume",
    [{"hostPath": {"path": f"/var/tmp/{NUL}"}}, {"configMap": {"name": "c", "items": [{"key": "k", "path": NUL}]}}],
    ids=str,
)
def test_a_volume_with_a_nul_is_an_event(
    cluster: Cluster, namespace: str, admin: Https, volume: dict[str, Any]
) -> None:
    cluster.kubectl("create", "configmap", "c", "--from-literal=k=value")
    create(admin, namespace, pod("nul", volumes=[{"name": "v", **volume}]))
    assert any("holds a NUL" in message for _, _, message in cluster.events("nul", "FailedMount"))


@pytest.mark.parametrize(
    "config", [{"WorkingDir": f"/{NUL}"}, {"Volumes": {f"/{NUL}": {}}}, {"Env": [f"A={NUL}"]}, {"User": NUL}], ids=str
)
def test_a_word_of_an_image_with_a_nul_is_refused(
    cluster: Cluster, admin: Https, registry: Registry, config: dict[str, Any]
) -> None:
    part = container(image=push(registry, busybox_layer(), config=config))
    reason, message = end_of(cluster, admin, pod(unique("p"), part))
    assert reason == "CreateContainerError"
    assert "of the image holds a NUL" in message


@pytest.mark.parametrize("home", [b"/r\xff", b"/r\0oot"], ids=str)
def test_a_home_of_any_bytes_does_not_keep_a_container_from_starting(
    cluster: Cluster, admin: Https, registry: Registry, home: bytes
) -> None:
    layer = busybox_layer()
    layer.file("etc/passwd", b"root:x:0:0::%s:\n" % home)
    reason, said = end_of(cluster, admin, pod(unique("p"), container(script="echo $HOME", image=push(registry, layer))))
    assert reason == "Succeeded"
    assert said.strip() in ("/r\ufffd", "/r\ufffdoot")


# files of /etc


def test_line_breaks_in_resolver_options_stay_in_the_pods_own_file(cluster: Cluster, admin: Https) -> None:
    options = [{"name": "a\nnameserver 192.0.2.1", "value": "b\n"}]
    before = Path("/etc/resolv.conf").read_text()
    body = pod(
        unique("p"),
        container(script="cat /etc/resolv.conf"),
        dnsConfig={"nameservers": ["192.0.2.7"], "options": options},
    )
    reason, said = end_of(cluster, admin, body)
    assert reason == "Succeeded"
    assert "nameserver 192.0.2.7" in said
    assert Path("/etc/resolv.conf").read_text() == before


def test_the_files_of_etc_are_the_pods_own(cluster: Cluster, admin: Https) -> None:
    files = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"]
    before = [Path(file).read_text() for file in files]
    script = "; ".join(f"echo evil > {file}; rm -f {file}; ln -sf /evil {file}" for file in files)
    end_of(cluster, admin, pod(unique("p"), container(script=script)))
    _, said = end_of(cluster, admin, pod(unique("p"), container(script=f"cat {' '.join(files)}")))
    assert "evil" not in said
    assert [Path(file).read_text() for file in files] == before


# numbers


@pytest.mark.parametrize(
    "spec",
    [
        {"resources": {"limits": {"cpu": "1e30", "memory": "1e30"}, "requests": {"cpu": "1m", "memory": "1"}}},
        {
            "resources": {
                "limits": {"cpu": "9223372036854775807", "memory": "9223372036854775807"},
                "requests": {"cpu": 0, "memory": 0},
            }
        },
        {"resources": {"limits": {"cpu": "1n", "memory": "1Gi"}}},
        {"resources": {"limits": {"ephemeral-storage": "1e30"}, "requests": {"ephemeral-storage": "1"}}},
        {"securityContext": {"runAsUser": 2147483647, "runAsGroup": 2147483647}},
    ],
    ids=str,
)
def test_a_number_at_its_bounds_is_a_number(cluster: Cluster, admin: Https, spec: dict[str, Any]) -> None:
    reason, _ = end_of(cluster, admin, pod(unique("p"), container(script="true", **spec)))
    assert reason in ("Succeeded", "OutOfcpu", "Failed")


@pytest.mark.parametrize("size", ["1e30", "9223372036854775807", "1"])
def test_a_volume_in_memory_is_never_larger_than_the_node(cluster: Cluster, admin: Https, size: str) -> None:
    volume = {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    look = container(script="df -k /v | tail -1", volumeMounts=[mount("v", "/v")])
    reason, said = end_of(cluster, admin, pod(unique("p"), look, volumes=[volume]))
    assert reason == "Succeeded"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    assert int(said.split()[1]) <= memory


KILOBYTE = {"name": "V0", "value": "x" * 1024}


@pytest.mark.parametrize(
    "words",
    [
        {"env": [KILOBYTE, *({"name": f"V{i}", "value": f"$(V{i - 1})" * 2} for i in range(1, 19))]},
        {"env": [KILOBYTE], "args": ["$(V0)" * 100_000]},
        {"env": [KILOBYTE], "args": ["$(V0)"] * 100_000},
    ],
    ids=["each variable holds the one before it twice", "one long argument", "many arguments"],
)
def test_references_to_variables_do_not_fill_the_agents_memory(
    cluster: Cluster, admin: Https, words: dict[str, Any]
) -> None:
    reason, said = end_of(cluster, admin, pod(unique("p"), container(**words)))
    assert (reason, "are longer than" in said) == ("CreateContainerConfigError", True)


def test_a_secret_shown_often_does_not_fill_the_nodes_memory(cluster: Cluster, admin: Https, namespace: str) -> None:
    root = f"/api/v1/namespaces/{namespace}"
    secret = {"metadata": {"name": "large"}, "stringData": {"key": "x" * 1_000_000}}
    assert admin.request("POST", f"{root}/secrets", secret).code == 201
    items = [{"key": "key", "path": f"file-{number}"} for number in range(100)]
    volume = {"name": "v", "secret": {"secretName": "large", "items": items}}
    body = pod("often", container(volumeMounts=[mount("v", "/v")]), volumes=[volume])
    assert admin.request("POST", f"{root}/pods", body).code == 201
    assert any("take more than 64 MiB" in message for _, _, message in cluster.events("often", "FailedMount"))


def test_a_path_deeper_than_python_calls_is_an_event_of_its_pod(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "one", "--from-literal=key=value")
    items = [{"key": "key", "path": "/".join("a" * 1800)}]
    volume = {"name": "v", "configMap": {"name": "one", "items": items}}
    cluster.apply(pod("deep", container(volumeMounts=[mount("v", "/v")]), volumes=[volume]))
    assert any("directories deep" in message for _, _, message in cluster.events("deep", "FailedMount"))


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("a container named as a path", {"containers": [container("../../x")]}),
    ("a volume named as a path", {"volumes": [{"name": "..", "emptyDir": {}}]}),
    ("a host name with a slash", {"hostname": "../x"}),
    ("a subdomain with a line break", {"subdomain": "a\nb"}),
    ("an alias with a line break", {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a\n127.0.0.1 b"]}]}),
    ("an alias whose address has a line break", {"hostAliases": [{"ip": "10.0.0.1\n1.1.1.1", "hostnames": ["a"]}]}),
    ("a search domain with a line break", {"dnsConfig": {"searches": ["a\nnameserver 1.1.1.1"]}}),
    ("a name server with words behind it", {"dnsConfig": {"nameservers": ["1.1.1.1\noptions x"]}}),
    (
        "a protocol with a rule behind it",
        {"containers": [container(ports=[{"containerPort": 1, "hostPort": 1, "protocol": "TCP . 1 : 1.1.1.1 }"}])]},
    ),
    ("a host port beyond all", {"containers": [container(ports=[{"containerPort": 1, "hostPort": 65536}])]}),
    ("a negative host port", {"containers": [container(ports=[{"containerPort": 1, "hostPort": -1}])]}),
    ("a user beyond all", {"securityContext": {"runAsUser": 4294967296}}),
    ("a negative group", {"securityContext": {"fsGroup": -1}}),
    ("a negative limit", {"containers": [container(resources={"limits": {"memory": "-1"}})]}),
    ("a size of huge pages as a path", {"containers": [container(resources={"limits": {"hugepages-../x": "1"}})]}),
    ("a negative size", {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]}),
    (
        "a sub-path upwards",
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [container(volumeMounts=[mount("v", "/v", subPath="a/../../b")])],
        },
    ),
    (
        "an absolute sub-path",
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [container(volumeMounts=[mount("v", "/v", subPath="/etc")])],
        },
    ),
    (
        "a key that leads upwards",
        {"volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../../k"}]}}]},
    ),
    (
        "a field that leads upwards",
        {
            "volumes": [
                {
                    "name": "v",
                    "downwardAPI": {"items": [{"path": "/etc/x", "fieldRef": {"fieldPath": "metadata.name"}}]},
                }
            ]
        },
    ),
    (
        "a profile that leads upwards",
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "../../../etc/passwd"}}},
    ),
    ("a variable's name with a line break", {"containers": [container(env=[{"name": "A\nB", "value": "x"}])]}),
    (
        "a mount that spreads to the node",
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [container(volumeMounts=[mount("v", "/v", mountPropagation="Bidirectional")])],
        },
    ),
]


@pytest.mark.parametrize("spec", [spec for _, spec in REFUSED], ids=[name for name, _ in REFUSED])
def test_what_would_lead_elsewhere_is_refused_by_the_api(admin: Https, spec: dict[str, Any]) -> None:
    body = pod(unique("p"))
    body["spec"].update(spec)
    answer = admin.request("POST", "/api/v1/namespaces/default/pods", body)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid"), answer.raw


@pytest.mark.parametrize("address", ["10.0.0.1 } ; flush ruleset", "10.0.0.1\n", "::1", "0x7f.1", "$(id)"])
def test_an_address_of_a_host_port_is_never_a_rule(cluster: Cluster, admin: Https, address: str) -> None:
    """The API takes any text here, as upstream does."""
    before = nft_tables(cluster)
    assert before
    name = unique("p")
    port = {"containerPort": 1, "hostPort": 12345, "hostIP": address}
    create(admin, "default", pod(name, container(ports=[port])))
    told = {
        message for _, reason, message in cluster.events(name, "FailedCreatePodSandBox") if reason.startswith("Failed")
    }
    admin.request("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")
    assert told == {f'Failed to create pod sandbox: host IP "{address}" of host port 12345 is not an IPv4 address'}
    assert nft_tables(cluster) == before
    assert "12345" not in nft("list", "ruleset")


# other Pods


def test_a_pod_changes_no_file_of_an_image_that_others_use(cluster: Cluster, admin: Https) -> None:
    spoil = "echo spoiled > /bin/true; ln -sf /nowhere /etc/passwd; rm -rf /root; echo x > /bin/busybox"
    end_of(cluster, admin, pod(unique("p"), container(script=spoil)))
    reason, said = end_of(cluster, admin, pod(unique("p"), container(script="head -c 4 /bin/true; test -d /root")))
    assert (reason, said) == ("Succeeded", "\x7fELF")


def test_a_program_that_sets_its_user_or_a_device_in_a_volume_is_out_of_reach_of_the_machines_users(
    cluster: Cluster, admin: Https
) -> None:
    make = "cp /bin/busybox /v/su; chmod 4755 /v/su; mknod /v/disk b 8 0; chmod 666 /v/disk; echo made; sleep 60"
    name = unique("p")
    body = pod(name, container(script=make, volumeMounts=[mount("v", "/v")]), volumes=[{"name": "v", "emptyDir": {}}])
    uid = create(admin, "default", body)["metadata"]["uid"]
    cluster.wait(f"pod/{name}", "condition=Ready")
    found = cluster.data_dir / "pods" / uid
    assert found.stat().st_mode & 0o007 == 0
    for path in (cluster.data_dir / "containers", cluster.data_dir / "images", cluster.run_dir / "containers"):
        assert not path.exists() or any(parent.stat().st_mode & 0o007 == 0 for parent in (path, *path.iterdir()))
    admin.request("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")
