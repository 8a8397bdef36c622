"""Going through a folder, whatever its names are and whoever changes it meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from producers.selection import Selection

Unreadable = Callable[[bytes, OSError], None]


def walk(
    root: bytes,
    selection: Selection,
    unreadable: Unreadable,
    entering: Callable[[bytes], None] | None = None,
) -> Iterator[os.DirEntry[bytes]]:
    """All files below `root` that count, in no order; memory grows with the folders still to enter, not with the files.

    Symbolic links are not followed, but `root` itself may be one. `entering` is called with each folder before it is
    listed, `root` included, so that a watch set there misses nothing. A folder that cannot be read, wholly or in part,
    is given to `unreadable` with its error, and the walk goes on; one that vanished meanwhile is not an error, unless
    it is `root`.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if entering is not None:
            entering(folder)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if selection.folder(entry.name):
                            waiting.append(entry.path)
                    elif selection.picture(entry.name):
                        yield entry
        except (FileNotFoundError, NotADirectoryError) as error:
            if folder == root:
                unreadable(folder, error)
        except OSError as error:
            unreadable(folder, error)
