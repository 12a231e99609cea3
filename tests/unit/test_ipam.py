"""Addresses and host ports: who has which."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.network.errors import NetworkError
from podling.network.ipam import HostPort, Ipam, PodRange


def ipam(directory: Path, cidr: str = "10.231.0.0/29") -> Ipam:
    made = Ipam(PodRange(cidr), directory)
    made.load()
    return made


def test_an_address_that_was_just_freed_is_given_last(tmp_path: Path) -> None:
    pool = ipam(tmp_path)
    assert [pool.allocate(name).address for name in "abc"] == ["10.231.0.2", "10.231.0.3", "10.231.0.4"]
    pool.free("c")
    assert [pool.allocate(name).address for name in "def"] == ["10.231.0.5", "10.231.0.6", "10.231.0.4"]


def test_the_turn_goes_on_after_a_restart(tmp_path: Path) -> None:
    pool = ipam(tmp_path)
    pool.allocate("a")
    pool.free("a")
    assert ipam(tmp_path).allocate("b").address == "10.231.0.3"


def test_leases_survive_a_restart(tmp_path: Path) -> None:
    port = HostPort("TCP", "", 80, 8080)
    lease = ipam(tmp_path).allocate("a", [port])
    again = ipam(tmp_path)
    assert again.get("a") == lease
    assert again.allocate("a", [port]) == lease
    with pytest.raises(NetworkError, match=r"0\.0\.0\.0:80/TCP is already in use by sandbox a"):
        again.allocate("b", [port])


def test_a_write_that_was_cut_off_is_no_lease(tmp_path: Path) -> None:
    ipam(tmp_path)
    (tmp_path / "leases" / "a.tmp").write_bytes(b'{"sandbox')
    assert not ipam(tmp_path).leases()
    assert not list((tmp_path / "leases").iterdir())


def test_a_lease_that_a_power_failure_emptied_does_not_keep_the_network_from_opening(tmp_path: Path) -> None:
    pool = ipam(tmp_path)
    kept = pool.allocate("a")
    pool.allocate("b")
    (tmp_path / "leases" / "b").write_bytes(b"")
    assert ipam(tmp_path).leases() == [kept]
    assert [file.name for file in (tmp_path / "leases").iterdir()] == ["a"]


def test_a_full_range_is_told_and_can_be_used_again_after_a_free(tmp_path: Path) -> None:
    pool = ipam(tmp_path, "10.231.0.0/30")
    assert pool.allocate("a").address == "10.231.0.2"
    with pytest.raises(
        NetworkError, match=r"no free address in Pod range 10\.231\.0\.0/30: all 1 are in use"
    ) as raised:
        pool.allocate("b")
    assert raised.value.reason == "AddressesExhausted"
    pool.free("a")
    assert pool.allocate("b").address == "10.231.0.2"


@pytest.mark.parametrize("cidr", ["", "10.0.0.0/31", "10.0.0.0/33", "fd00::/64", "10.0.0/24", "ten"])
def test_what_is_no_pod_range_is_refused(cidr: str) -> None:
    with pytest.raises(NetworkError) as raised:
        PodRange(cidr)
    assert raised.value.reason == "InvalidConfiguration"


def test_a_large_range_costs_nothing(tmp_path: Path) -> None:
    pool = ipam(tmp_path, "10.0.0.0/8")
    assert pool.allocate("a").address == "10.0.0.2"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_address_has_two_owners(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int]]) -> None:
    directory = tmp_path_factory.mktemp("ipam")
    pool = ipam(directory)
    held: dict[str, str] = {}
    for allocate, number in steps:
        name = f"s{number}"
        if not allocate:
            pool.free(name)
            held.pop(name, None)
        elif name in held or len(held) < 5:
            address = pool.allocate(name).address
            assert held.setdefault(name, address) == address
        else:
            with pytest.raises(NetworkError):
                pool.allocate(name)
        assert len(set(held.values())) == len(held)
        assert {lease.sandbox_id: lease.address for lease in ipam(directory).leases()} == held
    pool.close()
