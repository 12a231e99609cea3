"""Images out of raw bytes, correct or not: what no honest tool would build."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.oci_layout import CONFIG, INDEX, MANIFEST, host_architecture
from tools.registry import Registry

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"
COMPRESSED = {"gzip": "+gzip", "zstd": "+zstd", "": ""}


def member(name: str, content: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A file, if it has content; else whatever `fields` (type, linkname, devmajor, mode, ...) make of it."""
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    if content is not None:
        info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content or b""


def tar(*members: tuple[tarfile.TarInfo, bytes], pax: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class RawImage:
    """Blobs by digest, and a manifest."""

    manifest: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    media_type: str = MANIFEST

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    def layout(self, directory: Path, name: str) -> Path:
        """As an OCI layout, under a complete name."""
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest, data in {**self.blobs, self.digest: self.manifest}.items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        top = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest)}
        top["annotations"] = {"org.opencontainers.image.ref.name": name}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]}
        (directory / "index.json").write_text(json.dumps(index))
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return directory

    def upload(self, registry: Registry, name: str) -> None:
        """By HTTP, since no tool would push some of them. `name` is complete; raises AssertionError if it is refused."""
        host, _, path = registry.location(name).partition("/")
        path, _, tag = path.rpartition(":")
        connection = http.client.HTTPConnection(host)

        def request(method: str, url: str, body: bytes, expected: int, **headers: str) -> http.client.HTTPResponse:
            connection.request(method, url, body, headers)
            response = connection.getresponse()
            text = response.read()
            assert response.status == expected, (response.status, text)
            return response

        for digest, data in self.blobs.items():
            place = request("POST", f"/v2/{path}/blobs/uploads/", b"", 202).headers["Location"]
            separator = "&" if "?" in place else "?"
            headers = {"Content-Type": "application/octet-stream"}
            request("PUT", f"{place}{separator}digest={digest}", data, 201, **headers)
        headers = {"Content-Type": self.media_type}
        request("PUT", f"/v2/{path}/manifests/{tag}", self.manifest, 201, **headers)
        connection.close()


def image(
    layers: Sequence[bytes],
    *,
    compression: str = "gzip",
    config: dict[str, Any] | None = None,
    raw_config: bytes | None = None,
    diff_ids: Sequence[str] | None = None,
    **config_file: Any,
) -> RawImage:
    """`layers` are tars, bottom first; `config` is the `config` object, `raw_config` the whole file."""
    packed = [_compress(layer, compression) for layer in layers]
    document = {
        "architecture": host_architecture(),
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest_of(layer) for layer in layers]},
        **config_file,
    }
    raw = json.dumps(document).encode() if raw_config is None else raw_config
    kind = f"application/vnd.oci.image.layer.v1.tar{COMPRESSED[compression]}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(raw), "size": len(raw)},
        "layers": [{"mediaType": kind, "digest": digest_of(blob), "size": len(blob)} for blob in packed],
    }
    return RawImage(json.dumps(manifest).encode(), {digest_of(blob): blob for blob in [raw, *packed]})


def artifact(
    files: Mapping[str | None, bytes], *, config_type: str = EMPTY, config: bytes = b"{}", **fields: Any
) -> RawImage:
    """Files by their titles, as `oras push` sends them: a blob each. None stands for a blob without a title."""
    layers: list[dict[str, Any]] = []
    for title, content in files.items():
        layer = {"mediaType": "application/octet-stream", "digest": digest_of(content), "size": len(content)}
        layers.append(layer if title is None else {**layer, "annotations": {"org.opencontainers.image.title": title}})
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.model",
        "config": {"mediaType": config_type, "digest": digest_of(config), "size": len(config)},
        "layers": layers,
        **fields,
    }
    return RawImage(json.dumps(document).encode(), {digest_of(blob): blob for blob in (config, *files.values())})


def docker_image(raw: RawImage) -> RawImage:
    """The same, with a manifest in Docker's form."""
    document = json.loads(raw.manifest)
    document["mediaType"] = DOCKER_MANIFEST
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    for layer in document["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    return RawImage(json.dumps(document).encode(), raw.blobs, DOCKER_MANIFEST)


def _compress(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if compression == "zstd":
        return subprocess.run(["zstd", "--quiet", "--stdout"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data
