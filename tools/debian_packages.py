"""Programs out of Debian packages, with the shared libraries that they need, without installing anything."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.oci_layout import Layer


class PackageError(Exception):
    """A package could not be fetched or lacks a file; the message says what to do."""


def run(*argv: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise PackageError(f"{argv[0]} is not installed: images are built out of Debian packages") from None
    except subprocess.CalledProcessError as e:
        raise PackageError(f"{' '.join(argv)}: {e.stderr.strip()}") from None
    return done.stdout


def _dependencies(packages: list[str]) -> Iterator[str]:
    """The direct dependencies of the packages that are libraries. The first of alternatives counts."""
    alternatives = False
    for line in run("apt-cache", "depends", "--no-recommends", "--no-suggests", *packages).splitlines():
        match = re.fullmatch(r"\s*(\|?)(?:Pre)?Depends: (\S+)", line)
        if match is None:
            continue
        if not alternatives and match[2].startswith(("lib", "zlib")):
            yield match[2]
        alternatives = bool(match[1])


def closure(*packages: str) -> list[str]:
    """`packages` and every library package that they need, sorted."""
    found: set[str] = set()
    new = set(packages)
    while new:
        found |= new
        new = set(_dependencies(sorted(new))) - found
    return sorted(found)


def unpack(root: Path, *packages: str) -> None:
    """Downloads the packages and their libraries and unpacks them below `root`. Runs none of their scripts."""
    archives = root.with_name(root.name + ".debs")
    archives.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    try:
        _download(archives, packages)
    except PackageError:
        # The package lists are missing, or older than what the mirror has.
        run("apt-get", "-qq", "update")
        _download(archives, packages)
    for archive in sorted(archives.glob("*.deb")):
        run("dpkg-deb", "--extract", str(archive), str(root))


def _download(directory: Path, packages: tuple[str, ...]) -> None:
    # As root apt drops to the user _apt, who cannot write there.
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *closure(*packages), cwd=directory)


def add_program(layer: Layer, root: Path, program: str, as_path: str | None = None) -> None:
    """Puts the program at `root`/`program` into the layer together with its loader and shared libraries.

    Asks the unpacked loader itself what the program needs, so that the machine's own libraries play no part.
    """
    source = (root / program).resolve()
    # The loader's usual name is an absolute symlink, which would lead to the machine's own one.
    loaders = [p for p in sorted(root.glob("**/ld-linux*.so.*")) if not p.is_symlink()]
    if not source.is_file() or not loaders:
        raise PackageError(f"{program} or its loader is not in the packages")
    directories = [d for d in (*root.glob("lib/*-linux-*"), *root.glob("usr/lib/*-linux-*")) if d.is_dir()]
    listed = run(str(loaders[0]), "--library-path", ":".join(map(str, directories)), "--list", str(source))
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", listed, re.MULTILINE):
        if name.startswith("/"):
            layer.file(name.lstrip("/"), loaders[0], 0o755)
        elif Path(path).resolve().is_relative_to(root.resolve()):
            layer.file(f"lib/{Path(path).parent.name}/{name}", Path(path).resolve(), 0o755)
        else:
            raise PackageError(f"{program} needs {name}, which is in none of the packages")
    layer.file(as_path or program, source, 0o755)
