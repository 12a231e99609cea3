"""The pure parts of the API server: paths, options, media types, selection, addresses, authorization."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import codec
from podling.api.core.v1 import ConfigMap, Pod, PodSpec, PodStatus
from podling.api.meta.v1 import DeleteOptions, ObjectMeta
from podling.api.scheme import by_type
from podling.api.status import ApiError
from podling.apiserver import list_options, negotiation, pki, routing, selection
from podling.apiserver.authorization import Attributes, Authorizer, denial
from podling.apiserver.cluster_ip import AllocationError, ClusterIPs
from podling.apiserver.deletion import Step, begin_deletion
from podling.apiserver.kubelet_client import KubeletClient
from podling.apiserver.negotiation import Accepted, Shape
from podling.apiserver.node_port import NodePorts
from podling.apiserver.strategies.pod import PodStrategy
from podling.apiserver.strategy import Strategy
from podling.apiserver.user import ANONYMOUS, LOCAL, authenticated


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/pods", {"watch": "true"}, ("watch", "", "pods", "", "", "")),
        ("GET", "/api/v1/pods", {"watch": "0"}, ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/watch/pods", {}, ("watch", "", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/a/pods/b", {}, ("get", "", "pods", "", "a", "b")),
        ("GET", "/api/v1/namespaces/a/pods/b%2Fc", {}, ("get", "", "pods", "", "a", "b/c")),
        ("PATCH", "/api/v1/namespaces/a/pods/b/status", {}, ("patch", "", "pods", "status", "a", "b")),
        ("DELETE", "/api/v1/namespaces/a/pods", {}, ("deletecollection", "", "pods", "", "a", "")),
        ("GET", "/api/v1/namespaces/a", {}, ("get", "", "namespaces", "", "a", "a")),
        ("PUT", "/api/v1/namespaces/a/finalize", {}, ("update", "", "namespaces", "finalize", "a", "a")),
        ("POST", "/api/v1/namespaces", {}, ("create", "", "namespaces", "", "", "")),
        ("PUT", "/apis/apps/v1/namespaces/a/deployments/b", {}, ("update", "apps", "deployments", "", "a", "b")),
        ("GET", "/apis/apps/v1", {}, ("get", "", "", "", "", "")),
        ("POST", "/healthz", {}, ("post", "", "", "", "", "")),
    ],
)
def test_paths_are_read_as_upstream_reads_them(
    method: str, path: str, query: dict[str, str], expected: tuple[str, ...]
) -> None:
    info = routing.parse(method, path, query)
    assert (info.verb, info.group, info.resource, info.subresource, info.namespace, info.name) == expected


@given(st.text(alphabet="abc/%2F.", max_size=40))
def test_no_path_breaks_the_parser(path: str) -> None:
    assert routing.parse("GET", f"/{path}", {}).path == f"/{path}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/yaml", Accepted(negotiation.YAML)),
        ("application/json;as=Table;v=v1;g=meta.k8s.io, application/json", Accepted(shape=Shape.TABLE)),
        ("application/json;as=Table;v=v2;g=meta.k8s.io, application/json", Accepted()),
        ("application/vnd.kubernetes.protobuf, application/json", Accepted()),
        ("application/yaml;q=0.5, application/json;q=0.4", Accepted(negotiation.YAML)),
    ],
)
def test_the_best_media_type_is_chosen(header: str, expected: Accepted) -> None:
    assert negotiation.accept(header) == expected


def test_media_types_that_are_not_served_are_refused() -> None:
    for header in ("text/html", "application/json;as=Pie;v=v1;g=meta.k8s.io", "application/json;q=0"):
        with pytest.raises(ApiError) as caught:
            negotiation.accept(header)
        assert caught.value.code == 406


@given(st.integers(min_value=1, max_value=2**62), st.from_regex(r"[^/.]+(/[^/.]+)?\x00?", fullmatch=True))
def test_continue_tokens_keep_what_is_put_in(revision: int, start: str) -> None:
    assert list_options.decode_token(list_options.encode_token(revision, start)) == (revision, start)


@pytest.mark.parametrize("text", ["!", "abc", "e30", "eyJ2IjoidjEifQ", "\u00e4", "bnVsbA", "W10"])
def test_broken_continue_tokens_are_bad_requests(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        list_options.decode_token(text)
    assert caught.value.code == 400


@pytest.mark.parametrize("text", ["-1", "x", "9" * 21, "9" * 5000])
def test_a_resource_version_that_is_none_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        list_options.parse_revision(text)
    assert caught.value.code == 400


def _stored(**fields: str) -> bytes:
    spec = PodSpec(node_name=fields.get("node", ""), host_network=fields.get("host") == "yes")
    labels = {"app": fields["app"]} if "app" in fields else {}
    pod = Pod(metadata=ObjectMeta(name="p", namespace="n", labels=labels), spec=spec, status=PodStatus(phase="Running"))
    return codec.encode(pod)


@pytest.mark.parametrize(
    ("labels", "fields", "selected"),
    [
        ("app=a", "", True),
        ("app!=a", "", False),
        ("", "spec.nodeName=n1", True),
        ("", "spec.nodeName!=n1", False),
        ("", "spec.hostNetwork=false,status.phase=Running", True),
        ("app=a", "metadata.namespace=other", False),
    ],
)
def test_stored_objects_are_selected_by_their_bytes(labels: str, fields: str, selected: bool) -> None:
    predicate = selection.predicate("", "pods", labels, fields)
    assert predicate is not None
    assert predicate(_stored(app="a", node="n1")) is selected


def test_without_selectors_everything_is_selected() -> None:
    assert selection.predicate("", "pods", "", "") is None


def test_cluster_ips_are_given_once_until_the_range_is_full() -> None:
    ips = ClusterIPs("10.0.0.0/29")
    ips.take(ips.kubernetes)
    given_out = {ips.take_next() for _ in range(5)}
    assert given_out == {f"10.0.0.{last}" for last in range(2, 7)}
    with pytest.raises(AllocationError, match="range is full"):
        ips.take_next()
    ips.give_back("10.0.0.4")
    assert ips.take_next() == "10.0.0.4"
    for wrong, message in (("10.0.0.4", "already allocated"), ("10.0.1.1", "not in"), ("ten", "not a valid IP")):
        with pytest.raises(AllocationError, match=message):
            ips.take(wrong)


def test_dynamic_cluster_ips_leave_the_lower_band_free_at_first() -> None:
    ips = ClusterIPs("10.96.0.0/16")
    lowest = min(int(ips.take_next().split(".")[2]) for _ in range(200))
    assert lowest >= 1


def test_node_ports_are_given_once() -> None:
    ports = NodePorts()
    first = ports.take_next()
    with pytest.raises(AllocationError, match="already allocated"):
        ports.take(first)
    ports.give_back(first)
    ports.take(first)
    with pytest.raises(AllocationError, match="30000-32767"):
        ports.take(80)


@pytest.mark.parametrize(
    ("groups", "attributes", "allowed"),
    [
        (("system:masters",), Attributes(verb="delete", resource="nodes"), True),
        (("devs",), Attributes(verb="list", resource="pods", namespace="a"), False),
        (("devs",), Attributes(verb="create", group="authentication.k8s.io", resource="selfsubjectreviews"), True),
        (("devs",), Attributes(verb="get", path="/apis/apps/v1"), True),
        (("devs",), Attributes(verb="post", path="/apis/apps/v1"), False),
        (("devs",), Attributes(verb="get", path="/metrics"), False),
    ],
)
def test_authorization_is_simple_and_explicit(groups: tuple[str, ...], attributes: Attributes, allowed: bool) -> None:
    authorizer = Authorizer()
    assert authorizer.authorize(authenticated("someone", groups), attributes).allowed is allowed
    assert authorizer.authorize(LOCAL, attributes).allowed


def test_anonymous_users_may_only_see_health_and_version() -> None:
    authorizer = Authorizer()
    assert authorizer.authorize(ANONYMOUS, Attributes(verb="get", path="/livez")).allowed
    assert not authorizer.authorize(ANONYMOUS, Attributes(verb="get", path="/livez/ping")).allowed
    assert not authorizer.authorize(ANONYMOUS, Attributes(verb="get", path="/api")).allowed
    assert not authorizer.authorize(ANONYMOUS, Attributes(verb="get", path="/versions")).allowed


def test_denials_are_worded_as_upstream() -> None:
    user = authenticated("bob", ())
    attributes = Attributes(verb="get", group="apps", resource="deployments", subresource="scale", namespace="a")
    assert denial(user, attributes) == (
        'User "bob" cannot get resource "deployments/scale" in API group "apps" in the namespace "a"'
    )
    assert denial(user, Attributes(verb="list", resource="nodes")).endswith("at the cluster scope")
    assert denial(user, Attributes(verb="list", resource="nodes"), "why").endswith("at the cluster scope: why")


POD_STRATEGY = PodStrategy(by_type(Pod))


def _running(*finalizers: str) -> Pod:
    metadata = ObjectMeta(name="p", generation=1, finalizers=list(finalizers))
    return Pod(metadata=metadata, spec=PodSpec(node_name="n", termination_grace_period_seconds=30))


def test_a_pod_is_kept_for_its_grace_period_and_then_goes() -> None:
    pod = _running()
    assert begin_deletion(POD_STRATEGY, pod, DeleteOptions()) == Step(keep=True)
    assert (pod.metadata.deletion_grace_period_seconds, pod.metadata.generation) == (30, 2)
    assert begin_deletion(POD_STRATEGY, pod, DeleteOptions()) == Step(pending=True)
    assert begin_deletion(POD_STRATEGY, pod, DeleteOptions(grace_period_seconds=0)) == Step()


def test_a_negative_grace_period_is_one_second() -> None:
    pod = _running()
    begin_deletion(POD_STRATEGY, pod, DeleteOptions(grace_period_seconds=-5))
    assert pod.metadata.deletion_grace_period_seconds == 1


def test_finalizers_keep_even_what_is_forced() -> None:
    pod = _running("example.com/hold")
    assert begin_deletion(POD_STRATEGY, pod, DeleteOptions(grace_period_seconds=0)) == Step(keep=True)
    assert pod.metadata.deletion_grace_period_seconds == 0


def test_what_has_no_grace_period_goes_at_once_unless_held() -> None:
    strategy = Strategy[ConfigMap](by_type(ConfigMap))
    assert begin_deletion(strategy, ConfigMap(), DeleteOptions()) == Step()
    held = ConfigMap()
    assert begin_deletion(strategy, held, DeleteOptions(propagation_policy="Foreground")) == Step(keep=True)
    assert held.metadata.finalizers == ["foregroundDeletion"]
    assert begin_deletion(strategy, held, DeleteOptions(propagation_policy="Background")) == Step()


def test_calls_to_kubelets_that_begin_together_share_their_connections(tmp_path: Path) -> None:
    certificates = pki.ensure(
        tmp_path, node_name="n", addresses=[], service_address="10.96.0.1", cluster_domain="cluster.local"
    )

    async def scenario() -> None:
        kubelets = KubeletClient(certificates)
        first, second = await asyncio.gather(kubelets._open(), kubelets._open())
        assert first is second
        await kubelets.close()

    asyncio.run(scenario())
