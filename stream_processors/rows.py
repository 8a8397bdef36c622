"""The rows of the two tables, as they stand in their changelogs."""

from __future__ import annotations

import msgspec


class PathRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was true of one file when it was last looked at. Table `paths`, key: path id."""

    sha256: str  # "" if it had no content
    version: int  # of the last change that was, or was about to be, sent about this path
    told: tuple[str, ...] = ()  # contents to which a change was about to be sent; a crash leaves it open whether it was
    size: int = 0  # bytes
    mtime_ns: int = 0  # of a row without a content: when it lost it, by this machine's clock
    ctime_ns: int = 0
    inode: int = 0


class ContentRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one content lies. Table `contents`, key: sha256."""

    size: int = 0  # bytes
    paths: dict[str, int] = {}  # path id: version of the join
    departed: dict[str, int] = {}  # path id: version of the leave; a join that is older comes too late
    version: int = 0  # of the last record in `contents`
    published: bool = False  # the last record in `contents` is not a tombstone


encode = msgspec.json.Encoder().encode
path_row = msgspec.json.Decoder(PathRow).decode
content_row = msgspec.json.Decoder(ContentRow).decode
