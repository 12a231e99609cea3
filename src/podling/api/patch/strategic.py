"""Strategic merge patch: a merge patch that knows which lists are sets or maps, and has directives.

Directives: `$patch: delete|replace` in a map or a list item, `$retainKeys: [...]` in a map, and beside a list `x`
`$deleteFromPrimitiveList/x: [...]` and `$setElementOrder/x: [...]`. How a list merges comes from the struct's fields.

Source of behaviour and messages: k8s.io/apimachinery/pkg/util/strategicpatch and mergepatch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podling.api import shape, status
from podling.api.coerce import TOO_DEEP
from podling.api.shape import Shape
from podling.api.status import ApiError
from podling.api.types import Merge, Object

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"

Document = dict[str, Any]

_UNTYPED = Shape(shape.ANY)
_NO_MERGE = Merge()


def apply(document: Document, patch: object, type_: type[Object]) -> Document:
    """A patched document of `type_`, sharing what did not change. Raises ApiError."""
    if not isinstance(patch, dict):
        raise status.bad_request("invalid JSON document")
    try:
        return _merge_map(document, patch, shape.of(type_))
    except RecursionError:
        raise status.bad_request(TOO_DEEP) from None


def _field(target: Shape, name: str) -> tuple[Shape, Merge]:
    """The shape of a member of a map or struct, and how it merges."""
    if target.kind == shape.STRUCT:
        assert target.struct is not None
        field = shape.fields(target.struct).get(name)
        return (field.shape, field.merge) if field else (_UNTYPED, _NO_MERGE)
    return target.item or _UNTYPED, _NO_MERGE


def _merge_map(original: Document, patch: Document, target: Shape) -> Document:
    if _DIRECTIVE in patch:
        directive = patch[_DIRECTIVE]
        if directive == "replace":
            return {name: value for name, value in patch.items() if name != _DIRECTIVE}
        if directive == "delete":
            return {}
        raise status.unexpected(f"unknown patch type: {_go(directive)} in map: {_go(patch)}")
    result = dict(original)
    pending = dict(patch)
    if _RETAIN_KEYS in pending:
        _retain_keys(result, pending)
    for name in [name for name in pending if name.startswith(_ORDER)]:
        _merge_in_order(result, pending, target, name)
    for name, value in pending.items():
        if name.startswith(_DELETE_FROM):
            _delete_from(result, _after_slash(name, _DELETE_FROM), value)
            continue
        if value is None:
            result.pop(name, None)
            continue
        inner, merge = _field(target, name)
        current = result.get(name)
        if isinstance(value, dict):
            if isinstance(current, dict) and "replace" not in merge.strategies:
                result[name] = _merge_map(current, value, inner)
            else:
                result[name] = _clean(value)
        elif isinstance(value, list):
            result[name] = _merge_list(current if isinstance(current, list) else None, value, inner, merge)
        else:
            result[name] = value
    return result


def _after_slash(name: str, prefix: str) -> str:
    head, slash, key = name.partition("/")
    if head != prefix or not slash:
        raise status.unexpected(f"unexpected format in patch key: {name}")
    return key


def _retain_keys(result: Document, patch: Document) -> None:
    """Drop from `result` what the directive does not list."""
    keep = patch.pop(_RETAIN_KEYS)
    if not isinstance(keep, list):
        raise status.bad_request("invalid patch format of retainKeys")
    for name, value in patch.items():
        if name.startswith("$") or value is None:
            continue
        if name not in keep:
            raise status.unexpected("patch content doesn't match retainKeys list")
    for name in [name for name in result if name not in keep]:
        del result[name]


def _delete_from(result: Document, name: str, values: object) -> None:
    if not isinstance(values, list):
        raise status.bad_request("invalid patch format of primitive list")
    current = result.get(name)
    if isinstance(current, list):
        doomed = {_frozen(value) for value in values}
        result[name] = [item for item in current if _frozen(item) not in doomed]


def _merge_in_order(result: Document, patch: Document, target: Shape, directive: str) -> None:
    """Merge one list and put its items into the order that the directive asks for."""
    order = patch.pop(directive)
    name = _after_slash(directive, _ORDER)
    if not isinstance(order, list):
        raise status.unexpected(f"expected a []interface {{}}, but received a {_go_type(order)}")
    inner, merge = _field(target, name)
    current, change = result.get(name), patch.get(name)
    for value in (current, change):
        if value is not None and not isinstance(value, list):
            raise status.unexpected(f"expected a []interface {{}}, but received a {_go_type(value)}")
    identity = _identity(merge.key)
    if change is not None:
        _check_order(change, order, identity)
        merged = _merge_list(current, change, inner, merge)
    elif current is not None:
        merged = current
    else:
        return
    patch.pop(name, None)
    ordered = {identity(item) for item in order}
    named = [item for item in merged if identity(item) in ordered]
    others = [item for item in merged if identity(item) not in ordered]
    result[name] = _interleave(named, others, order, _places(current or [], merged, identity), identity)


def _places(current: list[Any], merged: list[Any], identity: Callable[[Any], object]) -> list[Any]:
    """The order before the patch. As upstream has it, items that were added stand where items were deleted."""
    stood = {identity(item) for item in current}
    left = {identity(item) for item in merged}
    kept = [item for item in current if identity(item) in left]
    return (kept + [item for item in merged if identity(item) not in stood])[: len(current)]


def _check_order(change: list[Any], order: list[Any], identity: Callable[[Any], object]) -> None:
    """Every item of the patch has to stand in the order, and in the same sequence."""
    wanted = iter([identity(item) for item in order])
    for item in change:
        if isinstance(item, dict) and _DIRECTIVE in item:
            continue
        key = identity(item)
        if not any(key == other for other in wanted):
            text = f"The order in patch list:\n{_go(change)}\n doesn't match {_ORDER} list:\n{_go(order)}\n"
            raise status.unexpected(text)


def _identity(key: str) -> Callable[[Any], object]:
    """What tells one item of a list from another: its merge key, or the item itself without one."""

    def identity(item: Any) -> object:
        if not key or not isinstance(item, dict):
            return _frozen(item)
        if key not in item:
            raise _no_merge_key(item, key)
        return _frozen(item[key])

    return identity


def _frozen(value: Any) -> object:
    return (type(value) is bool, value) if isinstance(value, (bool, int, float, str)) else _go(value)


def _no_merge_key(item: Document, key: str) -> ApiError:
    return status.unexpected(f"map: {_go(item)} does not contain declared merge key: {key}")


def _merge_list(current: list[Any] | None, patch: list[Any], target: Shape, merge: Merge) -> list[Any]:
    if current is None or "merge" not in merge.strategies:
        return _clean_list(patch)
    if not current and not patch:
        return current
    kinds = {type(item) for item in (*current, *patch)}
    if len(kinds) > 1:
        names = " ".join(sorted({_go_type(item) for item in (*current, *patch)}))
        raise status.unexpected(f"list element types are not identical: [{names}]")
    if kinds == {list}:
        raise status.unprocessable("lists of lists are not supported")
    if kinds != {dict}:
        merged = list(dict.fromkeys((*current, *patch)))
        changed: list[Any] = patch
    else:
        if not merge.key:
            raise status.unexpected(f"cannot merge lists without merge key for {_go_name(target)}")
        kept, changed, replace = _special_items(current, patch, merge.key)
        if replace:
            return _clean_list(changed)
        merged = _merge_items(kept, changed, target.item or _UNTYPED, merge.key)
    identity = _identity(merge.key)
    touched = {identity(item) for item in changed}
    named = [item for item in merged if identity(item) in touched]
    others = [item for item in merged if identity(item) not in touched]
    return _interleave(named, others, changed, current, identity)


def _special_items(
    current: list[Document], patch: list[Document], key: str
) -> tuple[list[Document], list[Document], bool]:
    """What is left of a list and its patch after the items that are directives, and whether to replace the list."""
    changed: list[Document] = []
    doomed: set[object] = set()
    replace = False
    for item in patch:
        directive = item.get(_DIRECTIVE)
        if _DIRECTIVE not in item:
            changed.append(item)
        elif directive == "delete":
            if key not in item:
                raise _no_merge_key(item, key)
            doomed.add(_frozen(item[key]))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise status.unexpected("merging lists cannot yet be specified in the patch")
        else:
            raise status.unexpected(f"unknown patch type: {_go(directive)} in map: {_go(item)}")
    kept = [item for item in current if _frozen(item.get(key)) not in doomed] if doomed else current
    return kept, changed, replace


def _merge_items(current: list[Document], patch: list[Document], target: Shape, key: str) -> list[Document]:
    result = list(current)
    place: dict[object, int] = {}
    for i, item in enumerate(result):
        place.setdefault(_frozen(item.get(key)), i)
    for item in patch:
        if key not in item:
            raise _no_merge_key(item, key)
        i = place.setdefault(_frozen(item[key]), len(result))
        if i < len(result):
            result[i] = _merge_map(result[i], item, target)
        else:
            result.append(_clean(item))
    return result


def _interleave(
    named: list[Any], others: list[Any], order: list[Any], before: list[Any], identity: Callable[[Any], object]
) -> list[Any]:
    """`named` items in the given order, `others` as they stood `before`; new items before what they displace."""
    place = {identity(item): i for i, item in reversed(list(enumerate(order)))}
    stood = {identity(item): i for i, item in reversed(list(enumerate(before)))}
    right = sorted(named, key=lambda item: place.get(identity(item), len(order)))
    left = sorted(others, key=lambda item: stood.get(identity(item), len(before)))
    result: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = stood.get(identity(left[i])), stood.get(identity(right[j]))
        if a is not None and b is not None and a < b:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]


def _clean(value: Any) -> Any:
    """A value of a patch as it is stored: without directives and nulls."""
    if isinstance(value, list):
        return _clean_list(value)
    if not isinstance(value, dict):
        return value
    if value.get(_DIRECTIVE) == "delete":
        return {}
    return {
        name: _clean(item)
        for name, item in value.items()
        if item is not None and name not in (_DIRECTIVE, _RETAIN_KEYS) and not name.startswith((_ORDER, _DELETE_FROM))
    }


def _clean_list(values: list[Any]) -> list[Any]:
    return [_clean(item) for item in values if not (isinstance(item, dict) and _DIRECTIVE in item)]


def _go(value: object) -> str:
    """A value as Go's %v prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{name}:{_go(value[name])}' for name in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    return str(value)


def _go_type(value: object) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    return "string" if isinstance(value, str) else "<nil>"


def _go_name(target: Shape) -> str:
    struct = target.item.struct if target.item else None
    return f"v1.{struct.__name__}" if struct else "interface {}"
