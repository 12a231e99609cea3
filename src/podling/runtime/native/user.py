"""The user and groups of a container's first process, looked up in the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from podling.runtime.native import syscalls
from podling.runtime.protocol import ContainerSecurity, CRIError

_MAX_FILE = 1 << 20
"""Bytes read of a passwd or group file: an image cannot make the agent read without end."""
_MAX_ID = 2**31 - 1
_MAX_DIGITS = 20


class User(Struct, frozen=True):
    uid: int
    gid: int
    groups: list[int]
    """Supplementary groups, the primary one among them, as other runtimes set them."""
    home: str


class _Account(Struct):
    name: str
    uid: int
    gid: int
    home: str


def resolve(root: Path, image_user: str, security: ContainerSecurity) -> User:
    """The identity that `security` asks for, over the image's USER ("", "1000", "redis", "1000:1000", "redis:users").

    Raises CRIError when a name is not known in the image, or when one of the files cannot be read.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        accounts = list(_accounts(root_fd))
        groups = list(_groups(root_fd))
    finally:
        os.close(root_fd)

    user, _, group = image_user.partition(":")
    if security.run_as_user is not None:
        user, group = str(security.run_as_user), ""
    elif security.run_as_username:
        user, group = security.run_as_username, ""

    account = next((a for a in accounts if a.name == user), None) if user else None
    if account is None and (uid := _number(user or "0")) is not None:
        account = next((a for a in accounts if a.uid == uid), _Account("", uid, 0, "/"))
    if account is None:
        raise CRIError("CreateContainerError", f"unable to find user {user}: no matching entries in passwd file")

    gid = account.gid
    if security.run_as_group is not None:
        gid = security.run_as_group
    elif group:
        gid = next((number for name, number, _ in groups if name == group), -1)
        if gid < 0 and (number := _number(group)) is not None:
            gid = number
        if gid < 0:
            raise CRIError("CreateContainerError", f"unable to find group {group}: no matching entries in group file")
    if account.uid > _MAX_ID or gid > _MAX_ID:
        raise CRIError("CreateContainerError", "uids and gids must be in range 0-2147483647")

    additional = [gid]
    if security.supplemental_groups_policy != "Strict" and account.name:
        additional += [number for _, number, members in groups if account.name in members]
    additional += security.supplemental_groups
    return User(account.uid, gid, list(dict.fromkeys(additional)), account.home or "/")


def _accounts(root_fd: int) -> Iterator[_Account]:
    for fields in _rows(root_fd, "/etc/passwd", 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, fields[5])


def _groups(root_fd: int) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _rows(root_fd, "/etc/group", 4):
        if (gid := _number(fields[2])) is not None:
            yield fields[0], gid, fields[3].split(",")


def _number(text: str) -> int | None:
    """An image may hold anything, also numbers of thousands of digits, which Python refuses."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _rows(root_fd: int, path: str, length: int) -> Iterator[list[str]]:
    for line in _text(root_fd, path).splitlines():
        fields = line.strip().split(":")
        if len(fields) >= length and not line.startswith("#"):
            yield fields


def _text(root_fd: int, path: str) -> str:
    """Return what a file of the image says, nothing if there is none. Raises CRIError."""
    try:
        fd = syscalls.open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)  # nobody may be at a FIFO's other end
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CRIError("CreateContainerError", f"{path} of the image is not a regular file")
            return os.read(fd, _MAX_FILE).decode(errors="replace").replace("\0", "\ufffd")
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise CRIError("CreateContainerError", f"{path} of the image: {error.strerror}") from error
