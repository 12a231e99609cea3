"""Words that the operating system cannot take."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api.core.v1 import HostPathVolumeSource, Volume
from podling.kit import c_text
from podling.runtime.protocol import ContainerConfig, ContainerMetadata, Mount


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"args": ["a", "secret\0"]}, "args[1] holds a NUL character"),
        ({"env": [("A", "b"), ("C\0", "d")]}, "env[1][0] holds a NUL character"),
        ({"labels": {"a\0": "b"}}, "labels holds a NUL character"),
        ({"mounts": [Mount(container_path="/\0", host_path="/h")]}, "mounts[0].container_path holds a NUL character"),
        ({"working_dir": "/r\udcff"}, "working_dir holds bytes that are not UTF-8"),
        ({"working_dir": "/été", "args": ["\n\x01"]}, None),
    ],
)
def test_the_field_is_named_and_its_text_is_not(value: dict[str, Any], expected: str | None) -> None:
    assert c_text.flaw(ContainerConfig(metadata=ContainerMetadata(name="a"), image="i", **value)) == expected


def test_a_field_of_the_api_has_its_name_in_manifests() -> None:
    volume = Volume(name="v", host_path=HostPathVolumeSource(path="/a\0"))
    assert c_text.flaw(volume) == "hostPath.path holds a NUL character"
