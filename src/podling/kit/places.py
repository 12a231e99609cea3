"""A number of places for connections, each of which belongs to somebody.

A new connection always gets in. Each owner has room for so many, and all owners together; where there is no room, the owner
with the most connections loses its oldest one. So a flood displaces itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SHARE: Final = 4
"""One in so many of all places is for one owner."""


class Place:
    """The place of one connection. `close` ends the connection, in whatever state it is."""

    __slots__ = ("_places", "close", "owner")

    def __init__(self, places: Places, owner: str, close: Callable[[], object]) -> None:
        self._places = places
        self.owner = owner
        self.close = close

    def leave(self) -> None:
        """Give the place back. Idempotent."""
        self._places.forget(self)


class Places:
    def __init__(self, most: int) -> None:
        """most: how many there are."""
        self._most = max(most, SHARE)
        # Dictionaries stand for ordered sets: the oldest connection comes first.
        self._by_owner: dict[str, dict[Place, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def take(self, place: Place) -> None:
        """Count a new connection; where there is no room, another one is closed for it."""
        own = self._by_owner.get(place.owner, {})
        if len(own) >= self._most // SHARE:
            _displace(own)
        elif self._count >= self._most:
            self.displace()
        self._by_owner.setdefault(place.owner, {})[place] = None
        self._count += 1

    def displace(self) -> None:
        """Close the oldest connection of the owner that has the most, if there is any."""
        if self._by_owner:
            _displace(max(self._by_owner.values(), key=len))

    def forget(self, place: Place) -> None:
        """Called by the place itself."""
        own = self._by_owner.get(place.owner, {})
        if place in own:
            del own[place]
            self._count -= 1
            if not own:
                del self._by_owner[place.owner]


def _displace(own: dict[Place, None]) -> None:
    oldest = next(iter(own))
    oldest.leave()
    oldest.close()
