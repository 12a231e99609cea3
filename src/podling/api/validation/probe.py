"""Probes, lifecycle hooks and their handlers, and the stop signal."""

from __future__ import annotations

from podling.api import field, names
from podling.api.core.v1 import HTTPGetAction, Lifecycle, LifecycleHandler, PodOS, Probe
from podling.api.field import FieldError, Path
from podling.api.validation import meta
from podling.api.validation.ports import port_number, port_number_or_name

_SCHEMES = ("HTTP", "HTTPS")
_WINDOWS_SIGNALS = ("SIGKILL", "SIGTERM")
_NAMED_SIGNALS = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP "
    "TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
)
LINUX_SIGNALS = tuple(
    sorted(
        [f"SIG{name}" for name in _NAMED_SIGNALS.split()]
        + [f"SIGRTMIN+{i}" for i in range(1, 16)]
        + [f"SIGRTMAX-{i}" for i in range(1, 15)]
    )
)


def _http_get(action: HTTPGetAction, path: Path, errors: list[FieldError]) -> None:
    if not action.path:
        errors.append(field.required(path.child("path"), ""))
    port_number_or_name(action.port, path.child("port"), errors)
    if action.scheme not in _SCHEMES:
        errors.append(field.not_supported(path.child("scheme"), action.scheme, _SCHEMES))
    for header in action.http_headers:
        errors.extend(
            field.invalid(path.child("httpHeaders"), header.name, message)
            for message in names.http_header_name(header.name)
        )


def _handler(handler: Probe | LifecycleHandler, grace_period: int | None, path: Path, errors: list[FieldError]) -> None:
    count = 0

    def first(name: str) -> bool:
        nonlocal count
        count += 1
        if count > 1:
            errors.append(field.forbidden(path.child(name), "may not specify more than 1 handler type"))
        return count == 1

    if handler.exec is not None and first("exec") and not handler.exec.command:
        errors.append(field.required(path.child("exec").child("command"), ""))
    if handler.http_get is not None and first("httpGet"):
        _http_get(handler.http_get, path.child("httpGet"), errors)
    if handler.tcp_socket is not None and first("tcpSocket"):
        port_number_or_name(handler.tcp_socket.port, path.child("tcpSocket").child("port"), errors)
    if isinstance(handler, Probe):
        if handler.grpc is not None and first("grpc"):
            port_number(handler.grpc.port, path.child("grpc").child("port"), errors)
    elif handler.sleep is not None and first("sleep"):
        seconds = handler.sleep.seconds
        if grace_period is not None and not 0 <= seconds <= grace_period:
            message = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
            errors.append(field.invalid(path.child("sleep"), seconds, message))
    if count == 0:
        errors.append(field.required(path, "must specify a handler type"))


def _probe(probe: Probe, grace_period: int | None, path: Path, errors: list[FieldError]) -> None:
    _handler(probe, grace_period, path, errors)
    meta.nonnegative(probe.initial_delay_seconds, path.child("initialDelaySeconds"), errors)
    meta.nonnegative(probe.timeout_seconds, path.child("timeoutSeconds"), errors)
    meta.nonnegative(probe.period_seconds, path.child("periodSeconds"), errors)
    meta.nonnegative(probe.success_threshold, path.child("successThreshold"), errors)
    meta.nonnegative(probe.failure_threshold, path.child("failureThreshold"), errors)
    grace = probe.termination_grace_period_seconds
    if grace is not None and grace <= 0:
        errors.append(field.invalid(path.child("terminationGracePeriodSeconds"), grace, "must be greater than 0"))


def liveness_or_startup_probe(
    probe: Probe | None, grace_period: int | None, path: Path, errors: list[FieldError]
) -> None:
    if probe is None:
        return
    _probe(probe, grace_period, path, errors)
    if probe.success_threshold != 1:
        errors.append(field.invalid(path.child("successThreshold"), probe.success_threshold or 0, "must be 1"))


def readiness_probe(probe: Probe | None, grace_period: int | None, path: Path, errors: list[FieldError]) -> None:
    if probe is None:
        return
    _probe(probe, grace_period, path, errors)
    grace = probe.termination_grace_period_seconds
    if grace is not None:
        message = "must not be set for readinessProbes"
        errors.append(field.invalid(path.child("terminationGracePeriodSeconds"), grace, message))


def lifecycle(
    hooks: Lifecycle, grace_period: int | None, os: PodOS | None, path: Path, errors: list[FieldError]
) -> None:
    if hooks.post_start is not None:
        _handler(hooks.post_start, grace_period, path.child("postStart"), errors)
    if hooks.pre_stop is not None:
        _handler(hooks.pre_stop, grace_period, path.child("preStop"), errors)
    signal = hooks.stop_signal
    if signal is None:
        return
    at = path.child("stopSignal")
    if os is None:
        errors.append(field.forbidden(at, "may not be set for containers with empty `spec.os.name`"))
    elif os.name == "windows":
        if signal not in _WINDOWS_SIGNALS:
            errors.append(field.not_supported(at, signal, _WINDOWS_SIGNALS))
    elif os.name == "linux" and signal not in LINUX_SIGNALS:
        errors.append(field.not_supported(at, signal, LINUX_SIGNALS))
