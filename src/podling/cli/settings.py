"""The settings of a cluster: flags, remembered in <data-dir>/config.json."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from podling.cli.errors import CommandError

DEFAULT_DATA_DIR = Path("/var/lib/podling")
DEFAULT_RUN_DIR = Path("/run/podling")
CONFIG_FILE = "config.json"
"""In the data directory; a copy in the run directory, in case that one is deleted while the cluster runs."""
OWNER_FILE = "cluster"
"""In the run directory, names the data directory of the cluster that it belongs to."""
_SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One field per flag of `podling up`."""

    data_dir: Path = DEFAULT_DATA_DIR
    run_dir: Path = DEFAULT_RUN_DIR
    port: int = 6443
    agent_port: int = 10250
    node_name: str = ""
    bridge: str = "podling0"
    pod_cidr: str = "10.244.0.0/24"
    service_cidr: str = "10.96.0.0/16"
    registries_conf: str = ""
    oci_runtime: str = ""
    """Empty: crun, or runc where crun does not work."""
    auth_file: str = ""
    """Empty: auth.json in the data directory, or root's .docker/config.json."""
    image_credential_provider_config: str = ""
    image_credential_provider_bin_dir: str = ""
    image_pull_credentials_verification_policy: str = "NeverVerifyPreloadedImages"
    preloaded_images_verification_allowlist: str = ""
    image_gc_high_threshold: int = 85
    image_gc_low_threshold: int = 80
    image_minimum_gc_age: int = 120
    image_maximum_gc_age: int = 0
    """Ages in seconds; no maximum: 0."""
    container_log_max_size: int = 10 << 20
    """Bytes of one file of a container's log."""
    container_log_max_files: int = 5
    """Files of a container's log, the one in use included."""
    allowed_unsafe_sysctls: str = ""

    @property
    def api_socket(self) -> Path:
        return self.run_dir / "apiserver.sock"

    @property
    def kubelet_socket(self) -> Path:
        """The API server's socket for this machine's kubelet."""
        return self.run_dir / "kubelet.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "admin.kubeconfig"

    @property
    def service_address(self) -> str:
        """Of the Service "kubernetes"."""
        return str(IPv4Network(self.service_cidr, strict=False).network_address + 1)

    def log(self, process: str) -> Path:
        return self.data_dir / "logs" / f"{process}.log"

    def command(self, name: str) -> str:
        """The command line of another command for this cluster."""
        return f"podling {name}" + ("" if self.data_dir == DEFAULT_DATA_DIR else f" --data-dir {self.data_dir}")

    @property
    def instance(self) -> str:
        """A short name of the cluster among those on this machine; "" for the one in the default directory."""
        return (
            ""
            if self.data_dir == DEFAULT_DATA_DIR
            else hashlib.blake2s(bytes(self.data_dir), digest_size=4).hexdigest()
        )


_SMALLEST_LOG = 64 << 10
"""Bytes; conmon writes up to 32 KiB at a time."""

VERIFICATION_POLICIES = (
    "NeverVerify",
    "NeverVerifyPreloadedImages",
    "NeverVerifyAllowlistedImages",
    "AlwaysVerify",
)

FIXED = ("run_dir", "node_name", "bridge", "pod_cidr", "service_cidr")
"""What containers and objects depend on: it stays as it is until `podling reset`."""


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=_directory, default=DEFAULT_DATA_DIR, metavar="DIR", help="the cluster's files (%(default)s)"
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All of Settings. A flag that is not given is None: then the remembered value counts, else the default."""
    add_data_dir(parser)
    default = Settings()
    add = parser.add_argument
    add("--run-dir", type=_directory, metavar="DIR", help=f"sockets and namespaces ({default.run_dir})")
    add("--port", type=_port, metavar="N", help=f"of the API server ({default.port})")
    add("--agent-port", type=_port, metavar="N", help=f"of the kubelet API ({default.agent_port})")
    add("--node-name", type=_node_name, metavar="NAME", help="(this machine's host name)")
    add("--bridge", type=_bridge, metavar="NAME", help=f"the Pod network's interface ({default.bridge})")
    add("--pod-cidr", type=_cidr, metavar="CIDR", help=f"addresses of Pods ({default.pod_cidr})")
    add("--service-cidr", type=_cidr, metavar="CIDR", help=f"addresses of Services ({default.service_cidr})")
    add("--registries-conf", type=_file, metavar="FILE", help="containers-registries.conf(5) for pulls (the machine's)")
    add(
        "--oci-runtime",
        type=_program,
        metavar="crun|runc|PATH",
        help="what runs the containers (crun, or runc where crun does not work)",
    )
    add(
        "--auth-file",
        type=_file,
        metavar="FILE",
        help="the node's own registry credentials, a docker config.json (auth.json in the data directory, or root's)",
    )
    add(
        "--image-credential-provider-config",
        type=_file,
        metavar="FILE|DIR",
        help="kubelet's CredentialProviderConfig: plugins that know registries' credentials",
    )
    add("--image-credential-provider-bin-dir", type=_file, metavar="DIR", help="where these plugins are")
    add(
        "--image-pull-credentials-verification-policy",
        choices=VERIFICATION_POLICIES,
        help=f"who may use images that are on the node ({default.image_pull_credentials_verification_policy})",
    )
    add(
        "--preloaded-images-verification-allowlist",
        metavar="NAMES",
        help="for the policy NeverVerifyAllowlistedImages: repositories, separated by commas; registry/path/* for all below",
    )
    high, low = default.image_gc_high_threshold, default.image_gc_low_threshold
    add("--image-gc-high-threshold", type=_percent, metavar="PERCENT", help=f"disk in use: images are deleted ({high})")
    add("--image-gc-low-threshold", type=_percent, metavar="PERCENT", help=f"until no more is in use than this ({low})")
    age = default.image_minimum_gc_age
    add("--image-minimum-gc-age", type=_seconds, metavar="SECONDS", help=f"younger images are not deleted ({age})")
    add("--image-maximum-gc-age", type=_seconds, metavar="SECONDS", help="unused for longer: deleted anyway (never)")
    add(
        "--container-log-max-size",
        type=_size,
        metavar="SIZE",
        help="of one file of a container's log; with the next flag it bounds what a log takes on disk (10Mi)",
    )
    add(
        "--container-log-max-files",
        type=_files,
        metavar="N",
        help=f"of one container's log, at least 2: the oldest lines go first ({default.container_log_max_files})",
    )
    add(
        "--allowed-unsafe-sysctls",
        type=_sysctls,
        metavar="NAMES",
        help="that Pods may set besides the safe ones, separated by commas; net.core.* for all of that prefix",
    )


def load(data_dir: Path) -> Settings | None:
    """The settings of the cluster in that directory; None if there is none. Raises CommandError."""
    return _read(data_dir / CONFIG_FILE, data_dir)


def find(data_dir: Path) -> Settings | None:
    """The same, but goes by the run directory if the data directory was deleted by hand."""
    found = load(data_dir)
    if found is None:
        run_dir = defaults(data_dir).run_dir
        try:
            owner = (run_dir / OWNER_FILE).read_text()
        except OSError:
            return None
        if owner == str(data_dir):
            found = _read(run_dir / CONFIG_FILE, data_dir)
    return found


def _read(path: Path, data_dir: Path) -> Settings | None:
    import json

    try:
        saved = json.loads(path.read_bytes())
        known = {
            field.name: str if isinstance(field.default, Path) else type(field.default) for field in fields(Settings)
        }
        settings = Settings(**{name: value for name, value in saved.items() if name in known})
        for name in known.keys() & saved.keys():
            if type(saved[name]) is not known[name]:
                raise TypeError(name)
        return replace(settings, data_dir=data_dir, run_dir=Path(settings.run_dir))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise CommandError(f"{path} can be read by root only: try with sudo") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError):
        text = "it does not hold the settings that `podling up` wrote; restore it from a copy"
        raise CommandError(f"{path} cannot be read: {text}") from None


def existing(data_dir: Path) -> Settings:
    """Return what find() returns. Raises CommandError if there is no cluster."""
    settings = find(data_dir)
    if settings is None:
        raise CommandError(f"no cluster in {data_dir} (`{Settings(data_dir=data_dir).command('up')}` makes one)")
    return settings


def deleted(settings: Settings) -> str:
    """What to say where the data directory of a cluster was deleted by hand, "" where it was not."""
    if (settings.data_dir / CONFIG_FILE).exists():
        return ""
    reset = settings.command("reset")
    return f"{settings.data_dir}, the data of this cluster, was deleted: `{reset}` removes what is left on the machine"


def save(settings: Settings, directory: Path | None = None) -> None:
    """Raises CommandError if the file cannot be written; nothing is left of it then. The same settings are not written.

    `directory`: where, if not in the data directory.
    """
    import json

    path = (directory or settings.data_dir) / CONFIG_FILE
    content = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    text = json.dumps(content, indent=2) + "\n"
    temporary = path.with_suffix(".tmp")
    try:
        if path.exists() and path.read_text() == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def wanted(args: argparse.Namespace, saved: Settings | None) -> Settings:
    """Flags over remembered settings over defaults. Raises CommandError for a combination that cannot be."""
    given = {f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name, None) is not None}
    base = saved or replace(defaults(args.data_dir), node_name=_host_name())
    settings = replace(base, **given)
    if saved is not None:
        for name in FIXED:
            if getattr(settings, name) != getattr(saved, name):
                raise CommandError(
                    f"{flag(name)} {getattr(settings, name)}: the cluster in {saved.data_dir} was made with "
                    f"{getattr(saved, name)}, which only `{saved.command('reset')}` lets you change"
                )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if len(bytes(settings.api_socket)) > _SOCKET_PATH_LIMIT:
        raise CommandError(f"--run-dir {settings.run_dir} is too long for a socket's path: use a shorter one")
    if settings.port == settings.agent_port:
        raise CommandError(f"--port and --agent-port are both {settings.port}")
    pods, services = (IPv4Network(cidr, strict=False) for cidr in (settings.pod_cidr, settings.service_cidr))
    if pods.overlaps(services):
        raise CommandError(f"--pod-cidr {pods} and --service-cidr {services} overlap")
    if pods.prefixlen > 30 or services.prefixlen > 30:
        raise CommandError(f"--pod-cidr {pods} and --service-cidr {services} must be /30 or larger")
    if settings.registries_conf and not os.access(settings.registries_conf, os.R_OK):
        raise CommandError(f"--registries-conf {settings.registries_conf}: no such file")
    _check_images(settings)


def _check_images(settings: Settings) -> None:
    high, low = settings.image_gc_high_threshold, settings.image_gc_low_threshold
    if low > high:
        raise CommandError(f"--image-gc-low-threshold {low} is higher than --image-gc-high-threshold {high}")
    for name in ("auth_file", "image_credential_provider_config", "image_credential_provider_bin_dir"):
        path = getattr(settings, name)
        if path and not os.access(path, os.R_OK):
            raise CommandError(f"{flag(name)} {path}: no such file or directory")
    config, bin_dir = settings.image_credential_provider_config, settings.image_credential_provider_bin_dir
    if bool(config) != bool(bin_dir):
        raise CommandError(
            "--image-credential-provider-config and --image-credential-provider-bin-dir go together: one is missing"
        )
    listed = settings.image_pull_credentials_verification_policy == "NeverVerifyAllowlistedImages"
    if settings.preloaded_images_verification_allowlist and not listed:
        raise CommandError(
            "--preloaded-images-verification-allowlist needs "
            "--image-pull-credentials-verification-policy NeverVerifyAllowlistedImages"
        )


def defaults(data_dir: Path) -> Settings:
    """What holds for a cluster in that directory as long as no flag says otherwise."""
    settings = Settings(data_dir=data_dir)
    return replace(settings, run_dir=Path(f"{DEFAULT_RUN_DIR}-{settings.instance}")) if settings.instance else settings


def _host_name() -> str:
    """As the kubelet's default: lower case, blanks around it cut."""
    return platform.node().strip().lower() or "localhost"


def _percent(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage (0 to 100)")
    return int(text)


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)


def _size(text: str) -> int:
    from podling.api.quantity import Quantity

    try:
        size: int = Quantity(text).value()
    except ValueError:
        size = 0
    if size < _SMALLEST_LOG:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least 64Ki, such as 10Mi or 500k")
    return size


def _files(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 2")
    return int(text)


def _sysctls(text: str) -> str:
    from podling.api.sysctl import Allowlist

    try:
        Allowlist.of(text.split(",") if text else ())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(os.path.abspath(text))


def _file(text: str) -> str:
    return os.path.abspath(text) if text else ""


def _program(text: str) -> str:
    """A path is made absolute, for the agent works elsewhere."""
    return os.path.abspath(text) if "/" in text else text


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f'"{text}" is not a port (1-65535)')
    return int(text)


def _node_name(text: str) -> str:
    if len(text) > 253 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", text):
        raise argparse.ArgumentTypeError(f'"{text}" is not a lowercase DNS name')
    return text


def _bridge(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", text):
        raise argparse.ArgumentTypeError(f'"{text}" must be 1-15 letters, digits, "_", "." or "-", a letter first')
    return text


def _cidr(text: str) -> str:
    address, _, length = text.partition("/")
    wrong = ""
    if not _is_address(address):
        wrong = f'"{address}" is not four numbers from 0 to 255 without leading zeros'
    elif not (length.isascii() and length.isdecimal() and len(length) <= 2 and int(length) <= 32):
        wrong = 'the length of the prefix, "/0" to "/32", must follow the address'
    if wrong:
        raise argparse.ArgumentTypeError(f'"{text}" is not an IPv4 range such as 10.244.0.0/24: {wrong}')
    return str(IPv4Network(text, strict=False))


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
