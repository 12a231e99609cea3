"""The images of tests, demo and benchmarks, built out of Debian packages: no Docker, no network but Debian's.

`python -m tools.images DIRECTORY [NAME ...]` writes them as OCI layouts (one directory each).

They stand in for the official images and behave like them where Pods notice: entrypoint, command, exposed ports, stop
signal, volumes, users, logs on stdout. All have BusyBox for a shell.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import debian_packages, oci_layout
from tools.oci_layout import ImageSpec, Layer, LayoutWriter

CACHE = Path("/var/cache/podling/test-images")

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"

_NGINX_CONF = """\
user  nginx;
worker_processes  auto;

error_log  /var/log/nginx/error.log notice;
pid        /run/nginx.pid;

events {
    worker_connections  1024;
}

http {
    include       /etc/nginx/mime.types;
    default_type  application/octet-stream;
    log_format  main  '$remote_addr - $remote_user [$time_local] "$request" '
                      '$status $body_bytes_sent "$http_referer" '
                      '"$http_user_agent" "$http_x_forwarded_for"';
    access_log  /var/log/nginx/access.log  main;
    sendfile        on;
    keepalive_timeout  65;
    include /etc/nginx/conf.d/*.conf;
}
"""
_NGINX_DEFAULT_CONF = """\
server {
    listen       80;
    server_name  localhost;
    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }
    error_page   500 502 503 504  /50x.html;
    location = /50x.html {
        root   /usr/share/nginx/html;
    }
}
"""


def _base(work: Path) -> Layer:
    """A small Linux: BusyBox with all its applets, users, the usual directories."""
    root = work / "busybox"
    debian_packages.unpack(root, "busybox-static")
    busybox = next(p for p in (root / "bin/busybox", root / "usr/bin/busybox") if p.is_file())
    layer = Layer()
    for path in debian_packages.run(str(busybox), "--list-full").split():
        layer.symlink(path, "/bin/busybox")
    layer.file("bin/busybox", busybox, 0o755)
    for directory in ("dev", "etc", "home", "proc", "sys", "usr/local/bin", "var/log", "run"):
        layer.directory(directory)
    layer.directory("root", 0o700)
    layer.directory("tmp", 0o1777)
    layer.directory("var/tmp", 0o1777)
    layer.symlink("var/run", "/run")
    layer.file("etc/passwd", _PASSWD)
    layer.file("etc/group", _GROUP)
    layer.file("etc/shadow", "root:*::0:99999:7:::\n", 0o640)
    layer.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    layer.file("etc/hostname", "")
    layer.symlink("etc/mtab", "/proc/mounts")
    return layer


def _busybox(work: Path) -> ImageSpec:
    return ImageSpec([_base(work)], {"Cmd": ["sh"], "Env": [PATH]})


def _nginx(work: Path) -> ImageSpec:
    root = work / "nginx"
    debian_packages.unpack(root, "nginx", "nginx-common")
    layer = Layer()
    debian_packages.add_program(layer, root, "usr/sbin/nginx")
    layer.file("etc/passwd", _PASSWD + "nginx:x:101:101:nginx user:/nonexistent:/bin/false\n")
    layer.file("etc/group", _GROUP + "nginx:x:101:\n")
    layer.file("etc/nginx/nginx.conf", _NGINX_CONF)
    layer.file("etc/nginx/conf.d/default.conf", _NGINX_DEFAULT_CONF)
    layer.file("etc/nginx/mime.types", root / "etc/nginx/mime.types")
    layer.file("usr/share/nginx/html/index.html", root / "usr/share/nginx/html/index.html")
    layer.file("usr/share/nginx/html/50x.html", "<!DOCTYPE html>\n<h1>An error occurred.</h1>\n")
    layer.directory("var/lib/nginx", 0o755)
    layer.symlink("var/log/nginx/access.log", "/dev/stdout")
    layer.symlink("var/log/nginx/error.log", "/dev/stderr")
    config = {
        "Cmd": ["nginx", "-g", "daemon off;"],
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Env": [PATH, "NGINX_VERSION=debian"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
        "Labels": {"maintainer": "NGINX out of Debian, for tests"},
    }
    layer.file("docker-entrypoint.sh", '#!/bin/sh\nset -e\nexec "$@"\n', 0o755)
    return ImageSpec([_base(work), layer], config)


def _redis(work: Path) -> ImageSpec:
    root = work / "redis"
    debian_packages.unpack(root, "redis-tools")
    layer = Layer()
    debian_packages.add_program(layer, root, "usr/bin/redis-check-rdb", "usr/local/bin/redis-server")
    # redis-cli needs no library that the server does not.
    debian_packages.add_program(layer, root, "usr/bin/redis-cli", "usr/local/bin/redis-cli")
    layer.file("etc/passwd", _PASSWD + "redis:x:999:999::/home/redis:/bin/sh\n")
    layer.file("etc/group", _GROUP + "redis:x:999:\n")
    layer.directory("data", 0o755, owner=(999, 999))
    config = {
        "User": "redis",
        "Cmd": ["redis-server", "--protected-mode", "no"],
        "Env": [PATH, "REDIS_VERSION=debian"],
        "ExposedPorts": {"6379/tcp": {}},
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
    }
    return ImageSpec([_base(work), layer], config)


RECIPES: dict[str, Callable[[Path], ImageSpec]] = {"busybox": _busybox, "nginx": _nginx, "redis": _redis}


@dataclass(frozen=True)
class BuiltImage:
    """An OCI layout on disk, holding one image tagged `latest`."""

    name: str
    layout: Path
    digest: str

    @property
    def source(self) -> str:
        """As skopeo names it."""
        return f"oci:{self.layout}:latest"


def _recipe_hash() -> str:
    """Of the sources that decide what is in an image: a changed recipe is built anew."""
    digest = hashlib.sha256()
    for module in (__file__, debian_packages.__file__, oci_layout.__file__):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()[:16]


def build(name: str, cache: Path = CACHE) -> BuiltImage:
    """The image, built on first use and kept below `cache`. Safe to call from several processes at once.

    Raises PackageError when the Debian packages cannot be had.
    """
    cache.mkdir(parents=True, exist_ok=True)
    layout = cache / f"{name}-{_recipe_hash()}"
    digest_file = layout / "digest"
    if not digest_file.exists():
        # One build at a time: two could not update apt's package lists at once.
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not digest_file.exists():
                with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as work:
                    staging = Path(work) / "layout"
                    digest = LayoutWriter(staging).write(RECIPES[name](Path(work)))
                    (staging / "digest").write_text(digest)
                    for old in cache.glob(f"{name}-*"):
                        shutil.rmtree(old)
                    os.rename(staging, layout)
    return BuiltImage(name, layout, digest_file.read_text())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.images", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the images are kept")
    parser.add_argument("names", nargs="*", help=", ".join(RECIPES))
    args: Any = parser.parse_args(argv)
    if unknown := set(args.names) - set(RECIPES):
        parser.error(f"no such image: {', '.join(sorted(unknown))}")
    try:
        for name in args.names or RECIPES:
            image = build(name, args.directory)
            print(f"{name} {image.layout} {image.digest}")
    except debian_packages.PackageError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
