"""The data directory is deleted by hand while the cluster runs: nothing is acknowledged into deleted files any more, every
command still finds the cluster, and what is left of it can be removed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, eventually
from tests.support.pods import pod
from tools.registry import Registry

from podling.store.protocol import StoreError
from podling.store.sqlite import SQLiteStore


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def _replace_from_elsewhere(path: Path) -> None:
    """As `mv` does it on one file system: nothing of the old file is renamed or deleted by name."""
    copy = path.parent.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


def _delete_another_first(path: Path) -> None:
    path.with_name("unrelated").write_text("")
    path.with_name("unrelated").unlink()
    path.unlink()


LOSSES: dict[str, Callable[[Path], object]] = {
    "database deleted": lambda path: path.unlink(),
    "database deleted after another file": _delete_another_first,
    "log deleted": lambda path: path.with_name("s.db-wal").unlink(),
    "database renamed": lambda path: path.rename(path.with_name("other")),
    "database replaced": _replace,
    "database replaced from elsewhere": _replace_from_elsewhere,
    "directory deleted": lambda path: shutil.rmtree(path.parent),
    "directory renamed": lambda path: path.parent.rename(path.parent.with_name("other")),
    "directory above renamed": lambda path: path.parents[1].rename(path.parents[1].with_name("other")),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_store_notices_that_its_files_are_gone(tmp_path: Path, loss: str) -> None:
    directory = tmp_path / "parent" / "data"
    directory.mkdir(parents=True)

    async def main() -> StoreError:
        async with await SQLiteStore.open(directory / "s.db") as store:
            await store.create("/a", lambda revision: b"")
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(store.gone())
                await asyncio.sleep(0)
                LOSSES[loss](directory / "s.db")
            return waiting.result()

    assert "was deleted or replaced while the server was running" in str(asyncio.run(main()))


def test_a_server_without_its_database_ends_and_says_why(registry: Registry) -> None:
    with Cluster(registry.registries_conf) as cluster:
        (cluster.data_dir / "state.db").unlink()
        eventually(lambda: not cluster.pid("server"))
        log = (cluster.data_dir / "logs" / "server.log").read_text()
        assert "state.db was deleted or replaced while the server was running: what it writes would be lost" in log
        assert cluster.podling("status", "--data-dir", str(cluster.data_dir), check=False).returncode == 1


def test_every_command_finds_a_cluster_whose_data_directory_is_gone(registry: Registry) -> None:
    with Cluster(registry.registries_conf) as cluster:
        cluster.apply(pod("a"))
        cluster.wait("pod/a", "condition=Ready")
        where = ("--data-dir", str(cluster.data_dir))
        server, agent = cluster.pid("server"), cluster.pid("agent")
        # As `rm -rf`, as far as it gets: what is mounted stays.
        shutil.rmtree(cluster.data_dir, ignore_errors=True)
        for name in ("state.db", "state.db-wal", "config.json"):
            (cluster.data_dir / name).unlink(missing_ok=True)
        eventually(lambda: not Path(f"/proc/{server}").exists())
        assert Path(f"/proc/{agent}").exists()

        status = cluster.podling("status", *where, check=False)
        assert status.returncode == 1
        assert "server   down" in status.stdout
        assert f"pid {agent}" in status.stdout
        assert f"{cluster.data_dir}, the data of this cluster, was deleted: `podling reset" in status.stderr

        again = cluster.podling("up", *cluster.up_flags, check=False)
        assert again.returncode == 1
        assert "was deleted: `podling reset" in again.stderr
        assert not cluster.pid("server")

        cluster.podling("down", *where)
        eventually(lambda: not Path(f"/proc/{agent}").exists())
        assert "podling reset" in cluster.podling("up", *cluster.up_flags, check=False).stderr, "containers still run"
        assert f"Podling is gone from {cluster.data_dir}" in cluster.podling("reset", *where).stdout
        cluster.up()  # a new one
        cluster.wait(f"node/{cluster.node}", "condition=Ready")


def test_other_users_can_lock_nothing(registry: Registry) -> None:
    with Cluster(registry.registries_conf) as cluster:
        cluster.apply(pod("a"))
        cluster.wait("pod/a", "condition=Ready")
        cluster.directory.chmod(0o755)
        locks = [
            path
            for root in (cluster.data_dir, cluster.run_dir)
            for directory, _, files in os.walk(root)
            if "/merged" not in directory and "/layers" not in directory
            for path in (Path(directory, name) for name in files)
            if path.name in ("lock", ".lock") or path.suffix in (".lock", ".pid")
        ]
        assert {path.name for path in locks} >= {"server.pid", "agent.pid", ".lock", "state.db.lock"}
        pid = os.fork()
        if not pid:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(sum(os.access(path, os.R_OK) or os.access(path, os.W_OK) for path in locks))
        assert os.waitpid(pid, 0)[1] == 0
