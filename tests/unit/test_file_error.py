"""Errors of the operating system in messages for users."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from podling.api.core.v1 import ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume
from podling.kit import file_error
from podling.kubelet.env import ConfigError
from podling.kubelet.volumes import manager
from podling.kubelet.volumes.content import File
from podling.kubelet.volumes.empty_dir import EmptyDir
from podling.kubelet.volumes.host_path import HostPath
from podling.kubelet.volumes.plugin import VolumeError
from podling.kubelet.volumes.subpath import open_subpath


@pytest.mark.parametrize(
    ("error", "path", "text"),
    [
        (OSError(errno.ENOTDIR, "Not a directory", "/afile/x"), None, "/afile/x: Not a directory"),
        (OSError(errno.ENOTDIR, "Not a directory", b"/afile/x"), "/other", "/afile/x: Not a directory"),
        (OSError(errno.EIO, "Input/output error"), Path("/d"), "/d: Input/output error"),
        (OSError(errno.EIO, "Input/output error"), None, "Input/output error"),
        (OSError(errno.ENOSPC, "Disk full", 7), "/d", "/d: Disk full (free space on its file system)"),
        (OSError("a text alone"), None, "a text alone"),
        (OSError(), None, "OSError"),
        (ValueError("a text"), "/d", "a text"),
    ],
)
def test_an_error_is_told_with_its_file_and_without_its_number(
    error: Exception, path: str | Path | None, text: str
) -> None:
    assert file_error.reason(error, path) == text


def _config_map(directory: Path) -> None:
    manager._show(Volume(name="v", config_map=ConfigMapVolumeSource()), directory, {"f": File(b"x" * 100, 0o644)}, None)


def _empty_dir(directory: Path) -> None:
    EmptyDir().set_up(Pod(), Volume(name="v", empty_dir=EmptyDirVolumeSource()), directory, None)


def _host_path(directory: Path) -> None:
    HostPath().set_up(Volume(name="v", host_path=HostPathVolumeSource(path=str(directory))))


def _subpath(directory: Path) -> None:
    os.close(open_subpath(directory, "part", "v", "main"))


@pytest.mark.parametrize("set_up", [_config_map, _empty_dir, _host_path, _subpath])
def test_a_volume_below_a_file_names_the_path(tmp_path: Path, set_up: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises((VolumeError, ConfigError)) as caught:
        set_up(file / "v")
    assert str(caught.value).endswith("Not a directory")
    assert f": {file}" in str(caught.value)
    assert "Errno" not in str(caught.value)


def test_a_write_that_fails_names_the_directory_of_the_volume(tmp_path: Path) -> None:
    # An error of write(2) does not name its file.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(VolumeError) as caught:
            _config_map(tmp_path / "v")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert str(caught.value) == f'MountVolume.SetUp failed for volume "v" : {tmp_path / "v"}: File too large'
