"""Pod volumes: names, exactly one source each, and the sources that hold API data.

Source: ValidateVolumes and validateVolumeSource of Kubernetes. Sources kept by storage systems are in volume_network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podling.api import field, names
from podling.api.core.v1 import (
    ClusterTrustBundleProjection,
    ConfigMapVolumeSource,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    HostPathVolumeSource,
    ImageVolumeSource,
    KeyToPath,
    PodCertificateProjection,
    ProjectedVolumeSource,
    SecretVolumeSource,
    Volume,
)
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import ObjectMeta
from podling.api.validation import env, files, meta, volume_network
from podling.api.validation.resource import ZERO

PULL_POLICIES = ("Always", "IfNotPresent", "Never")

_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_ONE_TYPE = "may not specify more than 1 volume type"
_MIN_TOKEN_SECONDS = 600
_MAX_TOKEN_SECONDS = 1 << 32
_MAX_CERTIFICATE_SECONDS = 91 * 24 * 3600
_MAX_KUBERNETES_CERTIFICATE_SECONDS = 24 * 3600


def volumes(
    items: Sequence[Volume], path: Path, errors: list[FieldError], *, metadata: ObjectMeta | None, is_pod: bool
) -> dict[str, Volume]:
    """Returns the valid ones by name. `metadata` is the Pod's, None for a template."""
    valid: dict[str, Volume] = {}
    claims_made: set[str] = set()
    if metadata is not None and metadata.name:
        claims_made = {f"{metadata.name}-{item.name}" for item in items if item.ephemeral is not None}
    for i, item in enumerate(items):
        at = path.index(i)
        before = len(errors)
        _source(item, at, errors, metadata, is_pod)
        if not item.name:
            errors.append(field.required(at.child("name"), ""))
        else:
            meta.dns1123_label(item.name, at.child("name"), errors)
        if item.name in valid:
            errors.append(field.duplicate(at.child("name"), item.name))
        if len(errors) == before:
            valid[item.name] = item
        claim = item.persistent_volume_claim
        if claim is not None and claim.claim_name in claims_made:
            message = "must not reference a PVC that gets created for an ephemeral volume"
            to = at.child("persistentVolumeClaim").child("claimName")
            errors.append(field.invalid(to, claim.claim_name, message))
    return valid


def pull_policy(policy: str, path: Path, errors: list[FieldError]) -> None:
    if not policy:
        errors.append(field.required(path, ""))
    elif policy not in PULL_POLICIES:
        errors.append(field.not_supported(path, policy, PULL_POLICIES))


def _source(item: Volume, path: Path, errors: list[FieldError], metadata: ObjectMeta | None, is_pod: bool) -> None:
    count = 0
    if item.empty_dir is not None:
        count += 1
        limit = item.empty_dir.size_limit
        if limit is not None and limit < ZERO:
            message = "SizeLimit field must be a valid resource quantity"
            errors.append(field.forbidden(path.child("emptyDir").child("sizeLimit"), message))

    def first(name: str) -> bool:
        nonlocal count
        if count:
            errors.append(field.forbidden(path.child(name), _ONE_TYPE))
            return False
        count += 1
        return True

    if item.host_path is not None and first("hostPath"):
        _host_path(item.host_path, path.child("hostPath"), errors)
    if item.secret is not None and first("secret"):
        _secret(item.secret, path.child("secret"), errors)
    claim = item.persistent_volume_claim
    if claim is not None and first("persistentVolumeClaim") and not claim.claim_name:
        errors.append(field.required(path.child("persistentVolumeClaim").child("claimName"), ""))
    if item.downward_api is not None and first("downwardAPI"):
        _downward_api(item.downward_api, path.child("downwardAPI"), errors)
    if item.config_map is not None and first("configMap"):
        _config_map(item.config_map, path.child("configMap"), errors)
    if item.projected is not None and first("projected"):
        _projected(item.projected, path.child("projected"), errors)
    if item.image is not None and first("image"):
        _image(item.image, path.child("image"), errors, is_pod)
    volume_network.source(item, path, errors, metadata, first)
    if count == 0:
        errors.append(field.required(path, "must specify a volume type"))


def _host_path(source: HostPathVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.path:
        errors.append(field.required(path.child("path"), ""))
        return
    files.no_backsteps(source.path, path.child("path"), errors)
    if source.type is not None and source.type not in _HOST_PATH_TYPES:
        errors.append(field.not_supported(path.child("type"), source.type, _HOST_PATH_TYPES))


def _key_to_path(item: KeyToPath, path: Path, errors: list[FieldError]) -> None:
    if not item.key:
        errors.append(field.required(path.child("key"), ""))
    if not item.path:
        errors.append(field.required(path.child("path"), ""))
    files.local_not_reserved(item.path, path.child("path"), errors)
    files.file_mode(item.mode, path.child("mode"), errors)


def _secret(source: SecretVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.secret_name:
        errors.append(field.required(path.child("secretName"), ""))
    files.file_mode(source.default_mode, path.child("defaultMode"), errors)
    for i, item in enumerate(source.items):
        _key_to_path(item, path.child("items").index(i), errors)


def _config_map(source: ConfigMapVolumeSource, path: Path, errors: list[FieldError]) -> None:
    if not source.name:
        errors.append(field.required(path.child("name"), ""))
    files.file_mode(source.default_mode, path.child("defaultMode"), errors)
    for i, item in enumerate(source.items):
        _key_to_path(item, path.child("items").index(i), errors)


def _downward_api_file(file: DownwardAPIVolumeFile, path: Path, errors: list[FieldError]) -> None:
    if not file.path:
        errors.append(field.required(path.child("path"), ""))
    files.local_not_reserved(file.path, path.child("path"), errors)
    if file.field_ref is not None:
        env.field_selector(file.field_ref, env.VOLUME_FIELDS, path.child("fieldRef"), errors)
        if file.resource_field_ref is not None:
            message = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(field.invalid(path, "resource", message))
    elif file.resource_field_ref is not None:
        env.resource_selector(file.resource_field_ref, path.child("resourceFieldRef"), errors, volume=True)
    else:
        errors.append(field.required(path, "one of fieldRef and resourceFieldRef is required"))
    files.file_mode(file.mode, path.child("mode"), errors)


def _downward_api(source: DownwardAPIVolumeSource, path: Path, errors: list[FieldError]) -> None:
    files.file_mode(source.default_mode, path.child("defaultMode"), errors)
    for file in source.items:
        # Upstream reports files at the volume's path, without their index.
        _downward_api_file(file, path, errors)


def _projected(source: ProjectedVolumeSource, path: Path, errors: list[FieldError]) -> None:
    files.file_mode(source.default_mode, path.child("defaultMode"), errors)
    seen: set[str] = set()

    def unique(name: str, blame: str) -> None:
        if name in seen:
            errors.append(field.invalid(path, blame, "conflicting duplicate paths"))
        seen.add(name)

    for i, projection in enumerate(source.sources):
        at = path.child("sources").index(i)
        count = 0
        for kind, named in (("secret", projection.secret), ("configMap", projection.config_map)):
            if named is None:
                continue
            count += 1
            to = at.child(kind)
            if not named.name:
                errors.append(field.required(to.child("name"), ""))
            for j, item in enumerate(named.items):
                _key_to_path(item, to.child("items").index(j), errors)
                if item.path:
                    unique(item.path, named.name)
        if projection.downward_api is not None:
            count += 1
            for file in projection.downward_api.items:
                _downward_api_file(file, at.child("downwardAPI"), errors)
                if file.path:
                    unique(file.path, file.path)
        if projection.service_account_token is not None:
            count += 1
            token = projection.service_account_token
            seconds = token.expiration_seconds or 0
            to = at.child("serviceAccountToken").child("expirationSeconds")
            if seconds < _MIN_TOKEN_SECONDS:
                errors.append(field.invalid(to, seconds, "may not specify a duration less than 10 minutes"))
            if seconds > _MAX_TOKEN_SECONDS:
                errors.append(field.invalid(to, seconds, "may not specify a duration larger than 2^32 seconds"))
            if not token.path:
                errors.append(field.required(path.child("path"), ""))
            else:
                files.local_not_reserved(token.path, path.child("path"), errors)
        if projection.cluster_trust_bundle is not None:
            count += 1
            bundle = projection.cluster_trust_bundle
            _cluster_trust_bundle(bundle, at.child("clusterTrustBundle"), errors)
            unique(bundle.path, bundle.path)
        if projection.pod_certificate is not None:
            count += 1
            certificate = projection.pod_certificate
            to = at.child("podCertificate")
            _pod_certificate(certificate, to, errors)
            paths = (
                ("credentialBundlePath", certificate.credential_bundle_path),
                ("keyPath", certificate.key_path),
                ("certificateChainPath", certificate.certificate_chain_path),
            )
            for name, value in paths:
                if value:
                    files.local_not_reserved(value, to.child(name), errors)
                    unique(value, value)
            if not any(value for _, value in paths):
                message = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
                errors.append(field.required(to, message))
        if count > 1:
            errors.append(field.forbidden(at, "may not specify more than 1 volume type per source"))


def signer_name(value: str, path: Path, errors: list[FieldError]) -> None:
    """example.com/name: a domain and a path of at most 571 characters in all."""
    if not value:
        errors.append(field.required(path, ""))
        return
    domain, slash, rest = value.partition("/")
    if not slash:
        message = 'must be a fully qualified domain and path of the form "example.com/signer-name"'
        errors.append(field.invalid(path, value, message))
        return
    messages = list(names.dns1123_subdomain(domain))
    for segment in rest.split("/"):
        messages += names.dns1123_subdomain(segment)
    if domain.count(".") < 1:
        messages.append("should be a domain with at least two segments separated by dots")
    errors.extend(field.invalid(path, value, message) for message in messages)
    if len(value) > 571:
        errors.append(field.too_long(path, 571))


def _cluster_trust_bundle(source: ClusterTrustBundleProjection, path: Path, errors: list[FieldError]) -> None:
    if source.name is not None and source.signer_name is not None:
        errors.append(field.invalid(path, source, "only one of name and signerName may be used"))
    elif source.name is not None:
        _trust_bundle_name(source.name, path.child("name"), errors)
        if source.label_selector is not None:
            message = "labelSelector must be unset if name is specified"
            errors.append(field.invalid(path.child("labelSelector"), source.label_selector, message))
    elif source.signer_name is not None:
        if not source.signer_name:
            errors.append(field.required(path.child("signerName"), "must be a valid signer name"))
        signer_name(source.signer_name, path.child("signerName"), errors)
        meta.label_selector(source.label_selector, path.child("labelSelector"), errors)
    else:
        errors.append(field.required(path, "either name or signerName must be specified"))
    if not source.path:
        errors.append(field.required(path.child("path"), ""))
    files.local_not_reserved(source.path, path.child("path"), errors)


def _trust_bundle_name(value: str, path: Path, errors: list[FieldError]) -> None:
    if not value:
        errors.append(field.required(path, "must be a valid object name"))
    # The name of a signer's bundle is the signer's with colons for slashes, a colon and a suffix.
    errors.extend(
        field.invalid(path, value, f"not a valid clustertrustbundlename: {message}")
        for message in names.dns1123_subdomain(value.rpartition(":")[2])
    )


def _pod_certificate(source: PodCertificateProjection, path: Path, errors: list[FieldError]) -> None:
    signer_name(source.signer_name, path.child("signerName"), errors)
    meta.annotation_map(source.user_annotations, path.child("userAnnotations"), errors)
    if source.key_type not in _KEY_TYPES:
        errors.append(field.not_supported(path.child("keyType"), source.key_type, _KEY_TYPES))
    seconds = source.max_expiration_seconds
    if seconds is None:
        return
    at = path.child("maxExpirationSeconds")
    if seconds < 3600:
        errors.append(field.invalid(at, seconds, "if provided, maxExpirationSeconds must be >= 3600"))
    domain = source.signer_name.partition("/")[0]
    kubernetes = domain == "kubernetes.io" or domain.endswith(".kubernetes.io")
    most = _MAX_KUBERNETES_CERTIFICATE_SECONDS if kubernetes else _MAX_CERTIFICATE_SECONDS
    if seconds > most:
        errors.append(field.invalid(at, seconds, f"if provided, maxExpirationSeconds must be <= {most}"))


def _image(source: ImageVolumeSource, path: Path, errors: list[FieldError], is_pod: bool) -> None:
    if is_pod and not source.reference:
        errors.append(field.required(path.child("reference"), ""))
    pull_policy(source.pull_policy, path.child("pullPolicy"), errors)


def token_needs_account(items: Sequence[Volume], path: Path, errors: list[FieldError]) -> None:
    """A Pod without a service account can have no token projected."""
    for i, item in enumerate(items):
        if item.projected is None:
            continue
        for j, source in enumerate(item.projected.sources):
            if source.service_account_token is not None:
                to = path.index(i).child("projected").child("sources").index(j).child("serviceAccountToken")
                errors.append(field.forbidden(to, "must not be specified when serviceAccountName is not set"))


ByName = Mapping[str, Volume]
