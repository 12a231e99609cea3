"""Requests and limits: resource names, quantities, and how they go together, for containers and whole Pods.

Source: validateResourceRequirements and pkg/apis/core/helper of Kubernetes; pod-level resources: KEP-2837.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from podling.api import field, names, resources
from podling.api.core.v1 import PodSpec, ResourceClaim, ResourceRequirements
from podling.api.field import FieldError, Path
from podling.api.quantity import Quantity
from podling.api.validation import meta

ZERO = Quantity()
HUGE_PAGES = "hugepages-"

_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_COMPUTE = ("cpu", "memory")
_OBJECT_COUNTS = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_STANDARD = (
    _CONTAINER_RESOURCES
    | _OBJECT_COUNTS
    | {"storage"}
    | {f"requests.{name}" for name in ("cpu", "memory", "ephemeral-storage", "storage")}
    | {f"limits.{name}" for name in ("cpu", "memory", "ephemeral-storage")}
)
_POD_LEVEL_SUPPORTED = ("cpu", HUGE_PAGES, "memory")

NameCheck = Callable[[str, Path, list[FieldError]], None]


def is_huge_page(name: str) -> bool:
    return name.startswith(HUGE_PAGES)


def is_native(name: str) -> bool:
    """In the kubernetes.io domain, where unprefixed names belong too."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Advertised by device plugins or operators: example.com/gpu."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def may_overcommit(name: str) -> bool:
    """Whether the limit may exceed the request."""
    return is_native(name) and not is_huge_page(name)


def is_pod_level(name: str) -> bool:
    """Whether spec.resources may have it."""
    return name in _COMPUTE or is_huge_page(name)


def resource_name(name: str, path: Path, errors: list[FieldError]) -> bool:
    """Whether the name is well-formed."""
    if name in _STANDARD:
        return True
    before = len(errors)
    meta.qualified_name(name, path, errors)
    if len(errors) == before and "/" not in name and not name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}")):
        errors.append(field.invalid(path, name, "must be a standard resource type or fully qualified"))
    return len(errors) == before


def container_resource_name(name: str, path: Path, errors: list[FieldError]) -> None:
    if name in _CONTAINER_RESOURCES:
        return
    resource_name(name, path, errors)
    if "/" not in name:
        if not is_huge_page(name):
            errors.append(field.invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(field.invalid(path, name, "doesn't follow extended resource name standard"))


def _pod_resource_name(name: str, path: Path, errors: list[FieldError]) -> None:
    if resource_name(name, path, errors) and not is_pod_level(name):
        errors.append(field.not_supported(path, name, _POD_LEVEL_SUPPORTED))


def quantity(name: str, value: Quantity, path: Path, errors: list[FieldError]) -> None:
    """Not negative; whole for what is counted in pieces."""
    if value < ZERO:
        errors.append(field.invalid(path, str(value), meta.NOT_NEGATIVE))
    if name not in _CONTAINER_RESOURCES and (name in _OBJECT_COUNTS or is_extended(name)) and _is_fractional(value):
        errors.append(field.invalid(path, str(value), "must be an integer"))


def _is_fractional(value: Quantity) -> bool:
    return value.milli_value() % 1000 != 0


def _huge_page_quantity(name: str, value: Quantity, path: Path, errors: list[FieldError]) -> None:
    try:
        size = Quantity(name.removeprefix(HUGE_PAGES)).value()
    except ValueError:
        size = 0
    if size <= 0 or value.value() % size:
        message = f"{value} is not positive integer multiple of {name}"
        errors.append(field.invalid(path, str(value), message))


def requirements(
    required: ResourceRequirements,
    path: Path,
    errors: list[FieldError],
    *,
    claims: Collection[str] = (),
    name_check: NameCheck = container_resource_name,
) -> None:
    """`claims` are the names in spec.resourceClaims."""
    limits, requests = required.limits, required.requests
    if limits:
        at = path.child("limits")
        for name, limit in limits.items():
            _entry(name, limit, at.key(name), errors, name_check)
    if requests:
        at = path.child("requests")
        for name, request in requests.items():
            _entry(name, request, at.key(name), errors, name_check)
            _within_limit(name, request, limits, path, errors)
    if any(map(is_huge_page, (*limits, *requests))) and not any(
        name in limits or name in requests for name in _COMPUTE
    ):
        errors.append(field.forbidden(path, "HugePages require cpu or memory"))
    if required.claims:
        _claims(required.claims, claims, path.child("claims"), errors)


def _entry(name: str, value: Quantity, path: Path, errors: list[FieldError], name_check: NameCheck) -> None:
    name_check(name, path, errors)
    quantity(name, value, path, errors)
    if is_huge_page(name):
        _huge_page_quantity(name, value, path, errors)


def _within_limit(
    name: str, request: Quantity, limits: Mapping[str, Quantity], path: Path, errors: list[FieldError]
) -> None:
    limit = limits.get(name)
    if limit is None:
        if not may_overcommit(name):
            message = "Limit must be set for non overcommitable resources"
            errors.append(field.required(path.child("limits"), message))
    elif request != limit and not may_overcommit(name):
        message = f"must be equal to {name} limit of {limit}"
        errors.append(field.invalid(path.child("requests"), str(request), message))
    elif request > limit:
        message = f"must be less than or equal to {name} limit of {limit}"
        errors.append(field.invalid(path.child("requests"), str(request), message))


def _claims(claims: Sequence[ResourceClaim], known: Collection[str], path: Path, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        at = path.index(i)
        if not claim.name:
            errors.append(field.required(at, ""))
            continue
        if claim.name in seen:
            errors.append(field.duplicate(at, claim.name))
        else:
            key = claim.name
            if claim.request:
                meta.dns1123_label(claim.request, at.child("request"), errors)
                key += f"/{claim.request}"
            if key in seen:
                errors.append(field.duplicate(at, key))
            elif not claim.request and any(other.startswith(f"{claim.name}/") for other in seen):
                errors.append(field.duplicate(at, claim.name))
            seen.add(key)
        if claim.name not in known:
            detail = "must be one of the names in pod.spec.resourceClaims"
            detail += ": " + ", ".join(sorted(known)) if known else " which is empty"
            errors.append(FieldError(field.NOT_FOUND, str(at), claim.name, detail))


def pod_resources(spec: PodSpec, path: Path, errors: list[FieldError], claims: Collection[str]) -> None:
    """spec.resources, and that the containers fit into it. `path` is the PodSpec's."""
    pod = spec.resources
    if pod is None:
        return
    at = path.child("resources")
    if spec.os is not None and spec.os.name == "windows":
        errors.append(field.forbidden(at, "may not be set for a windows pod"))
        return
    if pod.claims:
        errors.append(field.forbidden(at.child("claims"), "claims may not be set for Resources at pod-level"))
    requirements(pod, at, errors, claims=claims, name_check=_pod_resource_name)

    containers = replace(spec, resources=None, overhead={})
    for name, total in resources.pod_requests(containers).items():
        own = pod.requests.get(name)
        if own is not None and total > own:
            message = f"must be greater than or equal to aggregate container requests of {total}"
            errors.append(field.invalid(at.child("requests").key(name), str(own), message))
    for name, total in resources.pod_limits(containers).items():
        own = pod.limits.get(name)
        if own is not None and is_huge_page(name) and total > own:
            message = f"must be greater than or equal to aggregate container limits of {total}"
            errors.append(field.invalid(at.child("limits").key(name), str(own), message))
    for i, container in enumerate(spec.containers):
        for name, limit in container.resources.limits.items():
            own = pod.limits.get(name)
            if own is not None and limit > own:
                message = f"must be less than or equal to pod limits of {own}"
                errors.append(
                    field.invalid(at.child("containers").index(i).key(name).child("limits"), str(limit), message)
                )
