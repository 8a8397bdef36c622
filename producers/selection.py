"""Which files and folders count."""

from __future__ import annotations

import fnmatch
import os
import re

from pixeldetective.images.kinds import is_picture
from pixeldetective.settings import Settings


class Selection:
    """The names that count, by the settings `extensions`, `ignore` and `hidden`.

    Temporary files of downloads and editors (`.part`, `.crdownload`, `~`) fall out by their extension. What lies behind
    a picture's name, a pipe perhaps, is for hashing to find out; symbolic links are left out by whoever walks.
    """

    def __init__(self, settings: Settings) -> None:
        self._extensions = settings.extensions
        self._hidden = settings.hidden
        patterns = "|".join(fnmatch.translate(pattern) for pattern in settings.ignore)
        self._ignored = re.compile(patterns) if patterns else None

    def picture(self, name: bytes) -> bool:
        """Whether a file of this name, without its folder, is announced."""
        return (self._hidden or not name.startswith(b".")) and is_picture(name, self._extensions)

    def counts(self, relative: bytes) -> bool:
        """Whether the file at a path below a library's root is announced: by its name, and by those of its folders."""
        *folders, name = relative.split(b"/")
        return self.picture(name) and all(self.folder(folder) for folder in folders)

    def folder(self, name: bytes) -> bool:
        """Whether a folder of this name, without its parents, is entered."""
        if name.startswith(b".") and not self._hidden:
            return False
        return self._ignored is None or self._ignored.match(os.fsdecode(name)) is None
