"""`kubectl apply` of manifests that are wrong in other ways than test_wrong_pods.py: not decodable, of another kind, too
big, in no namespace, or an update that may not be. Each is answered as upstream does, and the server goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.verdict import FORBIDDEN, INVALID, REQUIRED, TOO_LONG, UNSUPPORTED

COLLECTIONS = {
    "Pod": "/api/v1/namespaces/default/pods",
    "ConfigMap": "/api/v1/namespaces/default/configmaps",
    "Secret": "/api/v1/namespaces/default/secrets",
    "Service": "/api/v1/namespaces/default/services",
    "ServiceAccount": "/api/v1/namespaces/default/serviceaccounts",
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/default/leases",
}
STRICT = "?fieldValidation=Strict"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
CONFIG_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
UNRECOGNIZED = "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error"
QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
)


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Https:
    return cluster.https().administrator()


def apply(cluster: Cluster, text: str, *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `kubectl apply`."""
    done = cluster.try_kubectl("apply", "-f", "-", *argv, stdin=text)
    return done.returncode, done.stdout, done.stderr


def strip(causes: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(cause["reason"], cause["field"], cause["message"]) for cause in causes]


def pod(spec: str, metadata: str = "name: web") -> str:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{{metadata}}}\nspec: {spec}"


# -- what is no object of its kind


class Undecodable(NamedTuple):
    name: str
    manifest: str
    why: str
    """What follows 'Pod in version "v1" cannot be handled as a Pod: '."""


UNDECODABLE = (
    Undecodable(
        "unknown fields",
        pod("{containers: [{name: a, imag: b}], foo: 1}"),
        'strict decoding error: unknown field "spec.containers[0].imag", unknown field "spec.foo"',
    ),
    Undecodable(
        "unknown field at the top",
        pod("{containers: [{name: a, image: b}]}") + "\nspecs: {}",
        'strict decoding error: unknown field "specs"',
    ),
    Undecodable(
        "map for a list",
        pod("{containers: {name: a, image: b}}"),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    ),
    Undecodable(
        "list for a struct",
        pod("[]"),
        "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
    ),
    Undecodable(
        "text for a number",
        pod("{containers: [{name: a, image: b, ports: [{containerPort: '80'}]}]}"),
        "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type "
        "int32",
    ),
    Undecodable(
        "number for text",
        pod("{containers: [{name: a, image: b, env: [{name: A, value: 5}]}]}"),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
    ),
    Undecodable(
        "boolean for text",
        pod("{containers: [{name: a, image: b, args: [yes]}]}"),
        "json: cannot unmarshal bool into Go struct field Container.spec.containers.args of type string",
    ),
    Undecodable(
        "text for a boolean",
        pod("{containers: [{name: a, image: b}], hostNetwork: 'true'}"),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
    ),
    Undecodable(
        "fraction for a whole number",
        pod("{containers: [{name: a, image: b}], terminationGracePeriodSeconds: 1.5}"),
        "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
    ),
    Undecodable(
        "number too big",
        pod("{containers: [{name: a, image: b, ports: [{containerPort: 3000000000}]}]}"),
        "json: cannot unmarshal number 3000000000 into Go struct field "
        "ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    Undecodable(
        "quantity", pod("{containers: [{name: a, image: b, resources: {limits: {memory: 64Megs}}}]}"), QUANTITY
    ),
    Undecodable(
        "empty quantity", pod("{containers: [{name: a, image: b, resources: {limits: {memory: ''}}}]}"), QUANTITY
    ),
)


@pytest.mark.parametrize("case", UNDECODABLE, ids=lambda case: case.name)
def test_what_is_no_pod_is_a_bad_request(cluster: Cluster, admin: Https, case: Undecodable) -> None:
    message = f'Pod in version "v1" cannot be handled as a Pod: {case.why}'
    answer = admin.request("POST", COLLECTIONS["Pod"] + STRICT, yaml.safe_load(case.manifest))
    assert (answer.code, answer.json["reason"], answer.message) == (400, "BadRequest", message)
    told = apply(cluster, case.manifest)
    assert told == (1, "", f'Error from server (BadRequest): error when creating "STDIN": {message}\n')


def test_base64_in_secrets_is_checked(cluster: Cluster, admin: Https) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "not base64"}}
    message = 'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 3'
    answer = admin.request("POST", COLLECTIONS["Secret"], secret)
    assert (answer.code, answer.message) == (400, message)
    told = apply(cluster, json.dumps(secret))
    assert told == (1, "", f'Error from server (BadRequest): error when creating "STDIN": {message}\n')


@pytest.mark.parametrize(
    ("text", "stderr"),
    [
        ("", "error: no objects passed to apply\n"),
        ("# a comment\n---\n", "error: no objects passed to apply\n"),
        (
            "a: b: c",
            "error: error parsing STDIN: error converting YAML to JSON: yaml: mapping values are not allowed in ",
        ),
        (
            "kind: Pod\n\tname: a",
            "error: error parsing STDIN: error converting YAML to JSON: yaml: line 2: found a tab ",
        ),
        ('{"kind": "Pod",', "error: error parsing STDIN: unexpected EOF\n"),
        ("[1, 2]", 'error: error validating "STDIN": error validating data: invalid object to validate; '),
        (
            "apiVersion: v1\nmetadata: {name: a}",
            'error: error validating "STDIN": error validating data: kind not set; ',
        ),
        (
            "kind: Pod\nmetadata: {name: a}",
            'error: error validating "STDIN": error validating data: apiVersion not set; ',
        ),
        (
            "apiVersion: v1\nkind: Pood\nmetadata: {name: a}",
            'error: resource mapping not found for name: "a" namespace: "" from "STDIN": no matches for kind "Pood" in '
            'version "v1"\nensure CRDs are installed first\n',
        ),
        (
            "apiVersion: v2\nkind: Pod\nmetadata: {name: a}",
            'error: resource mapping not found for name: "a" namespace: "" from "STDIN": no matches for kind "Pod" in '
            'version "v2"\nensure CRDs are installed first\n',
        ),
        (
            pod("{containers: [{name: a, image: b}]}", metadata="labels: {}"),
            "error: error when retrieving current configuration of:\n"
            'Resource: "/v1, Resource=pods", GroupVersionKind: "/v1, Kind=Pod"\n'
            'Name: "", Namespace: "default"\nfrom server for: "STDIN": resource name may not be empty\n',
        ),
    ],
    ids=["empty", "comment", "YAML", "tab", "JSON", "list", "no kind", "no version", "kind", "version", "no name"],
)
def test_kubectl_tells_what_it_cannot_send(cluster: Cluster, text: str, stderr: str) -> None:
    code, out, told = apply(cluster, text)
    assert (code, out) == (1, "")
    assert told.startswith(stderr)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("", 400, f"{UNRECOGNIZED}: unexpected end of JSON input (<empty>)"),
        ('{"kind":', 400, f'{UNRECOGNIZED}: unexpected end of JSON input ({{"kind":)'),
        ("hello", 400, f"{UNRECOGNIZED}: invalid character 'h' looking for beginning of value (68656c6c6f)"),
        ("[]", 400, f"{UNRECOGNIZED}: json: cannot unmarshal array into Go value of type"),
        ({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "a"}}, 400, "cannot be handled as a Pod"),
        ({"kind": "Pod", "apiVersion": "apps/v1"}, 400, "does not match the expected API version (v1)"),
        ({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "other"}}, 400, "does not match the namespace"),
        (
            {"spec": {"containers": [{"name": "a", "image": "b"}]}},
            422,
            'Pod "" is invalid: metadata.name: Required value: name or generateName is required',
        ),
    ],
)
def test_bodies_that_kubectl_would_not_send(admin: Https, body: Any, code: int, message: str) -> None:
    answer = admin.request("POST", COLLECTIONS["Pod"], body)
    assert answer.code == code
    assert answer.json["reason"] == {400: "BadRequest", 422: "Invalid"}[code]
    assert message in answer.message


def test_of_two_documents_the_good_one_is_applied(cluster: Cluster) -> None:
    name = unique("good")
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad}\n---\n"
    text += f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}"
    code, out, told = apply(cluster, text)
    assert (code, out) == (1, f"configmap/{name} created\n")
    assert told.startswith('The ConfigMap "Bad" is invalid: metadata.name: Invalid value: "Bad": a lowercase RFC 1123 ')
    cluster.kubectl("delete", "configmap", name)


# -- objects of other kinds, and Pods with several mistakes


class Wrong(NamedTuple):
    name: str
    kind: str
    manifest: str
    causes: tuple[tuple[str, str, str], ...]


WRONG = (
    Wrong(
        "a Pod without containers",
        "Pod",
        "metadata: {name: x}",
        ((REQUIRED, "spec.containers", "Required value"),),
    ),
    Wrong(
        "several mistakes of a Pod",
        "Pod",
        "metadata: {name: x}\nspec: {restartPolicy: Sometimes, containers: [{name: A_, image: ''}]}",
        (
            (INVALID, "spec.containers[0].name", f'Invalid value: "A_": {LABEL}'),
            (REQUIRED, "spec.containers[0].image", "Required value"),
            (
                UNSUPPORTED,
                "spec.restartPolicy",
                'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
            ),
        ),
    ),
    Wrong(
        "key of a ConfigMap",
        "ConfigMap",
        "metadata: {name: x}\ndata: {'a b': c}",
        ((INVALID, "data[a b]", f'Invalid value: "a b": {CONFIG_KEY}'),),
    ),
    Wrong(
        "key as text and as bytes",
        "ConfigMap",
        "metadata: {name: x}\ndata: {a: b}\nbinaryData: {a: Yg==}",
        ((INVALID, "data[a]", 'Invalid value: "a": duplicate of key present in binaryData'),),
    ),
    Wrong(
        "certificate without key",
        "Secret",
        "metadata: {name: x}\ntype: kubernetes.io/tls\ndata: {tls.crt: YQ==}",
        ((REQUIRED, "data[tls.key]", "Required value"),),
    ),
    Wrong(
        "registry password that is no JSON",
        "Secret",
        "metadata: {name: x}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{'}",
        (
            (
                INVALID,
                "data[.dockerconfigjson]",
                'Invalid value: "<secret contents redacted>": unexpected end of JSON input',
            ),
        ),
    ),
    Wrong(
        "Service without ports",
        "Service",
        "metadata: {name: x}\nspec: {}",
        ((REQUIRED, "spec.ports", "Required value"),),
    ),
    Wrong(
        "port of a Service",
        "Service",
        "metadata: {name: x}\nspec: {ports: [{port: 0}]}",
        (
            (INVALID, "spec.ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
            (INVALID, "spec.ports[0].targetPort", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        ),
    ),
    Wrong(
        "two ports without names",
        "Service",
        "metadata: {name: x}\nspec: {ports: [{port: 1}, {port: 2}]}",
        (
            (REQUIRED, "spec.ports[0].name", "Required value"),
            (REQUIRED, "spec.ports[1].name", "Required value"),
        ),
    ),
    Wrong(
        "type of a Service",
        "Service",
        "metadata: {name: x}\nspec: {type: Public, ports: [{port: 1}]}",
        (
            (
                UNSUPPORTED,
                "spec.type",
                'Unsupported value: "Public": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
            ),
        ),
    ),
    Wrong(
        "node port out of range",
        "Service",
        "metadata: {name: x}\nspec: {type: NodePort, ports: [{port: 1, nodePort: 80}]}",
        (
            (
                INVALID,
                "spec.ports[0].nodePort",
                "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
            ),
        ),
    ),
    Wrong(
        "name of a Namespace",
        "Namespace",
        "metadata: {name: a.b}",
        ((INVALID, "metadata.name", 'Invalid value: "a.b": must not contain dots'),),
    ),
    Wrong(
        "effect of a taint",
        "Node",
        "metadata: {name: x}\nspec: {taints: [{key: a, effect: Never}]}",
        (
            (
                UNSUPPORTED,
                "metadata.taints[0].effect",
                'Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
            ),
        ),
    ),
    Wrong(
        "duration of a Lease",
        "Lease",
        "metadata: {name: x}\nspec: {leaseDurationSeconds: 0}",
        ((INVALID, "spec.leaseDurationSeconds", "Invalid value: 0: must be greater than 0"),),
    ),
)


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.name)
def test_every_mistake_is_told_with_its_place(cluster: Cluster, admin: Https, case: Wrong) -> None:
    document = yaml.safe_load(case.manifest)
    version = "coordination.k8s.io/v1" if case.kind == "Lease" else "v1"
    document |= {"apiVersion": version, "kind": case.kind}
    name = document["metadata"]["name"]
    answer = admin.request("POST", COLLECTIONS[case.kind] + STRICT, document)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert strip(answer.json["details"]["causes"]) == list(case.causes)
    lines = [f"{field}: {message}" for _, field, message in case.causes]
    kind = "Lease.coordination.k8s.io" if case.kind == "Lease" else case.kind
    joined = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    assert answer.message == f'{kind} "{name}" is invalid: {joined}'
    listed = lines[0] if len(lines) == 1 else "".join(f"\n* {line}" for line in lines)
    assert apply(cluster, json.dumps(document)) == (1, "", f'The {case.kind} "{name}" is invalid: {listed}\n')


# -- size


def test_annotations_have_a_limit(cluster: Cluster, admin: Https) -> None:
    big = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "big", "annotations": {"a": "x" * (256 << 10)}},
    }
    answer = admin.request("POST", COLLECTIONS["ConfigMap"], big)
    text = "Too long: may not be more than 262144 bytes"
    assert strip(answer.json["details"]["causes"]) == [(TOO_LONG, "metadata.annotations", text)]
    told = apply(cluster, json.dumps(big))
    assert told == (1, "", f'The ConfigMap "big" is invalid: metadata.annotations: {text}\n')


def test_a_config_map_holds_a_megabyte(cluster: Cluster, admin: Https) -> None:
    big = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "big"}, "data": {"a": "x" * ((1 << 20) + 1)}}
    answer = admin.request("POST", COLLECTIONS["ConfigMap"], big)
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["message"] == "Too long: may not be more than 1048576 bytes"
    done = cluster.try_kubectl("create", "-f", "-", stdin=json.dumps(big))
    assert done.returncode == 1
    assert "Too long: may not be more than 1048576 bytes" in done.stderr


def test_a_request_holds_three_megabytes(cluster: Cluster) -> None:
    data = base64.b64encode(bytes(3 << 20)).decode()
    big = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "big"}, "data": {"a": data}}
    done = cluster.try_kubectl("create", "-f", "-", stdin=json.dumps(big))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Request entity is too large: limit is 3145728" in done.stderr


# -- where it may not be


def test_there_has_to_be_a_namespace(cluster: Cluster, admin: Https) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}"
    answer = admin.request("POST", "/api/v1/namespaces/nowhere/configmaps", yaml.safe_load(manifest))
    assert (answer.code, answer.json["reason"]) == (404, "NotFound")
    assert answer.json["details"] == {"name": "nowhere", "kind": "namespaces"}
    message = 'namespaces "nowhere" not found'
    assert apply(cluster, manifest) == (
        1,
        "",
        f'Error from server (NotFound): error when creating "STDIN": {message}\n',
    )


def test_nothing_is_created_in_a_namespace_that_goes(cluster: Cluster, admin: Https) -> None:
    name = unique("going")
    held = {"metadata": {"name": name, "finalizers": ["example.com/hold"]}}
    assert admin.request("POST", "/api/v1/namespaces", held).code == 201
    assert admin.request("DELETE", f"/api/v1/namespaces/{name}").code == 200
    try:
        answer = admin.request("POST", f"/api/v1/namespaces/{name}/configmaps", {"metadata": {"name": "a"}})
        message = (
            f'configmaps "a" is forbidden: unable to create new content in namespace {name} because it is being '
            "terminated"
        )
        assert (answer.code, answer.json["reason"], answer.message) == (403, "Forbidden", message)
        cause = ("NamespaceTerminating", "metadata.namespace", f"namespace {name} is being terminated")
        assert strip(answer.json["details"]["causes"]) == [cause]
        manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: {name}}}"
        told = apply(cluster, manifest)
        assert told == (1, "", f'Error from server (Forbidden): error when creating "STDIN": {message}\n')
    finally:
        cluster.kubectl("patch", "namespace", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_the_first_namespaces_stay(cluster: Cluster, name: str) -> None:
    done = cluster.try_kubectl("delete", "namespace", name)
    assert done.returncode == 1
    assert done.stderr == (
        f'Error from server (Forbidden): namespaces "{name}" is forbidden: this namespace may not be deleted\n'
    )


# -- updates


@pytest.fixture(scope="module")
def waiting(cluster: Cluster) -> Iterator[str]:
    """The name of a Pod that no node can take."""
    name = unique("waiting")
    cluster.kubectl("apply", "-f", "-", stdin=_waiting(name))
    yield name
    cluster.kubectl("delete", "pod", name, "--now")


def _waiting(name: str, spec: str = "") -> str:
    return pod(
        f"{{nodeSelector: {{no: where}}, containers: [{{name: a, image: busybox}}], {spec}}}", metadata=f"name: {name}"
    )


@pytest.mark.parametrize(
    "spec",
    [
        "restartPolicy: Never",
        "hostNetwork: true",
        "serviceAccountName: other",
        "volumes: [{name: v, emptyDir: {}}]",
        "containers: [{name: b, image: busybox}]",
        "containers: [{name: a, image: busybox, command: [sh]}]",
        "containers: [{name: a, image: busybox, env: [{name: A, value: b}]}]",
        "terminationGracePeriodSeconds: 5",
    ],
)
def test_most_of_a_pod_is_immutable(cluster: Cluster, waiting: str, spec: str) -> None:
    code, out, told = apply(cluster, _waiting(waiting, spec))
    assert (code, out) == (1, "")
    assert told.startswith(f'The Pod "{waiting}" is invalid: ')
    assert f"spec: Forbidden: {UPDATABLE}" in told


class Update(NamedTuple):
    """A merge patch of the waiting Pod."""

    patch: str
    causes: tuple[tuple[str, str, str], ...]


@pytest.mark.parametrize(
    "case",
    [
        Update('{"metadata":{"uid":"1"}}', ((INVALID, "metadata.uid", 'Invalid value: "1": field is immutable'),)),
        Update(
            '{"spec":{"containers":null}}',
            (
                (REQUIRED, "spec.containers", "Required value"),
                (FORBIDDEN, "spec.containers", "Forbidden: pod updates may not add or remove containers"),
            ),
        ),
        Update(
            '{"spec":{"activeDeadlineSeconds":0}}',
            (
                (
                    INVALID,
                    "spec.activeDeadlineSeconds",
                    "Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ),
            ),
        ),
    ],
)
def test_wrong_patches_of_a_pod(cluster: Cluster, admin: Https, waiting: str, case: Update) -> None:
    path = f"{COLLECTIONS['Pod']}/{waiting}"
    answer = admin.request("PATCH", path, case.patch, content_type="application/merge-patch+json")
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert strip(answer.json["details"]["causes"]) == list(case.causes)
    done = cluster.try_kubectl("patch", "pod", waiting, "--type=merge", "-p", case.patch)
    lines = [f"{field}: {message}" for _, field, message in case.causes]
    listed = lines[0] if len(lines) == 1 else "".join(f"\n* {line}" for line in lines)
    assert (done.returncode, done.stderr) == (1, f'The Pod "{waiting}" is invalid: {listed}\n')


@pytest.mark.parametrize(
    ("kind", "patch", "stderr"),
    [
        (
            "merge",
            '{"metadata":{"name":"x"}}',
            "Error from server (BadRequest): the name of the object (x) does not match",
        ),
        (
            "merge",
            '{"metadata":{"namespace":"x"}}',
            "Error from server (BadRequest): the namespace of the object (x) does",
        ),
        (
            "merge",
            '{"metadata":{"resourceVersion":"1"}}',
            'Error from server (Conflict): Operation cannot be fulfilled on pods "',
        ),
        (
            "strategic",
            '{"spec":{"containers":[{"image":"x"}]}}',
            "Error from server: map: map[image:x] does not contain ",
        ),
        (
            "json",
            '[{"op":"replace","path":"/spec/nope","value":1}]',
            "The request is invalid: the server rejected our request due to an error in our request\n",
        ),
        (
            "json",
            '[{"op":"test","path":"/spec/restartPolicy","value":1}]',
            "The request is invalid: the server rejected our request due to an error in our request\n",
        ),
    ],
)
def test_patches_that_do_not_apply(cluster: Cluster, waiting: str, kind: str, patch: str, stderr: str) -> None:
    done = cluster.try_kubectl("patch", "pod", waiting, f"--type={kind}", "-p", patch)
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("Warning: ")]
    assert "".join(last).startswith(stderr)


@pytest.mark.parametrize("subresource", ["resize", "ephemeralcontainers", "scale", "nothing"])
def test_subresources_that_are_not_served_do_not_exist(
    cluster: Cluster, admin: Https, waiting: str, subresource: str
) -> None:
    answer = admin.request("PATCH", f"{COLLECTIONS['Pod']}/{waiting}/{subresource}", {})
    assert (answer.code, answer.message) == (404, "the server could not find the requested resource")
    served = [item["name"] for item in admin.request("GET", "/api/v1").json["resources"]]
    assert f"pods/{subresource}" not in served


def test_what_is_immutable_stays(cluster: Cluster) -> None:
    name = unique("fixed")
    cluster.kubectl("create", "configmap", name, "--from-literal=a=b")
    cluster.kubectl("patch", "configmap", name, "-p", '{"immutable":true}')
    changed = cluster.try_kubectl("patch", "configmap", name, "-p", '{"data":{"a":"c"}}')
    text = "Forbidden: field is immutable when `immutable` is set"
    assert changed.stderr == f'The ConfigMap "{name}" is invalid: data: {text}\n'
    thawed = cluster.try_kubectl("patch", "configmap", name, "-p", '{"immutable":false}')
    assert thawed.stderr == f'The ConfigMap "{name}" is invalid: immutable: {text}\n'
    cluster.kubectl("delete", "configmap", name)


def test_a_secret_keeps_its_type_and_a_service_its_address(cluster: Cluster) -> None:
    name = unique("fixed")
    cluster.kubectl("create", "secret", "generic", name)
    changed = cluster.try_kubectl("patch", "secret", name, "-p", '{"type":"example.com/other"}')
    assert changed.stderr == (
        f'The Secret "{name}" is invalid: type: Invalid value: "example.com/other": field is immutable\n'
    )
    cluster.kubectl("create", "service", "clusterip", name, "--tcp=80")
    address = cluster.service_cidr.replace("0/24", "99")
    moved = cluster.try_kubectl("patch", "service", name, "-p", json.dumps({"spec": {"clusterIP": address}}))
    assert moved.stderr == (
        f'The Service "{name}" is invalid: spec.clusterIPs[0]: Invalid value: ["{address}"]: may not change once set\n'
    )
    cluster.kubectl("delete", f"secret/{name}", f"service/{name}")


def test_finalizers_of_a_namespace_have_names(cluster: Cluster, admin: Https) -> None:
    name = unique("final")
    cluster.kubectl("create", "namespace", name)
    wrong = {"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes", "no such"]}}
    answer = admin.request("PUT", f"/api/v1/namespaces/{name}/finalize", wrong)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert {cause["field"] for cause in answer.json["details"]["causes"]} == {"spec.finalizers[1]"}
    cluster.kubectl("delete", "namespace", name)


# -- names, selectors


@pytest.mark.parametrize(
    ("argv", "stderr"),
    [
        (("get", "pod", "nope"), 'Error from server (NotFound): pods "nope" not found\n'),
        (("delete", "pod", "nope"), 'Error from server (NotFound): pods "nope" not found\n'),
        (("get", "pood"), 'error: the server doesn\'t have a resource type "pood"\n'),
        (
            ("create", "namespace", "default"),
            'Error from server (AlreadyExists): namespaces "default" already exists\n',
        ),
        (
            ("get", "pods", "-l", "a in"),
            'Error from server (BadRequest): Unable to find "/v1, Resource=pods" that match label selector "a in", field '
            "selector \"\": unable to parse requirement: found '' expected: '('\n",
        ),
        (
            ("get", "pods", "--field-selector", "spec.colour=red"),
            'Error from server (BadRequest): Unable to find "/v1, Resource=pods" that match label selector "", field '
            'selector "spec.colour=red": field label not supported: spec.colour\n',
        ),
        (
            ("get", "pods", "--as", "bob"),
            'Error from server (Forbidden): pods is forbidden: User "bob" cannot list resource "pods" in API group "" in '
            'the namespace "default"\n',
        ),
    ],
)
def test_wrong_questions_are_answered_as_upstream_does(cluster: Cluster, argv: tuple[str, ...], stderr: str) -> None:
    done = cluster.try_kubectl(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", stderr)


def test_the_server_serves_on(cluster: Cluster, admin: Https) -> None:
    assert admin.request("GET", "/livez").raw == b"ok"
    assert cluster.kubectl("get", "namespace", "default", "-o", "name") == "namespace/default\n"
