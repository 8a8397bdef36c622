"""What has been taken from Kafka and is not answered yet, and how far each partition may be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Entry:
    """One record in the window."""

    __slots__ = ("done", "offset", "partition")

    def __init__(self, partition: int, offset: int) -> None:
        self.partition = partition
        self.offset = offset
        self.done = False


class Window:
    """Offsets in the order in which they were taken.

    Guarantee: `committable` never goes past a record that is not done. A partition that was dropped and comes back
    starts anew; entries from before no longer count.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[Entry]] = {}
        self._committable: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def add(self, partition: int, offset: int) -> Entry:
        """Take a record."""
        entry = Entry(partition, offset)
        self._queues.setdefault(partition, deque()).append(entry)
        return entry

    def finish(self, entries: Iterable[Entry]) -> None:
        """These records are answered, durably."""
        for entry in entries:
            entry.done = True
            queue = self._queues.get(entry.partition)
            while queue and queue[0].done:
                self._committable[entry.partition] = queue.popleft().offset + 1

    def committable(self) -> dict[int, int]:
        """Offsets to commit by partition, each reported once."""
        offsets, self._committable = self._committable, {}
        return offsets

    def drop(self, partition: int) -> None:
        """Forget a partition that belongs to another worker now."""
        self._queues.pop(partition, None)
        self._committable.pop(partition, None)
