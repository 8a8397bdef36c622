"""Path ids: how a file is named in records, and how that name finds back to a file.

A path id is `library/relative/path`, with `/` on every system and always valid UTF-8: bytes that are not UTF-8 become
`%XX`, a literal `%` becomes `%25`, the rest stays as it is. Two files never share an id, and an id names one file.
"""

from __future__ import annotations

import os
import re

from pixeldetective.errors import UsageError

LIBRARY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")


def quote(path: bytes) -> str:
    """Escape the bytes of a path into text that any UTF-8 tool can carry.

    >>> quote(b"50% caf\\xe9.jpg")
    '50%25 caf%E9.jpg'
    """
    text = path.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def unquote(text: str) -> bytes:
    """Undo `quote`. Any text is accepted: what is not an escape stands for itself."""
    pieces = _ESCAPE.split(text)
    return b"".join(
        bytes([int(piece, 16)]) if odd else piece.encode("utf-8", "surrogateescape")
        for odd, piece in zip((i % 2 for i in range(len(pieces))), pieces, strict=True)
    )


def path_id(library: str, root: bytes, path: bytes) -> str:
    """The id of the file `path` that lies below the folder `root` of `library`. Raises ValueError if it does not."""
    relative = os.path.relpath(path, root)
    if relative == b"." or relative.startswith(b"../") or relative == b"..":
        raise ValueError(f"{os.fsdecode(path)!r} is not below {os.fsdecode(root)!r}")
    return f"{library}/{quote(relative)}"


def split(pid: str) -> tuple[str, bytes]:
    """A path id as (library, relative path in the bytes of the file system). Raises ValueError if it is no path id."""
    library, slash, relative = pid.partition("/")
    if not slash or not relative or not LIBRARY_NAME.fullmatch(library):
        raise ValueError(f"{pid!r} is not a path id (library/relative/path)")
    return library, unquote(relative)


def library_of(pid: str) -> str:
    """The name of the library a path id belongs to."""
    return pid.partition("/")[0]


def shown(path: bytes) -> str:
    """A path as it is printed: line breaks and control characters escaped, bytes that are not UTF-8 as `\\xXX`."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def check_library_name(name: str) -> str:
    """Return `name` if a library may be called so. Raises UsageError otherwise."""
    if not LIBRARY_NAME.fullmatch(name) or name in {".", ".."}:
        raise UsageError(
            f"“{name}” cannot name a library: use 1 to 64 of the letters A–Z, a–z, 0–9, dot, underscore and dash. "
            "NAME=FOLDER chooses the name."
        )
    return name
