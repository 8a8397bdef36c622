"""No library lies inside another: a file would have two path ids, and a removed library would take files of both."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pixeldetective import paths
from pixeldetective.errors import UsageError

Key = bytes | tuple[int, int]  # a resolved path, or device and inode


def refuse_nested(existing: Mapping[str, bytes], new_root: bytes, *, name: str | None = None) -> None:
    """Raise UsageError if `new_root` is the folder of a library in `existing`, lies in one, or contains one.

    `existing` is roots by library name. Folders are compared as the system knows them, through `..`, symbolic links and
    bind mounts; one that is missing now, by its resolved path. The library `name`, if given, is left out: it may keep
    its own folder.
    """
    new_self, new_chain = _identity(new_root), _chain(new_root)
    for other, root in existing.items():
        if other == name:
            continue
        old_self = _identity(root)
        if new_self & old_self:
            raise UsageError(
                f"{paths.shown(new_root)} is the library “{other}” already ({paths.shown(root)}). "
                f"A folder belongs to one library: keep “{other}”, or remove it: pixd libraries remove {other}"
            )
        if new_chain & old_self:
            raise UsageError(
                f"{paths.shown(new_root)} lies in the library “{other}” ({paths.shown(root)}), which has it already. "
                f"To have it alone, remove the other first: pixd libraries remove {other}"
            )
        if new_self & _chain(root):
            raise UsageError(
                f"{paths.shown(new_root)} contains the library “{other}” ({paths.shown(root)}). "
                f"To have the larger folder, remove the smaller first: pixd libraries remove {other}"
            )


def _identity(path: bytes) -> set[Key]:
    keys: set[Key] = {os.path.realpath(path)}
    try:
        status = os.stat(path)
    except OSError:
        return keys
    return keys | {(status.st_dev, status.st_ino)}


def _chain(path: bytes) -> set[Key]:
    """Everything that identifies the folder or one of those it lies in."""
    keys: set[Key] = set()
    folder = os.path.realpath(path)
    while True:
        keys |= _identity(folder)
        parent = os.path.dirname(folder)
        if parent == folder:
            return keys
        folder = parent
