"""How an object goes: at once, after a grace period, or when its finalizers are gone (upstream's BeforeDelete)."""

from __future__ import annotations

import time as clock
from typing import TypeVar

from msgspec import Struct

from podling.api import time
from podling.api.meta.v1 import DeleteOptions, ObjectMeta
from podling.apiserver.strategy import ApiObject, Strategy

T = TypeVar("T", bound=ApiObject)

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_LAST_GENERATION = 2**63 - 1


class Step(Struct, frozen=True):
    """pending: nothing is to be done, deletion is under way. keep: the changed object is stored instead of deleted."""

    pending: bool = False
    keep: bool = False


def begin_deletion(strategy: Strategy[T], obj: T, options: DeleteOptions) -> Step:
    """Changes `obj` (and the grace period in `options`) as a DELETE asks for, and tells what comes next."""
    metadata = obj.metadata
    graceful = False
    if metadata.deletion_timestamp:
        if metadata.deletion_grace_period_seconds:
            if not _shorten(metadata, options):
                return Step(pending=True)
            graceful = True
    elif strategy.check_graceful_delete(obj, options):
        metadata.deletion_timestamp = time.from_seconds(clock.time() + (options.grace_period_seconds or 0))
        metadata.deletion_grace_period_seconds = options.grace_period_seconds
        _count(metadata)
        graceful = True
    metadata.finalizers = _garbage_collection_finalizers(metadata.finalizers, options)
    if strategy.is_held(obj):
        if not graceful:
            _mark(metadata)
        strategy.mark_deleting(obj)
        return Step(keep=True)
    return Step(keep=graceful and bool(options.grace_period_seconds))


def goes_with_update(strategy: Strategy[T], obj: T) -> bool:
    """Whether the updated object was only held by what the update took away."""
    metadata = obj.metadata
    return (
        bool(metadata.deletion_timestamp) and not metadata.deletion_grace_period_seconds and not strategy.is_held(obj)
    )


def _shorten(metadata: ObjectMeta, options: DeleteOptions) -> bool:
    """A grace period under way can only become shorter."""
    current, wanted = metadata.deletion_grace_period_seconds or 0, options.grace_period_seconds
    if wanted is None:
        return False
    wanted = 1 if wanted < 0 else wanted
    if wanted >= current:
        return False
    ends = time.to_seconds(metadata.deletion_timestamp)
    # At the end of time it does not tell any more when the first period began.
    moved = ends - current + wanted if ends < time.LATEST else clock.time() + wanted
    metadata.deletion_timestamp = time.from_seconds(moved)
    metadata.deletion_grace_period_seconds = wanted
    options.grace_period_seconds = wanted
    return True


def _mark(metadata: ObjectMeta) -> None:
    if not metadata.deletion_timestamp:
        metadata.deletion_timestamp = time.now()
        _count(metadata)
    metadata.deletion_grace_period_seconds = 0


def _count(metadata: ObjectMeta) -> None:
    if metadata.generation:  # of a kind that does not count, as large as a client said
        metadata.generation = min(metadata.generation + 1, _LAST_GENERATION)


def _garbage_collection_finalizers(finalizers: list[str], options: DeleteOptions) -> list[str]:
    """The finalizers as propagationPolicy (or the older orphanDependents) wants them; unasked, they stay."""
    policy = options.propagation_policy
    if policy is None and options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    if policy is None:
        return finalizers
    kept = [name for name in finalizers if name not in (ORPHAN, FOREGROUND)]
    if policy == "Orphan":
        return [*kept, ORPHAN]
    return [*kept, FOREGROUND] if policy == "Foreground" else kept
