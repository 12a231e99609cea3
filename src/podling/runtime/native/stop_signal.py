"""Names of signals as images and Pods write them: "SIGTERM", "TERM", "15", "SIGRTMIN+3"."""

from __future__ import annotations

import signal

from podling.runtime.protocol import CRIError


def number_of(name: str) -> int:
    """Raises CRIError for a name that no signal has."""
    text = name.upper()
    if text.isascii() and text.isdecimal() and len(text) < 4 and 0 < int(text) < signal.NSIG:
        return int(text)
    text = text if text.startswith("SIG") else "SIG" + text
    base, sign, offset = text, 1, ""
    for separator in "+-":
        if text.startswith("SIGRTM") and separator in text:
            base, _, offset = text.partition(separator)
            sign = 1 if separator == "+" else -1
    try:
        number = int(signal.Signals[base]) + sign * int(offset or 0)
    except (KeyError, ValueError):
        number = 0
    if not 0 < number < signal.NSIG:
        raise CRIError("InvalidSignal", f"unknown signal {name}")
    return number


def canonical(name: str) -> str:
    """The name that Kubernetes has for it: "15" is SIGTERM. Raises CRIError."""
    number = number_of(name)
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
