"""OpenAPI v3: one document for each API version."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.apiserver import version
from podling.apiserver.openapi import operations, schemas
from podling.apiserver.openapi.operations import Operation, Parameter, Path

_SCHEMAS = "#/components/schemas/"
# In v3 these are what v2 cannot express.
_ALTERNATIVES = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ("integer", "string"),
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ("string", "number"),
}


def paths(group: str, version: str) -> dict[str, Any]:
    return {path.path: _path(path) for path in operations.paths(group, version)}


def render(group: str, api_version: str) -> bytes:
    """The document of an API version, as JSON."""
    described = paths(group, api_version)
    names = references(operations.paths(group, api_version))
    definitions = {name: schema(name, raw) for name, raw in schemas.with_dependencies(names).items()}
    return msgspec.json.encode(
        {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": version.git_version()},
            "paths": described,
            "components": {"schemas": definitions},
        }
    )


def references(found: list[Path]) -> set[str]:
    """The definitions that these paths name."""
    return {name for path in found for item in path.operations for name in (item.body, item.result) if name}


def schema(name: str, raw: bytes) -> Any:
    """A v2 definition as v3."""
    value = _simple(msgspec.json.decode(raw))
    if name in _ALTERNATIVES:
        del value["type"]
        value["oneOf"] = [{"type": type} for type in _ALTERNATIVES[name]]
    return value


def _simple(value: Any) -> Any:
    if isinstance(value, list):
        return [_simple(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: _simple(item) for key, item in value.items()}
    if isinstance(result.get("$ref"), str):
        reference = {"$ref": result.pop("$ref").replace("#/definitions/", _SCHEMAS)}
        # v3 ignores what stands beside a $ref.
        return {**result, "allOf": [reference]} if result else reference
    return result


def _path(path: Path) -> dict[str, Any]:
    item: dict[str, Any] = {operation.method: _operation(operation) for operation in path.operations}
    if path.parameters:
        item["parameters"] = [_parameter(operations.PATH[name], "path") for name in path.parameters]
    return item


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": parameter.name,
        "in": place,
        "description": parameter.description,
        "schema": {"type": parameter.type, "uniqueItems": True},
    }
    return {**result, "required": True} if place == "path" else result


def _operation(operation: Operation) -> dict[str, Any]:
    result: dict[str, Any] = {
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
    }
    if operation.query:
        result["parameters"] = [_parameter(operations.QUERY[name], "query") for name in operation.query]
    if operation.body:
        content = _content(operation.body, operation.consumes)
        result["requestBody"] = (
            {"content": content, "required": True} if operation.body_required else {"content": content}
        )
    answer = _content(operation.result, operation.produces)
    result["responses"] = {str(code): {"description": _MEANING[code], "content": answer} for code in operation.codes}
    result["responses"]["401"] = {"description": _MEANING[401]}
    result["x-kubernetes-action"] = operation.action
    result["x-kubernetes-group-version-kind"] = {
        "group": operation.group,
        "version": operation.version,
        "kind": operation.kind,
    }
    return result


_MEANING = {200: "OK", 201: "Created", 401: "Unauthorized"}


def _content(name: str, media_types: tuple[str, ...]) -> dict[str, Any]:
    content = {"schema": {"$ref": _SCHEMAS + name} if name else {"type": "string"}}
    return dict.fromkeys(media_types, content)
