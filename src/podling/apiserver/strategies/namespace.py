"""Namespaces: held by spec.finalizers until their content is gone. Source: upstream pkg/registry/core/namespace."""

from __future__ import annotations

from podling.api import status
from podling.api.core.v1 import Namespace, NamespaceStatus
from podling.apiserver.strategy import Strategy

FINALIZER = "kubernetes"
NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(Strategy[Namespace]):
    def prepare_for_create(self, obj: Namespace) -> None:
        obj.status = NamespaceStatus(phase="Active")
        if FINALIZER not in obj.spec.finalizers:
            obj.spec.finalizers.append(FINALIZER)
        self._label(obj)

    def prepare_for_update(self, obj: Namespace, old: Namespace) -> None:
        obj.spec.finalizers = old.spec.finalizers
        obj.status = old.status
        self._label(obj)

    def precondition_failed(self, name: str, what: str, wanted: str, found: str) -> status.ApiError:
        text = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        return status.conflict(self.resource, name, text)

    def is_held(self, obj: Namespace) -> bool:
        return bool(obj.metadata.finalizers or obj.spec.finalizers)

    def mark_deleting(self, obj: Namespace) -> None:
        obj.status.phase = "Terminating"

    def _label(self, obj: Namespace) -> None:
        if obj.metadata.name:
            obj.metadata.labels[NAME_LABEL] = obj.metadata.name
