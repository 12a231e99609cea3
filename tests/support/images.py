"""Small images for tests, made on the spot: BusyBox of this machine, with the configuration that a test is about."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.support.cluster import unique
from tools.images import BuiltImage
from tools.oci_layout import ImageSpec, Layer, LayoutWriter
from tools.registry import Registry

APPLETS = ("cat", "echo", "env", "false", "grep", "id", "ls", "pwd", "sh", "sleep", "stat", "touch", "true", "wc")


def busybox_layer() -> Layer:
    """A shell, some commands, and the user `app` (1000), who is in the groups app (1000) and logs (45)."""
    found = shutil.which("busybox")
    assert found is not None, "busybox is not installed"
    layer = Layer()
    layer.file("bin/busybox", Path(found), 0o755)
    for applet in APPLETS:
        layer.symlink(f"bin/{applet}", "busybox")
    layer.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    layer.file("etc/group", "root:x:0:\napp:x:1000:\nlogs:x:45:app\nstaff:x:50:\n")
    layer.directory("tmp", 0o1777)
    return layer


def push(registry: Registry, *layers: Layer, config: dict[str, Any] | None = None, name: str = "") -> str:
    """Pushes an image of these layers (BusyBox, if none is given), else under a name that no other test uses; the name."""
    name = name or f"{unique('image')}:1"
    with tempfile.TemporaryDirectory(dir=registry.directory) as directory:
        layout = Path(directory) / "layout"
        spec = ImageSpec(list(layers) or [busybox_layer()], config or {})
        registry.push(BuiltImage("test", layout, LayoutWriter(layout).write(spec)), f"docker.io/library/{name}")
    return name
