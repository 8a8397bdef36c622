"""Why a picture is found, is not found yet, or will not be."""

from __future__ import annotations

import os
import stat
from typing import Literal

import msgspec
from aiokafka.partitioner import murmur2
from confluent_kafka import TopicPartition

from pixeldetective import kafka, paths, topics
from pixeldetective.errors import UsageError
from pixeldetective.operations.connections import Connections
from pixeldetective.operations.libraries import held_because
from producers.selection import Selection
from stream_processors.dedup import STAGE as DEDUP
from stream_processors.hashing import STAGE as HASHING
from stream_processors.rows import PathRow, path_row

DONE, WAITING, NOT_REACHED, FAILED = "done", "waiting", "not reached", "failed: "

State = Literal["indexed", "pending", "failed", "held", "gone", "unknown"]


class Explanation(msgspec.Struct, frozen=True):
    """What is known of one file. What `pixd explain --json` prints."""

    state: State
    sha256: str | None
    reason: str
    stages: dict[str, str]  # stage: "done", "waiting", "failed: <reason>"
    path: str | None = None  # path id
    file: str | None = None


def explain(connections: Connections, asked: str) -> Explanation:
    """Explain a file or a path id.

    Raises UsageError if it can be neither, PixdError if Kafka or Qdrant cannot be reached.
    """
    if not asked:
        raise UsageError("Say which file: pixd explain FILE")
    pid = resolve(connections, asked)
    if pid is None:
        for library in connections.registry.libraries.values():
            if os.path.realpath(os.fsencode(asked)) == os.path.realpath(paths.unquote(library.root)):
                return Explanation("unknown", None, f"It is the folder of the library “{library.name}” itself.", {})
        roots = ", ".join(
            paths.shown(paths.unquote(library.root)) for library in connections.registry.libraries.values()
        )
        return Explanation(
            "unknown",
            None,
            f"It lies in no library. Watched are: {roots or 'no folders; pixd up FOLDER adds one'}.",
            {},
        )
    return _explain(connections, pid)


def resolve(connections: Connections, asked: str) -> str | None:
    """The path id that a person means by a file's path or a path id; None if it lies in no library."""
    registry = connections.registry
    absolute = os.path.abspath(os.fsencode(os.path.expanduser(asked)))
    candidates = [absolute, os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))]
    for name in registry.libraries:
        root = registry.root(name)
        for folder in () if root is None else (root, os.path.realpath(root)):
            for candidate in candidates:
                if candidate.startswith(folder.rstrip(b"/") + b"/"):
                    return paths.path_id(name, folder, candidate)
    try:
        name, _ = paths.split(asked)
    except ValueError:
        return None
    return asked if name in registry.libraries else None


def _explain(connections: Connections, pid: str) -> Explanation:
    name, relative = paths.split(pid)
    library = connections.registry.library(name)
    file = connections.registry.file(pid)
    if library is None or file is None:
        raise UsageError(f"There is no library “{name}”.")
    row, remembered = last_row(connections, pid)
    sha256 = row.sha256 if row is not None and row.sha256 else None
    progress = _progress(connections, pid, sha256)

    def answer(state: State, reason: str) -> Explanation:
        return Explanation(state, sha256, reason, progress, pid, connections.registry.shown_file(pid))

    because = held_because(connections, library)
    if because is not None:
        return answer("held", f"The library “{name}” is held, nothing of it is deleted. {because}")
    failed = next((text for text in progress.values() if text.startswith(FAILED)), None)
    kind = _kind(file, len(relative))
    if kind is None and failed is None:
        if sha256 is not None:
            return answer("pending", "The file is gone; what was known of it is being deleted. `pixd scan` hastens it.")
        progress.clear()
        if remembered:
            return answer("gone", "The file was there once; it has been deleted or renamed.")
        return answer("unknown", "There is no such file, and none is remembered.")
    if failed is not None:
        for stage, text in progress.items():
            progress[stage] = NOT_REACHED if text == WAITING else text
        return answer("failed", failed.removeprefix(FAILED))
    skipped = kind or _why_skipped(connections, relative)
    if skipped:
        progress.clear()
        return answer("unknown", skipped)
    if sha256 is None:
        return answer("pending", "It has not been looked at yet. If that lasts, `pixd scan` looks at every file.")
    waiting = [stage for stage, text in progress.items() if text == WAITING]
    if waiting:
        return answer("pending", f"It waits for {waiting[0]}.")
    return answer("indexed", "It is found by search.")


def last_row(connections: Connections, pid: str) -> tuple[PathRow | None, bool]:
    """The newest row of a path in the changelog of the table `paths`, and whether there ever was one.

    Reads one partition from its beginning: about a second per million files.
    """
    partition = (murmur2(pid.encode()) & 0x7FFFFFFF) % connections.settings.partitions
    place = TopicPartition(topics.changelog(topics.PATHS_TABLE), partition, 0)
    client = kafka.consumer(connections.settings, connections.bootstrap, "explain")
    row: PathRow | None = None
    remembered = False
    try:
        end = client.get_watermark_offsets(place, timeout=30)[1]
        client.assign([place])
        while client.position([place])[0].offset < end:
            for message in client.consume(10_000, timeout=0.05):
                if message.error() is None and message.key() == pid.encode():
                    value = message.value()
                    row, remembered = (path_row(value) if value is not None else None), True
    finally:
        client.close()
    return row, remembered


def _progress(connections: Connections, pid: str, sha256: str | None) -> dict[str, str]:
    """What each stage has to say about a file."""
    letters = {letter.stage: letter.reason for _, letter in connections.letters if letter.key in {pid, sha256}}
    collections = connections.registry.collections.values()
    progress = {HASHING: DONE if sha256 is not None else WAITING, DEDUP: WAITING}
    for collection in collections:
        embedder, sink = topics.embedder_group(collection.model), topics.sink_stage(collection.name)
        points = connections.qdrant.points(collection.name, [sha256] if sha256 else [], vectors=True)
        point = points.get(sha256 or "")
        listed = point is not None and pid in point["payload"].get("paths", ())
        found = point is not None and bool(point.get("vector"))
        if listed or embedder in letters:
            progress[DEDUP] = DONE
        progress[embedder] = DONE if found else WAITING
        progress[sink] = DONE if listed and found else WAITING
    for stage, reason in letters.items():
        progress[stage] = f"{FAILED}{reason}"
    return progress


def _kind(file: bytes, below: int) -> str | None:
    """Why what lies at a path is no picture, "" if it is a file, None if nothing lies there.

    `below` is the length of the part of the path that lies below the library's folder.
    """
    for end in [n for n in range(len(file) - below, len(file)) if file[n : n + 1] == b"/"]:
        if os.path.islink(file[:end]):
            return f"It lies behind “{paths.shown(file[:end])}”, and symbolic links are not followed."
    try:
        mode = os.lstat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"It cannot be looked at: {error.strerror}."
    if stat.S_ISLNK(mode):
        return "It is a symbolic link, and these are not followed."
    if stat.S_ISDIR(mode):
        return "It is a folder. Ask about a file in it."
    return "" if stat.S_ISREG(mode) else "It is no regular file, but a pipe, a socket or a device."


def _why_skipped(connections: Connections, relative: bytes) -> str | None:
    selection = Selection(connections.settings)
    *folders, name = relative.split(b"/")
    for folder in folders:
        if not selection.folder(folder):
            return f"It lies in “{paths.shown(folder)}”, a hidden folder or one that PIXD_IGNORE leaves out."
    if not selection.picture(name):
        if name.startswith(b".") and not connections.settings.hidden:
            return "It is a hidden file. PIXD_HIDDEN=true takes those, too."
        return "Its name does not end like a picture's. PIXD_EXTENSIONS says which endings count."
    return None
