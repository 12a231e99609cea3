"""OpenAPI v2 (Swagger): one document for everything, as JSON or as gnostic's protobuf."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api.scheme import SERVED
from podling.apiserver import version
from podling.apiserver.openapi import operations, schemas
from podling.apiserver.openapi.operations import Operation, Parameter, Path
from podling.apiserver.openapi.v3 import references

_DEFINITIONS = "#/definitions/"
_MEANING = {200: "OK", 201: "Created", 401: "Unauthorized"}


def _all_paths() -> list[Path]:
    versions = dict.fromkeys((resource.group, resource.version) for resource in SERVED)
    return [path for group, version in versions for path in operations.paths(group, version)]


def paths() -> dict[str, Any]:
    return {path.path: _path(path) for path in _all_paths()}


def document() -> dict[str, Any]:
    """The whole document; its definitions are JSON already (msgspec.Raw)."""
    found = schemas.with_dependencies(references(_all_paths()))
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version.git_version()},
        "paths": paths(),
        "definitions": {name: msgspec.Raw(raw) for name, raw in found.items()},
        "parameters": {name: _parameter(item, "query") for name, item in operations.QUERY.items()},
    }


def render() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document())


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
        "type": parameter.type,
        "uniqueItems": True,
    }
    return {**result, "required": True} if place == "path" else result


def _operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    if operation.body:
        body: dict[str, Any] = {"name": "body", "in": "body", "schema": {"$ref": _DEFINITIONS + operation.body}}
        parameters.append({**body, "required": True} if operation.body_required else body)
    parameters += [{"$ref": f"#/parameters/{name}"} for name in operation.query]
    answer = {"$ref": _DEFINITIONS + operation.result} if operation.result else {"type": "string"}
    responses: dict[str, Any] = {
        str(code): {"description": _MEANING[code], "schema": answer} for code in operation.codes
    }
    result = {
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "consumes": list(operation.consumes),
        "produces": list(operation.produces),
        "parameters": parameters,
        "responses": {**responses, "401": {"description": _MEANING[401]}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {
            "group": operation.group,
            "version": operation.version,
            "kind": operation.kind,
        },
    }
    if not parameters:
        del result["parameters"]
    return result
