"""How many contents and files there are, kept by the stage that knows.

Reading the catalogue to count it would take minutes where there are millions. Each dedup worker counts its partitions
once, when they are assigned, and then adds and subtracts; what it counted stands in the topic `counts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pixeldetective.paths import library_of
from pixeldetective.records import Counts
from stream_processors.rows import ContentRow


@dataclass
class _Partition:
    files: Counter[str] = field(default_factory=Counter)
    contents: int = 0
    cursor: str | None = ""  # rows up to this key are counted; None: all are
    changed: bool = False


class Counting:
    """The counts of this worker's partitions.

    A partition is counted in pieces, in the order of its keys, while its rows change: a change of a row that was
    counted already is added, one of a row still to come is counted when its turn comes.
    """

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    def position(self, partition: int) -> str | None:
        """The key after which the next piece begins, or None if the partition is counted."""
        return self._partitions.setdefault(partition, _Partition()).cursor

    def count(self, partition: int, rows: Iterable[tuple[str, ContentRow]], *, last: bool) -> None:
        """Count the next piece, in the order of its keys; `last` if there are no rows behind it."""
        here = self._partitions[partition]
        for key, row in rows:
            self._add(here, ContentRow(), row)
            here.cursor = key
        if last:
            here.cursor = None
            here.changed = True

    def moved(self, partition: int, key: str, before: ContentRow, after: ContentRow) -> None:
        """A row changed."""
        here = self._partitions.get(partition)
        if here is not None and (here.cursor is None or key <= here.cursor):
            self._add(here, before, after)

    def forget(self, partition: int) -> None:
        """The partition belongs to another worker now."""
        self._partitions.pop(partition, None)

    def changed(self) -> dict[int, Counts]:
        """What is new since the last call, by partition; nothing of a partition that is not counted to its end."""
        found = {}
        for number, here in self._partitions.items():
            if here.changed and here.cursor is None:
                here.changed = False
                found[number] = Counts({name: n for name, n in sorted(here.files.items()) if n}, here.contents)
        return found

    def _add(self, here: _Partition, before: ContentRow, after: ContentRow) -> None:
        if before.paths.keys() == after.paths.keys():
            return
        here.files.update(library_of(path) for path in after.paths.keys() - before.paths.keys())
        here.files.subtract(library_of(path) for path in before.paths.keys() - after.paths.keys())
        here.contents += bool(after.paths) - bool(before.paths)
        here.changed = True
