"""Deduplication as an algebra: how changes of one content merge into its row.

`merge` takes the highest version per path, so the order in which changes of different paths arrive, and how often each
arrives, makes no difference. At equal versions the join wins: an event that was repeated after a crash looks at the
file again, and what exists must not be lost.
"""

from __future__ import annotations

import msgspec

from pixeldetective.records import Content, ContentChange, Join, Leave
from stream_processors.rows import ContentRow

# Marks of departed paths only matter to a worker that was frozen and sends an old join afterwards: the newest will do.
MARKS = 256


def merge(row: ContentRow, change: ContentChange) -> ContentRow:
    """The row after `change`; the same object if the change is old news."""
    match change:
        case Join(path=path, version=version, size=size):
            if version <= row.paths.get(path, -1) or version < row.departed.get(path, -1):
                return row
            departed = {p: v for p, v in row.departed.items() if p != path}
            return msgspec.structs.replace(row, size=size, paths={**row.paths, path: version}, departed=departed)
        case Leave(path=path, version=version):
            if version <= row.paths.get(path, -1) or version <= row.departed.get(path, -1):
                return row
            paths = {p: v for p, v in row.paths.items() if p != path}
            departed = {p: v for p, v in row.departed.items() if p != path}
            departed[path] = version
            while len(departed) > MARKS:
                del departed[next(iter(departed))]
            return msgspec.structs.replace(row, paths=paths, departed=departed)
        case _:
            return row


def state(sha256: str, row: ContentRow) -> Content:
    """The record of `contents` that says what the row says."""
    return Content(sha256=sha256, size=row.size, paths=tuple(sorted(row.paths)), version=row.version)
