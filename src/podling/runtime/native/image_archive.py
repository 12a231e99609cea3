"""Which images an archive holds: docker-archive (`docker save`), oci-archive, and directories.

Directories are OCI layouts, or what `skopeo copy ... dir:...` writes.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from podling.kit import document_error
from podling.runtime.native import image_errors
from podling.runtime.protocol import CRIError

_MAX_INDEX_BYTES = 16 << 20
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


_Document = TypeVar("_Document")


class _DockerImage(Struct):
    """An entry of a docker-archive's manifest.json."""

    tags: list[str] | None = field(default=None, name="RepoTags")


class _Descriptor(Struct):
    annotations: dict[str, str] | None = None


class _Index(Struct):
    """An OCI layout's index.json."""

    manifests: list[_Descriptor]


class ArchiveError(CRIError):
    """The file is not an image archive, or a broken one."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidArchive", message)


class ArchivedImage(Struct, frozen=True):
    """`source` is skopeo's name for it, `names` the complete references under which it is to be stored."""

    source: str
    names: list[str]


def contents(path: Path) -> list[ArchivedImage]:
    """Raises ArchiveError; OSError when the file cannot be read. Blocks."""
    if path.is_dir():
        if (path / "index.json").is_file():
            return _oci("oci", path, (path / "index.json").read_bytes())
        if (path / "version").is_file() and (path / "manifest.json").is_file():
            return [ArchivedImage(f"dir:{path}", [])]
        raise ArchiveError(f"{path} is no OCI image layout: it has no index.json")
    try:
        with tarfile.open(path) as tar:
            # What `docker save` writes today is both; then manifest.json has the full names.
            for member in tar:
                name = member.name.removeprefix("./")
                if name == "manifest.json":
                    return _docker(path, _content(tar, member, path))
                if name == "index.json":
                    index = _content(tar, member, path)
                    docker = next((m for m in tar if m.name.removeprefix("./") == "manifest.json"), None)
                    if docker is not None:
                        return _docker(path, _content(tar, docker, path))
                    return _oci("oci-archive", path, index)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise ArchiveError(f"{path} is no image archive: {_damage(e, path)}") from None
    raise ArchiveError(f"{path} is no image archive: it has neither manifest.json nor index.json")


def _damage(error: Exception, path: Path) -> str:
    """Return what is wrong with a file that was not read as a tar to its end."""
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, EOFError) or "unexpected end" in str(error):
        return "it ends too early, as after a copy that was broken off: copy or save it again"
    if isinstance(error, tarfile.ReadError) and "could not be opened" in str(error):
        return (
            "it is not a tar, nor one compressed by gzip, bzip2 or xz: give what `podman save` or `docker save` wrote"
        )
    return "its content is damaged: copy or save it again"


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    file = tar.extractfile(member)
    if file is None or member.size > _MAX_INDEX_BYTES:
        raise ArchiveError(f"{path}: {member.name} is no regular file of reasonable size")
    return file.read()


def _document(data: bytes, kind: type[_Document], what: str) -> _Document:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise ArchiveError(f"{what}: {document_error.reason(e)}") from None


def _docker(path: Path, manifest: bytes) -> list[ArchivedImage]:
    images = _document(manifest, list[_DockerImage], f"{path}: manifest.json is not a list of images")
    return [
        ArchivedImage(f"docker-archive:{path}:@{i}", [image_errors.named(name).canonical for name in image.tags or ()])
        for i, image in enumerate(images)
    ]


def _oci(transport: str, path: Path, index: bytes) -> list[ArchivedImage]:
    descriptors = _document(index, _Index, f"{path}: index.json is not an image index").manifests
    annotations = [descriptor.annotations or {} for descriptor in descriptors]
    images = []
    for annotation in annotations:
        ref = annotation.get("org.opencontainers.image.ref.name", "")
        name = next((annotation[key] for key in _NAME_ANNOTATIONS if key in annotation), "")
        # A bare tag ("latest") is a usual ref.name, and no image's name.
        names = [image_errors.named(name).canonical] if any(c in name for c in "/:") else []
        if not ref and len(annotations) > 1:
            raise ArchiveError(f"{path}: an image of several has no org.opencontainers.image.ref.name")
        images.append(ArchivedImage(f"{transport}:{path}:{ref}" if ref else f"{transport}:{path}", names))
    return images
