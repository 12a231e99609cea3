"""What goes wrong in a Pod network."""

from __future__ import annotations

from podling.runtime.protocol import CRIError


class NetworkError(CRIError):
    """A network operation failed. `reason` is one of the CamelCase words below, `message` says what to do about it.

    AddressesExhausted, HostPortConflict, RangeOverlap, BridgeInUse, InvalidConfiguration, NetworkSetupFailed.
    """


def reason(error: OSError) -> str:
    """Return what the system refused and why, in words: the file, if there is one, and no error number."""
    text = error.strerror or str(error)
    return f"{error.filename}: {text}" if error.filename else text
