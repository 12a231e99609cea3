"""The API server answers recorded requests as kube-apiserver does, never fewer of them than before."""

from __future__ import annotations

import pytest
from tests.support import parity
from tests.support.api_server import ApiServer, server

__all__ = ["server"]


def test_no_file_has_fewer_same_answers_than_before(server: ApiServer) -> None:
    folder = parity.corpus()
    if folder is None:
        pytest.skip("the recordings of kube-apiserver are not beside the project (see tests/support/parity.py)")
    counts, floor = parity.count(folder, server), parity.floor()
    fallen = {name: (wanted, counts.get(name)) for name, wanted in floor.items() if below(counts.get(name), wanted)}
    assert not fallen


def below(count: parity.Count | None, wanted: parity.Count) -> bool:
    """Whether a file lost something. None: the file is no longer there."""
    return count is None or count.code < wanted.code or count.answer < wanted.answer
