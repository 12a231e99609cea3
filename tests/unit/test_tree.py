"""Trees as a hostile container leaves them."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from podling.runtime import tree


def deep(root: Path, depth: int, content: bytes) -> None:
    """Directories in directories: deeper than Python recurses, and than a path can say."""
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=fd)
        below = os.open("directory", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, content)
    os.close(file)
    os.close(fd)


def test_deep_tree_is_measured_and_removed(tmp_path: Path) -> None:
    for depth in (300, 1500, 3000):
        deep(tmp_path / "root", depth, b"x" * 65536)
        used, inodes = tree.usage(tmp_path / "root")
        assert inodes == depth + 2
        assert used >= 65536
        tree.remove(tmp_path / "root")
        assert not (tmp_path / "root").exists()


def test_usage_counts_a_hard_link_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 65536)
    once = tree.usage(tmp_path)
    os.link(tmp_path / "a", tmp_path / "b")
    assert tree.usage(tmp_path) == once


def test_what_is_not_there_uses_nothing_and_is_removed(tmp_path: Path) -> None:
    assert tree.usage(tmp_path / "nothing") == (0, 0)
    tree.remove(tmp_path / "nothing")


def test_usage_and_removal_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"x" * 65536)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    assert tree.usage(tmp_path / "root")[0] < 65536
    tree.remove(tmp_path / "root")
    assert (tmp_path / "outside" / "kept").exists()


def test_measuring_does_not_remember_every_file(tmp_path: Path) -> None:
    """As many as a disk has inodes: the agent would need a gigabyte for those of one container."""
    for number in range(10_000):
        (tmp_path / str(number)).touch()
    tracemalloc.start()
    try:
        assert tree.usage(tmp_path)[1] == 10_001
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000
