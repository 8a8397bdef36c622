"""The two stages on an in-memory Kafka that can crash before or after any effect."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from pixeldetective import paths, records, topics
from pixeldetective.cache import Cache
from pixeldetective.errors import PictureError
from pixeldetective.letters import Origin
from pixeldetective.records import Content, ContentChange, FileEvent, Library, Look, ScanFinished
from stream_processors.counting import Counting
from stream_processors.dedup import Dedup
from stream_processors.hashing import Hashing
from stream_processors.observing import Limits
from stream_processors.rows import ContentRow, PathRow

T = TypeVar("T")
RECHECK = 0.01  # seconds
PARTITION = 0


class Crash(Exception):
    """The process ends here."""


class Fuse:
    """Raises Crash at the step it is set to; counts steps."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.at == self.steps:
            raise Crash(f"at step {self.steps}")


class MemoryLog:
    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.records: dict[str, list[tuple[str, bytes | None]]] = {}

    async def send(self, topic: str, key: str, value: bytes | None) -> None:
        self.fuse.step()  # not sent
        self.records.setdefault(topic, []).append((key, value))
        self.fuse.step()  # sent, not confirmed


class MemoryTable(Generic[T]):
    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.rows: dict[str, T] = {}

    def get(self, partition: int, key: str) -> T | None:
        return self.rows.get(key)

    async def put(self, partition: int, key: str, row: T | None) -> None:
        self.fuse.step()  # confirmed, not remembered
        if row is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = row
        self.fuse.step()  # remembered, not acknowledged

    def keys(self, partition: int, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in list(self.rows) if key.startswith(prefix))


class MemoryMailbox:
    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.letters: dict[str, PictureError] = {}

    async def write(self, origin: Origin, key: str, error: PictureError) -> None:
        self.fuse.step()
        self.letters[key] = error

    async def clear(self, key: str) -> None:
        if key in self.letters:
            self.fuse.step()
            del self.letters[key]


class OneLibrary:
    def __init__(self, root: Path) -> None:
        found = root.stat()
        self.folder = os.fsencode(root)
        self.registered: Library | None = Library("lib", paths.quote(self.folder), found.st_dev, found.st_ino)

    def library(self, name: str) -> Library | None:
        return self.registered if self.registered is not None and name == self.registered.name else None

    def root(self, name: str) -> bytes | None:
        return self.folder if self.library(name) else None

    def sync(self) -> None:
        pass


class NoOrigin:
    def topic(self) -> str | None:
        return None

    def partition(self) -> int | None:
        return None

    def offset(self) -> int | None:
        return None

    def value(self) -> bytes | None:
        return None


class World:
    """A library's folder and everything downstream of it up to `contents`.

    What is durable (logs, tables, letters, commits) survives `run`; what a process holds in memory does not survive a
    Crash.
    """

    def __init__(self, root: Path, cache: Path, *, crash_at: int | None = None) -> None:
        self.root = root
        self.fuse = Fuse(crash_at)
        self.log = MemoryLog(self.fuse)
        self.path_rows: MemoryTable[PathRow] = MemoryTable(self.fuse)
        self.content_rows: MemoryTable[ContentRow] = MemoryTable(self.fuse)
        self.mailbox = MemoryMailbox(self.fuse)
        self.libraries = OneLibrary(root)
        self.cache = Cache(cache, 1 << 20)
        self.executor = ThreadPoolExecutor(1)
        self.events: list[FileEvent] = []
        self.committed = {topics.FILE_EVENTS: 0, topics.CONTENT_CHANGES: 0}
        self.crashes = 0
        self.meanwhile: Callable[[], None] = lambda: None  # what happens to the disk between a crash and the restart
        self.selected: Callable[[bytes], bool] = lambda _relative: True
        self._start()

    def restart(self, *, selected: Callable[[bytes], bool]) -> None:
        """The process anew, with other settings."""
        self.selected = selected
        self._start()

    def _start(self) -> None:
        limits = Limits(max_file_size=1 << 20, recheck=RECHECK)
        self.hashing = Hashing(
            self.log,
            self.path_rows,
            self.mailbox,
            self.libraries,
            self.cache,
            limits,
            self.executor,
            self.selected,
        )
        self.dedup = Dedup(self.log, self.content_rows, Counting(), grace=0.0)

    def look(self, *names: str) -> None:
        """Announce files of the library."""
        self.events += [Look(f"lib/{paths.quote(os.fsencode(name))}") for name in names]

    def scan(self, scan: str) -> None:
        """Announce every file there is, then the marker."""
        self.events += [Look(path, scan=scan) for path in self.on_disk()]
        self.events.append(ScanFinished("lib", scan))

    def run(self) -> None:
        """Work until everything is acknowledged, starting anew after a crash."""
        while True:
            try:
                asyncio.run(self._work())
            except (Crash, BaseExceptionGroup):
                self.crashes += 1
                self.meanwhile()
                self._start()
            else:
                return

    async def _work(self) -> None:
        await self._hash()
        await self._merge()

    async def _hash(self) -> None:
        while (offset := self.committed[topics.FILE_EVENTS]) < len(self.events):
            event = self.events[offset]
            self.hashing.arrived(PARTITION, event)
            if isinstance(event, Look):
                await self._look(offset, event)
            else:
                await self.hashing.scan_finished(PARTITION, event, lambda path: self._look(offset, Look(path)))
            self.fuse.step()  # everything done, not acknowledged
            self.committed[topics.FILE_EVENTS] = offset + 1

    async def _look(self, offset: int, look: Look) -> None:
        attempt = 1
        while (again := await self.hashing.look(NoOrigin(), PARTITION, offset, look, attempt)) is not None:
            await asyncio.sleep(again)
            attempt += 1

    async def work_on(self, offset: int, attempt: int | None = None) -> None:
        """Work on one event without acknowledging it: to its end, or one attempt alone."""
        event = self.events[offset]
        assert isinstance(event, Look)
        if attempt is None:
            await self._look(offset, event)
        else:
            await self.hashing.look(NoOrigin(), PARTITION, offset, event, attempt)

    async def _merge(self) -> None:
        changes = self.log.records.get(topics.CONTENT_CHANGES, [])
        while (offset := self.committed[topics.CONTENT_CHANGES]) < len(changes):
            key, value = changes[offset]
            assert value is not None
            change: ContentChange = records.content_change(value)
            while (again := await self.dedup.change(PARTITION, key, change)) is not None:
                await asyncio.sleep(again)
            self.fuse.step()
            self.committed[topics.CONTENT_CHANGES] = offset + 1

    def contents(self) -> dict[str, tuple[str, ...]]:
        """What the compacted topic says: sha256 → paths."""
        latest: dict[str, Content | None] = {}
        for key, value in self.log.records.get(topics.CONTENTS, []):
            latest[key] = None if value is None else records.content(value)
        return {key: content.paths for key, content in latest.items() if content is not None}

    def known(self) -> set[str]:
        """The paths that have a content in the table."""
        return {path for path, row in self.path_rows.rows.items() if row.sha256}

    def on_disk(self) -> list[str]:
        """Path ids of the library's files."""
        root = os.fsencode(self.root)
        return sorted(
            paths.path_id("lib", root, os.path.join(folder, name))
            for folder, _, names in os.walk(root)
            for name in names
        )
