"""`kubectl logs` with all its options."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.support import kubectl
from tests.support.cluster import Cluster, eventually
from tests.support.pods import RUN, container, pod

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)"


def error(cluster: Cluster, *argv: str) -> str:
    """What a `kubectl logs` that fails says."""
    return kubectl.error(cluster, "logs", *argv)


def test_lines_are_chosen_by_number_size_and_time(cluster: Cluster, namespace: str) -> None:
    script = f"for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2; while [ ! -e /go ]; do sleep 0.1; done; {RUN}"
    cluster.apply(pod("p", container(script=script)))
    cluster.wait("pod/p", "condition=Ready")
    with cluster.kubectl_lines("logs", "-f", "p") as lines:
        assert [next(lines) for _ in range(6)] == ["line 1", "line 2", "line 3", "line 4", "line 5", "oops"]
    assert cluster.logs("p", "--tail=2") == "line 5\noops\n"
    assert cluster.logs("p", "--tail=0") == ""
    assert cluster.logs("p", "--tail=99").count("\n") == 6
    assert cluster.logs("p", "--limit-bytes=10") == "line 1\nlin"
    stamped = cluster.logs("p", "--timestamps").splitlines()
    assert all(re.match(STAMP + " ", line) for line in stamped)
    assert stamped[2].endswith(" line 3")
    assert cluster.logs("p", "--since=1h").count("\n") == 6
    assert cluster.logs("p", f"--since-time={stamped[0].split()[0]}").count("\n") == 6
    assert cluster.logs("p", "--since-time=2100-01-01T00:00:00Z") == ""
    assert cluster.logs("p", "--since=1h", "--tail=1", "--timestamps") == stamped[-1] + "\n"
    assert "at most one of `sinceTime` or `sinceSeconds` may be specified" in error(
        cluster, "p", "--since=1h", "--since-time=2100-01-01T00:00:00Z"
    )


def test_follow_shows_lines_as_they_come_and_ends_with_the_container(cluster: Cluster, namespace: str) -> None:
    script = "echo one; trap 'echo bye; exit 0' TERM; printf part; sleep 0.3; echo -whole; sleep 3600 & wait"
    cluster.apply(pod("p", container(script=script), restartPolicy="Never"))
    cluster.wait("pod/p", "condition=Ready")
    with cluster.kubectl_lines("logs", "-f", "p") as lines:
        assert [next(lines), next(lines)] == ["one", "part-whole"]
        cluster.kubectl("delete", "pod", "p", "--wait=false")
        assert list(lines) == ["bye"]


def test_containers_are_chosen_by_name_and_by_label(cluster: Cluster, namespace: str) -> None:
    say = "echo I am $HOSTNAME $NAME; " + RUN
    both = [container(name, script=say, env=[{"name": "NAME", "value": name}]) for name in ("a", "b")]
    first = container("setup", script="echo I am first")
    for name in ("x", "y"):
        cluster.apply(pod(name, *both, initContainers=[first], metadata={"labels": {"app": "talk"}}))
    cluster.wait("pods", "condition=Ready", "--all")
    unnamed = cluster.try_kubectl("logs", "x")
    assert unnamed.stdout == "I am x a\n"
    assert unnamed.stderr == 'Defaulted container "a" out of: a, b, setup (init)\n'
    assert cluster.logs("x", "-c", "b") == "I am x b\n"
    assert cluster.logs("x", "-c", "setup") == "I am first\n"
    everything = cluster.logs("x", "--all-containers").splitlines()
    assert sorted(everything) == ["I am first", "I am x a", "I am x b"]
    prefixed = cluster.logs("-l", "app=talk", "--all-containers", "--prefix")
    assert sorted(prefixed.splitlines()) == [
        f"[pod/{name}/{which}] I am {'first' if which == 'setup' else f'{name} {which}'}"
        for name in ("x", "y")
        for which in ("a", "b", "setup")
    ]
    assert sorted(cluster.logs("-l", "app=talk", "-c", "a").splitlines()) == ["I am x a", "I am y a"]
    annotation = {"kubectl.kubernetes.io/default-container": "b"}
    cluster.kubectl("annotate", "pod", "x", *(f"{key}={value}" for key, value in annotation.items()))
    assert cluster.logs("x") == "I am x b\n"
    refused = error(cluster, "x", "-c", "nope")
    assert refused.startswith("error: container nope is not valid for pod x")  # later versions say which are
    assert error(cluster, "z") == f'error: error from server (NotFound): pods "z" not found in namespace "{namespace}"'


def test_previous_shows_the_container_before(cluster: Cluster, namespace: str) -> None:
    script = f"n=$(cat /dev/shm/n); echo run $n; [ $n = 2 ] && {{ {RUN}; }}; echo 2 > /dev/shm/n; exit 1"
    cluster.apply(
        pod("p", container(script=script.replace("$(cat /dev/shm/n)", "$(cat /dev/shm/n 2>/dev/null || echo 1)")))
    )
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    cluster.wait("pod/p", "condition=Ready")
    with cluster.kubectl_lines("logs", "-f", "p") as lines:
        assert next(lines) == "run 2"
    assert cluster.logs("p", "--previous") == "run 1\n"
    cluster.apply(pod("q"))
    cluster.wait("pod/q", "condition=Ready")
    expected = 'previous terminated container "main" in pod "q" not found'
    assert error(cluster, "q", "--previous") == f"Error from server (BadRequest): {expected}"


@pytest.mark.parametrize(
    ("fields", "state", "why"),
    [
        ({"image": "docker.io/library/absent:1"}, "", "(trying and failing to pull image|image can't be pulled)"),
        (
            {"envFrom": [{"configMapRef": {"name": "absent"}}]},
            "CreateContainerConfigError",
            "CreateContainerConfigError",
        ),
    ],
)
def test_a_container_that_waits_has_no_log(
    cluster: Cluster, namespace: str, fields: dict[str, Any], state: str, why: str
) -> None:
    cluster.apply(pod("p", container(**fields)))
    expected = f"={state}" if state else ""
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.message}")
    if expected:
        cluster.wait("pod/p", f"jsonpath={{.status.containerStatuses[0].state.waiting.reason}}{expected}")
    said = error(cluster, "p")
    waiting = 'Error from server (BadRequest): container "main" in pod "p" is waiting to start: '
    assert re.fullmatch(re.escape(waiting) + why, said)


def test_logs_outlive_the_container_but_not_the_pod(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(script="echo last words; exit 7"), restartPolicy="Never"))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    assert cluster.logs("p") == "last words\n"
    assert cluster.logs("-f", "p") == "last words\n"
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    logs = cluster.data_dir / "logs" / "pods"
    assert list(logs.glob(f"*{uid}"))
    cluster.kubectl("delete", "pod", "p")
    # The API forgets an ended Pod at once; the node follows.
    eventually(lambda: not list(logs.glob(f"*{uid}")))


def test_long_and_binary_output_arrives_whole(cluster: Cluster, namespace: str) -> None:
    # A line longer than conmon's buffer, and far more than a pipe holds.
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; seq 1 20000; printf '\\303\\244\\n'; printf 'no newline'"
    cluster.apply(pod("p", container(script=script), restartPolicy="Never"))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Succeeded")
    text = cluster.logs("p")
    assert text == "x" * 100000 + "\n" + "".join(f"{i}\n" for i in range(1, 20001)) + "ä\nno newline"
    assert cluster.logs("p", "--tail=2") == "ä\nno newline"
