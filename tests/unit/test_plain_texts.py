"""No text of the system, of Python or of a library reaches a user bare: many mistakes, and what is said of them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from podling.api import codec
from podling.api.core.v1 import Node, Pod
from podling.api.patch import json_patch
from podling.api.status import ApiError
from podling.api.validation import validate_create
from podling.apiserver import list_options, negotiation, protobuf
from podling.cli import main
from podling.kubelet import image_credential_provider
from podling.runtime.native import image_archive, seccomp
from podling.runtime.native.image_layers import Layers
from podling.runtime.native.image_metadata import Metadata
from podling.runtime.protocol import Seccomp
from podling.store.sqlite import SQLiteStore

BARE = re.compile(
    r"\[Errno|codec can't (?:de|en)code|Expected `|Object (?:missing|contains)|Invalid enum|Input data was truncated"
    r"|JSON is malformed|invalid literal for|could not convert string|Traceback|\[SSL| object at 0x|NoneType"
    r"|object (?:has|is) no|has no attribute|not iterable|not subscriptable|<byte string>|<class '|while (?:scanning|parsing)"
    r"|<block end>|ReadError|end-of-stream|unexpected end of data|base64-encoded string|^'\w+'$|Error\("
    r"|unhashable|month must be|database disk image|file is not a database|\$\.|determine a constructor"
)

MANIFESTS = {
    "empty": b"",
    "no JSON": b"\xff\xfe",
    "no UTF-8": b'[{"RepoTags": ["\xff"]}]',
    "another type": b'[{"RepoTags": 3}]',
    "an object": b"{}",
    "cut": b'[{"Rep',
}
PROFILES = {
    "no JSON": b"\xff",
    "no UTF-8": b'{"x": "\xff"}',
    "cut": b"{",
    "a list": b"[]",
    "no action": b"{}",
    "action": b'{"defaultAction": 3}',
    "syscalls": b'{"defaultAction": "A", "syscalls": 3}',
    "syscall": b'{"defaultAction": "A", "syscalls": [3]}',
    "empty syscall": b'{"defaultAction": "A", "syscalls": [{}]}',
    "names": b'{"defaultAction": "A", "syscalls": [{"names": 3, "action": "x"}]}',
    "errno": b'{"defaultAction": "A", "defaultErrno": "EWHAT"}',
    "args": b'{"defaultAction": "A", "syscalls": [{"names": ["x"], "action": "x", "args": [3]}]}',
    "includes": b'{"defaultAction": "A", "syscalls": [{"names": ["x"], "action": "x", "includes": 3}]}',
    "kernel": b'{"defaultAction": "A", "syscalls": [{"names": ["x"], "action": "x", "includes": {"minKernel": "a.b"}}]}',
    "architecture": b'{"defaultAction": "A", "archMap": [{}]}',
    "architectures": b'{"defaultAction": "A", "architectures": 3}',
}
YAML = {
    "open list": b"a: [",
    "two colons": b"a: b: c",
    "no UTF-8": b"\xff",
    "tab": b"a:\n\t- b",
    "alias": b"a: *x",
    "control character": b"a: \x00",
    "object": b"a: !!python/object:os.system x",
    "set": b"a: !!set {x}",
    "int": b"a: !!int x",
    "float": b"a: !!float x",
    "bool": b"a: !!bool x",
    "timestamp": b"a: !!timestamp x",
    "binary": b"a: !!binary x",
    "surrogate": b'a: "\\ud800"',
    "merge": b"<<: 3",
    "mapping as key": b"? {a: b}\n: c",
    "null as key": b"~: c",
    "two documents": b"a: 1\n---\nb: 2",
    "open quotes": b'a: "b',
    "nested": b"[" * 100_000,
}
JSON = {
    "empty": b"",
    "cut": b"{",
    "no UTF-8": b'{"metadata": {"name": "\xff"}}',
    "surrogate": b'{"a": "\\ud800"}',
    "a list": b"[]",
    "a number": b'{"spec": 3}',
    "a name": b'{"metadata": {"name": 3}}',
    "containers": b'{"spec": {"containers": [3]}}',
    "a port": b'{"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}',
    "a time": b'{"metadata": {"creationTimestamp": "yesterday"}}',
    "a huge number": b'{"spec": {"priority": 1e400}}',
    "nested": b"[" * 100_000,
}
PATCHES: dict[str, Any] = {
    "a number": 1,
    "null": None,
    "numbers": [1],
    "no op": [{}],
    "op": [{"op": 1, "path": "/a"}],
    "unknown op": [{"op": "x", "path": "/a"}],
    "path": [{"op": "add", "path": 1, "value": 1}],
    "escape": [{"op": "add", "path": "/~2", "value": 1}],
    "no slash": [{"op": "add", "path": "a", "value": 1}],
    "missing": [{"op": "remove", "path": "/zz"}],
    "from": [{"op": "copy", "from": 1, "path": "/b"}],
}
TOKENS = ("%21", "x", "é", "bnVsbA", "W10", "eyJ2IjozfQ", base64.urlsafe_b64encode(b'{"v": "\xff"}').decode())
PROTOBUF = (b"", b"xx", b"k8s\0\xff", b"k8s\0\x12\x05\x0a\x03\x0a\x01\xff")
PROVIDERS = {
    **YAML,
    "a list": b"[]",
    "nothing": b"",
    "kind": b"kind: 3",
    "key": b"1: 2",
    "date": b"a: 2020-13-45",
    "unknown field": b"kind: CredentialProviderConfig\napiVersion: kubelet.config.k8s.io/v1\nproviders: [{foo: 1}]",
}


def _tar(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def _archives() -> Iterator[tuple[str, bytes]]:
    whole = _tar(layer_tar=os.urandom(100_000), manifest_json=b"[]")
    packed = gzip.compress(whole)
    yield from {
        "empty": b"",
        "text": b"x" * 3000,
        "short": b"x",
        "cut": whole[:50_000],
        "cut gzip": packed[:50_000],
    }.items()
    yield "head of gzip", b"\x1f\x8b\x08broken"
    yield "damaged gzip", packed[:12] + bytes(100) + packed[112:]
    yield "no manifest", _tar(layer_tar=b"x")
    for name, manifest in MANIFESTS.items():
        yield f"manifest: {name}", _tar(manifest_json=manifest)
        yield f"index: {name}", _tar(index_json=manifest)


def _store(path: Path) -> None:
    async def run() -> None:
        await (await SQLiteStore.open(path)).close()

    asyncio.run(run())


class _Told(Exception):
    """What validation said."""


def _judge(kind: type[Any], annotation: str, text: str) -> None:
    obj = kind()
    obj.metadata.name, obj.metadata.annotations = "a", {f"scheduler.alpha.kubernetes.io/{annotation}": text}
    errors = validate_create(obj)
    told = [error for error in errors if f"scheduler.alpha.kubernetes.io/{annotation}" in str(error)]
    if told:
        raise _Told("; ".join(map(str, told)))


def _mistakes(directory: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each with a name; calling it raises what is shown to the user."""

    def file(name: str, content: bytes) -> Path:
        path = directory / re.sub(r"\W", "-", name)
        path.write_bytes(content)
        return path

    for name, content in _archives():
        path = file(f"archive {name}", content)
        yield f"archive: {name}", partial(image_archive.contents, path)
    for name, content in PROFILES.items():
        profile = Seccomp(profile="Localhost", path=str(file(f"seccomp {name}", content)))
        yield f"seccomp: {name}", partial(seccomp.profile, profile, [])
    for name, content in PROVIDERS.items():
        path = file(f"provider {name}", content)
        yield f"provider: {name}", partial(image_credential_provider.load, path, directory)
    for name, content in YAML.items():
        yield f"YAML: {name}", partial(negotiation.from_yaml, content)
    for name, content in JSON.items():
        yield f"JSON: {name}", partial(codec.decode, Pod, content)
        yield f"stored JSON: {name}", partial(codec.decode_exact, Pod, content)
    for name, patch in PATCHES.items():
        yield f"patch: {name}", partial(json_patch.apply, {"a": 1}, patch)
    for token in TOKENS:
        yield f"token: {token}", partial(list_options.decode_token, token)
    for body in PROTOBUF:
        yield f"protobuf: {body!r}", partial(protobuf.decode, body, Pod)
    for text in ("x", "{}", '[{"key": 3}]', "[3]", "["):
        yield f"tolerations: {text}", partial(_judge, Pod, "tolerations", text)
        yield f"taints: {text}", partial(_judge, Node, "taints", text)
    for name, content in MANIFESTS.items():
        root = directory / f"images-{name}"
        root.mkdir()
        (root / "images.json").write_bytes(content)
        metadata = Metadata(root, root, Layers(root, root))
        yield f"images.json: {name}", metadata.snapshot
    yield "store: text", partial(_store, file("text.db", b"x" * 5000))
    yield "store: no directory", partial(_store, directory / "none" / "s.db")
    (directory / "directory.db").mkdir()
    yield "store: directory", partial(_store, directory / "directory.db")


def _text(error: Exception) -> str:
    return error.status.message if isinstance(error, ApiError) else str(error)


def test_no_text_of_a_library_reaches_a_user_bare(tmp_path: Path) -> None:
    bare, silent, told = [], [], 0
    for name, make in _mistakes(tmp_path):
        try:
            make()
        except Exception as error:
            text = _text(error)
            told += 1
            if BARE.search(text) or type(error).__module__.split(".")[0] not in ("podling", __name__.split(".")[0]):
                bare.append(f"{name}: {type(error).__name__}: {text}")
        else:
            silent.append(name)
    assert bare == []
    assert told > 130
    assert silent == []


COMMANDS = [
    ("status", "--data-dir", "{below}"),
    ("down", "--data-dir", "{below}"),
    ("kubeconfig", "--data-dir", "{file}"),
    ("kubeconfig", "--data-dir", "{none}"),
    ("server", "--data-dir", "{none}"),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_say_in_one_line_what_is_wrong_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    places = {name: tmp_path / name for name in ("none", "file")}
    places["file"].write_text("x")
    places["below"] = places["file"] / "x"
    assert main.main([word.format(**places) for word in command]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"podling {command[0]}: ")
    assert said.count("\n") == 1
    assert not BARE.search(said)
