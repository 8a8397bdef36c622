"""A cache on this machine's disk, shared by its processes, that stays below a size."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import lmdb
import structlog

log = structlog.get_logger(__name__)

_CURRENT = b"current"
_OPEN: dict[str, tuple[lmdb.Environment, int]] = {}  # LMDB allows one environment per file and process
_OPEN_LOCK = threading.Lock()


class Cache:
    """Bytes by bytes, least recently used entries forgotten first, by the half.

    Two generations share the limit: what is read from the old one moves to the current one; when the current one has
    filled its half, the old one is dropped and they change places. Losing the cache, or a write to it that was cut off
    by a crash or a full disk, costs time and nothing else. Safe for threads and processes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Open or create the cache in `folder`. Raises OSError if the folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._half = max_bytes // 2
        self._path = str(folder.resolve())
        with _OPEN_LOCK:
            environment, users = _OPEN.get(self._path, (None, 0))
            if environment is None:
                environment = lmdb.open(
                    self._path,
                    # Twice the limit: pages of a dropped generation are free only once no reader needs them.
                    map_size=max(2 * max_bytes, 1 << 20),
                    max_dbs=3,
                    max_readers=512,
                    sync=False,  # a crash of the machine may lose the newest entries, never the order of writes
                    metasync=False,
                    writemap=False,
                )
            _OPEN[self._path] = (environment, users + 1)
        self._environment = environment
        self._meta = environment.open_db(b"meta")
        self._generations = (environment.open_db(b"generation-0"), environment.open_db(b"generation-1"))

    def __len__(self) -> int:
        with self._environment.begin() as transaction:
            return sum(int(transaction.stat(db)["entries"]) for db in self._generations)

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        with self._environment.begin() as transaction:
            current = self._current(transaction)
            value = transaction.get(key, db=self._generations[current])
            if value is not None:
                return bytes(value)
            value = transaction.get(key, db=self._generations[1 - current])
        if value is None:
            return None
        self.put(key, bytes(value))
        return bytes(value)

    def put(self, key: bytes, value: bytes) -> None:
        """Keep `value` under `key` (at most 511 bytes)."""
        try:
            with self._environment.begin(write=True) as transaction:
                current = self._current(transaction)
                if self._size(transaction, current) + len(key) + len(value) > self._half:
                    current = 1 - current
                    transaction.drop(self._generations[current], delete=False)
                    transaction.put(_CURRENT, str(current).encode(), db=self._meta)
                transaction.put(key, value, db=self._generations[current])
        except lmdb.Error as error:  # a full map or disk; what is not kept is computed again
            log.warning("cache cannot be written to", folder=self._path, error=str(error))
            with contextlib.suppress(lmdb.Error):
                self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._environment.begin(write=True) as transaction:
            for generation in self._generations:
                transaction.drop(generation, delete=False)

    def size(self) -> int:
        """Bytes in use by both generations."""
        with self._environment.begin() as transaction:
            return self._size(transaction, 0) + self._size(transaction, 1)

    def close(self) -> None:
        """Let go of the file."""
        with _OPEN_LOCK:
            environment, users = _OPEN[self._path]
            if users > 1:
                _OPEN[self._path] = (environment, users - 1)
            else:
                del _OPEN[self._path]
                environment.close()

    def _current(self, transaction: lmdb.Transaction) -> int:
        return int(transaction.get(_CURRENT, b"0", db=self._meta))

    def _size(self, transaction: lmdb.Transaction, generation: int) -> int:
        found = transaction.stat(self._generations[generation])
        pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        return int(found["psize"]) * int(pages)
