"""Generate src/podling/apiserver/openapi/schemas.json.gz: the schemas of the API types, with their descriptions.

Run it by hand after changing generate_api.py: `.venv/bin/python -m tools.generate_openapi`. The definitions come from
the PyPI package kubernetes-validate (Apache-2.0), a development dependency; the product reads only the file made here.

The file holds definitions in the form of OpenAPI v2, by name: what podling/api has types for.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from tools.generate_api import GROUPS, META, load

OUT = Path(__file__).parent.parent / "src" / "podling" / "apiserver" / "openapi" / "schemas.json.gz"
APIMACHINERY = "io.k8s.apimachinery.pkg."

# The JSON schemas say only what is valid, without a description or the type that OpenAPI v2 knows them by.
SCALARS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "description": "An integer or a string, such as a port's number or name, or a count or a percentage.",
        "format": "int-or-string",
        "type": "string",
    },
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "description": "An amount: a number with a decimal (m, k, M, G, T, P, E) or binary suffix (Ki, Mi, Gi, Ti, Pi, Ei)"
        " or an exponent, such as 500m, 1.5, 64Mi, 1e3.",
        "type": "string",
    },
}


def definition(schema: dict[str, Any]) -> dict[str, Any]:
    """A definition as OpenAPI v2 has it."""
    result: dict[str, Any] = simple(schema)
    kinds = result.get("x-kubernetes-group-version-kind")
    if kinds and len(kinds) > 1:  # options that every group knows; one is enough to find them
        result["x-kubernetes-group-version-kind"] = [kind for kind in kinds if kind["group"] == ""]
    for name in ("apiVersion", "kind"):
        result.get("properties", {}).get(name, {}).pop("enum", None)
    return result


def simple(value: Any) -> Any:
    """Without what JSON schema adds for validators: null as a type, references to its own place for definitions."""
    if isinstance(value, list):
        return [simple(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: simple(item) for key, item in value.items()}
    if isinstance(result.get("type"), list):
        (result["type"],) = (name for name in result["type"] if name != "null")
    if isinstance(result.get("$ref"), str):
        result["$ref"] = result["$ref"].replace("#/$defs/", "#/definitions/")
    return result


def definitions() -> dict[str, dict[str, Any]]:
    prefixes = (APIMACHINERY, *(prefix for _, prefix in GROUPS.values()))
    found = {
        name: SCALARS.get(name) or definition(schema)
        for name, schema in sorted(load().items())
        if name.startswith(prefixes) and not name.startswith(META + "Table")
    }
    return found


def render() -> bytes:
    """The file's content; the same for the same input."""
    text = json.dumps(definitions(), ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), 9, mtime=0)


if __name__ == "__main__":
    OUT.write_bytes(render())
    print(f"{OUT.name}: {OUT.stat().st_size >> 10} KiB")
