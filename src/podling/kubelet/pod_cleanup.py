"""Takes a Pod off the node. Everything here is idempotent and needs no more than the Pod's UID, so that it also serves Pods
that the API has forgotten."""

from __future__ import annotations

import asyncio

from podling.kubelet import cgroups, log_files
from podling.kubelet.pod_context import PodContext
from podling.runtime import tree


async def stop_pod(context: PodContext, uid: str) -> None:
    """Releases what only a running Pod needs: network, volumes, cgroup. Exited containers and logs stay."""
    for sandbox in await context.runtime.list_pod_sandbox(pod_uid=uid):
        await context.runtime.stop_pod_sandbox(sandbox.id)
    context.watches.forget(uid)
    context.tokens.forget(uid)
    await context.volumes.tear_down(uid)
    await asyncio.to_thread(_remove_cgroups, context, uid)


async def remove_pod(context: PodContext, uid: str) -> None:
    """Removes everything of the Pod from the node, its logs too."""
    for sandbox in await context.runtime.list_pod_sandbox(pod_uid=uid):
        await context.runtime.stop_pod_sandbox(sandbox.id)
        await context.runtime.remove_pod_sandbox(sandbox.id)
    context.watches.forget(uid)
    context.tokens.forget(uid)
    await context.volumes.tear_down(uid)
    await asyncio.to_thread(_remove_cgroups, context, uid)
    await asyncio.to_thread(_remove_files, context, uid)


def _remove_cgroups(context: PodContext, uid: str) -> None:
    """Whatever its quality of service was."""
    for parent in cgroups.qos_parents(context.cgroup_root):
        context.cgroups.remove(f"{parent}/pod{uid}")


def _remove_files(context: PodContext, uid: str) -> None:
    logs = context.paths.log_directories(uid)
    for directory in logs:
        for file in directory.glob("*/*"):
            log_files.remove(file)
    for directory in [context.paths.directory(uid), *logs]:
        tree.remove(directory)
