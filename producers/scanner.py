"""A scan: look at every file of a library, then say that this was all."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from pixeldetective import paths, records
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.metrics import FILES_ANNOUNCED
from pixeldetective.records import ScanFinished
from pixeldetective.settings import Settings
from pixeldetective.topics import FILE_EVENTS
from producers.announcer import namer, send_look
from producers.selection import Selection
from producers.walk import walk

log = structlog.get_logger(__name__)

CONFIRM_EVERY = 50_000  # looks; so that a scan notices before its end that Kafka is away
DEFERRED = 20_000  # files that may wait for their writers at once; one more and the oldest goes as it is
PATIENCE = 10.0  # seconds a scan waits for files that are being written; then it announces them as they are


@dataclass(frozen=True)
class ScanResult:
    """What a scan saw and where its markers are."""

    library: str
    scan: str
    files: int
    unreadable: int  # folders; 1 also for a root that is missing
    markers: Mapping[int, int]  # partition of file-events → offset after this scan's marker


class ScanStoppedError(Exception):
    """The scan was told to stop: it has sent looks, but no markers."""


def scan(
    settings: Settings,
    root: bytes,
    library: str,
    producer: ConfirmedProducer,
    partitions: int,
    *,
    entering: Callable[[bytes], None] | None = None,
    stopping: threading.Event | None = None,
) -> ScanResult:
    """Send a look for every picture below `root`, then a marker to each of the `partitions` of `file-events`.

    Guarantee: all looks are durable before the first marker is sent, and the markers are durable when this returns. So
    whoever reads a marker has had, in its partition, a look at every file that was there all the time. The producer
    must not be used by another thread meanwhile: its errors and offsets must be those of this scan.

    Files written to within the last `settings.quiet` seconds come last, each when it has been quiet for that long or
    after PATIENCE seconds. Folders that cannot be read are logged and counted; their files are not deleted by that,
    because hashing looks at every file that the scan missed, and meets the same error. The same holds for a missing
    root: the markers are sent, and hashing holds the library.

    `entering` is called with each folder before it is listed. Raises KafkaException if something was not confirmed, and
    ScanStoppedError soon after `stopping` is set: then there are no markers, and the scan must be repeated.
    """
    scan_id = uuid.uuid4().hex
    name = namer(library, root)
    announced = FILES_ANNOUNCED.labels(source="scan")
    unreadable = 0
    files = 0

    def note(folder: bytes, error: OSError) -> None:
        nonlocal unreadable
        unreadable += 1
        log.warning("folder cannot be read", library=library, folder=paths.shown(folder), error=error.strerror)

    started = time.monotonic()
    found = walk(root, Selection(settings), note, entering)
    for path in _quiet_last(found, settings.quiet, stopping or threading.Event()):
        send_look(producer, name(path), scan_id)
        announced.inc()
        files += 1
        if files % CONFIRM_EVERY == 0:
            producer.flush()
    producer.flush()
    marker = records.encode(ScanFinished(library, scan_id))
    for partition in range(partitions):
        producer.send(FILE_EVENTS, f"{library}/", marker, partition=partition)
    ends = producer.flush()
    log.info(
        "scanned", library=library, files=files, unreadable=unreadable, seconds=round(time.monotonic() - started, 3)
    )
    markers = {partition: end for (topic, partition), end in ends.items() if topic == FILE_EVENTS}
    return ScanResult(library, scan_id, files, unreadable, markers)


@dataclass
class _Waiting:
    path: bytes
    state: tuple[int, int]  # size and mtime_ns
    due: float  # monotonic seconds


def _quiet_last(entries: Iterator[os.DirEntry[bytes]], quiet: float, stopping: threading.Event) -> Iterator[bytes]:
    """The paths of `entries`; those that are being written last, when they are quiet or PATIENCE is over."""
    waiting: deque[_Waiting] = deque()
    for entry in entries:
        if stopping.is_set():
            raise ScanStoppedError
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            yield entry.path  # hashing finds out what that means
            continue
        age = time.time() - status.st_mtime
        # A time in the future is a wrong clock, not a write of this moment.
        if -quiet < age < quiet:
            due = time.monotonic() + min(quiet, quiet - age)
            waiting.append(_Waiting(entry.path, (status.st_size, status.st_mtime_ns), due))
            if len(waiting) > DEFERRED:
                yield waiting.popleft().path
        else:
            yield entry.path
    patience = time.monotonic() + max(PATIENCE, 2 * quiet)
    while waiting:
        first = waiting.popleft()
        if stopping.wait(max(0.0, min(first.due, patience) - time.monotonic())):
            raise ScanStoppedError
        state = _state(first.path)
        if state is None or state == first.state or time.monotonic() >= patience:
            yield first.path
        else:
            waiting.append(_Waiting(first.path, state, time.monotonic() + quiet))


def _state(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
