"""Reads the ConfigMaps and Secrets that Pods refer to from the API server."""

from __future__ import annotations

from podling.api.core.v1 import ConfigMap, Secret
from podling.api.status import ApiError
from podling.client.client import Client


class ApiObjects:
    """An env.ObjectSource that always asks: what a container starts with is what is stored at that moment."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        try:
            return await self._client.get(ConfigMap, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def secret(self, namespace: str, name: str) -> Secret | None:
        try:
            return await self._client.get(Secret, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
