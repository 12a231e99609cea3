"""`kubectl apply` of what is no object of its kind, and of objects of all kinds with mistakes: told as upstream does."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import yaml
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.refusal import COLLECTIONS, apply, pod, strip
from tests.support.verdict import INVALID, REQUIRED, UNSUPPORTED

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
