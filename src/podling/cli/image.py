"""`podling image`: the images of this machine. Works on the storage itself, whether or not Podling runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from podling.cli import settings
from podling.cli.errors import CommandError
from podling.kit import file_error

if TYPE_CHECKING:
    from podling.runtime.native.image import ImageStore


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `image` with its own subcommands."""
    image = subparsers.add_parser("image", help="pull, load, save, list, pin, remove and prune images")
    image.set_defaults(run=run)
    actions = image.add_subparsers(dest="action", required=True, metavar="ACTION")

    pull = _action(actions, "pull", "fetch images from their registries")
    pull.add_argument(
        "images", nargs="+", metavar="IMAGE", help="as in a Pod: nginx, quay.io/team/app:1, ...@sha256:..."
    )
    pull.add_argument("--registries-conf", metavar="FILE", help="containers-registries.conf(5) (the cluster's)")
    pull.add_argument(
        "--credentials",
        metavar="FILE",
        help='file with "user:password" for the registry, "-" for standard input (so that no one sees it in `ps`)',
    )

    load = _action(actions, "load", "store the images of an archive")
    load.add_argument(
        "archive", type=Path, help="docker-archive, oci-archive, OCI layout directory, or skopeo's dir: directory"
    )
    load.add_argument("--name", default="", help="the image's name, if the archive does not say it")

    save = _action(actions, "save", "write an image to a file")
    save.add_argument("images", nargs=1, metavar="IMAGE")
    save.add_argument("--output", "-o", type=Path, required=True, metavar="FILE")
    save.add_argument("--format", choices=["docker-archive", "oci-archive"], default="docker-archive")

    listing = _action(actions, "list", "show the images of this machine")
    listing.add_argument("--quiet", "-q", action="store_true", help="IDs only")

    remove = _action(actions, "remove", "delete images that no container uses, or one of several names of an image")
    remove.add_argument("images", nargs="+", metavar="IMAGE", help="name, digest reference or ID")

    _action(actions, "prune", "delete all images that no container uses and that are not pinned")

    for name, text in (
        ("pin", "keep images whatever garbage collection and prune do"),
        ("unpin", "leave images to garbage collection and prune again"),
    ):
        _action(actions, name, text).add_argument("images", nargs="+", metavar="IMAGE", help="name, digest or ID")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text.capitalize() + ".")
    settings.add_data_dir(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 1 after one line on stderr for each failure. Raises CommandError."""
    actions: dict[str, Callable[[ImageStore, argparse.Namespace], Awaitable[int]]] = {
        "pull": _pull,
        "load": _load,
        "save": _save,
        "list": _list,
        "remove": _remove,
        "prune": _prune,
        "pin": _pin,
        "unpin": _pin,
    }
    # Here, since `podling --help` need not pay for it.
    from podling.runtime.native.image import ImageStore

    cluster = settings.wanted(args, settings.load(args.data_dir))
    registries_conf = Path(os.path.abspath(cluster.registries_conf)) if cluster.registries_conf else None
    store = ImageStore(cluster.data_dir / "images", cluster.run_dir / "images", registries_conf)
    return asyncio.run(_with(store, args, actions[args.action]))


async def _with(
    store: ImageStore, args: argparse.Namespace, action: Callable[[ImageStore, argparse.Namespace], Awaitable[int]]
) -> int:
    from podling.runtime.protocol import CRIError

    try:
        await store.open()
        return await action(store, args)
    except CRIError as e:
        raise CommandError(e.message) from e
    except OSError as e:
        raise CommandError(file_error.reason(e, args.data_dir)) from e
    finally:
        await store.close()


def _failed(message: str) -> int:
    print(f"podling image: {message}", file=sys.stderr)
    return 1


def _progress() -> int:
    """skopeo draws progress bars on a terminal, and else prints a line for each layer."""
    return 1 if sys.stdout.isatty() else 2


async def _pull(store: ImageStore, args: argparse.Namespace) -> int:
    from podling.runtime.protocol import AuthConfig, CRIError

    auth = None
    if args.credentials:
        username, colon, password = _first_line(args.credentials).partition(":")
        if not colon:
            raise CommandError("credentials must be user:password")
        auth = AuthConfig(username=username, password=password)
    code = 0
    for name in args.images:
        print(f"Pulling {name}", file=sys.stderr)
        try:
            print(await store.pull_image(name, auth, progress=_progress()), flush=True)
        except CRIError as e:
            code = _failed(e.message)
    return code


def _first_line(file: str) -> str:
    if file == "-":
        return sys.stdin.readline().strip()
    with open(file) as f:
        return f.readline().strip()


async def _load(store: ImageStore, args: argparse.Namespace) -> int:
    print(f"Loading {args.archive}", file=sys.stderr)
    for image_id in await store.load(args.archive, args.name, progress=_progress()):
        image = await store.image_status(image_id)
        print(image_id, *(image.repo_tags if image else ()))
    return 0


async def _save(store: ImageStore, args: argparse.Namespace) -> int:
    print(f"Saving {args.images[0]} to {args.output}", file=sys.stderr)
    await store.save(args.images[0], args.output, args.format, progress=_progress())
    return 0


async def _list(store: ImageStore, args: argparse.Namespace) -> int:
    rows = []
    for image in await store.list_images():
        if args.quiet:
            print(image.id)
            continue
        short_id, size = image.id.removeprefix("sha256:")[:12], f"{image.size / 1e6:.1f}MB"
        size += "   (pinned)" if image.pinned else ""
        names = [tuple(tag.rsplit(":", 1)) for tag in image.repo_tags]
        names = (
            names or [(digest.partition("@")[0], "<none>") for digest in image.repo_digests] or [("<none>", "<none>")]
        )
        rows += [(*name, short_id, size) for name in names]
    if not args.quiet:
        table = [("IMAGE", "TAG", "IMAGE ID", "SIZE"), *sorted(rows)]
        widths = [max(len(row[column]) for row in table) for column in range(3)]
        for row in table:
            print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3], sep="   ")
    return 0


async def _remove(store: ImageStore, args: argparse.Namespace) -> int:
    from podling.runtime.protocol import CRIError

    used = await asyncio.to_thread(_used, args)
    code = 0
    for name in args.images:
        image = await store.image_status(name)
        try:
            if image is None:
                code = _failed(f'image "{name}": not found')
            elif (named := await store.remove_name(name)) is not None:
                print(f"Removed the name {name}; the image stays: {', '.join(named.repo_tags) or named.id}")
            elif image.id in used:
                code = _failed(f'image "{name}" is in use by container {used[image.id]}')
            else:
                await store.remove_image(image.id)
                print(f"Removed {', '.join(image.repo_tags) or image.id}")
        except CRIError as e:
            code = _failed(e.message)
    return code


async def _prune(store: ImageStore, args: argparse.Namespace) -> int:
    from podling.runtime.protocol import CRIError

    before = (await store.image_fs_info()).used_bytes
    code = 0
    for image in await store.list_images():
        # Looked up anew each time: the agent may start a container meanwhile.
        if image.pinned or image.id in await asyncio.to_thread(_used, args):
            continue
        try:
            await store.remove_image(image.id)
            print(f"Removed {', '.join(image.repo_tags) or image.id}", flush=True)
        except CRIError as e:
            code = _failed(e.message)
    freed = before - (await store.image_fs_info()).used_bytes
    print(f"Freed {max(0, freed) / 1e6:.1f}MB")
    return code


async def _pin(store: ImageStore, args: argparse.Namespace) -> int:
    from podling.runtime.protocol import NotFound

    code = 0
    for name in args.images:
        try:
            await store.pin(name, pinned=args.action == "pin")
        except NotFound as e:
            code = _failed(e.message)
    return code


def _used(args: argparse.Namespace) -> dict[str, str]:
    """The images that containers of the cluster stand on, by ID, each with one of those containers."""
    from podling.runtime.native.state import Layout, Records

    cluster = settings.wanted(args, settings.load(args.data_dir))
    layout = Layout(cluster.data_dir, cluster.run_dir)
    if not layout.containers.is_dir():
        return {}
    used: dict[str, str] = {}
    for container_id, record in Records(layout).load_containers():
        if record is not None:
            images = (record.image_id or record.config.image, *(m.image for m in record.config.mounts))
            used |= dict.fromkeys(filter(None, images), f"{record.config.metadata.name} ({container_id[:12]})")
    return used
