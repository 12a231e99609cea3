"""What the kubelet writes down about the images it pulled: that a pull was begun, and with whose credentials one succeeded.

Format and place of the files are the kubelet's own (kubelet.config.k8s.io/v1beta1, ImagePullIntent and ImagePulledRecord,
KEP-2535), below <data-dir>/image_manager. They hold hashes of credentials, never credentials.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct, field

from podling.kit import file_error

log = logging.getLogger(__name__)

API_VERSION = "kubelet.config.k8s.io/v1beta1"
_PREFIX = "sha256-"


class ImagePullSecret(Struct, rename="camel", kw_only=True, frozen=True):
    """A Secret that opened an image; `credential_hash` is of the entry in it that did."""

    uid: str
    namespace: str
    name: str
    credential_hash: str = ""


class ImagePullCredentials(Struct, rename="camel", kw_only=True, frozen=True, omit_defaults=True):
    """Who may use an image: every Pod of the node, or those that have one of these Secrets."""

    kubernetes_secrets: tuple[ImagePullSecret, ...] = field(default=(), name="kubernetesSecretCoordinates")
    node_pods_accessible: bool = False


class ImagePulledRecord(Struct, rename="camel", kw_only=True, frozen=True):
    """`image_ref` is the image's ID; the mapping's keys are repositories (docker.io/library/nginx)."""

    kind: str = "ImagePulledRecord"
    api_version: str = API_VERSION
    last_updated_time: str = ""
    image_ref: str = ""
    credential_mapping: dict[str, ImagePullCredentials] = field(default_factory=dict)


class ImagePullIntent(Struct, rename="camel", kw_only=True, frozen=True):
    kind: str = "ImagePullIntent"
    api_version: str = API_VERSION
    image: str = ""


class PullRecords:
    """The files, with the records in memory too."""

    def __init__(self, directory: Path) -> None:
        self._pulling = directory / "pulling"
        self._pulled = directory / "pulled"
        self._records: dict[str, ImagePulledRecord] = {}
        self._intents: set[str] = set()

    def load(self) -> None:
        """Makes the directories and reads what is in them. Blocks."""
        for directory in (self._pulling, self._pulled):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in directory.glob("*.tmp"):
                leftover.unlink()
        self._intents = {path.name for path in self._pulling.glob(f"{_PREFIX}*")}
        for path in self._pulled.glob(f"{_PREFIX}*"):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=ImagePulledRecord)
                if file_name(record.image_ref) != path.name:
                    raise ValueError("it is of another image")
            except (OSError, ValueError) as error:
                # It says no more who may use the image, but still that not everybody may.
                log.warning(
                    "%s cannot be read, so that credentials for its image are asked for again: %s",
                    path,
                    file_error.reason(error),
                )
                record = ImagePulledRecord()
            self._records[path.name] = record

    def has_intent(self, image: str) -> bool:
        """Whether a pull of the image (as a complete name) was begun and its end was not seen."""
        return file_name(image) in self._intents

    def write_intent(self, image: str) -> None:
        """Quick: not flushed to the disk, for it is the death of this process that it outlives."""
        name = file_name(image)
        if name not in self._intents:
            _write(self._pulling / name, msgspec.json.encode(ImagePullIntent(image=image)), flush=False)
            self._intents.add(name)

    def delete_intent(self, image: str) -> None:
        name = file_name(image)
        (self._pulling / name).unlink(missing_ok=True)
        self._intents.discard(name)

    def delete_intents(self) -> None:
        """All of them."""
        for path in self._pulling.glob(f"{_PREFIX}*"):
            path.unlink(missing_ok=True)
        self._intents.clear()

    def get(self, image_ref: str) -> ImagePulledRecord | None:
        return self._records.get(file_name(image_ref))

    def put(self, record: ImagePulledRecord) -> None:
        """In memory; `flush` brings it to the disk."""
        self._records[file_name(record.image_ref)] = record

    def flush(self, image_ref: str) -> None:
        """Returns when what is known of the image is on the disk. Blocks; one at a time."""
        name = file_name(image_ref)
        record = self._records.get(name)
        if record is not None:
            _write(self._pulled / name, msgspec.json.encode(record), flush=True)

    def forget_all_but(self, image_refs: set[str]) -> set[str]:
        """In memory; returns the names of the files that are to be deleted."""
        names = self._records.keys() - {file_name(ref) for ref in image_refs}
        for name in names:
            del self._records[name]
        return names

    def delete_files(self, names: set[str]) -> None:
        """Of records that were forgotten. Blocks."""
        for name in names - self._records.keys():
            (self._pulled / name).unlink(missing_ok=True)


def file_name(key: str) -> str:
    """Of the record of an image: names hold characters that files' names cannot."""
    return f"{_PREFIX}{hashlib.sha256(key.encode()).hexdigest()}"


def _write(path: Path, content: bytes, *, flush: bool) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if flush:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
