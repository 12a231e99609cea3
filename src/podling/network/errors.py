"""What goes wrong in a Pod network."""

from __future__ import annotations

from podling.runtime.protocol import CRIError


class NetworkError(CRIError):
    """A network operation failed. `reason` is one of the CamelCase words below, `message` says what to do about it.

    AddressesExhausted, HostPortConflict, RangeOverlap, BridgeInUse, InvalidConfiguration, NetworkSetupFailed.
    """
