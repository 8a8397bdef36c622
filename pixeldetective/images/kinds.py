"""Which files are pictures, by name."""

from __future__ import annotations


def is_picture(name: bytes, extensions: tuple[str, ...]) -> bool:
    """Whether a file's name ends in one of the extensions (without a dot), whatever their case.

    >>> is_picture(b"IMG_0001.JPG", ("jpg", "png")), is_picture(b"notes.txt", ("jpg",)), is_picture(b".jpg", ("jpg",))
    (True, False, False)
    """
    stem, dot, extension = name.rpartition(b"/")[2].rpartition(b".")
    if not dot or not stem:
        return False
    return extension.decode("utf-8", "replace").casefold() in {known.casefold().lstrip(".") for known in extensions}
