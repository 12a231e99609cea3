"""Small parts of the kubelet: DNS and hosts, admission, volumes' files, rotated logs, cgroup settings."""

from __future__ import annotations

import asyncio
import errno
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.shortage import Failing

from podling.api import codec
from podling.api.core.v1 import (
    ConfigMap,
    ConfigMapProjection,
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    HostAlias,
    KeyToPath,
    Node,
    NodeStatus,
    ObjectFieldSelector,
    Pod,
    PodDNSConfig,
    PodDNSConfigOption,
    PodOS,
    PodSpec,
    ProjectedVolumeSource,
    ResourceRequirements,
    Secret,
    SecretVolumeSource,
    SecurityContext,
    Taint,
    Toleration,
    Volume,
    VolumeProjection,
)
from podling.api.meta.v1 import ObjectMeta
from podling.api.quantity import Quantity
from podling.api.sysctl import Allowlist
from podling.client.client import EventType
from podling.kubelet import cgroups, dns, security
from podling.kubelet.admission import admit
from podling.kubelet.container_config import TERMINATION_PATH
from podling.kubelet.env import ConfigError
from podling.kubelet.pod_workers import PodWorkers
from podling.kubelet.termination_message import termination_message
from podling.kubelet.volumes.atomic_writer import write
from podling.kubelet.volumes.content import File, Space, payload
from podling.kubelet.volumes.empty_dir import EmptyDir
from podling.kubelet.volumes.plugin import VolumeError
from podling.kubelet.volumes.subpath import open_subpath
from podling.runtime.protocol import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    CRIError,
    DNSConfig,
    ImageConfig,
)


def pod(name: str = "web", **spec: object) -> Pod:
    spec.setdefault("containers", [Container(name="c")])
    return Pod(metadata=ObjectMeta(name=name, namespace="ns", uid=name), spec=PodSpec(**spec))  # type: ignore[arg-type]


def resources(**limits: str) -> ResourceRequirements:
    quantities = {name: Quantity(text) for name, text in limits.items()}
    return ResourceRequirements(requests=quantities, limits=quantities)


# names


def test_hosts_file_names_the_pod_and_its_aliases() -> None:
    content = dns.etc_hosts(
        pod(subdomain="sub", host_aliases=[HostAlias(ip="1.2.3.4", hostnames=["a", "b"])]),
        ["10.0.0.5"],
        "cluster.local",
    )
    assert "10.0.0.5\tweb.sub.ns.svc.cluster.local\tweb\n" in content
    assert content.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_files_of_the_machine_that_are_not_utf8_are_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"10.1.1.1 m\xe4rz\n")
    content = dns.etc_hosts(pod(host_network=True), [], "cluster.local", tmp_path / "hosts")
    assert content.encode(errors="surrogateescape").endswith(b"10.1.1.1 m\xe4rz\n")
    (tmp_path / "resolv.conf").write_bytes(b"# m\xe4rz\nnameserver 9.9.9.9\n")
    assert dns.host_resolver(tmp_path / "resolv.conf").servers == ["9.9.9.9"]


def test_resolver_by_policy() -> None:
    cluster = dns.resolver(pod(), ["10.96.0.10"], "cluster.local")
    assert cluster.servers == ["10.96.0.10"]
    assert cluster.searches[:3] == ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    assert cluster.options == ["ndots:5"]
    config = PodDNSConfig(nameservers=["9.9.9.9"], options=[PodDNSConfigOption(name="ndots", value="2")])
    own = dns.resolver(pod(dns_policy="None", dns_config=config), ["10.96.0.10"], "cluster.local")
    assert (own.servers, own.options) == (["9.9.9.9"], ["ndots:2"])
    assert dns.resolver(pod(dns_policy="Default"), ["10.96.0.10"], "cluster.local") == dns.host_resolver()


def test_a_resolver_gets_no_more_than_it_reads() -> None:
    few = DNSConfig(servers=["a", "b", "c"], searches=["x"] * 32, options=["ndots:5"])
    assert dns.limited(few) == (few, [])
    many = DNSConfig(servers=["a", "b", "c", "d"], searches=["x" * 200] * 12)
    config, told = dns.limited(many)
    assert (config.servers, len(config.searches)) == (["a", "b", "c"], 10)
    assert told[1] == (
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: a b c"
    )
    assert told[0].startswith("Search Line limits were exceeded, some search paths have been omitted, ")


def test_a_long_name_is_cut_to_a_hostname() -> None:
    assert dns.uts_hostname(pod("a" * 62 + ".b"), "cluster.local") == "a" * 62


def test_a_full_host_name_longer_than_the_kernels_is_told_in_upstreams_words() -> None:
    def named(subdomain: str) -> Pod:
        return pod("web", subdomain=subdomain, set_hostname_as_fqdn=True)

    fits = "s" * (64 - len("web..ns.svc.cluster.local"))
    assert len(dns.uts_hostname(named(fits), "cluster.local")) == 64
    with pytest.raises(CRIError) as refused:
        dns.uts_hostname(named(fits + "s"), "cluster.local")
    assert refused.value.message == (
        f"failed to construct FQDN from pod hostname and cluster domain, FQDN web.{fits}s.ns.svc.cluster.local is too long "
        "(64 characters is the max, 65 characters requested)"
    )


# admission


def test_a_pod_that_does_not_fit_is_refused() -> None:
    allocatable = {"cpu": Quantity("1"), "pods": Quantity("2")}
    small = pod("small", containers=[Container(name="c", resources=resources(cpu="600m"))])
    assert admit(small, [], allocatable, None, Allowlist()) is None
    refused = admit(pod("big", containers=small.spec.containers), [small], allocatable, None, Allowlist())
    assert refused is not None
    assert refused.reason == "OutOfcpu"
    assert refused.message.endswith("cpu, requested: 600, used: 600, capacity: 1000")
    crowded = admit(pod("third"), [small, pod("second")], allocatable, None, Allowlist())
    assert crowded is not None
    assert crowded.reason == "OutOfpods"


def test_host_ports_conflict_unless_the_addresses_differ() -> None:
    def taking(address: str) -> Pod:
        port = ContainerPort(container_port=80, host_port=8080, host_ip=address)
        return pod(containers=[Container(name="c", ports=[port])])

    assert admit(taking("10.0.0.1"), [taking("10.0.0.2")], {}, None, Allowlist()) is None
    for address in ("", "127.0.0.1", "10.0.0.1"):
        refused = admit(taking(address), [], {}, None, Allowlist(), daemon_ports={6443, 8080})
        assert refused is not None
        assert refused.reason == "NodePorts"
    refused = admit(taking(""), [taking("10.0.0.2")], {}, None, Allowlist())
    assert refused is not None
    assert refused.reason == "NodePorts"


# cgroups


def test_cgroup_settings_follow_requests_and_limits() -> None:
    container = Container(name="c", resources=resources(cpu="250m", memory="64Mi"))
    guaranteed = pod(containers=[container])
    found = cgroups.container_resources(guaranteed, container, 1 << 30)
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit, found.oom_score_adj) == (256, 25_000, 64 << 20, -997)
    assert cgroups.pod_cgroup("/root", guaranteed) == "/root/podweb"
    loose = pod()
    found = cgroups.container_resources(loose, loose.spec.containers[0], 1 << 30)
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit, found.oom_score_adj) == (2, None, None, 1000)
    assert cgroups.pod_cgroup("/root", loose) == "/root/besteffort/podweb"


def test_the_pod_has_a_limit_only_where_all_containers_have_one() -> None:
    mixed = pod(containers=[Container(name="a", resources=resources(memory="1Mi")), Container(name="b")])
    assert cgroups.pod_resources(mixed).memory_limit is None


# files


def test_content_is_replaced_at_one_stroke(tmp_path: Path) -> None:
    assert write(tmp_path, {"a": File(b"1", 0o600), "dir/b": File(b"2", 0o644)}, None)
    assert not write(tmp_path, {"a": File(b"1", 0o600), "dir/b": File(b"2", 0o644)}, None)
    before = os.readlink(tmp_path / "..data")
    assert (tmp_path / "dir" / "b").read_bytes() == b"2"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert write(tmp_path, {"c": File(b"3", 0o644)}, None)
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..")) == ["c"]
    assert not (tmp_path / before).exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (["a", "a/b"], OSError),
        (["x", "a" * 300], OSError),
        (["/".join("a" * 300)], ValueError),
        (["/".join("a" * 2000)], ValueError),
    ],
    ids=["a file as directory", "long name", "deep", "deeper than Python calls"],
)
def test_content_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, content: list[str], error: type[Exception]
) -> None:
    """It is tried again for ever: what one attempt left would fill the disk."""
    for _ in range(3):
        with pytest.raises(error):
            write(tmp_path, {path: File(b"1", 0o644) for path in content}, None)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_killed_before_its_links_were_made_is_completed_by_the_next(tmp_path: Path) -> None:
    content = {"a": File(b"1", 0o644)}
    write(tmp_path, content, None)
    (tmp_path / "a").unlink()
    (tmp_path / "..2026_01_02_03_04_05.000000001").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..2026_01_02_03_04_05.000000001")
    assert not write(tmp_path, content, None)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert len([entry for entry in tmp_path.iterdir() if entry.name.startswith("..")]) == 2


def subpath(volume: Path, relative: str) -> Path:
    found = open_subpath(volume, relative, "v", "c")
    try:
        return Path(os.readlink(f"/proc/self/fd/{found}"))
    finally:
        os.close(found)


def test_sub_paths_stay_in_the_volume(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o2777)
    assert subpath(tmp_path / "volume", "a/b") == tmp_path / "volume" / "a" / "b"
    assert (tmp_path / "volume" / "a" / "b").stat().st_mode & 0o7777 == 0o2777
    (tmp_path / "config").mkdir()
    write(tmp_path / "config", {"file": File(b"1", 0o644)}, None)
    data = os.readlink(tmp_path / "config" / "..data")
    assert subpath(tmp_path / "config", "file") == tmp_path / "config" / data / "file"
    for name, target in (("out", "/etc"), ("up", "a/../../x"), ("loop", "loop"), ("magic", "/proc/self/fd")):
        (tmp_path / "volume" / name).symlink_to(target)
    (tmp_path / "volume" / "in").symlink_to("a/../a/b")
    assert subpath(tmp_path / "volume", "in/./c//") == tmp_path / "volume" / "a" / "b" / "c"
    for relative in ("out", "out/passwd", "up", "loop", "magic", "magic/0", "../x", "/etc", "deep/" * 300):
        with pytest.raises(ConfigError):
            subpath(tmp_path / "volume", relative)


def test_a_directory_of_a_sub_path_whose_mode_cannot_be_set_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems that have no modes."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "chmod", Failing(os.chmod, errno.EPERM, 1))
    with pytest.raises(ConfigError, match="Operation not permitted"):
        subpath(tmp_path, "a")
    assert len(os.listdir("/proc/self/fd")) == before


# admission by what the node is


def node(**status: object) -> Node:
    return Node(metadata=ObjectMeta(name="n"), status=NodeStatus(**status))  # type: ignore[arg-type]


def test_a_node_refuses_pods_that_do_not_tolerate_its_no_execute_taints() -> None:
    tainted = node()
    tainted.spec.taints = [Taint(key="k", effect="NoExecute"), Taint(key="other", effect="NoSchedule")]
    refused = admit(pod(), [], {}, tainted, Allowlist())
    assert refused is not None
    assert refused.reason == "TaintToleration"
    assert refused.message == "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    assert admit(pod(tolerations=[Toleration(key="k", operator="Exists")]), [], {}, tainted, Allowlist()) is None


def test_a_node_refuses_pods_for_another_system() -> None:
    refused = admit(pod(os=PodOS(name="windows")), [], {}, node(), Allowlist())
    assert refused is not None
    assert refused.reason == "PodOSNotSupported"


def converted(**spec: object) -> Pod:
    found: Pod = codec.convert({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}, Pod)
    return found


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"port": 1}}}]}, "containers[0].livenessProbe"),
        ({"containers": [{"name": "c"}], "hostUsers": False}, "hostUsers"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "volumes[0].persistentVolumeClaim"),
        ({"runtimeClassName": "gvisor"}, "runtimeClassName"),
    ],
)
def test_what_another_api_server_let_in_and_the_agent_cannot_do_fails_by_name(spec: dict[str, Any], field: str) -> None:
    refused = admit(converted(**spec), [], {}, node(), Allowlist())
    assert refused is not None
    assert (refused.reason, refused.message) == (
        "PodFeatureUnsupported",
        f"spec.{field}: is not implemented by Podling yet",
    )


def test_a_change_that_the_agent_cannot_follow_is_told_by_name_and_once() -> None:
    small = {"name": "c", "resources": {"limits": {"cpu": "1"}}}
    large = {"name": "c", "resources": {"limits": {"cpu": "2"}}}
    debugged = converted(containers=[small], ephemeralContainers=[{"name": "debug"}])
    told: list[tuple[str, str]] = []
    context: Any = SimpleNamespace(recorder=SimpleNamespace(event=lambda pod, *words: told.append(words[1:])))
    workers = PodWorkers(context, pods=None)  # type: ignore[arg-type]
    worker: Any = SimpleNamespace(update=lambda pod: None)
    workers._workers["u"] = worker
    versions = [converted(containers=[small]), debugged, debugged, converted(containers=[large])]
    for old, new in pairwise(versions):
        workers._on_pod(EventType.MODIFIED, new, old)
    assert told == [
        ("PodFeatureUnsupported", "spec.ephemeralContainers: is not implemented by Podling yet"),
        ("PodFeatureUnsupported", "spec.containers[0].resources: the change is not implemented by Podling yet"),
    ]


def test_what_api_servers_put_into_pods_themselves_is_let_in() -> None:
    access = {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}
    policy = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
    one = converted(
        containers=[{"name": "c", "resizePolicy": policy}],
        priorityClassName="theirs",
        volumes=[{"name": "kube-api-access-x", "projected": access}],
    )
    assert admit(one, [], {}, node(), Allowlist()) is None


def test_extended_resources_are_those_that_the_node_advertises() -> None:
    one = pod(containers=[Container(name="c", resources=resources(**{"example.com/dongle": "1"}))])
    assert admit(one, [], {}, node(), Allowlist()) is None
    some = node(allocatable={"example.com/dongle": Quantity("1")})
    assert admit(one, [], {}, some, Allowlist()) is None
    refused = admit(one, [one], {}, some, Allowlist())
    assert refused is not None
    assert refused.reason == "OutOfexample.com/dongle"


# what containers leave behind


def test_a_directory_in_a_config_volume_does_not_stop_its_updates(tmp_path: Path) -> None:
    write(tmp_path, {"a": File(b"1", 0o644)}, None)
    (tmp_path / "made-for-a-sub-path").mkdir()
    assert write(tmp_path, {"b": File(b"2", 0o644)}, None)
    assert (tmp_path / "b").read_bytes() == b"2"
    assert not (tmp_path / "a").is_symlink()


def test_a_file_of_the_downward_api_may_have_no_permissions_at_all() -> None:
    items = [
        DownwardAPIVolumeFile(path=str(mode), mode=mode, field_ref=ObjectFieldSelector(field_path="metadata.name"))
        for mode in (0, None)
    ]
    volume = Volume(name="v", downward_api=DownwardAPIVolumeSource(items=items, default_mode=0o640))
    found = asyncio.run(payload(pod(), volume, None, None, {}, Space()))  # type: ignore[arg-type]
    assert {name: file.mode for name, file in found.items()} == {"0": 0, "None": 0o640}


class Megabytes:
    """Every Secret and ConfigMap holds a megabyte, and is made for each who asks."""

    async def config_map(self, namespace: str, name: str) -> ConfigMap:
        return ConfigMap(data={"key": "x" * (1 << 20)})

    async def secret(self, namespace: str, name: str) -> Secret:
        return Secret(data={"key": b"x" * (1 << 20)})


def _one_file(number: int) -> list[KeyToPath]:
    return [KeyToPath(key="key", path=f"file-{number}")]


LARGE: dict[str, list[dict[str, Any]]] = {
    "one key as many files": [
        {"secret": SecretVolumeSource(secret_name="s", items=[item for i in range(100) for item in _one_file(i)])}
    ],
    "many projections": [
        {
            "projected": ProjectedVolumeSource(
                sources=[
                    VolumeProjection(config_map=ConfigMapProjection(name="c", items=_one_file(i))) for i in range(100)
                ]
            )
        }
    ],
    "many volumes": [{"config_map": ConfigMapVolumeSource(name="c")}] * 100,
    "many empty files": [
        {
            "downward_api": DownwardAPIVolumeSource(
                items=[
                    DownwardAPIVolumeFile(path=str(i), field_ref=ObjectFieldSelector(field_path="status.podIP"))
                    for i in range(100_000)
                ]
            )
        }
    ],
}


@pytest.mark.parametrize("sources", LARGE.values(), ids=LARGE)
def test_the_files_of_a_pods_volumes_have_bounds(sources: list[dict[str, Any]]) -> None:
    """The agent writes them, to memory where they are secret, and no limit of the Pod counts them."""
    volumes = [Volume(name=f"v{number}", **source) for number, source in enumerate(sources)]

    async def show() -> None:
        space = Space()
        for volume in volumes:
            await payload(pod(), volume, Megabytes(), None, {}, space)  # type: ignore[arg-type]

    with pytest.raises(VolumeError, match="take more than 64 MiB"):
        asyncio.run(show())


def test_of_a_long_termination_message_the_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(b"a" * 5000 + b"end")
    status = ContainerStatus(
        id="c",
        sandbox_id="s",
        metadata=ContainerMetadata(name="c"),
        state=ContainerState.EXITED,
        created_at=0,
        annotations={TERMINATION_PATH: str(path)},
    )
    message = termination_message(status)
    assert (len(message), message[-4:]) == (4096, "aend")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "..data", "..2026", "", "a" * 4097])
def test_a_file_of_a_volume_is_never_written_outside_it(tmp_path: Path, path: str) -> None:
    (tmp_path / "volume").mkdir()
    with pytest.raises(ValueError, match="invalid path"):
        write(tmp_path / "volume", {"a": File(b"1", 0o644), path: File(b"2", 0o644)}, None)
    assert [entry.name for entry in tmp_path.rglob("*")] == ["volume"]


def test_limits_beyond_what_the_kernel_counts_are_its_most() -> None:
    huge = pod(
        containers=[
            Container(
                name="c",
                resources=ResourceRequirements(
                    limits={"cpu": Quantity("1e30"), "memory": Quantity("1e30"), "hugepages-2Mi": Quantity("1e30")}
                ),
            )
        ]
    )
    for found in (cgroups.pod_resources(huge), cgroups.container_resources(huge, huge.spec.containers[0], 1)):
        assert (found.cpu_quota, found.memory_limit) == ((1 << 44) - 1, (1 << 63) - 1)
        assert found.hugepage_limits == {"2MB": (1 << 63) - 1}


@pytest.mark.parametrize(("group", "mode"), [(None, 0o777), (os.getgid(), 0o2777)])
def test_an_empty_dir_is_whole_even_if_an_earlier_agent_was_killed_making_it(
    tmp_path: Path, group: int | None, mode: int
) -> None:
    # As left by that agent.
    (tmp_path / ".v").mkdir(mode=0o700)
    volume = Volume(name="v", empty_dir=EmptyDirVolumeSource())
    EmptyDir().set_up(pod(), volume, tmp_path / "v", group)
    assert (tmp_path / "v").stat().st_mode & 0o7777 == mode
    (tmp_path / "v").chmod(0o750)
    EmptyDir().set_up(pod(), volume, tmp_path / "v", group)
    assert (tmp_path / "v").stat().st_mode & 0o7777 == 0o750


@pytest.mark.parametrize("image_user", ["\u00b2", "\u0660", "0", "000:5", ""])
def test_no_way_to_write_a_user_gets_root_past_run_as_non_root(image_user: str) -> None:
    container = Container(name="c", security_context=SecurityContext(run_as_non_root=True))
    with pytest.raises(ConfigError):
        security.container_security(pod(), container, ImageConfig(user=image_user))
