"""Plain documents as Go's decoder would read them: mended where it is lenient, refused in its words where it is not.

Source of the behaviour: sigs.k8s.io/json (encoding/json, case-sensitive) and the UnmarshalJSON methods of Time,
MicroTime, Quantity and IntOrString. A mistake in one of these four ends decoding at once; other mistakes are reported
after the whole document was read, the first of them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from podling.api import shape
from podling.api.core.v1 import Volume
from podling.api.go import quote, quote_time
from podling.api.quantity import Quantity
from podling.api.shape import Shape

# What upstream says of nesting that its decoder does not follow.
TOO_DEEP = "exceeded max depth"


class DecodeError(ValueError):
    """The document does not fit its type. The text is that of upstream's decoder: `json: cannot unmarshal ...`.

    The API server puts before it how the body names itself: `Pod in version "v1" cannot be handled as a Pod: `.
    """


class _Abort(Exception):
    pass


def coerce(document: object, type_: Any) -> Any:
    """`document` without nulls, times in UTC, base64 in one line. Raises DecodeError for the first mistake."""
    target = shape.of(type_)
    walk = _Walk()
    try:
        mended = walk.value(_zero(target) if document is None else document, target)
    except _Abort as error:
        raise DecodeError(str(error)) from None
    if walk.first:
        raise DecodeError(walk.first)
    return mended


# Go's names of string types, by field: "cannot unmarshal number into Go struct field ... of type v1.RestartPolicy".
_NAMED_STRINGS = {
    "AppArmorProfile.type": "v1.AppArmorProfileType",
    "Capabilities.add": "v1.Capability",
    "Capabilities.drop": "v1.Capability",
    "Container.imagePullPolicy": "v1.PullPolicy",
    "Container.restartPolicy": "v1.ContainerRestartPolicy",
    "Container.terminationMessagePolicy": "v1.TerminationMessagePolicy",
    "ContainerPort.protocol": "v1.Protocol",
    "ContainerResizePolicy.resourceName": "v1.ResourceName",
    "ContainerResizePolicy.restartPolicy": "v1.ResourceResizeRestartPolicy",
    "EmptyDirVolumeSource.medium": "v1.StorageMedium",
    "EndpointPort.protocol": "v1.Protocol",
    "EphemeralContainer.imagePullPolicy": "v1.PullPolicy",
    "EphemeralContainer.restartPolicy": "v1.ContainerRestartPolicy",
    "EphemeralContainer.terminationMessagePolicy": "v1.TerminationMessagePolicy",
    "HTTPGetAction.scheme": "v1.URIScheme",
    "HostPathVolumeSource.type": "v1.HostPathType",
    "ImageVolumeSource.pullPolicy": "v1.PullPolicy",
    "LabelSelectorRequirement.operator": "v1.LabelSelectorOperator",
    "LeaseSpec.strategy": "v1.CoordinatedLeaseStrategy",
    "Lifecycle.stopSignal": "v1.Signal",
    "LimitRangeItem.type": "v1.LimitType",
    "ManagedFieldsEntry.operation": "v1.ManagedFieldsOperationType",
    "NamespaceSpec.finalizers": "v1.FinalizerName",
    "NamespaceStatus.phase": "v1.NamespacePhase",
    "NodeAddress.type": "v1.NodeAddressType",
    "NodeCondition.status": "v1.ConditionStatus",
    "NodeCondition.type": "v1.NodeConditionType",
    "NodeSelectorRequirement.operator": "v1.NodeSelectorOperator",
    "ObjectMeta.uid": "types.UID",
    "ObjectReference.uid": "types.UID",
    "OwnerReference.uid": "types.UID",
    "PersistentVolumeClaimSpec.accessModes": "v1.PersistentVolumeAccessMode",
    "PersistentVolumeClaimSpec.volumeMode": "v1.PersistentVolumeMode",
    "PersistentVolumeSpec.accessModes": "v1.PersistentVolumeAccessMode",
    "PersistentVolumeSpec.persistentVolumeReclaimPolicy": "v1.PersistentVolumeReclaimPolicy",
    "PersistentVolumeSpec.volumeMode": "v1.PersistentVolumeMode",
    "PodCondition.status": "v1.ConditionStatus",
    "PodCondition.type": "v1.PodConditionType",
    "PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy": "v1.UnhealthyPodEvictionPolicyType",
    "PodOS.name": "v1.OSName",
    "PodReadinessGate.conditionType": "v1.PodConditionType",
    "PodSecurityContext.fsGroupChangePolicy": "v1.PodFSGroupChangePolicy",
    "PodSecurityContext.supplementalGroupsPolicy": "v1.SupplementalGroupsPolicy",
    "PodSpec.dnsPolicy": "v1.DNSPolicy",
    "PodSpec.preemptionPolicy": "v1.PreemptionPolicy",
    "PodSpec.restartPolicy": "v1.RestartPolicy",
    "PodStatus.phase": "v1.PodPhase",
    "PodStatus.qosClass": "v1.PodQOSClass",
    "PodStatus.resize": "v1.PodResizeStatus",
    "PriorityClass.preemptionPolicy": "v1.PreemptionPolicy",
    "ResourceQuotaSpec.scopes": "v1.ResourceQuotaScope",
    "ScopedResourceSelectorRequirement.operator": "v1.ScopeSelectorOperator",
    "ScopedResourceSelectorRequirement.scopeName": "v1.ResourceQuotaScope",
    "SeccompProfile.type": "v1.SeccompProfileType",
    "Secret.type": "v1.SecretType",
    "ServicePort.protocol": "v1.Protocol",
    "ServiceSpec.externalTrafficPolicy": "v1.ServiceExternalTrafficPolicy",
    "ServiceSpec.internalTrafficPolicy": "v1.ServiceInternalTrafficPolicy",
    "ServiceSpec.ipFamilies": "v1.IPFamily",
    "ServiceSpec.ipFamilyPolicy": "v1.IPFamilyPolicy",
    "ServiceSpec.sessionAffinity": "v1.ServiceAffinity",
    "ServiceSpec.type": "v1.ServiceType",
    "Taint.effect": "v1.TaintEffect",
    "Toleration.effect": "v1.TaintEffect",
    "Toleration.operator": "v1.TolerationOperator",
    "TopologySpreadConstraint.nodeAffinityPolicy": "v1.NodeInclusionPolicy",
    "TopologySpreadConstraint.nodeTaintsPolicy": "v1.NodeInclusionPolicy",
    "TopologySpreadConstraint.whenUnsatisfiable": "v1.UnsatisfiableConstraintAction",
    "VolumeMount.mountPropagation": "v1.MountPropagationMode",
    "VolumeMount.recursiveReadOnly": "v1.RecursiveReadOnlyMode",
}
# Structs that another one embeds in Go: the decoder names them in the paths of their fields.
_NAME_OF_OBJECT = ("LocalObjectReference", frozenset({"name"}))
_EMBEDDED = {
    "ConfigMapEnvSource": _NAME_OF_OBJECT,
    "ConfigMapKeySelector": _NAME_OF_OBJECT,
    "ConfigMapProjection": _NAME_OF_OBJECT,
    "ConfigMapVolumeSource": _NAME_OF_OBJECT,
    "Probe": ("ProbeHandler", frozenset({"exec", "grpc", "httpGet", "tcpSocket"})),
    "SecretEnvSource": _NAME_OF_OBJECT,
    "SecretKeySelector": _NAME_OF_OBJECT,
    "SecretProjection": _NAME_OF_OBJECT,
    "Volume": ("VolumeSource", frozenset(shape.fields(Volume)) - {"name"}),
}
_GO = {
    shape.STRING: "string",
    shape.BYTES: "[]uint8",
    shape.BOOLEAN: "bool",
    shape.INT32: "int32",
    shape.INT64: "int64",
    shape.FLOAT: "float64",
    shape.QUANTITY: "resource.Quantity",
    shape.TIME: "v1.Time",
    shape.MICRO_TIME: "v1.MicroTime",
    shape.INT_OR_STRING: "intstr.IntOrString",
    shape.ANY: "interface {}",
}
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_LIMITS = {shape.INT32: 2**31, shape.INT64: 2**63}


def _go_type(target: Shape) -> str:
    if target.kind == shape.STRUCT:
        assert target.struct is not None
        return f"v1.{target.struct.__name__}"
    if target.item is None:
        return _GO[target.kind]
    if target.kind == shape.LIST:
        return f"[]{_go_type(target.item)}"
    return "v1.ResourceList" if target.item.kind == shape.QUANTITY else f"map[string]{_go_type(target.item)}"


def json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


class _Walk:
    """One pass over a document. `first` is the first mistake that does not end decoding."""

    def __init__(self) -> None:
        self.first = ""
        self.path: list[str] = []
        self.owner = ""

    def mismatch(self, what: str, go_type: str) -> str:
        if self.path:
            at = f"Go struct field {self.owner}.{'.'.join(self.path)}"
            named = _NAMED_STRINGS.get(f"{self.owner}.{self.path[-1]}")
            if named and go_type in ("string", "[]string"):
                go_type = go_type.replace("string", named)
        else:
            at = "Go value"
        return f"json: cannot unmarshal {what} into {at} of type {go_type}"

    def note(self, value: object, target: Shape, literal: bool = False) -> None:
        what = json_type(value)
        if literal and what == "number":
            what = f"number {value}"
        self.remember(self.mismatch(what, _go_type(target)))

    def remember(self, message: str) -> None:
        self.first = self.first or message

    def value(self, value: Any, target: Shape) -> Any:
        match target.kind:
            case "struct":
                return self.struct(value, target)
            case "list":
                return self.list(value, target)
            case "map":
                return self.map(value, target)
            case "string":
                if not isinstance(value, str):
                    self.note(value, target)
            case "boolean":
                if not isinstance(value, bool):
                    self.note(value, target)
            case "int32" | "int64":
                limit = _LIMITS[target.kind]
                if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
                    self.note(value, target, literal=True)
            case "float64":
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    self.note(value, target)
            case "bytes":
                return self.bytes(value, target)
            case "quantity":
                return self.quantity(value)
            case "time" | "micro-time":
                return self.time(value, micro=target.kind == shape.MICRO_TIME)
            case "int-or-string":
                self.int_or_string(value)
        return value

    def struct(self, value: Any, target: Shape) -> Any:
        if not isinstance(value, dict):
            self.note(value, target)
            return {}
        assert target.struct is not None
        known = shape.fields(target.struct)
        owner, self.owner = self.owner, target.struct.__name__
        mended = {}
        for name, item in value.items():
            field = known.get(name)
            if field is None or item is None:
                continue
            embedded, names = _EMBEDDED.get(self.owner, ("", ()))
            depth = len(self.path)
            self.path += [embedded, name] if name in names else [name]
            mended[name] = self.value(item, field.shape)
            del self.path[depth:]
            self.owner = target.struct.__name__
        self.owner = owner
        return mended

    def list(self, value: Any, target: Shape) -> Any:
        if not isinstance(value, list):
            self.note(value, target)
            return []
        assert target.item is not None
        return [_zero(target.item) if item is None else self.value(item, target.item) for item in value]

    def map(self, value: Any, target: Shape) -> Any:
        if not isinstance(value, dict):
            self.note(value, target)
            return {}
        assert target.item is not None
        inner = target.item
        return {key: _zero(inner) if item is None else self.value(item, inner) for key, item in value.items()}

    def bytes(self, value: Any, target: Shape) -> Any:
        if isinstance(value, list):
            return self.byte_list(value)
        if not isinstance(value, str):
            self.note(value, target)
            return ""
        if (position := _bad_base64(value)) >= 0:
            self.remember(f"illegal base64 data at input byte {position}")
            return ""
        return base64.b64encode(base64.b64decode(value)).decode()

    def byte_list(self, values: Sequence[Any]) -> str:
        """Return the base64 of bytes that the document holds as a list of numbers, which Go accepts as well."""
        read = []
        for value in values:
            if value is None:
                read.append(0)
            elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 256:
                read.append(value)
            else:
                what = json_type(value)
                self.remember(self.mismatch(f"number {value}" if what == "number" else what, "uint8"))
        return base64.b64encode(bytearray(read)).decode()

    def quantity(self, value: Any) -> Any:
        text = value.strip() if isinstance(value, str) else json.dumps(value)
        try:
            return str(Quantity(text))
        except ValueError as error:
            raise _Abort(str(error)) from None

    def time(self, value: Any, *, micro: bool) -> str:
        if not isinstance(value, str):
            raise _Abort(self.mismatch(json_type(value), "string"))
        return _to_utc(value, micro=micro)

    def int_or_string(self, value: Any) -> None:
        if isinstance(value, str):
            return
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
            what = json_type(value)
            raise _Abort(self.mismatch(f"number {value}" if what == "number" else what, "int32"))


def _zero(target: Shape) -> Any:
    """What Go keeps for a null inside a list or map."""
    match target.kind:
        case "struct" | "map":
            return {}
        case "list":
            return []
        case "boolean":
            return False
        case "int32" | "int64" | "float64" | "quantity" | "int-or-string":
            return 0
        case "any":
            return None
    return ""


def _bad_base64(text: str) -> int:
    """Where Go's decoder stops, -1 where it does not."""
    digits = position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char in _BASE64:
            digits = (digits + 1) % 4
        elif char == "=":
            if digits < 2:
                return position - 1
            if digits == 2:
                position = _skip_breaks(text, position)
                if position == len(text):
                    return position
                if text[position] != "=":
                    return position - 1
                position += 1
            position = _skip_breaks(text, position)
            return position if position < len(text) else -1
        elif char not in "\r\n":
            return position - 1
    return position - digits if digits else -1


def _skip_breaks(text: str, position: int) -> int:
    while position < len(text) and text[position] in "\r\n":
        position += 1
    return position


# The elements of Go's layout "2006-01-02T15:04:05Z07:00" in order, each with the pattern that satisfies it.
_ELEMENTS = [
    ("2006", r"\d{4}"),
    ("-", "-"),
    ("01", r"\d\d"),
    ("-", "-"),
    ("02", r"\d\d"),
    ("T", "T"),
    ("15", r"\d\d?"),
    (":", ":"),
    ("04", r"\d\d"),
    (":", ":"),
    ("05", r"\d\d"),
]
_FRACTION = re.compile(r"[.,](\d+)", re.ASCII)
_ZONE = re.compile(r"Z|([+-])(\d\d):(\d\d)", re.ASCII)


def to_utc(text: str) -> str:
    """Return an RFC 3339 time in UTC and whole seconds. Raises DecodeError with the message of Go's time.Parse."""
    try:
        return _to_utc(text, micro=False)
    except _Abort as error:
        raise DecodeError(str(error)) from None


def _to_utc(text: str, *, micro: bool) -> str:
    """An RFC 3339 time in UTC. Raises _Abort with the message of Go's time.Parse."""
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    prefix = f"parsing time {quote_time(text)}"

    def fail(position: int, element: str) -> _Abort:
        return _Abort(f"{prefix} as {quote(layout)}: cannot parse {quote_time(text[position:])} as {quote(element)}")

    position = 0
    numbers = []
    for element, pattern in _ELEMENTS:
        match = re.compile(pattern, re.ASCII).match(text, position)
        if match is None:
            raise fail(position, element)
        if element not in "-T:":
            numbers.append(int(match[0]))
        position = match.end()
    fraction = _FRACTION.match(text, position)
    if micro and (fraction is None or len(fraction[1]) != 6):
        raise fail(position, ".000000")
    if fraction:
        position = fraction.end()
    zone = _ZONE.match(text, position)
    if zone is None:
        raise fail(position, "Z07:00")
    if zone.end() != len(text):
        raise _Abort(f"{prefix}: extra text: {quote_time(text[zone.end() :])}")
    year, month, day, hour, minute, second = numbers
    for name, value, low, high in (
        ("month", month, 1, 12),
        ("hour", hour, 0, 23),
        ("minute", minute, 0, 59),
        ("second", second, 0, 59),
    ):
        if not low <= value <= high:
            raise _Abort(f"{prefix}: {name} out of range")
    seconds = 0
    if zone[1]:
        seconds = (int(zone[2]) * 60 + int(zone[3])) * 60 * (-1 if zone[1] == "+" else 1)
    micros = int(fraction[1]) if fraction and micro else 0
    try:
        moment = datetime(year, month, day, hour, minute, second, micros, UTC)
        moment = datetime.fromtimestamp(moment.timestamp() + seconds, UTC).replace(microsecond=micros)
    except (ValueError, OverflowError):
        raise _Abort(f"{prefix}: day out of range") from None
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
    return text.zfill(27 if micro else 20)  # %Y has no leading zeros


_SYNTAX = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
}


def syntax_error(data: bytes | str) -> str:
    """Go's words for what is wrong with the JSON, empty where nothing is."""
    try:
        text = data if isinstance(data, str) else data.decode()
        json.loads(text)
    except json.JSONDecodeError as error:
        rest = error.doc[error.pos :].lstrip()
        if not rest or error.msg.startswith("Unterminated string"):
            return "unexpected end of JSON input"
        where = _SYNTAX.get(error.msg, "")
        if error.msg == "Expecting ',' delimiter":
            where = "after object key:value pair" if _in_object(error.doc[: error.pos]) else "after array element"
        if error.msg.startswith("Invalid control character"):
            where = "in string literal"
        elif "escape" in error.msg:
            rest = error.doc[error.pos + 1 :] or rest
            where = "in string escape code"
        char = "'\\''" if rest[0] == "'" else f"'{quote(rest[0])[1:-1]}'" if rest[0] != '"' else "'\"'"
        return f"invalid character {char} {where}".rstrip()
    except RecursionError:
        return TOO_DEEP
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start}"
    return ""


def _in_object(text: str) -> bool:
    """Whether the innermost bracket that is open at the end of `text` is that of an object."""
    stack = []
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if token[0] in "[{":
            stack.append(token[0])
        elif token[0] in "]}" and stack:
            stack.pop()
    return bool(stack) and stack[-1] == "{"
