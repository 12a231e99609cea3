"""`kubectl apply` of Pods with a mistake: code, reason, field paths and words are upstream's, to the last character."""

from __future__ import annotations

import pytest
import yaml
from tests.support.cluster import Cluster
from tests.support.https import Https
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    GOOD_POD,
    INVALID,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    REQUIRED,
    UNSUPPORTED,
    Case,
    case_id,
    document,
)

C = "spec.containers[0]"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_KEY = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
ENV_NAME = "a valid environment variable name must consist only of printable ASCII characters other than '='"
VOLUME = "spec: {volumes: [%s]}"

CASES = (
    # -- metadata
    Case("name in capitals", "metadata: {name: Web}", INVALID, "metadata.name", f'Invalid value: "Web": {SUBDOMAIN}'),
    Case(
        "label's key",
        "metadata: {labels: {'a b': x}}",
        INVALID,
        "metadata.labels",
        f'Invalid value: "a b": {LABEL_KEY}',
    ),
    Case(
        "label's value",
        "metadata: {labels: {app: 'my app'}}",
        INVALID,
        "metadata.labels",
        f'Invalid value: "my app": {LABEL_VALUE}',
    ),
    Case(
        "long label value",
        f"metadata: {{labels: {{app: {'x' * 64}}}}}",
        INVALID,
        "metadata.labels",
        f'Invalid value: "{"x" * 64}": must be no more than 63 bytes',
    ),
    Case(
        "annotation's key",
        "metadata: {annotations: {'a/b/c': x}}",
        INVALID,
        "metadata.annotations",
        "Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and "
        "must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
        "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. "
        "'example.com/MyName')",
    ),
    Case(
        "owner without uid",
        "metadata: {ownerReferences: [{apiVersion: v1, kind: Pod, name: a}]}",
        INVALID,
        "metadata.ownerReferences.uid",
        'Invalid value: "": must not be empty',
    ),
    # -- containers
    Case("no containers", "spec: {containers: []}", REQUIRED, "spec.containers", "Required value"),
    Case("container without name", "container: {name: ''}", REQUIRED, f"{C}.name", "Required value"),
    Case("container without image", "container: {image: ''}", REQUIRED, f"{C}.image", "Required value"),
    Case("container's name", "container: {name: a_b}", INVALID, f"{C}.name", f'Invalid value: "a_b": {LABEL}'),
    Case(
        "same container name twice",
        "spec: {containers: [{name: main, image: busybox}, {name: main, image: busybox}]}",
        DUPLICATE,
        "spec.containers[1].name",
        'Duplicate value: "main"',
    ),
    Case(
        "init container with a container's name",
        "spec: {initContainers: [{name: main, image: busybox}]}",
        DUPLICATE,
        "spec.initContainers[0].name",
        'Duplicate value: "main"',
    ),
    Case(
        "blanks around image",
        "container: {image: ' busybox '}",
        INVALID,
        f"{C}.image",
        'Invalid value: " busybox ": must not have leading or trailing whitespace',
    ),
    Case(
        "pull policy",
        "container: {imagePullPolicy: Sometimes}",
        UNSUPPORTED,
        f"{C}.imagePullPolicy",
        'Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ),
    Case(
        "termination message policy",
        "container: {terminationMessagePolicy: None}",
        UNSUPPORTED,
        f"{C}.terminationMessagePolicy",
        'Unsupported value: "None": supported values: "File", "FallbackToLogsOnError"',
    ),
    # -- ports
    Case(
        "no port number",
        "container: {ports: [{name: http}]}",
        REQUIRED,
        f"{C}.ports[0].containerPort",
        "Required value",
    ),
    Case(
        "port number",
        "container: {ports: [{containerPort: 65536}]}",
        INVALID,
        f"{C}.ports[0].containerPort",
        "Invalid value: 65536: must be between 1 and 65535, inclusive",
    ),
    Case(
        "host port number",
        "container: {ports: [{containerPort: 80, hostPort: -1}]}",
        INVALID,
        f"{C}.ports[0].hostPort",
        "Invalid value: -1: must be between 1 and 65535, inclusive",
    ),
    Case(
        "port name",
        "container: {ports: [{name: not_a_port, containerPort: 80}]}",
        INVALID,
        f"{C}.ports[0].name",
        'Invalid value: "not_a_port": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
    ),
    Case(
        "long port name",
        "container: {ports: [{name: a-very-long-port, containerPort: 80}]}",
        INVALID,
        f"{C}.ports[0].name",
        'Invalid value: "a-very-long-port": must be no more than 15 characters',
    ),
    Case(
        "same port name twice",
        "container: {ports: [{name: a, containerPort: 80}, {name: a, containerPort: 81}]}",
        DUPLICATE,
        f"{C}.ports[1].name",
        'Duplicate value: "a"',
    ),
    Case(
        "protocol",
        "container: {ports: [{containerPort: 80, protocol: HTTP}]}",
        UNSUPPORTED,
        f"{C}.ports[0].protocol",
        'Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"',
    ),
    Case(
        "same host port twice",
        "spec: {containers: [{name: a, image: x, ports: [{containerPort: 1, hostPort: 80}]},"
        " {name: b, image: x, ports: [{containerPort: 2, hostPort: 80}]}]}",
        DUPLICATE,
        "spec.containers[1].ports[0].hostPort",
        'Duplicate value: "TCP//80"',
    ),
    # -- environment
    Case("variable without name", "container: {env: [{value: x}]}", REQUIRED, f"{C}.env[0].name", "Required value"),
    Case(
        "variable's name",
        "container: {env: [{name: 'A=B', value: x}]}",
        INVALID,
        f"{C}.env[0].name",
        f'Invalid value: "A=B": {ENV_NAME}',
    ),
    Case(
        "value and valueFrom",
        "container: {env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom",
        'Invalid value: "": may not be specified when `value` is not empty',
    ),
    Case(
        "empty valueFrom",
        "container: {env: [{name: A, valueFrom: {}}]}",
        INVALID,
        f"{C}.env[0].valueFrom",
        'Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or '
        "`fileKeyRef`",
    ),
    Case(
        "two sources",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name},"
        " secretKeyRef: {name: s, key: k}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom",
        'Invalid value: "": may not have more than one field specified at a time',
    ),
    Case(
        "unknown field path",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.whatever}}}]}",
        INVALID,
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        'Invalid value: "metadata.whatever": error converting fieldPath: field label not supported: metadata.whatever',
    ),
    Case(
        "field path for volumes only",
        "container: {env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]}",
        UNSUPPORTED,
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        'Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", '
        '"spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"',
    ),
    Case(
        "unknown resource field",
        "container: {env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]}",
        UNSUPPORTED,
        f"{C}.env[0].valueFrom.resourceFieldRef.resource",
        'Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", '
        '"requests.cpu", "requests.ephemeral-storage", "requests.memory"',
    ),
    Case(
        "reference without key",
        "container: {env: [{name: A, valueFrom: {configMapKeyRef: {name: c}}}]}",
        REQUIRED,
        f"{C}.env[0].valueFrom.configMapKeyRef.key",
        "Required value",
    ),
    Case(
        "envFrom without source",
        "container: {envFrom: [{prefix: A_}]}",
        INVALID,
        f"{C}.envFrom",
        'Invalid value: "": must specify one of: `configMapRef` or `secretRef`',
    ),
    # -- resources
    Case(
        "request over limit",
        "container: {resources: {requests: {cpu: '2'}, limits: {cpu: '1'}}}",
        INVALID,
        f"{C}.resources.requests",
        'Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    Case(
        "negative request",
        "container: {resources: {requests: {memory: -1Mi}}}",
        INVALID,
        f"{C}.resources.requests[memory]",
        'Invalid value: "-1Mi": must be greater than or equal to 0',
    ),
    # -- volumes
    Case(
        "unknown volume",
        "container: {volumeMounts: [{name: data, mountPath: /data}]}",
        NOT_FOUND,
        f"{C}.volumeMounts[0].name",
        'Not found: "data"',
    ),
    Case(
        "same volume twice",
        VOLUME % "{name: a, emptyDir: {}}, {name: a, emptyDir: {}}",
        DUPLICATE,
        "spec.volumes[1].name",
        'Duplicate value: "a"',
    ),
    Case(
        "volume's name",
        VOLUME % "{name: A, emptyDir: {}}",
        INVALID,
        "spec.volumes[0].name",
        f'Invalid value: "A": {LABEL}',
    ),
    Case(
        "two volume sources",
        VOLUME % "{name: a, emptyDir: {}, configMap: {name: c}}",
        FORBIDDEN,
        "spec.volumes[0].configMap",
        "Forbidden: may not specify more than 1 volume type",
    ),
    Case(
        "hostPath without path",
        VOLUME % "{name: a, hostPath: {}}",
        REQUIRED,
        "spec.volumes[0].hostPath.path",
        "Required value",
    ),
    Case(
        "hostPath with ..",
        VOLUME % "{name: a, hostPath: {path: /a/../b}}",
        INVALID,
        "spec.volumes[0].hostPath.path",
        "Invalid value: \"/a/../b\": must not contain '..'",
    ),
    Case(
        "hostPath's type",
        VOLUME % "{name: a, hostPath: {path: /a, type: Folder}}",
        UNSUPPORTED,
        "spec.volumes[0].hostPath.type",
        'Unsupported value: "Folder": supported values: "", "BlockDevice", "CharDevice", "Directory", '
        '"DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
    ),
    Case(
        "same mount path twice",
        "spec: {volumes: [{name: a, emptyDir: {}}], containers: [{name: main, image: x, volumeMounts:"
        " [{name: a, mountPath: /x}, {name: a, mountPath: /x}]}]}",
        INVALID,
        f"{C}.volumeMounts[1].mountPath",
        'Invalid value: "/x": must be unique',
    ),
    Case(
        "subPath with ..",
        "spec: {volumes: [{name: a, emptyDir: {}}], containers: [{name: main, image: x, volumeMounts:"
        " [{name: a, mountPath: /x, subPath: ../y}]}]}",
        INVALID,
        f"{C}.volumeMounts.subPath",
        "Invalid value: \"../y\": must not contain '..'",
    ),
    Case(
        "key's path out of the volume",
        VOLUME % "{name: a, configMap: {name: c, items: [{key: k, path: ../k}]}}",
        INVALID,
        "spec.volumes[0].configMap.items[0].path",
        "Invalid value: \"../k\": must not contain '..'",
    ),
    Case(
        "mode of files",
        VOLUME % "{name: a, secret: {secretName: s, defaultMode: 512}}",
        INVALID,
        "spec.volumes[0].secret.defaultMode",
        "Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
    ),
    # -- the Pod
    Case(
        "restart policy",
        "spec: {restartPolicy: Sometimes}",
        UNSUPPORTED,
        "spec.restartPolicy",
        'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
    ),
    Case(
        "DNS policy",
        "spec: {dnsPolicy: Mine}",
        UNSUPPORTED,
        "spec.dnsPolicy",
        'Unsupported value: "Mine": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"',
    ),
    Case(
        "DNS policy None without servers",
        "spec: {dnsPolicy: None}",
        REQUIRED,
        "spec.dnsConfig",
        "Required value: must provide `dnsConfig` when `dnsPolicy` is None",
    ),
    Case(
        "deadline",
        "spec: {activeDeadlineSeconds: 0}",
        INVALID,
        "spec.activeDeadlineSeconds",
        "Invalid value: 0: must be between 1 and 2147483647, inclusive",
    ),
    Case("hostname", "spec: {hostname: web_1}", INVALID, "spec.hostname", f'Invalid value: "web_1": {LABEL}'),
    Case(
        "host alias",
        "spec: {hostAliases: [{ip: 10.0.0, hostnames: [a]}]}",
        INVALID,
        "spec.hostAliases[0].ip",
        'Invalid value: "10.0.0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ),
    Case(
        "node selector",
        "spec: {nodeSelector: {disk: 'very fast'}}",
        INVALID,
        "spec.nodeSelector",
        f'Invalid value: "very fast": {LABEL_VALUE}',
    ),
    Case(
        "operator of a node selector",
        "spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution:"
        " {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Is, values: [b]}]}]}}}}",
        INVALID,
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
        ".matchExpressions[0].operator",
        'Invalid value: "Is": not a valid selector operator',
    ),
    Case(
        "operator of a toleration",
        "spec: {tolerations: [{key: a, operator: Like, value: b}]}",
        UNSUPPORTED,
        "spec.tolerations[0].operator",
        'Unsupported value: "Like": supported values: "Equal", "Exists"',
    ),
    Case(
        "operator Exists with a value",
        "spec: {tolerations: [{key: a, operator: Exists, value: b}]}",
        INVALID,
        "spec.tolerations[0].operator",
        "Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
    ),
    Case(
        "effect of a toleration",
        "spec: {tolerations: [{key: a, operator: Exists, effect: Evict}]}",
        UNSUPPORTED,
        "spec.tolerations[0].effect",
        'Unsupported value: "Evict": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
    ),
    Case(
        "privileged without privilege escalation",
        "container: {securityContext: {privileged: true, allowPrivilegeEscalation: false}}",
        INVALID,
        f"{C}.securityContext",
        'Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,'
        '"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,'
        '"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: '
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    Case(
        "user",
        "spec: {securityContext: {runAsUser: -1}}",
        INVALID,
        "spec.securityContext.runAsUser",
        "Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    # -- what Podling does not do yet
    *(
        Case(name, manifest, FORBIDDEN, path, f"Forbidden: {NOT_IMPLEMENTED}")
        for name, manifest, path in (
            ("probe", "container: {livenessProbe: {exec: {command: [a]}}}", f"{C}.livenessProbe"),
            ("hook", "container: {lifecycle: {preStop: {exec: {command: [a]}}}}", f"{C}.lifecycle.preStop"),
            (
                "claim",
                VOLUME % "{name: a, persistentVolumeClaim: {claimName: b}}",
                "spec.volumes[0].persistentVolumeClaim",
            ),
            ("runtime class", "spec: {runtimeClassName: gvisor}", "spec.runtimeClassName"),
        )
    ),
)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_wrong_pod_is_refused_as_upstream_does(cluster: Cluster, admin: Https, case: Case) -> None:
    manifest = document(GOOD_POD, case.manifest)
    name = manifest["metadata"]["name"]
    answer = admin.request("POST", "/api/v1/namespaces/default/pods", manifest)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    cause = {"reason": case.type, "field": case.field, "message": case.text}
    assert answer.json["details"] == {"name": name, "kind": "Pod", "causes": [cause]}
    assert answer.message == f'Pod "{name}" is invalid: {case.field}: {case.text}'
    told = cluster.try_kubectl(
        "apply", "-f", "-", stdin=yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **manifest})
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == f'The Pod "{name}" is invalid: {case.field}: {case.text}\n'
