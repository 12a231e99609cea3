"""Services and Endpoints."""

from __future__ import annotations

import pytest
from tests.support.verdict import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, UNSUPPORTED, Case, build, case_id, check

from podling.api import validation
from podling.api.core.v1 import Endpoints, Service

GOOD = """
metadata: {name: web, namespace: default, resourceVersion: '1'}
spec: {ports: [{port: 80}], selector: {app: web}}
"""
PORT_RANGE = "must be between 1 and 65535, inclusive"


def make(manifest: str = "") -> Service:
    return build(Service, GOOD, manifest)


CASES = [
    Case("no ports", "spec: {ports: []}", REQUIRED, "spec.ports", "Required value"),
    Case(
        "port",
        "spec: {ports: [{port: 0, targetPort: 80}]}",
        INVALID,
        "spec.ports[0].port",
        f"Invalid value: 0: {PORT_RANGE}",
    ),
    Case(
        "target port",
        "spec: {ports: [{port: 80, targetPort: 70000}]}",
        INVALID,
        "spec.ports[0].targetPort",
        f"Invalid value: 70000: {PORT_RANGE}",
    ),
    Case(
        "ports without names",
        "spec: {ports: [{port: 80, name: a}, {port: 81}]}",
        REQUIRED,
        "spec.ports[1].name",
        "Required value",
    ),
    Case(
        "same port twice",
        "spec: {ports: [{port: 80, name: a}, {port: 80, name: b}]}",
        DUPLICATE,
        "spec.ports[1]",
        'Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":null,"NodePort":0}',
    ),
    Case(
        "protocol",
        "spec: {ports: [{port: 80, protocol: tcp}]}",
        UNSUPPORTED,
        "spec.ports[0].protocol",
        'Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
    ),
    Case(
        "node port of a cluster IP",
        "spec: {ports: [{port: 80, nodePort: 30000}]}",
        FORBIDDEN,
        "spec.ports[0].nodePort",
        "Forbidden: may not be used when `type` is 'ClusterIP'",
    ),
    Case(
        "same node port twice",
        "spec: {type: NodePort, ports: [{port: 80, name: a, nodePort: 30000}, {port: 81, name: b, nodePort: 30000}]}",
        DUPLICATE,
        "spec.ports[1].nodePort",
        "Duplicate value: 30000",
    ),
    Case(
        "type",
        "spec: {type: Proxy, internalTrafficPolicy: Cluster}",
        UNSUPPORTED,
        "spec.type",
        'Unsupported value: "Proxy": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ),
    Case(
        "headless node port",
        "spec: {type: NodePort, clusterIP: None, clusterIPs: [None]}",
        INVALID,
        "spec.clusterIPs[0]",
        "Invalid value: \"None\": may not be set to 'None' for NodePort services",
    ),
    Case(
        "external name",
        "spec: {type: ExternalName}",
        REQUIRED,
        "spec.externalName",
        "Required value",
    ),
    Case(
        "cluster IP",
        "spec: {clusterIP: 10.0.0, clusterIPs: [10.0.0]}",
        INVALID,
        "spec.clusterIPs[0]",
        'Invalid value: "10.0.0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ),
    Case(
        "different cluster IPs",
        "spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2]}",
        INVALID,
        "spec.clusterIPs",
        'Invalid value: ["10.0.0.2"]: first value must match `clusterIP`',
    ),
    Case(
        "family of an address",
        "spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ipFamilies: [IPv6]}",
        INVALID,
        "spec.clusterIPs[0]",
        'Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`',
    ),
    Case(
        "session affinity",
        "spec: {sessionAffinity: Cookie}",
        UNSUPPORTED,
        "spec.sessionAffinity",
        'Unsupported value: "Cookie": supported values: "ClientIP", "None"',
    ),
    Case(
        "affinity timeout",
        "spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}}",
        INVALID,
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "Invalid value: 90000: must be greater than 0 and less than 86400",
    ),
    Case(
        "loopback outside",
        "spec: {externalIPs: [127.0.0.1]}",
        INVALID,
        "spec.externalIPs[0]",
        'Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ),
    Case(
        "traffic policy of an inner Service",
        "spec: {externalTrafficPolicy: Local}",
        INVALID,
        "spec.externalTrafficPolicy",
        'Invalid value: "Local": may only be set for externally-accessible services',
    ),
    Case(
        "source ranges without balancer",
        "spec: {loadBalancerSourceRanges: [10.0.0.0/8]}",
        FORBIDDEN,
        "spec.LoadBalancerSourceRanges",
        "Forbidden: may only be used when `type` is 'LoadBalancer'",
    ),
    Case(
        "source range",
        "spec: {type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.1/8]}",
        INVALID,
        "spec.LoadBalancerSourceRanges[0]",
        'Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length',
    ),
    Case(
        "distribution",
        "spec: {trafficDistribution: Far}",
        UNSUPPORTED,
        "spec.trafficDistribution",
        'Unsupported value: "Far": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"',
    ),
    Case(
        "name with dot",
        "metadata: {name: a.b}",
        INVALID,
        "metadata.name",
        'Invalid value: "a.b": must not contain dots',
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_mistake_in_a_service_is_told_as_upstream_tells_it(case: Case) -> None:
    check(validation.validate_create(make(case.manifest)), case)


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        "metadata: {name: 1st}",
        "spec: {type: NodePort, ports: [{port: 53, name: a, nodePort: 30053}, "
        "{port: 53, name: b, protocol: UDP, nodePort: 30053}]}",
        "spec: {type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8 ']}",
        "spec: {type: ExternalName, externalName: example.com., ports: null}",
        "spec: {clusterIP: None, clusterIPs: [None], ports: null}",
    ],
)
def test_a_good_service_is_accepted(manifest: str) -> None:
    assert validation.validate_create(make(manifest)) == []


UPDATES = [
    (
        "spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1]}",
        Case(
            "another cluster IP",
            "spec: {clusterIP: 10.0.0.2, clusterIPs: [10.0.0.2]}",
            INVALID,
            "spec.clusterIPs[0]",
            'Invalid value: ["10.0.0.2"]: may not change once set',
        ),
    ),
    (
        "spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1]}",
        Case(
            "no cluster IP",
            "{}",
            INVALID,
            "spec.clusterIPs[0]",
            "Invalid value: null: primary clusterIP can not be unset",
        ),
    ),
    (
        "spec: {ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}",
        Case(
            "another family",
            "spec: {ipFamilies: [IPv6], ipFamilyPolicy: SingleStack}",
            INVALID,
            "spec.ipFamilies[0]",
            'Invalid value: ["IPv6"]: may not change once set',
        ),
    ),
]


@pytest.mark.parametrize(("before", "case"), UPDATES, ids=[case.name for _, case in UPDATES])
def test_addresses_of_a_service_stay(before: str, case: Case) -> None:
    check(validation.validate_update(make(case.manifest), make(before)), case)


def test_an_address_may_go_when_the_service_becomes_a_name() -> None:
    old = make("spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1]}")
    assert validation.validate_update(make("spec: {type: ExternalName, externalName: a.b}"), old) == []


def endpoints(subsets: str) -> Endpoints:
    return build(Endpoints, "metadata: {name: web, namespace: default}", f"subsets: {subsets}")


ENDPOINTS = [
    Case(
        "no address",
        "[{ports: [{port: 80}]}]",
        REQUIRED,
        "subsets[0]",
        "Required value: must specify `addresses` or `notReadyAddresses`",
    ),
    Case(
        "link-local address",
        "[{addresses: [{ip: 169.254.1.1}]}]",
        INVALID,
        "subsets[0].addresses[0].ip",
        'Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)',
    ),
    Case(
        "ports without names",
        "[{addresses: [{ip: 10.0.0.1}], ports: [{port: 80, name: a}, {port: 81}]}]",
        REQUIRED,
        "subsets[0].ports[1].name",
        "Required value",
    ),
]


@pytest.mark.parametrize("case", ENDPOINTS, ids=case_id)
def test_a_mistake_in_endpoints_is_told_as_upstream_tells_it(case: Case) -> None:
    check(validation.validate_create(endpoints(case.manifest)), case)
