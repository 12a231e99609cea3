"""Volume sources kept by storage systems: validated as upstream although nothing mounts them here.

The right answer to a wrong manifest is its real mistake first; whether Podling can mount it is another question
(see unsupported). Source: the validate*VolumeSource functions of Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from podling.api import field, names
from podling.api.core.v1 import (
    AzureDiskVolumeSource,
    CSIVolumeSource,
    EphemeralVolumeSource,
    FCVolumeSource,
    FlexVolumeSource,
    ISCSIVolumeSource,
    LocalObjectReference,
    PersistentVolumeClaimSpec,
    QuobyteVolumeSource,
    StorageOSVolumeSource,
    Volume,
)
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import ObjectMeta
from podling.api.validation import files, meta
from podling.api.validation.resource import ZERO

_PARTITION = "must be between 1 and 255, inclusive"
_LUN = "must be between 0 and 255, inclusive"
_ISCSI_NAMES = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$", re.ASCII),
    "eui": re.compile(r"^eui.[A-Za-z0-9]{16}$"),
    "naa": re.compile(r"^naa.[A-Za-z0-9]{32}$"),
}
_AZURE_CACHING = ("None", "ReadOnly", "ReadWrite")
_AZURE_KINDS = ("Dedicated", "Managed", "Shared")
_AZURE_MANAGED = ("/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",)
_AZURE_BLOB = ("https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",)
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")

# Wire name, attribute, name in field paths, required fields (wire name, attribute).
_SIMPLE: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    ("glusterfs", "glusterfs", "glusterfs", (("endpoints", "endpoints"), ("path", "path"))),
    ("rbd", "rbd", "rbd", (("monitors", "monitors"), ("image", "image"))),
    ("cephFS", "cephfs", "cephfs", (("monitors", "monitors"),)),
    ("azureFile", "azure_file", "azureFile", (("secretName", "secret_name"), ("shareName", "share_name"))),
    ("vsphereVolume", "vsphere_volume", "vsphereVolume", (("volumePath", "volume_path"),)),
    ("photonPersistentDisk", "photon_persistent_disk", "photonPersistentDisk", (("pdID", "pd_id"),)),
    ("portworxVolume", "portworx_volume", "portworxVolume", (("volumeID", "volume_id"),)),
    (
        "scaleIO",
        "scale_io",
        "scaleIO",
        (("gateway", "gateway"), ("system", "system"), ("volumeName", "volume_name")),
    ),
)


def source(
    item: Volume,
    path: Path,
    errors: list[FieldError],
    metadata: ObjectMeta | None,
    first: Callable[[str], bool],
) -> None:
    """`first` counts a source by its wire name and says whether it is the volume's only one so far."""
    if item.git_repo is not None and first("gitRepo"):
        at = path.child("gitRepo")
        if not item.git_repo.repository:
            errors.append(field.required(at.child("repository"), ""))
        files.local_descending(item.git_repo.directory, at.child("directory"), errors)
    if (disk := item.gce_persistent_disk) is not None and first("gcePersistentDisk"):
        _cloud_disk(disk.pd_name, "pdName", disk.partition, path.child("persistentDisk"), errors)
    if (block := item.aws_elastic_block_store) is not None and first("awsElasticBlockStore"):
        _cloud_disk(block.volume_id, "volumeID", block.partition, path.child("awsElasticBlockStore"), errors)
    if item.nfs is not None and first("nfs"):
        at = path.child("nfs")
        if not item.nfs.server:
            errors.append(field.required(at.child("server"), ""))
        if not item.nfs.path:
            errors.append(field.required(at.child("path"), ""))
        if not item.nfs.path.startswith("/"):
            errors.append(field.invalid(at.child("path"), item.nfs.path, "must be an absolute path"))
    if item.iscsi is not None and first("iscsi"):
        _iscsi(item.iscsi, item.name, path, errors)
    if item.flocker is not None and first("flocker"):
        at = path.child("flocker")
        if not item.flocker.dataset_name and not item.flocker.dataset_uuid:
            errors.append(field.required(at, "one of datasetName and datasetUUID is required"))
        if item.flocker.dataset_name and item.flocker.dataset_uuid:
            message = "datasetName and datasetUUID can not be specified simultaneously"
            errors.append(field.invalid(at, "resource", message))
        if "/" in item.flocker.dataset_name:
            errors.append(field.invalid(at.child("datasetName"), item.flocker.dataset_name, "must not contain '/'"))
    if item.cinder is not None and first("cinder"):
        at = path.child("cinder")
        if not item.cinder.volume_id:
            errors.append(field.required(at.child("volumeID"), ""))
        _secret_ref(item.cinder.secret_ref, at.child("secretRef"), errors)
    if item.quobyte is not None and first("quobyte"):
        _quobyte(item.quobyte, path.child("quobyte"), errors)
    if item.fc is not None and first("fc"):
        _fibre_channel(item.fc, path.child("fc"), errors)
    if item.flex_volume is not None and first("flexVolume"):
        _flex(item.flex_volume, path.child("flexVolume"), errors)
    if item.azure_disk is not None and first("azureDisk"):
        _azure_disk(item.azure_disk, path.child("azureDisk"), errors)
    if item.storageos is not None and first("storageos"):
        _storage_os(item.storageos, path.child("storageos"), errors)
    for counted_as, attribute, name, required in _SIMPLE:
        simple = getattr(item, attribute)
        if simple is not None and first(counted_as):
            for wire, part in required:
                if not getattr(simple, part):
                    errors.append(field.required(path.child(name).child(wire), ""))
    if item.csi is not None and first("csi"):
        _csi(item.csi, path.child("csi"), errors)
    if item.ephemeral is not None and first("ephemeral"):
        _ephemeral(item.ephemeral, path.child("ephemeral"), errors)
        if metadata is not None and metadata.name and item.name:
            claim = f"{metadata.name}-{item.name}"
            errors.extend(
                field.invalid(path.child("name"), item.name, f'PVC name "{claim}": {message}')
                for message in names.dns1123_subdomain(claim)
            )


def _secret_ref(reference: LocalObjectReference | None, path: Path, errors: list[FieldError]) -> None:
    if reference is not None and not reference.name:
        errors.append(field.required(path.child("name"), ""))


def _cloud_disk(disk: str, name: str, partition: int, path: Path, errors: list[FieldError]) -> None:
    if not disk:
        errors.append(field.required(path.child(name), ""))
    if not 0 <= partition <= 255:
        errors.append(field.invalid(path.child("partition"), partition, _PARTITION))


def _iscsi_name(value: str, path: Path, errors: list[FieldError]) -> None:
    pattern = _ISCSI_NAMES.get(value[:3])
    if pattern is None:
        errors.append(field.invalid(path, value, "must be valid format starting with iqn, eui, or naa"))
    elif not pattern.search(value):
        errors.append(field.invalid(path, value, "must be valid format"))


def _iscsi(source: ISCSIVolumeSource, volume: str, path: Path, errors: list[FieldError]) -> None:
    at = path.child("iscsi")
    if not source.target_portal:
        errors.append(field.required(at.child("targetPortal"), ""))
    if not source.iqn:
        errors.append(field.required(at.child("iqn"), ""))
    else:
        _iscsi_name(source.iqn, at.child("iqn"), errors)
    if not 0 <= source.lun <= 255:
        errors.append(field.invalid(at.child("lun"), source.lun, _LUN))
    if (source.chap_auth_discovery or source.chap_auth_session) and source.secret_ref is None:
        errors.append(field.required(at.child("secretRef"), ""))
    if source.initiator_name is not None:
        _iscsi_name(source.initiator_name, at.child("initiatorname"), errors)
        if len(f"{volume}:{source.target_portal}") > 64:
            message = (
                "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
                "if iscsi.initiatorName is specified."
            )
            errors.append(field.invalid(path.child("name"), volume, message))


def _fibre_channel(source: FCVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.target_wwns and not source.wwids:
        message = "must specify either targetWWNs or wwids, but not both"
        errors.append(field.required(path.child("targetWWNs"), message))
    if source.target_wwns and source.wwids:
        message = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(field.invalid(path.child("targetWWNs"), source.target_wwns, message))
    if source.target_wwns:
        if source.lun is None:
            errors.append(field.required(path.child("lun"), "lun is required if targetWWNs is specified"))
        elif not 0 <= source.lun <= 255:
            errors.append(field.invalid(path.child("lun"), source.lun, _LUN))


def _quobyte(source: QuobyteVolumeSource, path: Path, errors: list[FieldError]) -> None:
    pairs = "must be a host:port pair or multiple pairs separated by commas"
    if not source.registry:
        errors.append(field.required(path.child("registry"), pairs))
    elif len(source.tenant) >= 65:
        message = "must be a UUID and may not exceed a length of 64 characters"
        errors.append(field.required(path.child("tenant"), message))
    else:
        for pair in source.registry.split(","):
            host, colon, _ = pair.rpartition(":")
            if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
                errors.append(field.invalid(path.child("registry"), source.registry, pairs))
    if not source.volume:
        errors.append(field.required(path.child("volume"), ""))


def _flex(source: FlexVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.driver:
        errors.append(field.required(path.child("driver"), ""))
    for key in source.options:
        domain = "." + key.partition("/")[0].lower()
        if domain.endswith((".kubernetes.io", ".k8s.io")):
            message = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(field.invalid(path.child("options").key(key), key, message))


def _azure_disk(source: AzureDiskVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.disk_name:
        errors.append(field.required(path.child("diskName"), ""))
    if not source.disk_uri:
        errors.append(field.required(path.child("diskURI"), ""))
    if source.caching_mode is not None and source.caching_mode not in _AZURE_CACHING:
        errors.append(field.not_supported(path.child("cachingMode"), source.caching_mode, _AZURE_CACHING))
    if source.kind is None:
        return
    if source.kind not in _AZURE_KINDS:
        errors.append(field.not_supported(path.child("kind"), source.kind, _AZURE_KINDS))
    prefix, example = ("/subscriptions/", _AZURE_MANAGED) if source.kind == "Managed" else ("https://", _AZURE_BLOB)
    if not source.disk_uri.startswith(prefix):
        errors.append(field.not_supported(path.child("diskURI"), source.disk_uri, example))


def _storage_os(source: StorageOSVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.volume_name:
        errors.append(field.required(path.child("volumeName"), ""))
    else:
        meta.dns1123_label(source.volume_name, path.child("volumeName"), errors)
    if source.volume_namespace:
        meta.dns1123_label(source.volume_namespace, path.child("volumeNamespace"), errors)
    _secret_ref(source.secret_ref, path.child("secretRef"), errors)


def _csi(source: CSIVolumeSource, path: Path, errors: list[FieldError]) -> None:
    at = path.child("driver")
    if not source.driver:
        errors.append(field.required(at, ""))
    if len(source.driver) > 63:
        errors.append(field.too_long(at, 63))
    errors.extend(
        field.invalid(at, source.driver, message) for message in names.dns1123_subdomain(source.driver.lower())
    )
    reference = source.node_publish_secret_ref
    if reference is None:
        return
    if not reference.name:
        errors.append(field.required(path.child("nodePublishSecretRef").child("name"), ""))
    else:
        meta.dns1123_subdomain(reference.name, path.child("name"), errors)


def _ephemeral(source: EphemeralVolumeSource, path: Path, errors: list[FieldError]) -> None:
    template = source.volume_claim_template
    at = path.child("volumeClaimTemplate")
    if template is None:
        errors.append(field.required(at, ""))
        return
    to = at.child("metadata")
    meta.annotation_map(template.metadata.annotations, to.child("annotations"), errors)
    meta.labels(template.metadata.labels, to.child("labels"), errors)
    empty = ObjectMeta()
    for attribute, wire in zip(ObjectMeta.__struct_fields__, ObjectMeta.__struct_encode_fields__, strict=True):
        if attribute in ("annotations", "labels"):
            continue
        if getattr(template.metadata, attribute) != getattr(empty, attribute):
            errors.append(field.forbidden(to.child(wire), "cannot be set"))
    claim_spec(template.spec, at.child("spec"), errors)


def claim_spec(spec: PersistentVolumeClaimSpec, path: Path, errors: list[FieldError]) -> None:
    """A PersistentVolumeClaim's spec."""
    if not spec.access_modes:
        errors.append(field.required(path.child("accessModes"), "at least 1 access mode is required"))
    meta.label_selector(spec.selector, path.child("selector"), errors)
    errors.extend(
        field.not_supported(path.child("accessModes"), mode, _ACCESS_MODES)
        for mode in spec.access_modes
        if mode not in _ACCESS_MODES
    )
    known = {mode for mode in spec.access_modes if mode in _ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        message = "may not use ReadWriteOncePod with other access modes"
        errors.append(field.forbidden(path.child("accessModes"), message))
    storage = spec.resources.requests.get("storage")
    at = path.child("resources")
    if storage is None:
        errors.append(field.required(at.key("storage"), ""))
    elif storage <= ZERO:
        errors.append(field.invalid(at.child("requests").key("storage"), str(storage), "must be greater than zero"))
    if spec.storage_class_name:
        meta.dns1123_subdomain(spec.storage_class_name, path.child("storageClassName"), errors)
    if spec.volume_mode is not None and spec.volume_mode not in _VOLUME_MODES:
        errors.append(field.not_supported(path.child("volumeMode"), spec.volume_mode, _VOLUME_MODES))
