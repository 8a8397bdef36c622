"""One library as the watcher lives with it: its root comes and goes, its changes are seen, and it is scanned."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from confluent_kafka import KafkaException
from watchdog.observers.inotify_c import InotifyFD

from pixeldetective import paths
from pixeldetective.errors import PixdError
from pixeldetective.settings import Settings
from producers.announcer import namer
from producers.debouncer import What
from producers.inbox import Inbox
from producers.inotify import OUT_OF_WATCHES, InotifyTree
from producers.mounts import is_network
from producers.polling import INTERVAL, PollingTree
from producers.scanner import ScanStoppedError
from producers.selection import Selection
from producers.source import Source

log = structlog.get_logger(__name__)

ROOT_CHECK = 0.5  # seconds between two looks at whether the root is still the folder it was
ARRIVAL = 0.2  # seconds for a folder that left to arrive; the kernel tells both at once, only we may be slow
LOST_PAUSE = 0.5  # seconds from lost events to the scan: while a burst lasts, more are lost
LONGEST_PAUSE = 30.0  # seconds between two attempts of a scan that fails

_OUT_OF_WATCHES_SENTENCE = (
    "The system's inotify watches are used up, so the library is polled instead: changes are seen some seconds later. "
    "Allow more with: sysctl fs.inotify.max_user_watches=1048576"
)


class Scan(Protocol):
    """How a library is scanned; see `producers.scanner.scan`."""

    def __call__(
        self, library: str, root: bytes, *, entering: Callable[[bytes], None], stopping: threading.Event
    ) -> object:
        """Raises KafkaException or PixdError if it must be tried again, ScanStoppedError if it was stopped."""


class WatchedLibrary(threading.Thread):
    """Watches one library and scans it: at start, every `settings.scan_interval` seconds, and when events cannot tell.

    Guarantee: a change below the root is put into the inbox, or a scan that begins after the change is completed.
    Requests for a scan coalesce; one that comes during a scan causes another. Watching goes on during scans. A root
    that is missing is waited for; each time it goes or comes back there is a scan. If this thread ends by itself, the
    process must end, too.
    """

    def __init__(
        self, settings: Settings, name: str, root: bytes, inbox: Inbox, fd: InotifyFD | None, scan: Scan
    ) -> None:
        super().__init__(name=f"library {name}", daemon=True)
        self.library = name
        self.root = root.rstrip(b"/") or b"/"
        self._settings = settings
        self._inbox = inbox
        self._fd = fd
        self._scan_with = scan
        self._selection = Selection(settings)
        self._name_of = namer(name, self.root)
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._scan_at: float | None = time.monotonic()  # the first is due now
        self._left: dict[int, float] = {}  # moves that took a folder away, and until when it may arrive
        self._exhausted = False
        self._failures = 0
        self._source: Source | None = None
        self._identity: tuple[int, int] | None = None
        self._known_missing = False

    # Called by sources, from their threads.

    def changed(self, path: bytes, what: What) -> None:
        """Something happened to a file."""
        self._inbox.put(self._name_of(path), what)

    def folder_left(self, move: int) -> None:
        """A folder went away; unless it arrives soon, only a scan knows what was in it."""
        with self._news:
            self._left[move] = time.monotonic() + ARRIVAL
            self._news.notify()

    def folder_arrived(self, move: int) -> None:
        """The folder is still in the library."""
        with self._news:
            self._left.pop(move, None)

    def events_lost(self) -> None:
        """Changes went unseen."""
        log.warning("the system dropped file events, scanning instead", library=self.library)
        self.request_scan(LOST_PAUSE)

    def watches_exhausted(self) -> None:
        """There are not enough watches."""
        with self._news:
            self._exhausted = True
            self._news.notify()

    # Called by the watcher.

    def request_scan(self, delay: float = 0.0) -> None:
        """Scan once more, `delay` seconds from now or sooner."""
        with self._news:
            at = time.monotonic() + delay
            self._scan_at = at if self._scan_at is None else min(self._scan_at, at)
            self._news.notify()

    def stop(self) -> None:
        """Ask the thread to end; join it afterwards."""
        self._stopping.set()
        with self._news:
            self._news.notify()

    def check(self) -> None:
        """Raise PixdError if this library is not watched any more without having been told to stop."""
        source = self._source
        blind = source is not None and not source.is_alive() and source is self._source  # else: exchanged this moment
        if blind or not self.is_alive():
            raise PixdError(f"The library “{self.library}” is no longer watched: a thread ended. The log says why.")

    # The thread.

    def run(self) -> None:
        """Live until `stop`."""
        try:
            while not self._stopping.is_set():
                self._follow_root()
                if self._take_scan():
                    self._scan()
                self._rest()
        finally:
            self._detach()

    def _follow_root(self) -> None:
        identity = _identity(self.root)
        with self._news:
            exhausted, self._exhausted = self._exhausted, False
        if self._source is not None and (identity != self._identity or exhausted):
            self._detach()
            if not exhausted:
                log.warning("the library's folder is gone, or is another one", library=self.library, root=self._shown)
            self.request_scan()  # a missing root, too: hashing then holds the library, and people can see that
        if self._source is None and identity is not None:
            self._attach(identity, exhausted=exhausted)
        if identity is None and not self._known_missing:
            log.warning("the library's folder is missing, waiting for it", library=self.library, root=self._shown)
        self._known_missing = identity is None

    def _attach(self, identity: tuple[int, int], *, exhausted: bool = False) -> None:
        source: Source
        if exhausted:
            log.warning(_OUT_OF_WATCHES_SENTENCE, library=self.library)
        if exhausted or self._fd is None or is_network(self.root):
            log.info("polling", library=self.library, root=self._shown, seconds=INTERVAL)
            source = PollingTree(self.root, self._selection, self)
        else:
            source = InotifyTree(self._fd, self.root, self._selection, self, quiet=self._settings.quiet)
        try:
            source.start()
        except OSError as error:
            source.stop()
            if error.errno in OUT_OF_WATCHES:
                self._attach(identity, exhausted=True)
            else:  # it may have gone again this moment, or may not be readable yet: tried again with the next check
                log.debug("root cannot be watched", library=self.library, root=self._shown, error=str(error))
            return
        self._source, self._identity = source, identity
        self.request_scan()

    def _detach(self) -> None:
        source, self._source, self._identity = self._source, None, None
        if source is not None:
            source.stop()

    def _take_scan(self) -> bool:
        with self._news:
            now = time.monotonic()
            left = [move for move, until in self._left.items() if until <= now]
            due = bool(left) or (self._scan_at is not None and self._scan_at <= now)
            if due:
                # Everything that asked so far is served by the scan that begins now.
                for move in left:
                    del self._left[move]
                self._scan_at = None
            return due

    def _scan(self) -> None:
        if self._source is not None:
            self._source.settle()
        try:
            self._scan_with(self.library, self.root, entering=self._entering, stopping=self._stopping)
        except ScanStoppedError:
            return
        except (KafkaException, PixdError) as error:
            self._failures += 1
            pause = min(LONGEST_PAUSE, 0.5 * 2 ** min(self._failures, 10))
            log.warning("the scan failed, trying again", library=self.library, seconds=pause, error=str(error))
            self.request_scan(pause)
        else:
            self._failures = 0
            if self._settings.scan_interval:
                self.request_scan(self._settings.scan_interval)

    def _entering(self, folder: bytes) -> None:
        if self._source is not None:
            self._source.entering(folder)

    def _rest(self) -> None:
        with self._news:
            due = [*self._left.values(), *([] if self._scan_at is None else [self._scan_at])]
            pause = min([ROOT_CHECK, *(at - time.monotonic() for at in due)])
            if pause > 0 and not self._stopping.is_set() and not self._exhausted:
                self._news.wait(pause)

    @property
    def _shown(self) -> str:
        return paths.shown(self.root)


def _identity(root: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(root)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
