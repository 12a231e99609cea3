"""The last value of a field that is good, and the first one that is not.

Beside the recordings of kube-apiserver and tests/unit/test_validation_*. Source: the API reference of Kubernetes 1.36 and
the texts of k8s.io/apimachinery/pkg/util/validation and pkg/apis/core/validation.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

import pytest
from tests.support.answers import told
from tests.support.api import Api, pod

DAY = 24 * 60 * 60
MIB = 1 << 20
TOO_LONG = "may not be more than {} bytes"
CHARACTERS, BYTES = "must be no more than {} characters", "must be no more than {} bytes"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
ENV = "a valid environment variable name must consist only of printable ASCII characters other than '='"
PORT = "must be between 1 and 65535, inclusive"
NODE_PORT = "provided port is not in the valid range. The range of valid ports is 30000-32767"
MODE = "must be a number between 0 and 0777 (octal), both inclusive"
NO_VERSION = "version must not be empty"
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}


class Limit(NamedTuple):
    """A field and what is wrong with it in an object; an object without problem is good."""

    kind: str
    body: dict[str, Any]
    field: str = ""
    problem: str = ""


def _meta(field: str = "", problem: str = "", **metadata: Any) -> Limit:
    return Limit("ConfigMap", {"metadata": {"name": "c", **metadata}}, field and f"metadata.{field}", problem)


def _data(key: str, value: str = "v", field: str = "", problem: str = "") -> Limit:
    return Limit("ConfigMap", {"metadata": {"name": "c"}, "data": {key: value}}, field, problem)


def _pod(field: str = "", problem: str = "", **spec: Any) -> Limit:
    return Limit("Pod", pod("web", **spec), field and f"spec.{field}", problem)


def _container(field: str = "", problem: str = "", **container: Any) -> Limit:
    body = pod("web")
    body["spec"]["containers"][0].update(container)
    return Limit("Pod", body, field and f"spec.containers[0].{field}", problem)


def _service(field: str = "", problem: str = "", **spec: Any) -> Limit:
    body = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], **spec}}
    return Limit("Service", body, field and f"spec.{field}", problem)


def _named(kind: str, path: str, name: str, problem: str = "") -> Limit:
    body = pod(name) if kind == "Pod" else {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
    return Limit(kind, body, path if problem else "", problem)


def _token(seconds: int, problem: str = "") -> Limit:
    path = "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds"
    source = {"serviceAccountToken": {"path": "t", "expirationSeconds": seconds}}
    body = pod("web", volumes=[{"name": "v", "projected": {"sources": [source]}}])
    return Limit("Pod", body, path if problem else "", problem)


def _affinity(seconds: int, problem: str = "") -> Limit:
    config = {"clientIP": {"timeoutSeconds": seconds}}
    path = "sessionAffinityConfig.clientIP.timeoutSeconds" if problem else ""
    return _service(path, problem, sessionAffinity="ClientIP", sessionAffinityConfig=config)


def invalid(value: object, problem: str) -> str:
    shown = f'"{value}"' if isinstance(value, str) else value
    return f"Invalid value: {shown}: {problem}"


def long(length: int, limit: str, char: str = "a") -> str:
    return invalid(char * length, limit.format(length - 1))


LIMITS = {
    "name 253": _meta(name="a" * 253),
    "name 254": _meta("name", long(254, CHARACTERS), name="a" * 254),
    "namespace 63": Limit("Namespace", {"metadata": {"name": "a" * 63}}),
    "namespace with dots": Limit(
        "Namespace", {"metadata": {"name": "a.b"}}, "metadata.name", invalid("a.b", "must not contain dots")
    ),
    "service 63": _named("Service", "", "a" * 63),
    "service 64": _named("Service", "metadata.name", "a" * 64, long(64, CHARACTERS)),
    "generateName 253": _meta(name="", generateName="a" * 253),
    "generateName 254": _meta("generateName", long(254, CHARACTERS), name="", generateName="a" * 254),
    "generateName ends with a hyphen": _meta(name="", generateName="a-"),
    "label 63": _meta(labels={"k" * 63: "v" * 63}),
    "label key 64": _meta(
        "labels", invalid("k" * 64, "name part must be no more than 63 bytes"), labels={"k" * 64: "v"}
    ),
    "label value 64": _meta("labels", long(64, BYTES, "v"), labels={"k": "v" * 64}),
    "label prefix 253": _meta(labels={f"{'d' * 253}/k": "v"}),
    "label prefix 254": _meta(
        "labels",
        invalid(f"{'d' * 254}/k", "prefix part must be no more than 253 characters"),
        labels={f"{'d' * 254}/k": "v"},
    ),
    "label without prefix": _meta("labels", invalid("/k", "prefix part must be non-empty"), labels={"/k": "v"}),
    "annotations 256 KiB": _meta(annotations={"k": "v" * ((256 << 10) - 1)}),
    "annotations over 256 KiB": _meta(
        "annotations", f"Too long: {TOO_LONG.format(256 << 10)}", annotations={"k": "v" * (256 << 10)}
    ),
    "annotations are counted in bytes": _meta(
        "annotations", f"Too long: {TOO_LONG.format(256 << 10)}", annotations={"k": "\u00e9" * (128 << 10)}
    ),
    "annotation with capitals": _meta(annotations={"Example.Com/Key": "v"}),
    "finalizer": _meta(finalizers=["example.com/a"]),
    "finalizer 64": _meta(
        "finalizers",
        invalid(f"a/{'b' * 64}", "name part must be no more than 63 bytes"),
        finalizers=[f"a/{'b' * 64}"],
    ),
    "finalizers of two policies": _meta(
        "finalizers",
        'Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set',
        finalizers=["orphan", "foregroundDeletion"],
    ),
    "owner": _meta(ownerReferences=[OWNER]),
    "owner without group": _meta(ownerReferences=[{**OWNER, "apiVersion": "/v1"}]),
    "owner of three parts": _meta(
        "ownerReferences.apiVersion", invalid("a/b/c", NO_VERSION), ownerReferences=[{**OWNER, "apiVersion": "a/b/c"}]
    ),
    "owner without version": _meta(
        "ownerReferences.apiVersion", invalid("apps/", NO_VERSION), ownerReferences=[{**OWNER, "apiVersion": "apps/"}]
    ),
    "owner is an event": _meta(
        "ownerReferences",
        'Invalid value: {"kind":"Event","name":"p","uid":"u","apiVersion":"/v1"}: '
        "/v1, Kind=Event is disallowed from being an owner",
        ownerReferences=[{**OWNER, "kind": "Event", "apiVersion": "/v1"}],
    ),
    "generation": _meta("generation", invalid(-1, "must be greater than or equal to 0"), generation=-1),
    "key 253": _data("k" * 253),
    "key 254": _data("k" * 254, "v", f"data[{'k' * 254}]", long(254, CHARACTERS, "k")),
    "key .": _data(".", "v", "data[.]", invalid(".", "must not be '.'")),
    "key ..": _data("..", "v", "data[..]", invalid("..", "must not be '..'")),
    "key ..a": _data("..a", "v", "data[..a]", invalid("..a", "must not start with '..'")),
    "data of 1 MiB": _data("k", "v" * MIB),
    "secret of 1 MiB": Limit(
        "Secret", {"metadata": {"name": "s"}, "data": {"k": base64.b64encode(b"x" * MIB).decode()}}
    ),
    "secret over 1 MiB": Limit(
        "Secret",
        {"metadata": {"name": "s"}, "stringData": {"k": "x" * (MIB + 1)}},
        "data",
        f"Too long: {TOO_LONG.format(MIB)}",
    ),
    **{
        f"env {name!r}": _container(env=[{"name": name, "value": "v"}])
        for name in ("a b", "1", "..", "$(X)", "a" * 300)
    },
    **{
        f"env {name!r}": _container(
            "env[0].name", f'Invalid value: "{shown}": {ENV}', env=[{"name": name, "value": "v"}]
        )
        for name, shown in (("a=b", "a=b"), ("\u00e9", "\u00e9"), ("a\n", "a\\n"), ("\x7f", "\\x7f"))
    },
    "container 63": _container(name="a" * 63),
    "container with dots": _container("name", invalid("a.b", "must not contain dots"), name="a.b"),
    "port 1": _container(ports=[{"containerPort": 1, "hostPort": 1}]),
    "port 65535": _container(ports=[{"containerPort": 65535, "hostPort": 65535}]),
    "port 0": _container("ports[0].containerPort", "Required value", ports=[{"containerPort": 0}]),
    "host port 65536": _container(
        "ports[0].hostPort", invalid(65536, PORT), ports=[{"containerPort": 80, "hostPort": 65536}]
    ),
    "port name 15": _container(ports=[{"containerPort": 80, "name": "a" * 15}]),
    "port name 16": _container("ports[0].name", long(16, CHARACTERS), ports=[{"containerPort": 80, "name": "a" * 16}]),
    "port name without letter": _container(
        "ports[0].name",
        invalid("1", "must contain at least one letter (a-z)"),
        ports=[{"containerPort": 80, "name": "1"}],
    ),
    "port name with two hyphens": _container(
        "ports[0].name",
        invalid("a--b", "must not contain consecutive hyphens"),
        ports=[{"containerPort": 80, "name": "a--b"}],
    ),
    **{f"{field} 63": _pod(**{field: "a" * 63}) for field in ("hostname", "subdomain")},
    **{f"{field} 64": _pod(field, long(64, CHARACTERS), **{field: "a" * 64}) for field in ("hostname", "subdomain")},
    **{f"{field} A": _pod(field, invalid("A", LABEL), **{field: "A"}) for field in ("hostname", "subdomain")},
    "volume name 63": _pod(volumes=[{"name": "a" * 63, "emptyDir": {}}]),
    "volume name 64": _pod("volumes[0].name", long(64, CHARACTERS), volumes=[{"name": "a" * 64, "emptyDir": {}}]),
    **{f"grace {n}": _pod(terminationGracePeriodSeconds=n) for n in (-1, 0, 2**63 - 1)},
    **{f"deadline {n}": _pod(activeDeadlineSeconds=n) for n in (1, 2**31 - 1)},
    "deadline 2147483648": _pod(
        "activeDeadlineSeconds",
        invalid(2**31, "must be between 1 and 2147483647, inclusive"),
        activeDeadlineSeconds=2**31,
    ),
    **{
        f"toleration {n}": _pod(
            tolerations=[{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": n}]
        )
        for n in (-1, 0, 2**63 - 1)
    },
    "toleration of another effect": _pod(
        "tolerations[0].effect",
        invalid("NoSchedule", "effect must be 'NoExecute' when `tolerationSeconds` is set"),
        tolerations=[{"key": "k", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}],
    ),
    "toleration value 64": _pod(
        "tolerations[0].operator", long(64, BYTES), tolerations=[{"key": "k", "value": "a" * 64}]
    ),
    "nodeName 253": _pod(nodeName="a" * 253),
    "nodeName 254": _pod("nodeName", long(254, CHARACTERS), nodeName="a" * 254),
    "schedulerName is free": _pod(schedulerName="A b" * 100),
    "nodeSelector 64": _pod("nodeSelector", long(64, BYTES), nodeSelector={"k": "a" * 64}),
    "gate 63": _pod(schedulingGates=[{"name": "a" * 63}]),
    "gate 64": _pod(
        "schedulingGates[0]",
        invalid("a" * 64, "name part must be no more than 63 bytes"),
        schedulingGates=[{"name": "a" * 64}],
    ),
    "host alias 254": _pod(
        "hostAliases[0].hostnames[0]",
        long(254, CHARACTERS),
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a" * 254]}],
    ),
    "name servers 3": _pod(dnsConfig={"nameservers": ["10.0.0.1"] * 3}),
    "name servers 4": _pod(
        "dnsConfig.nameservers",
        'Invalid value: ["10.0.0.1","10.0.0.1","10.0.0.1","10.0.0.1"]: must not have more than 3 nameservers',
        dnsConfig={"nameservers": ["10.0.0.1"] * 4},
    ),
    "search paths 32": _pod(dnsConfig={"searches": ["a"] * 32}),
    "token of a volume 600": _token(600),
    "token of a volume 599": _token(599, invalid(599, "may not specify a duration less than 10 minutes")),
    "token of a volume 2^32": _token(2**32),
    "token of a volume over 2^32": _token(
        2**32 + 1, invalid(2**32 + 1, "may not specify a duration larger than 2^32 seconds")
    ),
    **{f"mode {n:o}": _pod(volumes=[{"name": "v", "configMap": {"name": "c", "defaultMode": n}}]) for n in (0, 0o777)},
    "mode 1000": _pod(
        "volumes[0].configMap.defaultMode",
        invalid(512, MODE),
        volumes=[{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}],
    ),
    **{f"service port {n}": _service(ports=[{"port": n}]) for n in (1, 65535)},
    "service port name 63": _service(ports=[{"port": 80, "name": "a" * 63}]),
    "service port name 64": _service("ports[0].name", long(64, CHARACTERS), ports=[{"port": 80, "name": "a" * 64}]),
    "target port 15": _service(ports=[{"port": 80, "targetPort": "a" * 15}]),
    "target port 16": _service(
        "ports[0].targetPort", long(16, CHARACTERS), ports=[{"port": 80, "targetPort": "a" * 16}]
    ),
    **{f"node port {n}": _service(type="NodePort", ports=[{"port": 80, "nodePort": n}]) for n in (30000, 32767)},
    **{
        f"node port {n}": _service(
            "ports[0].nodePort", invalid(n, NODE_PORT), type="NodePort", ports=[{"port": 80, "nodePort": n}]
        )
        for n in (29999, 32768)
    },
    **{f"affinity {n}": _affinity(n) for n in (1, DAY)},
    **{f"affinity {n}": _affinity(n, invalid(n, f"must be greater than 0 and less than {DAY}")) for n in (0, DAY + 1)},
    "external name 253": _service(type="ExternalName", externalName="a" * 253),
}
PLURALS = {"ConfigMap": "configmaps", "Pod": "pods", "Secret": "secrets", "Service": "services"}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
def test_limit(api: Api, namespace: str, limit: Limit) -> None:
    plural = PLURALS.get(limit.kind)
    path = f"/api/v1/namespaces/{namespace}/{plural}" if plural else "/api/v1/namespaces"
    answer = api.post(f"{path}?dryRun=All", limit.body)
    causes = (
        [(each["field"], each["message"]) for each in answer.json["details"]["causes"]] if answer.code >= 400 else []
    )
    assert (answer.code, causes) == ((422, [(limit.field, limit.problem)]) if limit.problem else (201, []))


@pytest.mark.parametrize(("seconds", "code"), [(599, 422), (600, 201), (1 << 32, 201), ((1 << 32) + 1, 422)])
def test_tokens_live_for_ten_minutes_to_many_years(api: Api, namespace: str, seconds: int, code: int) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    answer = api.post(path, {"spec": {"expirationSeconds": seconds}})
    short, long = (
        "may not specify a duration less than 10 minutes",
        "may not specify a duration larger than 2^32 seconds",
    )
    text = f'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: {seconds}: '
    message = "" if code == 201 else text + (short if seconds < 600 else long)
    assert told(answer) == (code, "Invalid" if message else "", message)


@pytest.mark.parametrize("length", [58, 59, 253])
def test_of_a_long_prefix_58_characters_are_kept(api: Api, config_maps: str, length: int) -> None:
    made = api.create(config_maps, {"metadata": {"generateName": "g" * length}})
    assert made["metadata"]["name"].startswith("g" * 58)
    assert len(made["metadata"]["name"]) == 63


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_may_have_three_mib(api: Api, config_maps: str, method: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    path = config_maps if method == "POST" else f"{config_maps}/c"
    media_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    small = api.request(method, f"{path}?dryRun=All", b"{}".ljust(3 << 20), content_type=media_type)
    assert small.code == (422 if method == "POST" else 200)
    large = api.request(method, f"{path}?dryRun=All", b"{}".ljust((3 << 20) + 1), content_type=media_type)
    assert told(large) == (413, "RequestEntityTooLarge", "Request entity is too large: limit is 3145728")


@pytest.mark.parametrize("media_type", ["application/json", "application/yaml"])
def test_null_is_an_object_without_fields(api: Api, config_maps: str, media_type: str) -> None:
    answer = api.post(config_maps, b"null", content_type=media_type)
    text = 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required'
    assert told(answer) == (422, "Invalid", text)
