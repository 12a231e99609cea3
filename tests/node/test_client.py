"""The client, informers and the event recorder against this repository's API server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from tests.support.api_server import ApiServer, running
from tests.support.relay import Relay

from podling.api.core.v1 import ConfigMap, Event, Namespace, Secret
from podling.api.meta.v1 import ObjectMeta
from podling.api.scheme import by_type
from podling.api.status import ApiError
from podling.api.types import Int32, Object
from podling.client.client import Client, ClientConfig, ConnectionFailed, EventType
from podling.client.events import NORMAL, EventRecorder
from podling.client.informer import Informer, InformerSet

Scenario = Callable[[], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


def config_map(name: str, namespace: str, value: str = "") -> ConfigMap:
    data = {"key": value} if value else {}
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, labels={"name": name}), data=data)


@asynccontextmanager
async def namespace(client: Client, name: str) -> AsyncIterator[str]:
    """A namespace for one test. It stays, for no controller runs here."""
    await client.create(Namespace(metadata=ObjectMeta(name=name)))
    yield name


class Recorded:
    """The events of an informer, in order, and a way to wait for them."""

    def __init__(self, informer: Informer[ConfigMap]) -> None:
        self.events: list[tuple[str, str, str]] = []
        self._news = asyncio.Event()
        informer.add_handler(self._on_event)

    def _on_event(self, type: EventType, obj: ConfigMap, old: ConfigMap | None) -> None:
        self.events.append((type.value, obj.metadata.name, obj.data.get("key", "")))
        self._news.set()

    async def take(self, count: int) -> list[tuple[str, str, str]]:
        """The next `count` events."""
        while len(self.events) < count:
            self._news.clear()
            await self._news.wait()
        taken, self.events = self.events[:count], self.events[count:]
        return taken


# -- requests


def test_an_object_is_created_read_changed_patched_listed_and_deleted(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "crud") as ns:
            created = await client.create(config_map("a", ns, "1"))
            assert created.metadata.uid
            assert await client.get(ConfigMap, "a", ns) == created
            created.data = {"key": "2"}
            updated = await client.update(created)
            assert updated.data == {"key": "2"}
            for content_type, patch in (
                ("merge", {"data": {"key": "3"}}),
                ("strategic", {"data": {"key": "4"}}),
                ("json", [{"op": "replace", "path": "/data/key", "value": "5"}]),
            ):
                patched = await client.patch(ConfigMap, "a", ns, patch, content_type=content_type)  # type: ignore[arg-type]
                assert patched.data["key"] in "345"
            await client.create(config_map("b", ns))
            listed = await client.list(ConfigMap, ns)
            assert [item.metadata.name for item in listed.items] == ["a", "b"]
            assert int(listed.resource_version) >= int(patched.metadata.resource_version)
            assert [i.metadata.name for i in (await client.list(ConfigMap, ns, label_selector="name=b")).items] == ["b"]
            await client.delete(ConfigMap, "a", ns, uid=created.metadata.uid)
            await client.delete_collection(ConfigMap, ns)
            assert (await client.list(ConfigMap, ns)).items == []

    run(scenario)


def test_pages_follow_each_other_to_the_end(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "pages") as ns:
            for number in range(5):
                await client.create(config_map(f"m{number}", ns))
            names, token, pages = [], "", 0
            while True:
                page = await client.list(ConfigMap, ns, limit=2, continue_token=token)
                names += [item.metadata.name for item in page.items]
                pages, token = pages + 1, page.continue_token
                if not token:
                    break
            assert (names, pages) == ([f"m{n}" for n in range(5)], 3)

    run(scenario)


def test_errors_carry_their_status(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "errors") as ns:
            created = await client.create(config_map("a", ns))
            with pytest.raises(ApiError) as missing:
                await client.get(ConfigMap, "none", ns)
            assert (missing.value.code, str(missing.value)) == (404, 'configmaps "none" not found')
            with pytest.raises(ApiError) as exists:
                await client.create(config_map("a", ns))
            assert (exists.value.code, exists.value.reason) == (409, "AlreadyExists")
            await client.update(created)
            changed = await client.patch(ConfigMap, "a", ns, {"data": {"x": "y"}})
            assert changed.metadata.resource_version != created.metadata.resource_version
            with pytest.raises(ApiError) as conflict:
                await client.update(created)
            assert (conflict.value.code, conflict.value.reason) == (409, "Conflict")
            with pytest.raises(ApiError) as precondition:
                await client.delete(ConfigMap, "a", ns, uid="another")
            assert precondition.value.code == 409

    run(scenario)


def test_a_client_certificate_and_the_servers_authority_over_tls(server: ApiServer) -> None:
    async def scenario() -> None:
        pki = server.directory / "data" / "pki"
        config = ClientConfig(
            server=server.url,
            ca=(pki / "ca.crt").read_bytes(),
            cert_file=str(pki / "admin.crt"),
            key_file=str(pki / "admin.key"),
        )
        async with Client(config) as client:
            assert "default" in [n.metadata.name for n in (await client.list(Namespace)).items]
            async with aclosing(client.watch(Namespace, resource_version="0")) as events:
                assert (await anext(events)).type is EventType.ADDED

    run(scenario)
    uvloop.run(scenario())


def test_a_wrong_token_is_unauthorized_and_an_unknown_authority_no_connection(server: ApiServer) -> None:
    async def scenario() -> None:
        ca = (server.directory / "data" / "pki" / "ca.crt").read_bytes()
        async with Client(ClientConfig(server=server.url, ca=ca, token="wrong")) as client:
            with pytest.raises(ApiError) as refused:
                await client.list(Namespace)
            assert refused.value.code == 401
        async with Client(ClientConfig(server=server.url)) as client:
            with pytest.raises(ConnectionFailed):
                await client.list(Namespace)

    run(scenario)


def test_no_server_is_a_failed_connection_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Client(ClientConfig(socket=str(tmp_path / "nobody.sock"))) as client:
            for _ in range(3):
                with pytest.raises(ConnectionFailed):
                    await client.get(Namespace, "default")

    with caplog.at_level(logging.WARNING, "podling.client"):
        run(scenario)
    assert len(caplog.records) == 1
    assert "is away" in caplog.text


# -- watches and informers


def test_a_watch_tells_every_change_after_a_version(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "watch") as ns:
            version = (await client.list(ConfigMap, ns)).resource_version
            large = "x" * 900_000
            await client.create(config_map("a", ns, "1"))
            await client.patch(ConfigMap, "a", ns, {"data": {"key": large}})
            await client.create(config_map("hidden", ns))
            await client.delete(ConfigMap, "a", ns)
            seen = []
            events = client.watch(ConfigMap, ns, resource_version=version, label_selector="name=a")
            async with aclosing(events):
                async for event in events:
                    if event.type is not EventType.BOOKMARK:
                        seen.append((event.type.value, event.object.metadata.name, len(event.object.data["key"])))
                    if event.type is EventType.DELETED:
                        break
            assert seen == [("ADDED", "a", 1), ("MODIFIED", "a", 900_000), ("DELETED", "a", 900_000)]

    run(scenario)


def test_a_watch_from_the_future_is_an_error(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            with pytest.raises(ApiError) as error:
                await anext(client.watch(ConfigMap, resource_version="999999999"))
            assert error.value.code == 504

    run(scenario)


def test_an_informer_holds_what_there_is_and_tells_changes_with_what_was_before(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "informer") as ns:
            await client.create(config_map("a", ns, "1"))
            informer = Informer(client, ConfigMap, ns)
            before: list[str] = []
            informer.add_handler(lambda type, obj, old: before.append(old.data["key"] if old else ""))
            recorded = Recorded(informer)
            async with running(informer.run()):
                await informer.synced()
                await client.patch(ConfigMap, "a", ns, {"data": {"key": "2"}})
                await client.delete(ConfigMap, "a", ns)
                assert await recorded.take(3) == [("ADDED", "a", "1"), ("MODIFIED", "a", "2"), ("DELETED", "a", "2")]
                assert before == ["", "1", "2"]
                assert informer.list() == []
                await client.create(config_map("b", ns, "1"))
                await recorded.take(1)
                found = informer.get(ns, "b")
                assert found is not None
                assert found.data == {"key": "1"}
                late = Recorded(informer)
                assert late.events == [("ADDED", "b", "1")]

    run(scenario)


def test_an_informer_tells_what_it_finds_in_the_order_of_creation(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "order") as ns:
            first = await client.create(config_map("z", ns, "1"))
            # Time stamps are whole seconds.
            while (await client.create(config_map("a", ns, "1"))).metadata.creation_timestamp == (
                first.metadata.creation_timestamp
            ):
                await client.delete(ConfigMap, "a", ns)
                await asyncio.sleep(0.05)
            informer = Informer(client, ConfigMap, ns)
            recorded = Recorded(informer)
            async with running(informer.run()):
                assert await recorded.take(2) == [("ADDED", "z", "1"), ("ADDED", "a", "1")]

    run(scenario)


async def change(client: Client, ns: str) -> list[tuple[str, str, str]]:
    """Deletes, changes, replaces and creates. Returns what an informer that knew a, b and c ought to tell."""
    await client.delete(ConfigMap, "a", ns)
    for value in "23":
        await client.patch(ConfigMap, "b", ns, {"data": {"key": value}})
    await client.delete(ConfigMap, "c", ns)
    await client.create(config_map("c", ns, "new"))
    await client.create(config_map("d", ns, "1"))
    await client.create(config_map("short", ns))
    await client.delete(ConfigMap, "short", ns)
    return [
        ("ADDED", "c", "new"),
        ("ADDED", "d", "1"),
        ("DELETED", "a", "1"),
        ("DELETED", "c", "1"),
        ("MODIFIED", "b", "3"),
    ]


def test_after_a_broken_connection_an_informer_goes_on_where_it_was(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            Relay(tmp_path / "relay.sock", server.socket) as relay,
            server.client() as direct,
            Client(ClientConfig(socket=str(relay.path))) as client,
            namespace(direct, "resume") as ns,
        ):
            for name in "abc":
                await direct.create(config_map(name, ns, "1"))
            informer = Informer(client, ConfigMap, ns)
            recorded = Recorded(informer)
            async with running(informer.run()):
                await recorded.take(3)
                relay.cut()
                await change(direct, ns)
                await relay.open()
                # Nothing is lost in between, not even what came and went.
                assert await recorded.take(8) == [
                    ("DELETED", "a", "1"),
                    ("MODIFIED", "b", "2"),
                    ("MODIFIED", "b", "3"),
                    ("DELETED", "c", "1"),
                    ("ADDED", "c", "new"),
                    ("ADDED", "d", "1"),
                    ("ADDED", "short", ""),
                    ("DELETED", "short", ""),
                ]
                assert {obj.metadata.name for obj in informer.list()} == {"b", "c", "d"}

    run(scenario)


def test_when_history_is_gone_an_informer_tells_exactly_the_difference(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            Relay(tmp_path / "relay.sock", server.socket) as relay,
            server.client() as direct,
            Client(ClientConfig(socket=str(relay.path))) as client,
            namespace(direct, "difference") as ns,
        ):
            for name in "abcu":
                await direct.create(config_map(name, ns, "1"))
            informer = Informer(client, ConfigMap, ns)
            recorded = Recorded(informer)
            async with running(informer.run()):
                await recorded.take(4)
                relay.cut()
                expected = await change(direct, ns)
                informer.forget_history()
                await relay.open()
                assert sorted(await recorded.take(5)) == expected
                await direct.create(config_map("end", ns))
                assert await recorded.take(1) == [("ADDED", "end", "")]
                assert {obj.metadata.name for obj in informer.list()} == {"b", "c", "d", "u", "end"}

    run(scenario)


def test_an_informer_outlasts_the_death_of_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = ApiServer(tmp_path)
        server.start()
        try:
            await server.ready()
            async with server.client() as client:
                informer = Informer(client, ConfigMap, "default")
                recorded = Recorded(informer)
                async with running(informer.run()):
                    await informer.synced()
                    await client.create(config_map("a", "default", "1"))
                    assert await recorded.take(1) == [("ADDED", "a", "1")]
                    server.kill()
                    server.start()
                    await server.ready()
                    await client.create(config_map("b", "default", "1"))
                    assert await recorded.take(1) == [("ADDED", "b", "1")]
                    assert len(informer) == 2
        finally:
            server.kill()

    run(scenario)


def test_an_informer_that_may_not_list_says_so_once(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        ca = (server.directory / "data" / "pki" / "ca.crt").read_bytes()
        client = Counting(ClientConfig(server=server.url, ca=ca, token="wrong"))
        async with client, running(Informer(client, ConfigMap).run()):
            await client.counted.wait()

    with caplog.at_level(logging.WARNING, "podling.client"):
        run(scenario)
    assert [record.getMessage() for record in caplog.records] == ["cannot list and watch configmaps: Unauthorized"]


class Counting(Client):
    """Knows when it was used a third time."""

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self.counted = asyncio.Event()
        self._count = 0

    async def request(self, method: str, path: str, **options: Any) -> bytes:
        self._count += 1
        if self._count == 3:
            self.counted.set()
        return await super().request(method, path, **options)


class IntegerMap(Object, kw_only=True):
    """ConfigMaps as somebody would see them who expects numbers: a ConfigMap with text is not of this type."""

    api_version: str = "v1"
    kind: str = "ConfigMap"
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    data: dict[str, Int32] = msgspec.field(default_factory=dict)


def test_an_object_that_cannot_be_read_costs_an_informer_nothing_else(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "unreadable") as ns:
            await client.create(config_map("bad", ns, "text"))
            await client.create(config_map("good", ns))
            informer = Informer(client, IntegerMap, ns, resource=by_type(ConfigMap))
            recorded = Recorded(informer)  # type: ignore[arg-type]
            async with running(informer.run()):
                assert await recorded.take(1) == [("ADDED", "good", "")]
                await client.create(config_map("later", ns))
                assert await recorded.take(1) == [("ADDED", "later", "")]
                # What becomes unreadable is no longer known: its old state would be wrong.
                await client.patch(ConfigMap, "good", ns, {"data": {"key": "text"}})
                assert await recorded.take(1) == [("DELETED", "good", "")]
                await client.patch(ConfigMap, "good", ns, {"data": None})
                assert await recorded.take(1) == [("ADDED", "good", "")]
        assert "cannot list and watch configmaps: left out unreadable/bad: json: cannot unmarshal string" in caplog.text

    run(scenario)


def test_a_set_shares_informers_of_the_same_kind_and_selection(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            informers = InformerSet(client)
            namespaces = informers.of(Namespace)
            async with running(informers.run()):
                await informers.synced()
                assert namespaces.get("", "default") is not None
                assert informers.of(Namespace) is namespaces
                system = informers.of(Namespace, field_selector="metadata.name=kube-system")
                await system.synced()
                assert [n.metadata.name for n in system.list()] == ["kube-system"]

    run(scenario)


# -- events


def test_recorded_events_are_written_and_counted_up(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "recorder") as ns:
            secret = await client.create(Secret(metadata=ObjectMeta(name="s", namespace=ns)))
            recorder = EventRecorder(client, "tester", "here")
            async with running(recorder.run()):
                for _ in range(3):
                    recorder.event(secret, NORMAL, "Seen", "I saw it", field_path="data.x")
                recorder.event(secret, NORMAL, "Seen", "something else")
                await recorder.flush()
            events = sorted((await client.list(Event, ns)).items, key=lambda event: event.message)
            assert [(e.message, e.count) for e in events] == [("I saw it", 3), ("something else", 1)]
            first = events[0]
            assert first.metadata.name.startswith("s.")
            assert (first.type, first.reason) == ("Normal", "Seen")
            assert (first.source.component, first.source.host) == ("tester", "here")
            assert (first.involved_object.kind, first.involved_object.uid) == ("Secret", secret.metadata.uid)
            assert first.involved_object.field_path == "data.x"
            assert first.first_timestamp
            assert first.last_timestamp is not None
            assert first.last_timestamp >= first.first_timestamp

    run(scenario)


def test_an_event_that_was_deleted_begins_anew(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client, namespace(client, "anew") as ns:
            secret = await client.create(Secret(metadata=ObjectMeta(name="s", namespace=ns)))
            recorder = EventRecorder(client, "tester")
            async with running(recorder.run()):
                recorder.event(secret, NORMAL, "Seen", "again")
                await recorder.flush()
                await client.delete_collection(Event, ns)
                recorder.event(secret, NORMAL, "Seen", "again")
                await recorder.flush()
            assert [e.message for e in (await client.list(Event, ns)).items] == ["again"]

    run(scenario)


def test_events_recorded_while_the_server_is_away_are_written_when_it_is_back(
    server: ApiServer, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Relay(tmp_path / "relay.sock", server.socket) as relay,
            server.client() as direct,
            Client(ClientConfig(socket=str(relay.path))) as client,
            namespace(direct, "away") as ns,
        ):
            secret = await direct.create(Secret(metadata=ObjectMeta(name="s", namespace=ns)))
            recorder = EventRecorder(client, "tester")
            async with running(recorder.run()):
                relay.cut()
                recorder.event(secret, NORMAL, "Seen", "while away")
                with pytest.raises(ConnectionFailed):
                    await client.get(Namespace, ns)
                await relay.open()
                await recorder.flush()
            assert [e.message for e in (await direct.list(Event, ns)).items] == ["while away"]

    run(scenario)
