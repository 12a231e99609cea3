"""Secrets that hold a service account's token: how they are filled, what the token is good for, and how they go."""

from __future__ import annotations

import json
from typing import Any

from tests.support.api_server import ApiServer
from tests.support.controllers import ROOT_CA, Bench, run

from podling.api.core.v1 import ObjectReference, Secret, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.apiserver.pki import PKI
from podling.client.client import Client, ClientConfig

NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


async def account(it: Bench, name: str = "robot") -> ServiceAccount:
    return await it.client.create(ServiceAccount(metadata=ObjectMeta(name=name, namespace=it.namespace)))


async def secret(it: Bench, name: str = "token", account: str = "robot", **annotations: str) -> Secret:
    metadata = ObjectMeta(name=name, namespace=it.namespace, annotations={NAME: account, **annotations})
    return await it.client.create(Secret(metadata=metadata, type="kubernetes.io/service-account-token"))


async def filled(it: Bench, name: str = "token") -> Secret:
    view = it.view(Secret)
    await it.until(lambda: (found := view.get(it.namespace, name)) is not None and found.data.get("token"))
    found = view.get(it.namespace, name)
    assert found is not None
    return found


async def user_of(server: ApiServer, token: bytes) -> dict[str, Any] | None:
    """Who the API server takes the holder of the token for; None for nobody."""
    ca = PKI(server.directory / "data" / "pki").ca.cert.read_bytes()
    async with Client(ClientConfig(server=server.url, ca=ca, token=token.decode())) as client:
        try:
            answer = await client.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=b"{}")
        except ApiError as error:
            if error.code != 401:
                raise
            return None
    found: dict[str, Any] = json.loads(answer)["status"]["userInfo"]
    return found


def test_a_token_secret_is_filled_and_good_for_as_long_as_it_exists(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        robot = await account(it)
        await secret(it)
        found = await filled(it)
        assert (found.data["ca.crt"], found.data["namespace"]) == (ROOT_CA, it.namespace.encode())
        assert found.metadata.annotations == {NAME: "robot", UID: robot.metadata.uid}
        user = await user_of(server, found.data["token"])
        assert user is not None
        assert user["username"] == f"system:serviceaccount:{it.namespace}:robot"
        assert user["uid"] == robot.metadata.uid
        assert f"system:serviceaccounts:{it.namespace}" in user["groups"]
        await it.client.delete(Secret, "token", it.namespace)
        assert await user_of(server, found.data["token"]) is None

    run(server, test)


def test_a_token_is_good_in_its_own_secret_only(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await account(it)
        await secret(it)
        token = (await filled(it)).data["token"]
        await it.client.patch(Secret, "token", it.namespace, {"data": {"token": "eA=="}})
        assert await user_of(server, token) is None
        review = {"spec": {"token": token.decode(), "audiences": ["vault"]}}
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        answer = json.loads(await it.client.request("POST", path, body=json.dumps(review).encode()))
        assert "authenticated" not in answer["status"]

    run(server, test)


def test_token_secrets_go_with_their_service_account(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await account(it)
        await secret(it)
        await secret(it, "other")
        token = (await filled(it)).data["token"]
        await filled(it, "other")
        await it.client.delete(ServiceAccount, "robot", it.namespace)
        assert await user_of(server, token) is None
        await it.gone(Secret, "token")
        await it.gone(Secret, "other")

    run(server, test)


def test_a_token_secret_for_no_account_or_a_former_one_is_deleted(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await account(it)
        await secret(it, "lost", "nobody")
        await secret(it, "former", **{UID: "11111111-1111-1111-1111-111111111111"})
        await it.gone(Secret, "lost")
        await it.gone(Secret, "former")

    run(server, test)


def test_what_a_token_secret_lacks_comes_back(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await account(it)
        await secret(it)
        await filled(it)
        robbed = await it.client.patch(Secret, "token", it.namespace, {"data": {"ca.crt": "eA==", "token": None}})
        view = it.view(Secret)

        def again() -> bool:
            found = view.get(it.namespace, "token")
            if found is None or int(found.metadata.resource_version) <= int(robbed.metadata.resource_version):
                return False
            return found.data.get("ca.crt") == ROOT_CA and bool(found.data.get("token"))

        await it.until(again)

    run(server, test)


def test_a_deleted_token_secret_leaves_the_accounts_list(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await account(it)
        await secret(it)
        await filled(it)
        references = [ObjectReference(name="token"), ObjectReference(name="mine")]
        listed = {"secrets": [{"name": reference.name} for reference in references]}
        await it.client.patch(ServiceAccount, "robot", it.namespace, listed)
        view = it.view(ServiceAccount)
        await it.until(lambda: len(getattr(view.get(it.namespace, "robot"), "secrets", [])) == 2)
        await it.client.delete(Secret, "token", it.namespace)

        def names() -> list[str]:
            found = view.get(it.namespace, "robot")
            return [reference.name for reference in found.secrets] if found is not None else []

        await it.until(lambda: names() == ["mine"])

    run(server, test)
