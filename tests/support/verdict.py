"""What validation says of a manifest: cases as (name, YAML over a good object, error type, field path, text)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import yaml

from podling.api import codec, defaults, validation
from podling.api.core.v1 import Pod
from podling.api.field import FieldError

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
UNSUPPORTED = "FieldValueNotSupported"
DUPLICATE = "FieldValueDuplicate"
FORBIDDEN = "FieldValueForbidden"
NOT_FOUND = "FieldValueNotFound"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"

NOT_IMPLEMENTED = "is not implemented by Podling yet"

T = TypeVar("T")

GOOD_POD = """
metadata: {name: web, namespace: default}
spec:
  containers:
  - {name: main, image: busybox}
"""


class Case(NamedTuple):
    """One mistake. `text` is the message without the path, as a status cause has it."""

    name: str
    manifest: str
    type: str
    field: str
    text: str


def case_id(case: object) -> str:
    """For pytest's `ids`."""
    assert isinstance(case, Case)
    return case.name


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, maps merged and everything else replaced; null removes an entry."""
    merged = copy.copy(base)
    for key, value in over.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def document(base: str, manifest: str = "") -> dict[str, Any]:
    """`base` with `manifest` over it. `container` in it stands for the first container's fields."""
    found: dict[str, Any] = yaml.safe_load(base)
    over = yaml.safe_load(manifest) or {}
    container = over.pop("container", {})
    found = merge(found, over)
    if container:
        found["spec"]["containers"][0] = merge(found["spec"]["containers"][0], container)
    return found


def build(kind: type[T], base: str, manifest: str = "", *, apply_defaults: bool = True) -> T:
    """The object of document()."""
    obj = codec.convert(document(base, manifest), kind)
    if apply_defaults:
        defaults.apply(obj)
    return obj


def make(manifest: str = "", *, apply_defaults: bool = True) -> Pod:
    """A good Pod with `manifest` over it."""
    return build(Pod, GOOD_POD, manifest, apply_defaults=apply_defaults)


def implemented(errors: Sequence[FieldError]) -> list[FieldError]:
    """Without the refusals of what Podling does not implement yet: what upstream would say."""
    return [error for error in errors if error.detail != NOT_IMPLEMENTED]


def check_creation(case: Case) -> None:
    """A good Pod with the case's mistake is refused for it, as upstream would."""
    check(implemented(validation.validate_create(make(case.manifest))), case)


def check(errors: Sequence[FieldError], case: Case) -> None:
    """Exactly the case's mistake is found, and nothing else."""
    assert [(e.type, e.field, e.body) for e in errors] == [(case.type, case.field, case.text)]
