"""What the opening of the store found: told in the log and in Events, once at each start of the server."""

from __future__ import annotations

import logging
import time as clock

from podling.api import defaults, status, time
from podling.api.core.v1 import Event, EventSource, ObjectReference
from podling.api.meta.v1 import ObjectMeta
from podling.apiserver import unreadable
from podling.apiserver.registry import Caller
from podling.apiserver.state import State
from podling.apiserver.user import LOCAL
from podling.store.protocol import Store, StoreError

log = logging.getLogger(__name__)

_COMPONENT = "apiserver"
_EVENTS = 100
"""So many are written for unreadable objects. The log names all of these."""


async def publish(state: State) -> None:
    """Returns when the log has it all and the Events are stored, as far as that is possible."""
    if (lost := state.store.rollback) is not None:
        text = (
            f"the store was opened at revision {lost.opened}, though revision {lost.acknowledged} had been acknowledged: "
            f"its files were damaged, or replaced by an older copy, and what was written in between is lost"
        )
        log.error("%s", text)
        involved = ObjectReference(api_version="v1", kind="Namespace", name="kube-system")
        await _event(state, involved, "StoreRolledBack", text)
    found = list(unreadable.all_of(state.store))
    for number, (resource, namespace, name, value) in enumerate(found):
        text = unreadable.describe(resource, namespace, name, value)
        log.error("%s", text)
        if number < _EVENTS:
            involved = ObjectReference(
                api_version=resource.api_version,
                kind=resource.kind,
                namespace=namespace,
                name=name,
                uid=unreadable.uid(value.entry.value),
            )
            await _event(state, involved, "Unreadable", text)


def metrics(store: Store) -> str:
    """The same in Prometheus' text format, as long as it holds."""
    lines = [
        "# HELP podling_store_unreadable_objects Objects in the store that cannot be read.",
        "# TYPE podling_store_unreadable_objects gauge",
        f"podling_store_unreadable_objects {len(store.unreadable)}",
    ]
    if (lost := store.rollback) is not None:
        lines += [
            "# HELP podling_store_lost_revisions Acknowledged revisions that were lost before the store was opened.",
            "# TYPE podling_store_lost_revisions gauge",
            f'podling_store_lost_revisions{{opened="{lost.opened}",acknowledged="{lost.acknowledged}"}}'
            f" {lost.acknowledged - lost.opened}",
        ]
    return "\n".join(lines) + "\n"


async def _event(state: State, involved: ObjectReference, reason: str, message: str) -> None:
    namespace = involved.namespace or "default"
    stamp = time.now()
    event = Event(
        metadata=ObjectMeta(name=f"{involved.name}.{clock.time_ns():x}", namespace=namespace),
        involved_object=involved,
        type="Warning",
        reason=reason,
        message=message[:1024],
        count=1,
        first_timestamp=stamp,
        last_timestamp=stamp,
        source=EventSource(component=_COMPONENT),
        reporting_component=_COMPONENT,
    )
    defaults.apply(event)
    try:
        await state.registry(Event).create(event, namespace, Caller(LOCAL))
    except (status.ApiError, StoreError) as error:
        # The namespace is gone or going, or the disk is full: no reason not to serve.
        log.warning("event not written: %s", error)
