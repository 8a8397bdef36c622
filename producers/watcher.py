"""The process that watches every library and announces what changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog
from confluent_kafka import KafkaException
from watchdog.observers.inotify_c import InotifyFD

from pixeldetective import metrics, process
from pixeldetective.errors import PixdError
from pixeldetective.kafka import ConfirmedProducer
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints
from producers import inotify
from producers.announcer import Announcer, KafkaAnnouncer
from producers.inbox import Inbox
from producers.scanner import ScanResult, scan
from producers.watched_library import Scan, WatchedLibrary

log = structlog.get_logger(__name__)

TICK = 0.25  # seconds between two looks at the registry and at the threads
PARTING = 5.0  # seconds that each thread is given to end


class Watcher:
    """Watches the libraries that `roots` names, as they come and go, and announces their changes.

    Guarantee: a change that is seen is announced durably, or the library is scanned: changes still in memory when the
    process ends are found by the scan that every start begins with. `roots` is asked every TICK seconds.
    """

    def __init__(
        self, settings: Settings, roots: Callable[[], Mapping[str, bytes]], announcer: Announcer, scan_with: Scan
    ) -> None:
        self._settings = settings
        self._roots = roots
        self._announcer = announcer
        self._scan_with = scan_with
        self._inbox = Inbox(settings.quiet, self._scan_all)
        self._libraries: dict[str, WatchedLibrary] = {}
        self._fd: InotifyFD | None = None

    def run(self, stopping: threading.Event) -> None:
        """Watch until `stopping` is set. Raises PixdError if a part of it ended by itself: then start it anew."""
        self._fd = inotify.connect()
        announcing = threading.Thread(target=self._announce, name="announcing", daemon=True)
        announcing.start()
        try:
            while not stopping.is_set():
                self._follow(self._roots())
                self._check(announcing)
                stopping.wait(TICK)
        finally:
            for library in self._libraries.values():
                library.stop()
            for library in self._libraries.values():
                library.join(PARTING)
            self._inbox.close()
            announcing.join(PARTING)
            if self._fd is not None:
                self._fd.stop()
                self._fd.join(PARTING)

    def _follow(self, roots: Mapping[str, bytes]) -> None:
        for name, library in list(self._libraries.items()):
            if name not in roots or (roots[name].rstrip(b"/") or b"/") != library.root:
                log.info("library removed", library=name)
                library.stop()
                library.join(PARTING)
                del self._libraries[name]
        for name, root in roots.items():
            if name not in self._libraries:
                log.info("library added", library=name)
                library = WatchedLibrary(self._settings, name, root, self._inbox, self._fd, self._scan_with)
                self._libraries[name] = library
                library.start()

    def _check(self, announcing: threading.Thread) -> None:
        if not announcing.is_alive() or (self._fd is not None and not self._fd.is_alive()):
            raise PixdError("The watcher no longer sees or announces changes: a thread ended. The log says why.")
        for library in self._libraries.values():
            library.check()

    def _announce(self) -> None:
        while path_ids := self._inbox.take():
            try:
                self._announcer.announce(path_ids)
            except KafkaException as error:  # only while stopping
                log.warning("left to the scan at the next start", paths=len(path_ids), error=str(error))
                return

    def _scan_all(self) -> None:
        log.warning("too many files changed at once, scanning instead")
        for library in list(self._libraries.values()):
            library.request_scan()


def run(settings: Settings) -> None:
    """Watch the libraries of the registry until SIGTERM or SIGINT; call it from the main thread.

    Raises PixdError if Kafka is not there at start, or if a part of the watcher ended by itself.
    """
    stopping = process.stop_on_signals()
    metrics.serve(settings.metrics_port)
    bootstrap = endpoints(settings).kafka_bootstrap

    def connect() -> ConfirmedProducer:
        return ConfirmedProducer(settings, bootstrap)

    def scan_library(
        library: str, root: bytes, *, entering: Callable[[bytes], None], stopping: threading.Event
    ) -> ScanResult:
        # A producer of its own: its errors and offsets must be those of this scan.
        return scan(settings, root, library, connect(), settings.partitions, entering=entering, stopping=stopping)

    with Registry(settings, bootstrap) as registry:

        def roots() -> Mapping[str, bytes]:
            return {name: root for name in registry.libraries if (root := registry.root(name)) is not None}

        Watcher(settings, roots, KafkaAnnouncer(connect, stopping), scan_library).run(stopping)
