"""What Podling does not implement is refused, never ignored; and warnings for what has no effect."""

from __future__ import annotations

import types
import typing

import msgspec
import pytest
from tests.support.verdict import FORBIDDEN, NOT_IMPLEMENTED, make

from podling.api import validation
from podling.api.core.v1 import Pod
from podling.api.validation import unsupported

REFUSED = [
    ("container: {livenessProbe: {exec: {command: [x]}}}", "spec.containers[0].livenessProbe"),
    ("container: {lifecycle: {preStop: {exec: {command: [x]}}}}", "spec.containers[0].lifecycle.preStop"),
    ("spec: {initContainers: [{name: a, image: i, restartPolicy: Never}]}", "spec.initContainers[0].restartPolicy"),
    ("container: {restartPolicy: Always}", "spec.containers[0].restartPolicy"),
    ("spec: {hostUsers: false}", "spec.hostUsers"),
    (
        "spec: {securityContext: {seccompProfile: {type: Localhost, localhostProfile: a.json}}}",
        "spec.securityContext.seccompProfile.type",
    ),
    (
        "container: {securityContext: {appArmorProfile: {type: RuntimeDefault}}}",
        "spec.containers[0].securityContext.appArmorProfile",
    ),
    ("spec: {resources: {limits: {cpu: '1'}}}", "spec.resources"),
    ("spec: {runtimeClassName: gvisor}", "spec.runtimeClassName"),
    ("spec: {priorityClassName: high}", "spec.priorityClassName"),
    ("spec: {volumes: [{name: a, emptyDir: {}}, {name: v, nfs: {server: s, path: /x}}]}", "spec.volumes[1].nfs"),
    (
        "spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}",
        "spec.volumes[0].persistentVolumeClaim",
    ),
    ("spec: {volumes: [{name: v, emptyDir: {medium: HugePages}}]}", "spec.volumes[0].emptyDir.medium"),
    (
        "spec: {volumes: [{name: v, projected: {sources: [{configMap: {name: c}}, "
        "{clusterTrustBundle: {name: b, path: p}}]}}]}",
        "spec.volumes[0].projected.sources[1].clusterTrustBundle",
    ),
]


@pytest.mark.parametrize(("manifest", "field"), REFUSED, ids=[field for _, field in REFUSED])
def test_an_unimplemented_feature_is_refused_with_its_path(manifest: str, field: str) -> None:
    errors = validation.validate_create(make(manifest))
    assert [(e.type, e.field, e.body) for e in errors] == [(FORBIDDEN, field, f"Forbidden: {NOT_IMPLEMENTED}")]


ACCEPTED = [
    "spec: {hostUsers: true}",
    "spec: {priorityClassName: system-node-critical}",
    "spec: {os: {name: linux}}",
    # For other nodes: the kubelet of a Linux node fails a Pod for Windows, and one without SELinux ignores its labels.
    "spec: {os: {name: windows}, securityContext: {windowsOptions: {runAsUserName: ContainerUser}}}",
    "spec: {securityContext: {seLinuxOptions: {level: 's0:c1,c2'}, seLinuxChangePolicy: Recursive}}",
    "container: {securityContext: {seLinuxOptions: {user: a, role: b, type: c, level: d}}}",
    "spec: {schedulingGates: [{name: a/b}]}",
    "spec: {securityContext: {runAsUser: 1, runAsGroup: 2, runAsNonRoot: true, supplementalGroups: [3], fsGroup: 4, "
    "seccompProfile: {type: RuntimeDefault}, sysctls: [{name: kernel.shmmax, value: '1'}]}}",
    "container: {securityContext: {capabilities: {add: [NET_ADMIN], drop: [ALL]}, privileged: false, "
    "readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, procMount: Default}}",
    "spec: {hostNetwork: true, hostIPC: true, hostPID: true}",
    "spec: {shareProcessNamespace: true, hostAliases: [{ip: 10.0.0.1, hostnames: [a]}], dnsConfig: {searches: [a]}}",
    "spec: {initContainers: [{name: a, image: i}, {name: b, image: i, restartPolicy: Always}]}",
    "spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, "
    "labelSelector: {matchLabels: {a: b}}}]}}}",
    "spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, "
    "labelSelector: {matchLabels: {a: b}}}]}",
    "spec: {activeDeadlineSeconds: 5, nodeSelector: {a: b}, tolerations: [{operator: Exists}]}",
    "spec: {serviceAccountName: a, volumes: [{name: v, projected: {sources: [{configMap: {name: c}}, "
    "{secret: {name: s}}]}}, {name: w, emptyDir: {medium: Memory}}]}",
]


@pytest.mark.parametrize("manifest", ACCEPTED)
def test_an_implemented_feature_is_accepted(manifest: str) -> None:
    assert validation.validate_create(make(manifest)) == []


def test_an_update_is_not_refused_for_what_the_pod_already_has() -> None:
    spec = "spec: {runtimeClassName: gvisor}"
    old = make(f"{{metadata: {{resourceVersion: '1'}}, {spec}}}")
    new = make(
        f"{{metadata: {{resourceVersion: '1'}}, {spec}, container: {{image: 'busybox:1', imagePullPolicy: Always}}}}"
    )
    assert validation.validate_update(new, old) == []


def _type_at(path: str) -> object:
    """The type of the field that a path of the table names."""
    kind: object = Pod
    for part in path.split("."):
        assert isinstance(kind, type)
        assert issubclass(kind, msgspec.Struct)
        wire = part.removesuffix("[*]")
        [attribute] = [f.name for f in msgspec.structs.fields(kind) if f.encode_name == wire]
        hint = typing.get_type_hints(kind)[attribute]
        arguments = [a for a in typing.get_args(hint) if a is not type(None)]
        if part.endswith("[*]"):
            assert typing.get_origin(hint) is list
            [hint] = arguments
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = arguments[0]
        kind = hint
    return kind


@pytest.mark.parametrize("path", [line.path for line in unsupported.TABLE])
def test_every_line_of_the_table_names_a_field_of_pods(path: str) -> None:
    _type_at(path)


def test_no_line_of_the_table_is_there_twice() -> None:
    paths = [line.path for line in unsupported.TABLE]
    assert len(paths) == len(set(paths))


WARNED = [
    (
        "container: {env: [{name: A, value: x}, {name: A, value: y}]}",
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ),
    (
        "container: {ports: [{containerPort: 80}, {containerPort: 80}]}",
        "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
    ),
    (
        "spec: {nodeSelector: {beta.kubernetes.io/os: linux}}",
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
    ),
    (
        "spec: {terminationGracePeriodSeconds: -1}",
        "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
    ),
    (
        "container: {resources: {requests: {memory: 100m}}}",
        'spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer',
    ),
    ("spec: {imagePullSecrets: [{name: a}, {name: a}]}", 'spec.imagePullSecrets[1].name: duplicate name "a"'),
    (
        "metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: runtime/default}}",
        "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; "
        'use the "seccompProfile" field instead',
    ),
    (
        "spec: {volumes: [{name: v, configMap: {name: c, items: [{key: a, path: p}, {key: b, path: p/q}]}}]}",
        'volume "v" (ConfigMap "c"): overlapping paths: "p/q" with "p"',
    ),
    ("spec: {volumes: [{name: v, projected: {sources: [{}]}}]}", 'volume "v" (Projected) has no sources provided'),
    (
        "spec: {hostAliases: [{ip: '2001:DB8::1', hostnames: [a]}]}",
        'spec.hostAliases[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")',
    ),
]


@pytest.mark.parametrize(("manifest", "text"), WARNED)
def test_what_is_probably_not_meant_is_warned_of(manifest: str, text: str) -> None:
    assert validation.warnings(make(manifest)) == [text]


REPEATED = {
    "files of one name": "spec: {volumes: [{name: v, configMap: {name: c, items: [%s]}}]}"
    % ("{key: a, path: p}," * 2999),
    "files in projections": "spec: {volumes: [{name: v, projected: {sources: [%s]}}]}"
    % ("{secret: {name: c, items: [{key: a, path: p}]}}," * 2999),
    "ports": "container: {ports: [%s]}" % ("{containerPort: 80}," * 2999),
}


@pytest.mark.parametrize("manifest", REPEATED.values(), ids=REPEATED)
def test_what_is_listed_thousands_of_times_is_not_compared_in_pairs(manifest: str) -> None:
    """Each pair would be a warning: millions of them."""
    assert 0 < len(validation.warnings(make(manifest))) < 100_000


def test_an_ordinary_pod_gets_no_warning() -> None:
    assert validation.warnings(make("container: {ports: [{containerPort: 80}], env: [{name: A}, {name: B}]}")) == []
