"""JSON patch, RFC 6902."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec

from podling.api import coerce, status

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 << 20
"""Bytes of JSON that the `copy` operations of a patch may add: each may double what the one before it made."""


def apply(document: dict[str, Any], patch: Any) -> dict[str, Any]:
    """A patched copy of `document`. Raises ApiError: 400 for what is no JSON patch, 422 for one that does not fit."""
    # Imported when first needed: most servers never see a JSON patch.
    import jsonpatch
    import jsonpointer

    if not isinstance(patch, list):
        what = "null" if patch is None else coerce.json_type(patch)
        raise status.bad_request(
            f"error decoding patch: json: cannot unmarshal {what} into Go value of type jsonpatch.Patch"
        )
    for number, operation in enumerate(patch):
        if not isinstance(operation, dict):
            what = "null" if operation is None else coerce.json_type(operation)
            raise status.bad_request(
                f"error decoding patch: json: cannot unmarshal {what} into Go value of type jsonpatch.Operation"
            )
        try:
            jsonpatch.JsonPatch([operation])
        except (jsonpatch.InvalidJsonPatch, jsonpointer.JsonPointerException) as error:
            raise status.bad_request(f"error decoding patch: operation {number}: {error}") from error
        except TypeError as error:
            text = "its op, path and from must be strings"
            raise status.bad_request(f"error decoding patch: operation {number}: {text}") from error
    try:
        result: Any = deepcopy(document)
        copied = 0
        for operation in patch:
            if operation["op"] == "copy" and isinstance(operation.get("from"), str):
                copied += len(msgspec.json.encode(jsonpointer.resolve_pointer(result, operation["from"], None)))
                if copied > MAX_COPIED:
                    raise status.unprocessable(
                        "Unable to complete the copy, the accumulated size increase of copy is "
                        f"{copied}, exceeding the limit {MAX_COPIED}"
                    )
            result = jsonpatch.JsonPatch([operation]).apply(result, in_place=True)
    except RecursionError:
        raise status.bad_request(coerce.TOO_DEEP) from None
    except jsonpatch.JsonPatchTestFailed as error:
        raise status.unprocessable("a test of the patch failed") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
        raise status.unprocessable(str(error)) from error
    if not isinstance(result, dict):
        raise status.unprocessable("the patched document is no object")
    return result
