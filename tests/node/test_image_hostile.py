"""Images made to break out: they change nothing outside their own layers, and end in a clear error or do no harm."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import json
import os
import re
import stat
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.image_store import NOTHING, leftovers
from tests.support.raw_image import RawImage, digest_of, image, member, tar
from tools.oci_layout import CONFIG, INDEX, MANIFEST
from tools.registry import Registry

from podling.runtime.native import image_volumes, rootfs, syscalls
from podling.runtime.native.image import ImageStore
from podling.runtime.protocol import CRIError, ImagePullError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

EVIL = "podling-evil"
"""In the name of every file that must not come to be outside."""


@asynccontextmanager
async def opened(directory: Path, registries_conf: Path | None = None) -> AsyncIterator[ImageStore]:
    store = ImageStore(directory / "images", directory / "run", registries_conf)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class World:
    """What is outside: a tree to be attacked, and the directories of this machine where a file could land."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.attacked = directory / "outside"
        (self.attacked / "etc").mkdir(parents=True)
        (self.attacked / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.attacked / "keep").write_text("keep")
        self.before = self.state()

    def state(self) -> dict[str, tuple[int, int, int, int, bytes]]:
        found = {}
        for path in [self.attacked, *self.attacked.rglob("*")]:
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, content)
        return found

    def assert_unharmed(self) -> None:
        assert self.state() == self.before
        for place in (Path("/"), Path("/etc"), Path("/tmp"), Path("/root"), Path("/dev"), Path.cwd()):
            assert not [name for name in os.listdir(place) if EVIL in name], place
        layers = self.directory / "images" / "layers"
        for parent, directories, files in os.walk(self.directory):
            inside = Path(parent).is_relative_to(layers) and "fs" in Path(parent).relative_to(layers).parts
            if not inside and Path(parent).parent.name != "layout":
                assert not [name for name in (*directories, *files) if EVIL in name], parent


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.assert_unharmed()


UP = "../" * 30


def attacks(outside: str) -> dict[str, list[bytes]]:
    """Layers, bottom first, by what they try."""
    link: dict[str, Any] = {"type": tarfile.SYMTYPE, "mode": 0o777}
    hard: dict[str, Any] = {"type": tarfile.LNKTYPE}
    directory: dict[str, Any] = {"type": tarfile.DIRTYPE, "mode": 0o755}
    return {
        "parent directories in a name": [tar(member(f"{UP}{outside}/{EVIL}", b"x"))],
        "parent directories to a neighbour": [tar(member(f"../../../../../../{EVIL}", b"x"))],
        "absolute name": [tar(member(f"{outside}/{EVIL}", b"x"), member("/etc/podling-evil", b"x"))],
        "file through an absolute symlink": [tar(member("l", linkname=outside, **link), member(f"l/{EVIL}", b"x"))],
        "file through a relative symlink": [tar(member("l", linkname=UP + outside, **link), member(f"l/{EVIL}", b"x"))],
        "file through a symlink of a lower layer": [
            tar(member("l", linkname=outside, **link)),
            tar(member(f"l/{EVIL}", b"x"), member("l/keep", b"changed")),
        ],
        "file in the place of a symlink": [
            tar(member("l", linkname=f"{outside}/keep", **link), member("l", b"changed"))
        ],
        "symlink to a symlink": [
            tar(
                member("a", linkname="b", **link),
                member("b", linkname=outside, **link),
                member(f"a/{EVIL}", b"x"),
            )
        ],
        "hard link to a file outside": [tar(member("h", linkname=f"{outside}/keep", **hard), member("h", b"changed"))],
        "hard link by parent directories": [
            tar(member("h", linkname=f"{UP}{outside}/keep", **hard), member("h", b"changed"))
        ],
        "hard link through a symlink": [
            tar(
                member("l", linkname=outside, **link),
                member("h", linkname="l/keep", **hard),
                member("h", b"changed"),
            )
        ],
        "hard link to a symlink": [
            tar(
                member("l", linkname=f"{outside}/keep", **link),
                member("h", linkname="l", **hard),
                member("h", b"changed"),
            )
        ],
        "directory in the place of a symlink": [
            tar(member("l", linkname=outside, **link)),
            tar(member("l", **directory), member(f"l/{EVIL}", b"x")),
        ],
        "mode and owner of a symlink's target": [
            tar(member("l", linkname=f"{outside}/keep", uid=1234, gid=1234, type=tarfile.SYMTYPE, mode=0o777)),
            tar(member("l", uid=77, mode=0o4777, type=tarfile.DIRTYPE)),
        ],
        "whiteout by parent directories": [tar(member(f"{UP}{outside}/.wh.keep", b""))],
        "whiteout through a symlink": [
            tar(member("l", linkname=outside, **link)),
            tar(member("l/.wh.keep", b"")),
        ],
        "opaque whiteout through a symlink": [
            tar(member("l", linkname=outside, **link)),
            tar(member("l/.wh..wh..opq", b"")),
        ],
        "whiteout of the root and its parent": [tar(member(".wh..", b"")), tar(member(".wh...", b""))],
        "whiteout with a slash hidden in its name": [tar(member(f".wh.{UP}{outside}/keep", b""))],
        "whiteout's own hard-link directory": [
            tar(member(".wh..wh.plnk/1.2", b"x"), member("h", linkname=".wh..wh.plnk/1.2", **hard))
        ],
        "name that is empty, a dot, or very long": [
            tar(member("./", **directory), member("a/" * 1500 + EVIL, b"x"), member("n" * 300, b"x"))
        ],
        "fifo and socket types": [tar(member("f", type=tarfile.FIFOTYPE), member("c", type=tarfile.CONTTYPE))],
    }


ATTACKS = sorted(attacks(""))
CLEAR = "failed to "


async def pulled(store: ImageStore, raw: RawImage, registry: Registry, directory: Path, way: str) -> str:
    """The image's ID, by one of the two ways in which images come to a node. Raises CRIError."""
    name = f"docker.io/evil/{directory.name[-30:].strip('_-').lower()}:1"
    if way == "pull":
        raw.upload(registry, name)
        return await store.pull_image(name)
    (image_id,) = await store.load(raw.layout(directory / "layout", name))
    return image_id


def inode(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


@pytest.mark.parametrize("way", ["pull", "load"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_layer_changes_nothing_outside(world: World, tmp_path: Path, registry: Registry, attack: str, way: str) -> None:
    raw = image(attacks(str(world.attacked))[attack])

    async def run() -> None:
        async with opened(tmp_path, registry.registries_conf) as store:
            try:
                image_id = await pulled(store, raw, registry, tmp_path, way)
            except CRIError as error:
                message = error.message
            else:
                # It was harmless: no file of the layers is one of those outside.
                outside = {inode(path) for path in [world.attacked, *world.attacked.rglob("*")]}
                for layer in await store.layers(image_id):
                    assert outside.isdisjoint(inode(path) for path in layer.resolve().rglob("*"))
                return
            assert message.startswith(CLEAR)
            assert await store.list_images() == []
            assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


def test_device_nodes_of_a_layer_are_left_out(world: World, tmp_path: Path, registry: Registry) -> None:
    disk = os.stat("/").st_dev
    node: dict[str, Any] = {
        "type": tarfile.BLKTYPE,
        "devmajor": os.major(disk),
        "devminor": os.minor(disk),
        "mode": 0o666,
    }
    # A character device 0/0 is overlayfs' own whiteout.
    whiteout: dict[str, Any] = {"type": tarfile.CHRTYPE, "devmajor": 0, "devminor": 0}
    raw = image([tar(member("kept", b"x")), tar(member("disk", **node), member("kept", **whiteout))])

    async def run() -> None:
        async with opened(tmp_path, registry.registries_conf) as store:
            image_id = await pulled(store, raw, registry, tmp_path, "pull")
            target = tmp_path / "mounted"
            rootfs.mount_readonly(target, await store.layers(image_id), tmp_path / "empty")
            try:
                assert os.listdir(target) == ["kept"]
                assert (target / "kept").read_bytes() == b"x"
            finally:
                rootfs.unmount(target)

    asyncio.run(run())


def test_volume_path_through_a_symlink_copies_nothing_of_the_machine(world: World, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").symlink_to(world.attacked)
    (root / "up").symlink_to(f"{UP}{world.attacked}")
    mounts = image_volumes.make(root, tmp_path / "volumes", ["/data", "/up/etc", "/../../x"], [])
    assert [mount.container_path for mount in mounts] == ["/data", "/up/etc", "/x"]
    assert all(list(Path(mount.host_path).iterdir()) == [] for mount in mounts)
    (root / "file").write_text("x")
    with pytest.raises(CRIError, match="volume /file of the image: Not a directory"):
        image_volumes.make(root, tmp_path / "volumes2", ["/file"], [])


Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]
"""Status, headers and body. One in pieces ends with the connection."""


@contextmanager
def liar(answer: Callable[[str], Answer | None]) -> Iterator[str]:
    """A registry that answers as the test says; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, headers, body = (200, {}, b"{}") if self.path == "/v2/" else answer(self.path) or (404, {}, b"")
            try:
                self.send_response(code)
                if isinstance(body, bytes):
                    headers = {"Content-Length": str(len(body)), **headers}
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    for piece in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(piece)
            except OSError:
                pass

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serving(raw: RawImage, **replaced: bytes | Iterator[bytes]) -> Callable[[str], Answer | None]:
    """Answers with the image's manifest and blobs; `replaced` blobs, by the hex of their digest, are others."""

    def answer(path: str) -> Answer | None:
        kind, _, reference = path.rpartition("/")
        if kind.endswith("/manifests"):
            found = raw.blobs.get(reference, raw.manifest)
            kind = json.loads(found).get("mediaType", raw.media_type) if reference in raw.blobs else raw.media_type
            return 200, {"Content-Type": kind, "Docker-Content-Digest": digest_of(found)}, found
        blob = replaced.get(reference.removeprefix("sha256:"), raw.blobs.get(reference))
        return None if blob is None else (200, {"Content-Type": "application/octet-stream"}, blob)

    return answer


def refused(tmp_path: Path, name: Callable[[str], str], raw: RawImage, **replaced: bytes | Iterator[bytes]) -> str:
    """The message of a pull that fails and leaves nothing."""

    async def run(address: str) -> str:
        async with opened(tmp_path) as store:
            before = leftovers(tmp_path)
            with pytest.raises(ImagePullError) as caught:
                await store.pull_image(name(address))
            assert await store.list_images() == []
            assert leftovers(tmp_path) == before == {**NOTHING, "mounts": before["mounts"]}
            assert caught.value.message.startswith(CLEAR)
            return caught.value.message

    with liar(serving(raw, **replaced)) as address:
        return asyncio.run(run(address))


SIMPLE = image([tar(member("file", b"honest"))])


def blob(raw: RawImage, number: int) -> str:
    return list(raw.blobs)[number].removeprefix("sha256:")


def declaring(size: int) -> RawImage:
    """SIMPLE, whose layer has so many bytes as its manifest says."""
    document = json.loads(SIMPLE.manifest)
    document["layers"][0]["size"] = size
    return RawImage(json.dumps(document).encode(), SIMPLE.blobs)


def indexed(raw: RawImage) -> RawImage:
    """The image by way of an index."""
    entry = {"mediaType": MANIFEST, "digest": raw.digest, "size": len(raw.manifest)}
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    return RawImage(json.dumps(document).encode(), {**raw.blobs, raw.digest: raw.manifest}, INDEX)


@pytest.mark.parametrize("through", [lambda raw: raw, indexed], ids=["manifest", "index"])
def test_image_that_says_it_is_larger_than_the_disk_is_refused_before_it_is_fetched(
    world: World, tmp_path: Path, through: Callable[[RawImage], RawImage]
) -> None:
    message = refused(tmp_path, lambda a: f"{a}/app:1", through(declaring(1 << 50)))
    assert re.search(r"no space left on device: 11\d+ bytes are to come, there is room for \d+$", message)


@pytest.mark.parametrize("through", [lambda raw: raw, indexed], ids=["manifest", "index"])
def test_layer_without_end_is_cut_where_its_manifest_says_that_it_ends(
    world: World, tmp_path: Path, through: Callable[[RawImage], RawImage]
) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield bytes(1 << 16)

    disk = tmp_path / "disk"
    disk.mkdir()
    syscalls.mount("tmpfs", disk, "tmpfs", 0, "size=256m")
    try:
        raw = through(declaring(100))
        message = refused(disk, lambda a: f"{a}/app:1", raw, **{blob(SIMPLE, 1): endless()})
    finally:
        syscalls.umount(disk)
    assert message.endswith("a blob is longer than the manifest says")
    assert sent < 64 << 20


def test_layer_that_is_not_what_its_digest_says_is_refused(world: World, tmp_path: Path) -> None:
    other = gzip.compress(tar(member("file", b"forged")))
    message = refused(tmp_path, lambda a: f"{a}/app:1", SIMPLE, **{blob(SIMPLE, 1): other})
    assert "does not match" in message or "digest" in message.lower()


def test_layer_whose_content_is_not_what_the_configuration_says_is_refused(world: World, tmp_path: Path) -> None:
    raw = image([tar(member("file", b"x"))], diff_ids=[digest_of(b"something else")])
    assert "wrong diff id" in refused(tmp_path, lambda a: f"{a}/app:1", raw)


def test_configuration_that_is_not_what_its_digest_says_is_refused(world: World, tmp_path: Path) -> None:
    other = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    refused(tmp_path, lambda a: f"{a}/app:1", SIMPLE, **{blob(SIMPLE, 0): other})


def test_manifest_that_is_not_what_was_asked_for_by_digest_is_refused(world: World, tmp_path: Path) -> None:
    message = refused(tmp_path, lambda a: f"{a}/app@sha256:{'a' * 64}", SIMPLE)
    assert "does not match" in message


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00garbage", b"no archive at all", b"x" * 100_000])
def test_layer_that_is_no_archive_is_refused(world: World, tmp_path: Path, content: bytes) -> None:
    document = json.loads(SIMPLE.manifest)
    document["layers"][0] |= {"digest": digest_of(content), "size": len(content)}
    raw = RawImage(json.dumps(document).encode(), {**SIMPLE.blobs, digest_of(content): content})
    refused(tmp_path, lambda a: f"{a}/app:1", raw)


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000  # Python accepts more with each version, skopeo 10,000 levels
DEEP_CONFIG = b'{"architecture":"amd64","os":"linux","x":%s,"rootfs":{"type":"layers","diff_ids":[]}}'


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b"{}",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[],"history":[]}',
        b'{"schemaVersion":2,"layers":"many"}',
        json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": []}).encode(),
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": "sha256:../../../../etc/passwd", "size": 5},
                "layers": [],
            }
        ).encode(),
        json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {"size": -1}, "layers": [{}] * 10}).encode(),
        b'{"schemaVersion":2,"config":{"digest":"sha256:\xff\xfe"}}',
        b'{"schemaVersion":2,"x":"' + b"y" * (5 << 20) + b'"}',
        b"[" * 1_000_000,
        DEEP,
    ],
    ids=lambda manifest: manifest[:40].decode(errors="replace") or "empty",
)
def test_malformed_manifest_is_refused(world: World, tmp_path: Path, manifest: bytes) -> None:
    refused(tmp_path, lambda a: f"{a}/app:1", RawImage(manifest, SIMPLE.blobs))


def test_index_that_contains_itself_is_refused(world: World, tmp_path: Path) -> None:
    """As far as a digest can: an index of an index of an index, without end."""
    platform = {"architecture": "amd64", "os": "linux"}
    manifest, kind, blobs = SIMPLE.manifest, MANIFEST, dict(SIMPLE.blobs)
    for _ in range(5):
        entry = {"mediaType": kind, "digest": digest_of(manifest), "size": len(manifest), "platform": platform}
        blobs[digest_of(manifest)] = manifest
        manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        kind = INDEX
    refused(tmp_path, lambda a: f"{a}/app:1", RawImage(manifest, blobs, INDEX))


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"null",
        b"[]",
        b"not JSON",
        b'{"architecture":"amd64","os":"linux","config":{"Env":{"a":"b"}}}',
        b'{"architecture":"amd64","os":"linux","config":{"Cmd":[[1]]},"rootfs":{"type":"layers","diff_ids":[]}}',
        b'{"architecture":"amd64","os":"linux","config":{"Cmd":"\xff"},"rootfs":{"type":"layers","diff_ids":[]}}',
        DEEP_CONFIG % DEEP,
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"x":"'
        + b"y" * (9 << 20)
        + b'"}',
    ],
    ids=lambda config: config[:60].decode(errors="replace") or "empty",
)
def test_malformed_configuration_is_refused_and_other_images_go_on(world: World, tmp_path: Path, config: bytes) -> None:
    refused(tmp_path, lambda a: f"{a}/app:1", image([], raw_config=config))


def test_layer_that_unpacks_to_more_than_the_disk_holds_is_refused(
    world: World, tmp_path: Path, registry: Registry
) -> None:
    """A few hundred kilobytes that become 300 MB, on a disk of 64."""
    packed = gzip.compress(tar(member("bomb", bytes(300 << 20))), 1, mtime=0)
    raw = image([tar(member("small", b"x"))])
    document = json.loads(raw.manifest)
    document["layers"].append(
        {"mediaType": document["layers"][0]["mediaType"], "digest": digest_of(packed), "size": len(packed)}
    )
    config = json.loads(raw.blobs[document["config"]["digest"]])
    config["rootfs"]["diff_ids"].append(digest_of(gzip.decompress(packed)))
    new = json.dumps(config).encode()
    document["config"] |= {"digest": digest_of(new), "size": len(new)}
    bomb = RawImage(json.dumps(document).encode(), {**raw.blobs, digest_of(packed): packed, digest_of(new): new})
    disk = tmp_path / "disk"
    disk.mkdir()
    syscalls.mount("tmpfs", disk, "tmpfs", 0, "size=64m")
    try:
        bomb.upload(registry, "docker.io/evil/bomb:1")
        raw.upload(registry, "docker.io/evil/small:1")

        async def run() -> None:
            async with opened(disk, registry.registries_conf) as store:
                with pytest.raises(ImagePullError, match="no space left on device"):
                    await store.pull_image("evil/bomb:1")
                assert await store.list_images() == []
                assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 60 << 20
                await store.pull_image("evil/small:1")

        asyncio.run(run())
    finally:
        syscalls.umount(disk)


def test_many_layers_and_a_long_history_are_an_image_like_any_other(
    world: World, tmp_path: Path, registry: Registry
) -> None:
    layers = [tar(member(f"file{number}", b"x")) for number in range(130)]
    raw = image(
        layers,
        history=[{"created_by": "x" * 20, "empty_layer": True} for _ in range(20_000)]
        + [{"created_by": "layer"} for _ in layers],
    )

    async def run() -> None:
        async with opened(tmp_path, registry.registries_conf) as store:
            image_id = await pulled(store, raw, registry, tmp_path, "load")
            target = tmp_path / "mounted"
            rootfs.mount_readonly(target, await store.layers(image_id), tmp_path / "empty")
            try:
                assert len(os.listdir(target)) == 130
            finally:
                rootfs.unmount(target)

    asyncio.run(run())


@pytest.mark.parametrize("writable", [True, False])
def test_as_many_layers_as_overlayfs_stacks_are_mounted(tmp_path: Path, writable: bool) -> None:
    layers = [tmp_path / "layers" / f"{number:064}" for number in range(500)]
    for layer in layers:
        layer.mkdir(parents=True)
        (layer / layer.name).touch()
    target = tmp_path / "mounted"
    if writable:
        rootfs.mount(target, layers, tmp_path / "upper", tmp_path / "work")
    else:
        rootfs.mount_readonly(target, layers, tmp_path / "empty")
    try:
        assert len(os.listdir(target)) == 500
    finally:
        rootfs.unmount(target)


def test_an_image_of_more_layers_than_overlayfs_stacks_is_refused(tmp_path: Path) -> None:
    layout = image([tar(member("file", b"%d" % number)) for number in range(501)]).layout(tmp_path / "layout", "x:1")

    async def run() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(CRIError, match=r"failed to unpack: it has 501 layers, overlayfs stacks at most 500$"):
                await store.load(layout)
            assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


@pytest.mark.parametrize(
    "manifest",
    [
        b'[{"RepoTags":[5]}]',
        b'[{"RepoTags":"a:1"}]',
        b"[5]",
        b"{}",
        b'[{"RepoTags":["../../x:1"],"Layers":["../../etc/passwd"],"Config":"../../../etc/passwd"}]',
        b'[{"RepoTags":["x:1"],"Layers":["../../etc/passwd"],"Config":"/etc/passwd"}]',
        b'[{"RepoTags":["x:1"],"Layers":["link"],"Config":"link"}]',
        DEEP,
        b"[" * 100_000,
    ],
    ids=lambda manifest: manifest[:50].decode(),
)
def test_malformed_archive_is_refused(world: World, tmp_path: Path, manifest: bytes) -> None:
    archive = tmp_path / "archive.tar"
    link = member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    archive.write_bytes(tar(link, member("manifest.json", manifest)))

    async def run() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(CRIError):
                await store.load(archive)
            assert await store.list_images() == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "index",
    [b"[]", b'{"manifests":5}', b'{"manifests":[{"annotations":[1]}]}', b'{"manifests":[5]}', DEEP, b"[" * 100_000],
    ids=lambda index: index[:50].decode(),
)
def test_malformed_layout_is_refused(world: World, tmp_path: Path, index: bytes) -> None:
    layout = SIMPLE.layout(tmp_path / "layout", "x:1")
    (layout / "index.json").write_bytes(index)

    async def run() -> None:
        async with opened(tmp_path) as store:
            with pytest.raises(CRIError):
                await store.load(layout)

    asyncio.run(run())
