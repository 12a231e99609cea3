"""What a container says of its end: its termination message file, or the end of its log.

Source: Kubernetes documentation "Determine the Reason for Pod Failure" (limits: 4096 bytes; of a log 2048 bytes or 80 lines).
"""

from __future__ import annotations

from pathlib import Path

from podling.kubelet.container_config import TERMINATION_PATH, TERMINATION_POLICY
from podling.runtime import shortage
from podling.runtime.protocol import ContainerStatus

_MAX_MESSAGE = 4096
_MAX_LOG = 2048
_MAX_LOG_LINES = 80


def termination_message(status: ContainerStatus) -> str:
    """Return the message of an exited container, or "" when there is none; of a long one the end, as upstream does.

    Reads files. Raises OSError when the machine is too short of something to read them now.
    """
    path = status.annotations.get(TERMINATION_PATH, "")
    message = ""
    if path:
        try:
            with Path(path).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _MAX_MESSAGE))
                message = file.read(_MAX_MESSAGE).decode("utf-8", "replace")
        except OSError as error:
            if shortage.passes(error):
                raise
    policy = status.annotations.get(TERMINATION_POLICY, "")
    if not message and status.exit_code != 0 and policy == "FallbackToLogsOnError" and status.log_path:
        message = _log_end(Path(status.log_path))
    return message


def _log_end(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 64 * 1024))
            raw = file.read().split(b"\n")
    except OSError as error:
        if shortage.passes(error):
            raise
        return ""
    if size > 64 * 1024:
        raw = raw[1:]
    texts = [line.split(b" ", 3) for line in raw]
    lines = [parts[3] + (b"\n" if parts[2].startswith(b"F") else b"") for parts in texts if len(parts) == 4]
    return b"".join(lines[-_MAX_LOG_LINES:])[-_MAX_LOG:].decode("utf-8", "replace")
