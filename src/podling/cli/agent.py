"""`podling agent`: the process of the node agent; `podling up` starts it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from podling.cli import daemon
from podling.cli import settings as cluster_settings
from podling.cli.settings import Settings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("agent", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return daemon.run(args, "agent", main)


async def main(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    from podling.kubelet.image_gc import ImageGCPolicy
    from podling.kubelet.image_pull_manager import VerificationPolicy
    from podling.kubelet.kubelet import Kubelet, KubeletConfig
    from podling.kubelet.log_rotation import LogPolicy

    allowlist, sysctls = settings.preloaded_images_verification_allowlist, settings.allowed_unsafe_sysctls
    config = KubeletConfig(
        node_name=settings.node_name,
        data_dir=settings.data_dir,
        run_dir=settings.run_dir,
        api_socket=settings.kubelet_socket,
        port=settings.agent_port,
        api_server_port=settings.port,
        bridge=settings.bridge,
        pod_cidr=settings.pod_cidr,
        registries_conf=_path(settings.registries_conf),
        oci_runtime=settings.oci_runtime,
        auth_file=_path(settings.auth_file),
        image_credential_provider_config=_path(settings.image_credential_provider_config),
        image_credential_provider_bin_dir=_path(settings.image_credential_provider_bin_dir),
        image_pull_credentials_verification_policy=VerificationPolicy(
            settings.image_pull_credentials_verification_policy
        ),
        preloaded_images_verification_allowlist=tuple(allowlist.split(",")) if allowlist else (),
        allowed_unsafe_sysctls=tuple(sysctls.split(",")) if sysctls else (),
        logs=LogPolicy(max_bytes=settings.container_log_max_size, max_files=settings.container_log_max_files),
        image_gc=ImageGCPolicy(
            high_threshold_percent=settings.image_gc_high_threshold,
            low_threshold_percent=settings.image_gc_low_threshold,
            minimum_age=settings.image_minimum_gc_age,
            maximum_age=settings.image_maximum_gc_age,
        ),
    )
    await Kubelet(config).run(stop, ready)


def _path(text: str) -> Path | None:
    return Path(text) if text else None
