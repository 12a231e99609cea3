"""Who may enter, and what they may do."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import stat
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.api import Api, pod, unix_connection

from podling.apiserver.pki import KeyPair


def _remote(
    api: Api, path: str, *, pair: KeyPair | None = None, token: str = "", method: str = "GET", body: Any = None
) -> tuple[int, Any]:
    """A request to the TLS port."""
    context = ssl.create_default_context(cafile=str(api.pki.ca.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    connection = http.client.HTTPSConnection("127.0.0.1", api.server.port, context=context, timeout=20)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    return response.status, json.loads(raw) if raw.startswith(b"{") else raw


@pytest.fixture
def token(api: Api, namespace: str) -> str:
    """Of the namespace's default service account."""
    made = api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", {"spec": {}})
    value: str = made["status"]["token"]
    return value


def _whoami(api: Api, **credentials: Any) -> dict[str, Any]:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    code, review = _remote(api, path, method="POST", body={}, **credentials)
    assert code == 201, review
    info: dict[str, Any] = review["status"]["userInfo"]
    return info


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1/pods", "/metrics", "/apis/apps/v1", "/nothing"])
def test_anonymous_requests_are_unauthorized(api: Api, path: str) -> None:
    code, failure = _remote(api, path)
    assert code == 401
    assert (failure["kind"], failure["reason"], failure["message"]) == ("Status", "Unauthorized", "Unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/readyz?verbose"])
def test_anyone_may_ask_for_health(api: Api, path: str) -> None:
    code, text = _remote(api, path)
    assert code == 200
    assert b"ok" in text


def test_anyone_may_ask_for_the_version(api: Api) -> None:
    code, version = _remote(api, "/version")
    assert (code, version["major"], version["minor"]) == (200, "1", "36")
    assert version["gitVersion"].startswith("v1.36.0+podling")


@pytest.mark.parametrize("path", ["/healthz/etcd", "/livez/ping", "/readyz/luck"])
def test_single_health_checks_are_not_for_everyone(api: Api, path: str) -> None:
    assert _remote(api, path)[0] == 401


def test_a_client_certificate_names_user_and_groups(api: Api) -> None:
    admin = _whoami(api, pair=api.pki.admin)
    assert admin == {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]}


def test_serving_certificates_are_no_credentials(api: Api) -> None:
    for pair in (api.pki.kubelet, api.pki.apiserver):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _whoami(api, pair=pair)


def test_the_kubelets_socket_acts_as_the_node_of_this_machine(api: Api) -> None:
    connection = unix_connection(api.directory / "run" / "kubelet.sock")
    connection.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", b"{}")
    kubelet = json.loads(connection.getresponse().read())["status"]["userInfo"]
    assert kubelet == {"username": "system:node:test-node", "groups": ["system:nodes", "system:authenticated"]}
    connection.request("GET", "/api/v1/secrets")
    assert connection.getresponse().status == 403
    connection.close()


def test_the_token_file_holds_an_administrator(api: Api) -> None:
    path = api.directory / "data" / "tokens.csv"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    value = path.read_text().split(",")[0]
    assert _whoami(api, token=value)["groups"] == ["system:masters", "system:authenticated"]


def test_a_service_account_token_names_the_account(api: Api, namespace: str, token: str) -> None:
    info = _whoami(api, token=token)
    assert info["username"] == f"system:serviceaccount:{namespace}:default"
    assert info["groups"] == ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    code, failure = _remote(api, f"/api/v1/namespaces/{namespace}/pods", token=token)
    assert code == 403
    assert failure["message"] == (
        f'pods is forbidden: User "system:serviceaccount:{namespace}:default" cannot list resource "pods" '
        f'in API group "" in the namespace "{namespace}"'
    )


def test_a_token_dies_with_its_service_account(api: Api, namespace: str, token: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api.delete(f"{path}/default")
    assert _remote(api, "/api", token=token)[0] == 401
    api.create(path, {"metadata": {"name": "default"}})
    assert _remote(api, "/api", token=token)[0] == 401


def test_a_token_dies_with_the_pod_that_it_is_bound_to(api: Api, namespace: str, pods: str) -> None:
    made = api.create(pods, pod())
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": made["metadata"]["uid"]}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    value = api.create(path, {"spec": {"boundObjectRef": bound}})["status"]["token"]
    assert _whoami(api, token=value)["extra"]["authentication.kubernetes.io/pod-name"] == ["web"]
    api.delete(f"{pods}/web")
    assert _remote(api, "/api", token=value)[0] == 401
    assert api.post(path, {"spec": {"boundObjectRef": bound}}).code == 404


def test_tokens_of_others_are_unauthorized(api: Api, token: str) -> None:
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    unsigned = jwt.encode(claims, "", algorithm="none")
    key = api.pki.service_account_key.read_bytes()
    expired = jwt.encode({**claims, "exp": int(time.time()) - 60}, key, algorithm="ES256")
    foreign = jwt.encode({**claims, "iss": "https://elsewhere"}, key, algorithm="ES256")
    other_audience = jwt.encode({**claims, "aud": ["vault"]}, key, algorithm="ES256")
    for value in (forged, unsigned, expired, foreign, other_audience, "nonsense", token[:-2]):
        assert _remote(api, "/api", token=value)[0] == 401


def test_token_reviews_tell_good_tokens_from_bad(api: Api, token: str, namespace: str) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    good = api.create(path, {"spec": {"token": token}})["status"]
    assert good["authenticated"] is True
    assert good["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    bad = api.create(path, {"spec": {"token": "x"}})["status"]
    assert "authenticated" not in bad
    other = api.create(path, {"spec": {"token": token, "audiences": ["vault"]}})["status"]
    assert "authenticated" not in other


def test_short_tokens_are_refused(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    answer = api.post(path, {"spec": {"expirationSeconds": 599}})
    assert answer.code == 422
    assert "may not specify a duration less than 10 minutes" in answer.message


def test_administrators_act_as_others(api: Api, pods: str, namespace: str) -> None:
    bob = {"Impersonate-User": "bob"}
    answer = api.get(pods, headers=bob)
    assert answer.code == 403
    assert 'User "bob" cannot list resource "pods"' in answer.message
    node = {"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"}
    assert api.get(f"{pods}?fieldSelector=spec.nodeName%3Dn1", headers=node).code == 200
    assert api.post(pods, pod(), headers=node).code == 403
    assert api.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "c"}}, headers=node).code == 403


@pytest.mark.parametrize(
    ("headers", "requested"),
    [
        ({"Impersonate-Group": "g"}, "[{Group  g    }]"),
        ({"Impersonate-Uid": "u"}, "[{UID  u  authentication.k8s.io/v1  }]"),
        ({"Impersonate-Extra-scopes": "s"}, "[{UserExtra  s  authentication.k8s.io/v1  scopes}]"),
        ({"Impersonate-User": "", "impersonate-extra-a%2Fb": "s"}, "[{UserExtra  s  authentication.k8s.io/v1  a/b}]"),
    ],
)
def test_nobody_acts_as_a_part_of_a_user(api: Api, headers: dict[str, str], requested: str) -> None:
    answer = api.get("/api/v1/namespaces", headers=headers)
    assert (answer.code, answer.json["reason"]) == (500, "InternalError")
    assert answer.message == f"Internal error occurred: requested {requested} without impersonating a user"


def test_who_acts_as_another_may_give_them_a_uid_and_extras(api: Api) -> None:
    headers = {"Impersonate-User": "bob", "Impersonate-Uid": "7", "Impersonate-Extra-Scopes": "all"}
    answer = api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, headers=headers)
    assert answer.json["status"]["userInfo"] == {
        "username": "bob",
        "uid": "7",
        "groups": ["system:authenticated"],
        "extra": {"scopes": ["all"]},
    }


def test_others_may_not_act_as_administrators(api: Api, token: str) -> None:
    context = ssl.create_default_context(cafile=str(api.pki.ca.cert))
    connection = http.client.HTTPSConnection("127.0.0.1", api.server.port, context=context, timeout=20)
    headers = {"Authorization": f"Bearer {token}", "Impersonate-User": "root", "Impersonate-Group": "system:masters"}
    connection.request("GET", "/api/v1/secrets", headers=headers)
    response = connection.getresponse()
    assert response.status == 403
    assert b"cannot impersonate resource" in response.read()
    connection.close()


def test_access_reviews_answer_for_oneself_and_others(api: Api, namespace: str) -> None:
    attributes = {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": namespace}}
    own = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert api.create(own, {"spec": attributes})["status"]["allowed"] is True
    refused = api.post(own, {"spec": attributes}, headers={"Impersonate-User": "bob"})
    assert refused.json["status"]["allowed"] is False
    others = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert api.create(others, {"spec": {**attributes, "user": "bob"}})["status"]["allowed"] is False
    assert api.create(others, {"spec": {**attributes, "groups": ["system:masters"]}})["status"]["allowed"] is True
    rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    assert api.create(rules, {"spec": {"namespace": namespace}})["status"]["resourceRules"] == [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    ]
    assert api.get(own).code == 405


EITHER = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
ATTRIBUTES = {"verb": "list", "resource": "pods"}


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("SelfSubjectAccessReview", {}, f'spec.resourceAttributes: Invalid value: "null": {EITHER}'),
        (
            "SubjectAccessReview",
            {"resourceAttributes": ATTRIBUTES},
            'spec.user: Invalid value: "": at least one of user or group must be specified',
        ),
        (
            "LocalSubjectAccessReview",
            {"user": "bob", "resourceAttributes": {**ATTRIBUTES, "namespace": "other"}},
            'spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace',
        ),
        (
            "SelfSubjectAccessReview",
            {"resourceAttributes": {**ATTRIBUTES, "fieldSelector": {}}},
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when "
            "spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
        ),
    ],
)
def test_wrong_access_reviews_are_invalid(api: Api, kind: str, spec: dict[str, Any], message: str) -> None:
    root = "/apis/authorization.k8s.io/v1"
    place = "/namespaces/default" if kind.startswith("Local") else ""
    answer = api.post(f"{root}{place}/{kind.lower()}s", {"spec": spec})
    assert (answer.code, answer.message) == (422, f'{kind}.authorization.k8s.io "" is invalid: {message}')


@pytest.mark.parametrize(
    ("selector", "allowed", "problem"),
    [
        (None, False, ""),
        ({"rawSelector": "spec.nodeName=n1"}, True, ""),
        ({"rawSelector": "spec.nodeName=n2"}, False, ""),
        ({"rawSelector": "spec.nodeName"}, False, "spec.resourceAttributes.fieldSelector ignored due to parse error"),
        ({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}, True, ""),
        ({"requirements": [{"key": "spec.nodeName", "operator": "NotIn", "values": ["n1"]}]}, False, ""),
        (
            {
                "requirements": [
                    {"key": "spec.nodeName", "operator": "In", "values": ["n1"]},
                    {"key": "status.phase", "operator": "Exists"},
                ]
            },
            True,
            "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
        ),
    ],
)
def test_access_reviews_take_field_selectors(
    api: Api, selector: dict[str, Any] | None, allowed: bool, problem: str
) -> None:
    attributes = {**ATTRIBUTES, **({"fieldSelector": selector} if selector else {})}
    spec = {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes}
    found = api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})["status"]
    assert (found["allowed"], found.get("evaluationError", "")) == (allowed, problem)


def test_the_rules_of_a_node_are_not_fully_known(api: Api) -> None:
    node = {"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    found = api.post(path, {"spec": {"namespace": "default"}}, headers=node).json["status"]
    assert found["incomplete"] is True
    assert found["evaluationError"] == "node authorizer does not support user rule resolution"
    assert api.post(path, {"spec": {}}).message == "no namespace on request"


def test_secrets_of_the_server_are_for_its_owner_only(api: Api) -> None:
    files = [*(api.directory / "data" / "pki").iterdir(), api.kubeconfig, *(api.directory / "run").glob("*.sock")]
    assert len(files) >= 14
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_server_is_who_it_says_under_every_name(api: Api) -> None:
    for name in ("localhost", "test-node", "kubernetes.default.svc.cluster.local", "10.96.0.1", "127.0.0.1"):
        context = ssl.create_default_context(cafile=str(api.pki.ca.cert))
        with (
            socket.create_connection(("127.0.0.1", api.server.port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            assert tls.version() in ("TLSv1.2", "TLSv1.3")
