"""Image references: `nginx` is `docker.io/library/nginx:latest`.

Grammar, normalisation and error texts are those of github.com/distribution/reference, which the kubelet and containerd
use (ParseNormalizedNamed, TagNameOnly).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from podling.kit.short_cache import short_cache

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class InvalidImageName(ValueError):
    """A reference that is none; the message says why, as upstream words it."""


@dataclass(frozen=True)
class ImageName:
    """A complete reference. At most one of `tag` and `digest` decides: with both, the digest does."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """What is pulled and stored: repository@digest if there is a digest, else repository:tag."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and (any(c in first for c in ".:") or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_domain else ("docker.io", name)
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


@short_cache(1024)
def parse(name: str) -> ImageName:
    """Parses what a user writes as an image. Without tag and digest the tag is `latest`.

    Raises InvalidImageName.
    """
    if _IDENTIFIER.fullmatch(name):
        raise InvalidImageName(f"invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(name)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidImageName(f"invalid reference format: repository name ({remote}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidImageName("invalid reference format")
    path, tag, digest = match["path"], match["tag"] or "", match["digest"] or ""
    if len(path) > 255:
        raise InvalidImageName("repository name must not be more than 255 characters")
    if digest:
        algorithm, _, encoded = digest.partition(":")
        if algorithm not in _DIGEST_HEX_LENGTHS:
            raise InvalidImageName("unsupported digest algorithm")
        if len(encoded) != _DIGEST_HEX_LENGTHS[algorithm]:
            raise InvalidImageName("invalid checksum digest length")
        if encoded.lower() != encoded:
            raise InvalidImageName("invalid checksum digest format")
    elif not tag:
        tag = "latest"
    return ImageName(domain, path, tag, digest)
