"""Volumes of Pods."""

from __future__ import annotations

import pytest
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    UNSUPPORTED,
    Case,
    case_id,
    check_creation,
    make,
)

from podling.api import validation

V = "spec.volumes[0]"
MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def volume(source: str) -> str:
    return f"spec: {{volumes: [{{name: v, {source}}}]}}"


CASES = [
    Case("no name", "spec: {volumes: [{emptyDir: {}}]}", REQUIRED, f"{V}.name", "Required value"),
    Case(
        "same name twice",
        "spec: {volumes: [{name: v}, {name: v}]}",
        DUPLICATE,
        "spec.volumes[1].name",
        'Duplicate value: "v"',
    ),
    Case(
        "two sources",
        volume("emptyDir: {}, hostPath: {path: /x}"),
        FORBIDDEN,
        f"{V}.hostPath",
        "Forbidden: may not specify more than 1 volume type",
    ),
    Case(
        "negative size",
        volume("emptyDir: {sizeLimit: '-1'}"),
        FORBIDDEN,
        f"{V}.emptyDir.sizeLimit",
        "Forbidden: SizeLimit field must be a valid resource quantity",
    ),
    Case("no path", volume("hostPath: {path: ''}"), REQUIRED, f"{V}.hostPath.path", "Required value"),
    Case(
        "backsteps",
        volume("hostPath: {path: /a/../b}"),
        INVALID,
        f"{V}.hostPath.path",
        "Invalid value: \"/a/../b\": must not contain '..'",
    ),
    Case(
        "type of a path",
        volume("hostPath: {path: /a, type: Folder}"),
        UNSUPPORTED,
        f"{V}.hostPath.type",
        'Unsupported value: "Folder": supported values: "", "BlockDevice", "CharDevice", "Directory", '
        '"DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
    ),
    Case("no Secret", volume("secret: {}"), REQUIRED, f"{V}.secret.secretName", "Required value"),
    Case(
        "mode",
        volume("secret: {secretName: s, defaultMode: 512}"),
        INVALID,
        f"{V}.secret.defaultMode",
        f"Invalid value: 512: {MODE}",
    ),
    Case("no ConfigMap", volume("configMap: {}"), REQUIRED, f"{V}.configMap.name", "Required value"),
    Case(
        "no key",
        volume("configMap: {name: c, items: [{path: p}]}"),
        REQUIRED,
        f"{V}.configMap.items[0].key",
        "Required value",
    ),
    Case(
        "reserved path",
        volume("configMap: {name: c, items: [{key: k, path: ..data}]}"),
        INVALID,
        f"{V}.configMap.items[0].path",
        "Invalid value: \"..data\": must not start with '..'",
    ),
    Case(
        "absolute path",
        volume("secret: {secretName: s, items: [{key: k, path: /p}]}"),
        INVALID,
        f"{V}.secret.items[0].path",
        'Invalid value: "/p": must be a relative path',
    ),
    Case(
        "file of nothing",
        volume("downwardAPI: {items: [{path: p}]}"),
        REQUIRED,
        f"{V}.downwardAPI",
        "Required value: one of fieldRef and resourceFieldRef is required",
    ),
    Case(
        "field that is no file",
        volume("downwardAPI: {items: [{path: p, fieldRef: {fieldPath: status.podIP}}]}"),
        UNSUPPORTED,
        f"{V}.downwardAPI.fieldRef.fieldPath",
        'Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels", '
        '"metadata.name", "metadata.namespace", "metadata.uid"',
    ),
    Case(
        "resource of no container",
        volume("downwardAPI: {items: [{path: p, resourceFieldRef: {resource: limits.cpu}}]}"),
        REQUIRED,
        f"{V}.downwardAPI.resourceFieldRef.containerName",
        "Required value",
    ),
    Case(
        "two files in one place",
        volume("projected: {sources: [{secret: {name: s, items: [{key: a, path: p}, {key: b, path: p}]}}]}"),
        INVALID,
        f"{V}.projected",
        'Invalid value: "s": conflicting duplicate paths',
    ),
    Case(
        "two sources in one projection",
        volume("projected: {sources: [{secret: {name: s}, configMap: {name: c}}]}"),
        FORBIDDEN,
        f"{V}.projected.sources[0]",
        "Forbidden: may not specify more than 1 volume type per source",
    ),
    Case(
        "short-lived token",
        "spec: {serviceAccountName: default, volumes: [{name: v, projected: "
        "{sources: [{serviceAccountToken: {path: t, expirationSeconds: 60}}]}}]}",
        INVALID,
        f"{V}.projected.sources[0].serviceAccountToken.expirationSeconds",
        "Invalid value: 60: may not specify a duration less than 10 minutes",
    ),
    Case(
        "no bundle",
        volume("projected: {sources: [{clusterTrustBundle: {path: p}}]}"),
        REQUIRED,
        f"{V}.projected.sources[0].clusterTrustBundle",
        "Required value: either name or signerName must be specified",
    ),
    Case(
        "no claim",
        volume("persistentVolumeClaim: {claimName: ''}"),
        REQUIRED,
        f"{V}.persistentVolumeClaim.claimName",
        "Required value",
    ),
    Case(
        "claim of an ephemeral volume",
        "spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: web-e}}, {name: e, ephemeral: "
        "{volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}}}]}",
        INVALID,
        f"{V}.persistentVolumeClaim.claimName",
        'Invalid value: "web-e": must not reference a PVC that gets created for an ephemeral volume',
    ),
    Case(
        "template without access mode",
        volume("ephemeral: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}"),
        REQUIRED,
        f"{V}.ephemeral.volumeClaimTemplate.spec.accessModes",
        "Required value: at least 1 access mode is required",
    ),
    Case("no image", volume("image: {}"), REQUIRED, f"{V}.image.reference", "Required value"),
    Case("no server", volume("nfs: {server: '', path: /x}"), REQUIRED, f"{V}.nfs.server", "Required value"),
    Case(
        "relative export",
        volume("nfs: {server: s, path: x}"),
        INVALID,
        f"{V}.nfs.path",
        'Invalid value: "x": must be an absolute path',
    ),
    Case(
        "iSCSI name",
        volume("iscsi: {targetPortal: p, iqn: iqn.bad, lun: 0}"),
        INVALID,
        f"{V}.iscsi.iqn",
        'Invalid value: "iqn.bad": must be valid format',
    ),
    Case(
        "unit",
        volume("iscsi: {targetPortal: p, iqn: 'iqn.2001-04.com.example:disk', lun: 256}"),
        INVALID,
        f"{V}.iscsi.lun",
        "Invalid value: 256: must be between 0 and 255, inclusive",
    ),
    Case(
        "fibre channel without unit",
        volume("fc: {targetWWNs: [a]}"),
        REQUIRED,
        f"{V}.fc.lun",
        "Required value: lun is required if targetWWNs is specified",
    ),
    Case(
        "reserved option",
        volume("flexVolume: {driver: d, options: {kubernetes.io/a: b}}"),
        INVALID,
        f"{V}.flexVolume.options[kubernetes.io/a]",
        'Invalid value: "kubernetes.io/a": kubernetes.io and k8s.io namespaces are reserved',
    ),
    Case("no driver", volume("flexVolume: {driver: ''}"), REQUIRED, f"{V}.flexVolume.driver", "Required value"),
    Case("no monitors", volume("rbd: {monitors: [], image: i}"), REQUIRED, f"{V}.rbd.monitors", "Required value"),
    Case("no repository", volume("gitRepo: {repository: ''}"), REQUIRED, f"{V}.gitRepo.repository", "Required value"),
    Case(
        "Azure cache",
        volume("azureDisk: {diskName: d, diskURI: 'https://x', cachingMode: Some}"),
        UNSUPPORTED,
        f"{V}.azureDisk.cachingMode",
        'Unsupported value: "Some": supported values: "None", "ReadOnly", "ReadWrite"',
    ),
    Case(
        "Flocker by both names",
        volume("flocker: {datasetName: a, datasetUUID: b}"),
        INVALID,
        f"{V}.flocker",
        'Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously',
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_mistake_in_a_volume_is_told_as_upstream_tells_it(case: Case) -> None:
    check_creation(case)


@pytest.mark.parametrize(
    "source",
    [
        "emptyDir: {medium: Memory, sizeLimit: 1Mi}",
        "hostPath: {path: /etc, type: Directory}",
        "configMap: {name: c, optional: true, items: [{key: k, path: a/b, mode: 256}]}",
        "projected: {sources: [{configMap: {name: c}}, {downwardAPI: {items: [{path: l, "
        "fieldRef: {fieldPath: metadata.labels}}]}}]}",
    ],
)
def test_a_good_volume_is_accepted(source: str) -> None:
    assert validation.validate_create(make(volume(source))) == []


def test_a_wrong_volume_cannot_be_mounted() -> None:
    pod = make("{spec: {volumes: [{name: v, secret: {}}]}, container: {volumeMounts: [{name: v, mountPath: /x}]}}")
    fields = [error.field for error in validation.validate_create(pod)]
    assert fields == ["spec.volumes[0].secret.secretName", "spec.containers[0].volumeMounts[0].name"]
