"""What sees changes below a root, and to whom it tells them."""

from __future__ import annotations

from typing import Protocol

from producers.debouncer import What


class Sink(Protocol):
    """Hears of changes; called from the threads of sources, and must return soon."""

    def changed(self, path: bytes, what: What) -> None:
        """Something happened to the file `path`, which may be a picture by its name."""

    def folder_left(self, move: int) -> None:
        """A folder went away with all that was in it, perhaps to where `folder_arrived` will find it."""

    def folder_arrived(self, move: int) -> None:
        """The folder of that move is in the library, and each of its files was told of under both names."""

    def events_lost(self) -> None:
        """Changes went unseen: only a scan finds them."""

    def watches_exhausted(self) -> None:
        """The system grants no more watches: this source does not see everything any more."""


class Source(Protocol):
    """Tells a sink of the changes below one root, from `start` until `stop`."""

    def start(self) -> None:
        """Begin; what is there already is not told. Raises OSError if the root cannot be watched."""

    def entering(self, folder: bytes) -> None:
        """A scan is about to list `folder`: see to it that its changes are seen from now on."""

    def settle(self) -> None:
        """Forget the folders that left and did not arrive anywhere."""

    def stop(self) -> None:
        """End; nothing is told after this returned, but for what is being told at this moment."""

    def is_alive(self) -> bool:
        """Whether it still sees changes."""
