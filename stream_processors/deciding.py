"""What follows from an observation: plain functions from what was known and what was seen to what is to be said.

Versions of a path only grow, because they are remembered before they are sent: first the row says which contents are
about to be told (`intent`), then they are told, then the row says what is true (`row`). Whoever finds an intent after a
crash tells those contents again, from what the disk says now. So no crash leaves a content that claims a path it does
not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pixeldetective.records import ContentChange, Join, Leave, Look
from stream_processors.observing import Changing, Failed, Held, Observation, Present, Same
from stream_processors.rows import PathRow


@dataclass(frozen=True)
class Decision:
    """What to remember, to send and to remember, in this order."""

    intent: PathRow | None  # None: nothing is to be sent
    changes: tuple[tuple[str, ContentChange], ...]  # (sha256, change)
    row: PathRow | None  # None: no row
    settled: bool = True  # False: look again before the event is acknowledged


# A row without a content stays for so long: while an earlier event of the partition may still be looked at again, or be
# repeated after a crash, the path's last version must be remembered. Events are settled within a minute.
KEPT_NS = 3600 * 10**9  # nanoseconds


def decide(look: Look, offset: int, row: PathRow | None, seen: Observation, now_ns: int) -> Decision:
    """Decide about one path. `offset` is that of the event and drives the version; `now_ns` is the time of day."""
    if isinstance(seen, Held | Changing) or (isinstance(seen, Failed) and seen.known):
        return Decision(None, (), row, settled=not isinstance(seen, Changing))
    before = row if row is not None else PathRow("", -1)
    match seen:
        case Present(sha256=true, size=size):
            after = PathRow(true, before.version, (), size, seen.mtime_ns, seen.ctime_ns, seen.inode)
        case Same():
            true, size, after = before.sha256, before.size, before
        case _:
            lost = (before.mtime_ns if not before.sha256 else 0) or now_ns
            true, size, after = "", 0, PathRow("", before.version, mtime_ns=lost)
    uncertain = {*before.told, *look.suspects}
    version = max(offset, before.version + 1)
    changes: list[tuple[str, ContentChange]] = [
        (sha256, Leave(look.path, version)) for sha256 in sorted({before.sha256, *uncertain} - {true, ""})
    ]
    if true and (true != before.sha256 or true in uncertain or look.force):
        changes.append((true, Join(look.path, version, size)))
    settled = not (isinstance(seen, Present) and seen.fresh)
    if not changes:
        return Decision(None, (), _kept(after, now_ns), settled)
    told = tuple(sorted({*before.told, *(sha256 for sha256, _ in changes)}))
    intent = msgspec.structs.replace(before, version=version, told=told)
    after = msgspec.structs.replace(after, version=version, told=())
    return Decision(intent, tuple(changes), _kept(after, now_ns), settled)


def _kept(row: PathRow, now_ns: int) -> PathRow | None:
    if row.sha256 or row.told:
        return row
    return row if row.version >= 0 and now_ns - row.mtime_ns < KEPT_NS else None
