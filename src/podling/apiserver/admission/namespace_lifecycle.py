"""NamespaceLifecycle: nothing is created in a namespace that is missing or going, and the system's stay.

Source: upstream plugin/namespace/lifecycle. Creating waits a moment for a namespace that is being created.
"""

from __future__ import annotations

from podling.api import scheme, status
from podling.api.core.v1 import Namespace
from podling.api.meta.v1 import StatusCause
from podling.apiserver.admission.chain import Lookup, Operation, Review, refuse

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle:
    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def admit(self, review: Review) -> None:
        resource = review.resource
        if resource.type is Namespace:
            if review.operation is Operation.DELETE and review.name in IMMORTAL:
                raise status.forbidden(resource, review.name, "this namespace may not be deleted")
            return
        if not review.namespace or review.operation is not Operation.CREATE:
            return
        namespace: Namespace | None = self._lookup(Namespace, "", review.namespace)
        if namespace is None:
            raise status.not_found(scheme.by_type(Namespace), review.namespace)
        if namespace.status.phase != "Terminating":
            return
        text = f"unable to create new content in namespace {review.namespace} because it is being terminated"
        error = refuse(review, text)
        cause = StatusCause(
            reason="NamespaceTerminating",
            message=f"namespace {review.namespace} is being terminated",
            field="metadata.namespace",
        )
        if error.status.details is not None:
            error.status.details.causes.append(cause)
        raise error
