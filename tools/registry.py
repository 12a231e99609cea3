"""A real registry (Debian's docker-registry) on loopback, and a registries.conf that sends public registries to it.

So manifests that say `image: nginx` run word for word on a machine without internet. For tests:

    with Registry(tmp_path) as registry:
        registry.push(images.build("nginx"), "docker.io/library/nginx:latest")
        ... podling up --registries-conf {registry.registries_conf}

For the demo: `python -m tools.registry start DIRECTORY` leaves one running with all images, `stop DIRECTORY` ends it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from tools import debian_packages, images

MIRRORED = (
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "k8s.gcr.io",
    "mcr.microsoft.com",
    "quay.io",
    "registry.k8s.io",
    "*.azurecr.io",
)
"""The prefixes that registries.conf maps. `*.azurecr.io/x` is the repository azurecr.io/x of this registry."""

STANDARD: Mapping[str, Sequence[str]] = {
    "busybox": (
        "docker.io/library/busybox:latest",
        "docker.io/library/busybox:1.36",
        "docker.io/library/busybox:1.28",
        "gcr.io/google_containers/busybox:latest",
        "registry.k8s.io/busybox:latest",
        "registry.k8s.io/e2e-test-images/busybox:1.29-4",
        "quay.io/prometheus/busybox:latest",
    ),
    "nginx": (
        "docker.io/library/nginx:latest",
        "docker.io/library/nginx:1.25",
        "docker.io/library/nginx:1.14.2",
        "docker.io/library/nginx:alpine",
    ),
    "redis": ("docker.io/library/redis:latest", "docker.io/library/redis:7"),
}
"""Names under which each image of tools.images is pushed."""

_LOG_SECONDS = 20.0


class RegistryError(Exception):
    """docker-registry or skopeo failed; the message holds what it said."""


class Registry:
    """One docker-registry process, keeping its files below `directory`.

    `users` (name to password) turns on basic authentication; `tls` makes a certificate, whose authority is `ca`. The
    process ends with this one, unless `detached`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        users: Mapping[str, str] | None = None,
        tls: bool = False,
        mirrored: Iterable[str] = MIRRORED,
        detached: bool = False,
    ) -> None:
        self.directory = directory.absolute()
        self.users = dict(users or {})
        self.address = ""
        """host:port, once started."""
        self.registries_conf = self.directory / "registries.conf"
        self.ca: Path | None = self.directory / "ca.crt" if tls else None
        self._mirrored = tuple(mirrored)
        self._detached = detached
        self._log = self.directory / "registry.log"
        self._markers = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when the registry answers. Raises RegistryError."""
        program = shutil.which("docker-registry")
        if program is None:
            raise RegistryError("docker-registry is not installed (Debian's package docker-registry)")
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.yml"
        config.write_text(json.dumps(self._config()))  # YAML contains JSON
        argv = [program, "serve", str(config)]
        if not self._detached:
            argv = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
        self._log.unlink(missing_ok=True)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=self._detached
            )
        try:
            self.address = self._wait_for_log(r"listening on (127\.0\.0\.1:\d+)")[1]
        except RegistryError:
            self.stop()
            raise
        self._write_registries_conf()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def push(self, image: images.BuiltImage, *names: str) -> None:
        """Pushes the image under each complete name, e.g. docker.io/library/nginx:1.25. Raises RegistryError."""
        for name in names:
            self.skopeo("copy", "--all", image.source, f"docker://{self.location(name)}", destination=True)

    def push_standard(self, cache: Path = images.CACHE) -> None:
        """Builds where needed, and pushes, all of STANDARD."""

        def push(item: tuple[str, Sequence[str]]) -> None:
            name, references = item
            self.push(images.build(name, cache), *references)

        with ThreadPoolExecutor(max_workers=len(STANDARD)) as pool:
            for _ in pool.map(push, STANDARD.items()):
                pass

    def delete(self, name: str) -> None:
        """Deletes the manifest that the complete name refers to."""
        self.skopeo("delete", f"docker://{self.location(name)}")

    def location(self, name: str) -> str:
        """Where the image of that complete name is in this registry."""
        host, _, rest = name.partition("/")
        if f"*.{host.partition('.')[2]}" in self._mirrored:
            host = host.partition(".")[2]
        return f"{self.address}/{host}/{rest}"

    def requests(self) -> list[str]:
        """The HTTP requests answered so far: "GET /v2/docker.io/library/nginx/manifests/latest 200". Not with `tls`."""
        # A request is logged after it was answered: one more, and all before it are in the log.
        self._markers += 1
        marker = f"/v2/?marker={self._markers}"
        connection = http.client.HTTPConnection(self.address)
        connection.request("GET", marker)
        connection.getresponse().read()
        connection.close()
        text = self._wait_for_log(re.escape(marker) + r" HTTP").string
        found = re.findall(r'"([A-Z]+ \S+) HTTP/[\d.]+" (\d+)', text)
        return [f"{request} {code}" for request, code in found if "?marker=" not in request]

    def skopeo(self, *args: str, destination: bool = False) -> None:
        """Runs skopeo as this registry's administrator. Raises RegistryError."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            policy = Path(directory) / "policy.json"
            policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
            auth = Path(directory) / "auth.json"
            auth.write_text(json.dumps({"auths": {self.address: {"auth": self._basic_auth()}} if self.users else {}}))
            verify = "--dest-tls-verify=false" if destination else "--tls-verify=false"
            command, *rest = args
            done = subprocess.run(
                ["skopeo", "--policy", str(policy), command, "--authfile", str(auth), verify, *rest],
                capture_output=True,
                text=True,
                # The cache of blob locations: of this registry alone.
                env={**os.environ, "_CONTAINERS_ROOTLESS_UID": "1", "XDG_DATA_HOME": str(self.directory)},
            )
        if done.returncode:
            raise RegistryError(f"skopeo {' '.join(args)}: {done.stderr.strip()}")

    def _basic_auth(self) -> str:
        user, password = next(iter(self.users.items()))
        return base64.b64encode(f"{user}:{password}".encode()).decode()

    def _config(self) -> object:
        server: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "of tests only"}
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "storage")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": server,
        }
        if self.users:
            import bcrypt

            lines = [f"{u}:{bcrypt.hashpw(p.encode(), bcrypt.gensalt(4)).decode()}" for u, p in self.users.items()]
            (self.directory / "htpasswd").write_text("\n".join(lines) + "\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.directory / "htpasswd")}}
        if self.ca is not None:
            certificate, key = _make_certificate(self.ca)
            server["tls"] = {"certificate": str(certificate), "key": str(key)}
        return config

    def _wait_for_log(self, pattern: str) -> re.Match[str]:
        assert self._process is not None
        deadline = time.monotonic() + _LOG_SECONDS
        while time.monotonic() < deadline:
            text = self._log.read_text(errors="replace")
            if match := re.search(pattern, text):
                return match
            if self._process.poll() is not None:
                raise RegistryError(f"docker-registry ended: {text.strip()}")
            time.sleep(0.005)
        raise RegistryError(f"docker-registry did not log {pattern} within {_LOG_SECONDS:g} s: {text.strip()}")

    def _write_registries_conf(self) -> None:
        entries = [
            f'[[registry]]\nprefix = "{prefix}"\nlocation = "{self.address}/{prefix.removeprefix("*.")}"\n'
            f"insecure = {str(self.ca is None).lower()}\n"
            for prefix in self._mirrored
        ]
        self.registries_conf.write_text("\n".join(entries))


def _make_certificate(ca: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and localhost that is its own authority."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "podling test registry")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file = ca.with_suffix(".key")
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca, key_file


def _running(directory: Path) -> int:
    """The pid of the registry started with `start`, 0 if it does not run."""
    try:
        pid = int((directory / "registry.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ValueError):
        return 0
    return pid if str(directory.absolute() / "config.yml").encode() in command.split(b"\0") else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.registry", description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cache", type=Path, default=images.CACHE, help="where built images are kept")
    args = parser.parse_args(argv)
    directory: Path = args.directory
    pid = _running(directory)
    if args.action == "stop":
        if pid:
            os.kill(pid, signal.SIGKILL)
        (directory / "registry.pid").unlink(missing_ok=True)
        return 0
    registry = Registry(directory, detached=True)
    try:
        if not pid:
            registry.start()
            (directory / "registry.pid").write_text(str(registry.pid))
            registry.push_standard(args.cache)
    except (RegistryError, debian_packages.PackageError) as e:
        registry.stop()
        print(e, file=sys.stderr)
        return 1
    print(registry.registries_conf)
    return 0


if __name__ == "__main__":
    sys.exit(main())
