"""ConfigMaps and Secrets."""

from __future__ import annotations

import json

from podling.api import field, names
from podling.api.core.v1 import ConfigMap, Secret
from podling.api.field import FieldError, Path
from podling.api.validation import meta

MAX_BYTES = 1 << 20
"""Of all keys' values together."""

_DATA = Path("data")
_WHEN_IMMUTABLE = "field is immutable when `immutable` is set"
_SERVICE_ACCOUNT = "kubernetes.io/service-account.name"
# Secret type to the key that holds a JSON object of registry credentials.
_DOCKER_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def _key(key: str, path: Path, errors: list[FieldError]) -> None:
    errors.extend(field.invalid(path.key(key), key, message) for message in names.config_map_key(key))


def validate_config_map(config_map: ConfigMap) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(config_map.metadata, errors)
    size = 0
    for key, value in config_map.data.items():
        _key(key, _DATA, errors)
        if key in config_map.binary_data:
            errors.append(field.invalid(_DATA.key(key), key, "duplicate of key present in binaryData"))
        size += len(value.encode())
    for key, content in config_map.binary_data.items():
        _key(key, Path("binaryData"), errors)
        size += len(content)
    if size > MAX_BYTES:
        errors.append(field.too_long("[]", MAX_BYTES))  # upstream's path of a name that is empty
    return errors


def validate_config_map_update(new: ConfigMap, old: ConfigMap) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    if old.immutable:
        _stays_immutable(new.immutable, errors)
        if new.data != old.data:
            errors.append(field.forbidden(_DATA, _WHEN_IMMUTABLE))
        if new.binary_data != old.binary_data:
            errors.append(field.forbidden(Path("binaryData"), _WHEN_IMMUTABLE))
    return errors + validate_config_map(new)


def _stays_immutable(immutable: bool | None, errors: list[FieldError]) -> None:
    if not immutable:
        errors.append(field.forbidden(Path("immutable"), _WHEN_IMMUTABLE))


def validate_secret(secret: Secret) -> list[FieldError]:
    """`stringData` was merged into `data` by defaulting."""
    errors: list[FieldError] = []
    meta.object_meta(secret.metadata, errors)
    size = 0
    for key, value in secret.data.items():
        _key(key, _DATA, errors)
        size += len(value)
    if size > MAX_BYTES:
        errors.append(field.too_long(_DATA, MAX_BYTES))
    match secret.type:
        case "kubernetes.io/service-account-token":
            if not secret.metadata.annotations.get(_SERVICE_ACCOUNT):
                at = Path("metadata").child("annotations").key(_SERVICE_ACCOUNT)
                errors.append(field.required(at, ""))
        case "kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson":
            _registry_credentials(secret, _DOCKER_KEYS[secret.type], errors)
        case "kubernetes.io/basic-auth":
            if "username" not in secret.data and "password" not in secret.data:
                errors.extend(field.required(_DATA.key(key), "") for key in ("username", "password"))
        case "kubernetes.io/ssh-auth":
            if not secret.data.get("ssh-privatekey"):
                errors.append(field.required(_DATA.key("ssh-privatekey"), ""))
        case "kubernetes.io/tls":
            missing = (key for key in ("tls.crt", "tls.key") if key not in secret.data)
            errors.extend(field.required(_DATA.key(key), "") for key in missing)
    return errors


def _registry_credentials(secret: Secret, key: str, errors: list[FieldError]) -> None:
    at = _DATA.key(key)
    content = secret.data.get(key)
    if content is None:
        errors.append(field.required(at, ""))
        return
    try:
        problem = _not_an_object(json.loads(content))
    except UnicodeDecodeError:
        problem = "invalid character in string literal"
    except json.JSONDecodeError as error:
        problem = _go_message(content, error)
    if problem:
        errors.append(field.invalid(at, "<secret contents redacted>", problem))


def _not_an_object(value: object) -> str:
    if value is None or isinstance(value, dict):
        return ""
    kind = {bool: "bool", str: "string", int: "number", float: "number"}.get(type(value), "array")
    return f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"


def _go_message(content: bytes, error: json.JSONDecodeError) -> str:
    """What Go says of malformed JSON, in the two cases that people meet."""
    text = content.decode(errors="replace")
    rest = text[error.pos :].lstrip()
    if not rest:
        return "unexpected end of JSON input"
    where = "looking for beginning of value" if not text[: error.pos].strip() else "after top-level value"
    if error.msg.startswith("Expecting property name"):
        where = "looking for beginning of object key string"
    elif error.msg.startswith("Expecting ':'"):
        where = "after object key"
    elif error.msg.startswith("Expecting ','"):
        where = "after object key:value pair"
    elif error.msg.startswith("Expecting value"):
        where = "looking for beginning of value"
    return f"invalid character '{rest[0]}' {where}"


def validate_secret_update(new: Secret, old: Secret) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    meta.immutable(new.type, old.type, Path("type"), errors)
    if old.immutable:
        _stays_immutable(new.immutable, errors)
        if new.data != old.data:
            errors.append(field.forbidden(_DATA, _WHEN_IMMUTABLE))
    return errors + validate_secret(new)
