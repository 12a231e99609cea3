"""Secrets: stringData is another way to write data, and is not stored."""

from __future__ import annotations

from podling.api.core.v1 import Secret
from podling.apiserver.strategy import Strategy


class SecretStrategy(Strategy[Secret]):
    def prepare_for_create(self, obj: Secret) -> None:
        super().prepare_for_create(obj)
        _merge_string_data(obj)

    def prepare_for_update(self, obj: Secret, old: Secret) -> None:
        super().prepare_for_update(obj, old)
        _merge_string_data(obj)


def _merge_string_data(secret: Secret) -> None:
    for key, value in secret.string_data.items():
        secret.data[key] = value.encode()
    secret.string_data = {}
