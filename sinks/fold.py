"""A batch of records of all lanes, folded to the last state per key and lane.

Pure. A record of `embeddings` or `captions` is applied only once the `contents` lane of the same partition has passed
the record that caused it: otherwise the point would not be there yet, and the result would be lost. Until then it
waits, and everything behind it in its lane and partition with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sinks.lanes import Entry, Lane


@dataclass(eq=False)
class Folded:
    """What a batch comes to.

    Guarantee: `positions` covers exactly the records of the batch that are not `waiting`, so it may be committed once
    `states` are written and the letters about `errors` are durable.
    """

    states: dict[Lane, dict[str, Entry]] = field(default_factory=lambda: {lane: {} for lane in Lane})
    errors: dict[tuple[Lane, str], Entry] = field(default_factory=dict)  # the last word of that lane about that key
    waiting: list[Entry] = field(default_factory=list)  # in their order; to be folded again before anything newer
    positions: dict[tuple[Lane, int], int] = field(default_factory=dict)  # (lane, partition): the offset after

    @property
    def keys(self) -> set[str]:
        """The contents this batch speaks of."""
        return {key for states in self.states.values() for key in states} | {key for _, key in self.errors}

    def _take(self, entry: Entry) -> None:
        self.positions[entry.lane, entry.partition] = entry.offset + 1
        if entry.error is not None:
            # The last good state stays: which records share a batch must not decide what is written.
            self.errors[entry.lane, entry.key] = entry
        elif entry.state is not None:
            self.states[entry.lane][entry.key] = entry
            self.errors.pop((entry.lane, entry.key), None)


def fold(entries: Iterable[Entry], passed: Mapping[int, int]) -> Folded:
    """Fold records, in offset order per lane and partition.

    `passed` is the offset after the last record of `contents` already applied, per partition; the records of `contents`
    in the batch itself count as well, for they are written first.
    """
    folded = Folded()
    others = []
    for entry in entries:
        if entry.lane is Lane.CONTENTS:
            folded._take(entry)
        else:
            others.append(entry)
    closed: set[tuple[Lane, int]] = set()
    for entry in others:
        place = (entry.lane, entry.partition)
        here = folded.positions.get((Lane.CONTENTS, entry.partition), passed.get(entry.partition, 0))
        if place in closed or (entry.caused_by is not None and entry.caused_by >= here):
            closed.add(place)
            folded.waiting.append(entry)
        else:
            folded._take(entry)
    return folded
