"""ServiceAccount: every Pod runs as a service account that exists, and may pull with its secrets.

Source: upstream plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

from podling.api import scheme
from podling.api.core.v1 import LocalObjectReference, Pod, ServiceAccount
from podling.api.go import quote
from podling.apiserver.admission.chain import LookupSoon, Operation, Review, refuse

DEFAULT = "default"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

_WAIT = 1.5
"""Seconds to wait for a default service account, which the controllers make just after its namespace."""


class ServiceAccountPlugin:
    def __init__(self, lookup: LookupSoon) -> None:
        self._lookup = lookup

    async def admit(self, review: Review) -> None:
        if review.resource.type is not Pod or review.subresource or review.operation is not Operation.CREATE:
            return
        pod: Pod = review.obj
        spec = pod.spec
        if MIRROR_ANNOTATION in pod.metadata.annotations:
            self._admit_mirror(review, pod)
            return
        name = spec.service_account_name or spec.service_account or DEFAULT
        # The older name stays beside the newer, as upstream's conversion keeps them.
        spec.service_account_name = spec.service_account = name
        account: ServiceAccount | None = await self._lookup(
            ServiceAccount, review.namespace, name, _WAIT if name == DEFAULT else 0
        )
        if account is None:
            missing = f"{scheme.by_type(ServiceAccount).singular} {quote(name)} not found"
            raise refuse(review, f"error looking up service account {review.namespace}/{name}: {missing}")
        if not spec.image_pull_secrets:
            spec.image_pull_secrets = [LocalObjectReference(name=secret.name) for secret in account.image_pull_secrets]

    def _admit_mirror(self, review: Review, pod: Pod) -> None:
        if pod.spec.service_account_name:
            raise refuse(review, "a mirror pod may not reference service accounts")
        for volume in pod.spec.volumes:
            if volume.secret is not None:
                raise refuse(review, "a mirror pod may not reference secrets")
            if volume.projected is not None and any(
                source.service_account_token for source in volume.projected.sources
            ):
                raise refuse(review, "a mirror pod may not use ServiceAccountToken volume projections")
