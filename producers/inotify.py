"""A folder tree watched by the kernel.

Of watchdog this uses the thread that reads inotify (`InotifyFD`), not the observer above it. Tried with watchdog 7.1.0,
that one: stops seeing anything, while it says it is alive, when a folder was moved out of the tree, another made in its
place and both were deleted (KeyError in `_remove_watch_internally`); says nothing when the watches run out below the
root, nor when the kernel's queue overflowed; goes on telling of a folder that was moved away under its old name; holds
back every event for half a second after a file was moved out; and watches folders that do not count.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from dataclasses import dataclass

import structlog
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from pixeldetective import paths
from producers.selection import Selection
from producers.source import Sink
from producers.walk import walk

log = structlog.get_logger(__name__)

_IN = InotifyConstants
# Not IN_OPEN, IN_ACCESS and IN_CLOSE_NOWRITE: our own reading would be reported.
_ROOT_MASK = Mask(
    _IN.IN_CREATE
    | _IN.IN_MODIFY
    | _IN.IN_ATTRIB
    | _IN.IN_CLOSE_WRITE
    | _IN.IN_MOVED_FROM
    | _IN.IN_MOVED_TO
    | _IN.IN_DELETE
    | _IN.IN_ONLYDIR
    | _IN.IN_EXCL_UNLINK
)
_MASK = Mask(_ROOT_MASK | _IN.IN_DONT_FOLLOW)
OUT_OF_WATCHES = (errno.ENOSPC, errno.ENOMEM)  # of inotify_add_watch
_ids = itertools.count(1)


@dataclass(frozen=True)
class _Watch:
    path: bytes
    id: CallbackId


class InotifyTree:
    """Watches one root and every folder below it that counts; a `Source`, and a `WatchCallback` of watchdog.

    Guarantee: each change of a file in a watched folder is told, or `events_lost` is. A new folder is watched first and
    listed then, so files that were quicker than the watch are told of, too. Folders that cannot be read are not
    watched; the next scan tries again.
    """

    def __init__(self, fd: InotifyFD, root: bytes, selection: Selection, sink: Sink, *, quiet: float) -> None:
        self._fd = fd
        self._root = root
        self._selection = selection
        self._sink = sink
        self._quiet = quiet
        self._lock = threading.RLock()  # taken before the lock inside InotifyFD, never while that is held
        self._stopped = False
        self._watches: dict[WatchDescriptor, _Watch] = {}
        self._folders: dict[bytes, WatchDescriptor] = {}
        self._leaving: dict[int, tuple[bytes, dict[bytes, WatchDescriptor]]] = {}  # by the cookie of the move

    def start(self) -> None:
        """Watch every folder. Raises OSError: OUT_OF_WATCHES if there are not enough, else about the root."""
        for _ in walk(self._root, self._selection, self._unreadable, self._enter):
            pass

    def entering(self, folder: bytes) -> None:
        """Watch `folder` if it is not watched, or if another folder has taken its place."""
        try:
            self._enter(folder)
        except OSError as error:
            self._failed(error)

    def settle(self) -> None:
        """Stop watching the folders that left the tree."""
        with self._lock:
            leaving, self._leaving = self._leaving, {}
            for old, folders in leaving.values():
                for path, wd in folders.items():
                    watch = self._watches.get(wd)
                    if watch is not None and watch.path == path and _is_or_below(path, old):
                        self._forget(wd)

    def stop(self) -> None:
        """Remove all watches."""
        with self._lock:
            self._stopped = True
            for wd in list(self._watches):
                self._forget(wd)
            self._folders.clear()

    def is_alive(self) -> bool:
        """Whether the thread that reads inotify lives."""
        return self._fd.is_alive()

    def on_event(self, event: InotifyEvent) -> None:
        """Called by watchdog's thread."""
        with self._lock:
            watch = self._watches.get(event.wd)
            if watch is None or self._stopped:
                return
            path = os.path.join(watch.path, event.name) if event.name else watch.path
            try:
                if event.mask & _IN.IN_ISDIR:
                    self._folder_changed(event, path)
                elif event.name and self._selection.picture(event.name):
                    self._file_changed(event, path)
            except OSError as error:
                self._failed(error)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog's thread: the kernel removed a watch, because its folder is gone."""
        with self._lock:
            watch = self._watches.pop(wd, None)
            if watch is not None and self._folders.get(watch.path) == wd:
                del self._folders[watch.path]

    def on_queue_overflow(self) -> None:
        """Called by watchdog's thread: the kernel dropped events."""
        self._sink.events_lost()

    def _file_changed(self, event: InotifyEvent, path: bytes) -> None:
        if event.is_close_write:
            self._sink.changed(path, "closed")
        elif event.is_moved_to:
            self._sink.changed(path, "moved")
        elif event.is_moved_from or event.is_delete:
            self._sink.changed(path, "gone")
        else:
            # Created, modified or given other attributes: where that is part of writing, a close follows.
            self._sink.changed(path, "written")

    def _folder_changed(self, event: InotifyEvent, path: bytes) -> None:
        counts = bool(event.name) and self._selection.folder(event.name)
        if event.is_moved_from:
            if path in self._folders:
                self._leave(event.cookie, path)
        elif event.is_moved_to and event.cookie in self._leaving:
            if counts:
                self._arrive(event.cookie, path)
        elif counts and (event.is_create or event.is_moved_to or (event.is_attrib and path not in self._folders)):
            for entry in walk(path, self._selection, self._unreadable, self._enter):
                # What was moved in is complete. What was made may still be written by someone whose close we shall see.
                complete = event.is_moved_to or _age(entry) > self._quiet
                self._sink.changed(entry.path, "moved" if complete else "written")

    def _leave(self, cookie: int, old: bytes) -> None:
        folders = {path: wd for path, wd in self._folders.items() if _is_or_below(path, old)}
        for path in folders:
            del self._folders[path]
        self._leaving[cookie] = (old, folders)
        self._sink.folder_left(cookie)

    def _arrive(self, cookie: int, new: bytes) -> None:
        old, folders = self._leaving.pop(cookie)
        for path, wd in folders.items():
            watch = self._watches.get(wd)
            if watch is not None and watch.path == path:
                # The same folder, so the same watch: nothing that happens in it meanwhile is missed.
                moved = new + path[len(old) :]
                self._watches[wd] = _Watch(moved, watch.id)
                self._folders[moved] = wd
        for entry in walk(new, self._selection, self._unreadable, self._enter):
            self._sink.changed(entry.path, "moved")
            self._sink.changed(old + entry.path[len(new) :], "gone")
        self._sink.folder_arrived(cookie)

    def _enter(self, folder: bytes) -> None:
        with self._lock:
            if self._stopped:
                return
            try:
                self._watch(folder)
            except OSError as error:
                # Below the root, what is wrong with one folder is the walk's to report, which meets it next.
                if folder == self._root or error.errno in OUT_OF_WATCHES:
                    raise

    def _watch(self, path: bytes) -> None:
        new = CallbackId(next(_ids))  # watchdog warns of an id that it knows
        wd = self._fd.add_callback(path, _ROOT_MASK if path == self._root else _MASK, self, new)
        if wd == -1:  # watchdog's way to say EACCES; it keeps an entry for it
            self._fd.remove_callbacks([(wd, new)])
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        before = self._watches.get(wd)
        if before is not None:  # the folder is watched already, perhaps under the name it had
            self._fd.remove_callbacks([(wd, before.id)])
            if self._folders.get(before.path) == wd:
                del self._folders[before.path]
        other = self._folders.get(path)
        if other is not None:  # another folder had this name
            self._forget(other)
        self._watches[wd] = _Watch(path, new)
        self._folders[path] = wd

    def _forget(self, wd: WatchDescriptor) -> None:
        watch = self._watches.pop(wd, None)
        if watch is None:
            return
        if self._folders.get(watch.path) == wd:
            del self._folders[watch.path]
        self._fd.remove_callbacks([(wd, watch.id)])

    def _failed(self, error: OSError) -> None:
        if error.errno in OUT_OF_WATCHES:
            self._sink.watches_exhausted()
        else:
            log.warning("a folder could not be watched", root=paths.shown(self._root), error=str(error))
            self._sink.events_lost()

    def _unreadable(self, folder: bytes, error: OSError) -> None:
        log.debug("folder cannot be read", folder=paths.shown(folder), error=error.strerror)


def connect() -> InotifyFD | None:
    """A running reader of inotify for all trees of this process, or None if the system grants none."""
    try:
        fd = InotifyFD()
    except OSError as error:
        log.warning(
            "inotify is not available, folders are polled instead; "
            "more instances are granted by: sysctl fs.inotify.max_user_instances=1024",
            error=str(error),
        )
        return None
    fd.start()
    return fd


def _is_or_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder + b"/")


def _age(entry: os.DirEntry[bytes]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0
