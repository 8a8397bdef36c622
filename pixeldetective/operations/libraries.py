"""Libraries: which folders are watched."""

from __future__ import annotations

import os
import re
import stat

import msgspec

from pixeldetective import paths, records, topics
from pixeldetective.errors import UsageError
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.counting import counts
from pixeldetective.records import Library, ScanFinished
from producers.nesting import refuse_nested
from stream_processors.observing import is_empty, is_registered_folder

MANY = 10  # files known; with fewer, an empty folder is believed


def parse(argument: str) -> tuple[str, bytes]:
    """`FOLDER` or `NAME=FOLDER` as (library name, absolute path). Raises UsageError if that is no readable folder.

    A folder's own name is taken with what may not stand in a library's name replaced by dashes.
    """
    if not argument.strip():
        raise UsageError("The folder's name is empty. Is a variable in the command unset?")
    name, equals, folder = argument.partition("=")
    if not equals or os.path.lexists(argument):
        name, folder = "", argument
    root = os.path.abspath(os.fsencode(os.path.expanduser(folder)))
    try:
        found = os.stat(root)
        os.listdir(root)
    except FileNotFoundError:
        raise UsageError(f"There is no folder {paths.shown(root)}.") from None
    except OSError as error:
        raise UsageError(f"The folder {paths.shown(root)} cannot be read: {error.strerror}.") from None
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{paths.shown(root)} is a file. Name the folder it lies in.")
    if not name:
        last = os.fsdecode(os.path.basename(root))
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")[:64] or "library"
    return paths.check_library_name(name), root


def add(connections: Connections, argument: str) -> Library:
    """Register a folder; the same folder again changes nothing. Returns its library.

    Raises UsageError if there is no such folder, its name is taken by another, or libraries would lie in each other.
    """
    name, root = parse(argument)
    known = connections.registry.libraries
    if _same_folder(os.fsencode(connections.settings.home), root):
        raise UsageError(f"{paths.shown(root)} is PIXD_HOME itself: what is in there is Pixel Detective's own.")
    same = [library for library in known.values() if _same_folder(paths.unquote(library.root), root)]
    chosen = "=" in argument and not os.path.lexists(argument)
    if same and (not chosen or same[0].name == name):
        return same[0]
    if name in known:
        raise UsageError(
            f"There is a library “{name}” already, at {paths.shown(paths.unquote(known[name].root))}. "
            f"Choose another name: NAME={os.fsdecode(root)}"
        )
    refuse_nested({library.name: paths.unquote(library.root) for library in known.values()}, root)
    library = _identified(name, root)
    connections.registry.put(library)
    return library


def confirm(connections: Connections, name: str) -> Library:
    """Take the folder that now lies at a held library's place for the library: what is not in it is deleted."""
    library = known(connections, name)
    root = connections.registry.root(name) or paths.unquote(library.root)
    if not os.path.isdir(root):
        raise UsageError(
            f"The folder of “{name}”, {paths.shown(root)}, is not there. Bring it back, or give the library up with: "
            f"pixd libraries discard {name}"
        )
    confirmed = _identified(name, root, keep=library.root)
    connections.registry.put(confirmed)
    return confirmed


def hold_emptied(connections: Connections) -> None:
    """Hold every library that is empty now although files of it were known; let go of those that are not any more.

    For the start of an installation: a disk or share that did not come up looks like that. A folder that is emptied
    while it is watched is not held.
    """
    counted = counts(connections)
    for library in connections.registry.libraries.values():
        root = connections.registry.root(library.name)
        try:
            empty = root is not None and is_empty(root)
        except OSError:
            continue  # it is missing, and held for that
        files = counted.libraries.get(library.name, 0) if counted else 0
        emptied = empty and (library.emptied or files >= MANY)
        if emptied != library.emptied:
            connections.registry.put(msgspec.structs.replace(library, emptied=emptied))


def remove(connections: Connections, name: str) -> None:
    """Stop watching a library, held or not: its pictures leave the collections. Its files are not touched."""
    library = known(connections, name)
    connections.registry.remove(library)
    # A marker without a scan: every known file of the library is looked at, and belongs to no library any more.
    marker = records.encode(ScanFinished(name, "removed"))
    for partition in range(connections.settings.partitions):
        connections.producer.send(topics.FILE_EVENTS, name, marker, partition=partition)
    connections.producer.flush()


def known(connections: Connections, name: str) -> Library:
    """A library by name. Raises UsageError with the names there are."""
    library = connections.registry.library(name)
    if library is None:
        names = ", ".join(connections.registry.libraries) or "none"
        raise UsageError(f"There is no library “{name}”. There are: {names}.")
    return library


class LibraryInfo(msgspec.Struct, frozen=True):
    """One library as `pixd libraries list` shows it."""

    name: str
    folder: str
    held: str | None  # why, if it is


def listed(connections: Connections) -> list[LibraryInfo]:
    """Every library."""
    return [
        LibraryInfo(
            library.name,
            paths.shown(connections.registry.root(library.name) or b""),
            held_because(connections, library),
        )
        for library in connections.registry.libraries.values()
    ]


def described(connections: Connections) -> list[str]:
    """A line per library, for people."""
    return [
        f"Watching {info.folder} as “{info.name}”." + (f" Held: {info.held}" if info.held else "")
        for info in listed(connections)
    ]


def held_because(connections: Connections, library: Library) -> str | None:
    """Why nothing of a library is deleted at present, or None if all is well with its folder."""
    root = connections.registry.root(library.name) or paths.unquote(library.root)
    where = paths.shown(root)
    try:
        right, empty = is_registered_folder(root, library), library.emptied and is_empty(root)
    except OSError as error:
        return f"Its folder {where} cannot be reached: {error.strerror}."
    if not right:
        return (
            f"Another folder than the one that was added lies at {where} (an empty mount point?). If it is right: "
            f"pixd libraries confirm {library.name}"
        )
    if empty:
        return (
            f"Its folder {where} was empty when everything was started, though files of it were known. Once there are "
            f"files again all goes on; if it is meant to be empty: pixd libraries confirm {library.name}"
        )
    return None


def _identified(name: str, root: bytes, keep: str | None = None) -> Library:
    found = os.stat(root)
    return Library(name, keep or paths.quote(root), found.st_dev, found.st_ino, os.statvfs(root).f_fsid)


def _same_folder(one: bytes, other: bytes) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
