"""The node's ip_forward: switched on for Pods, and off again when the last cluster that needs it is removed.

A table of nftables without content is the note that Podling switched it on. Like the setting it belongs to the network
namespace and ends with the machine's run, so it can neither be lost without the setting nor outlive it, and it passes
from one cluster to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from podling.network import nftables

_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_REDIRECTS = Path("/proc/sys/net/ipv4/conf/all/accept_redirects")
"""The kernel sets it to its defaults when ip_forward changes."""


def _note(redirects: str) -> str:
    return f"podling-forwarding-redirects-{redirects}"


_NOTES = {_note(value): value for value in ("0", "1")}


async def switch_on() -> None:
    """Have the node forward packets. Raises NetworkError, OSError."""
    if _read(_IP_FORWARD) == "1":
        return
    note = _note(_read(_REDIRECTS))
    await nftables.apply(f"add table ip {note}\n")
    _write(_IP_FORWARD, "1")


async def switch_back(others: Sequence[str]) -> str:
    """Restore what `switch_on` found, unless `others`, interfaces by name, may need forwarding by now.

    Return why it stays on, or "". Raises NetworkError, OSError.
    """
    for note, redirects in _NOTES.items():
        if not await nftables.exists(note):
            continue
        if others:
            named = ", ".join(others[:3]) + (" and others" if len(others) > 3 else "")
            return f"net.ipv4.ip_forward stays on, as {named} may need it; `sysctl -w net.ipv4.ip_forward=0` switches it off"
        _write(_IP_FORWARD, "0")
        _write(_REDIRECTS, redirects)
        await nftables.apply(f"delete table ip {note}\n")
    return ""


def _read(path: Path) -> str:
    return path.read_text().strip()


def _write(path: Path, value: str) -> None:
    path.write_text(value)
