"""The device thread: it takes what is prepared, in batches, and nothing else ever waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import structlog

from gpu_consumers.task import Task
from pixeldetective.metrics import BATCH_PICTURES, BATCH_SECONDS

log = structlog.get_logger(__name__)

J = TypeVar("J")
P = TypeVar("P")
R = TypeVar("R")

LINGER = 0.02  # seconds a batch waits for pictures that are being decoded; more would be felt by a single new file


class Device(Generic[J, P, R]):
    """Runs a task's batches in a thread of its own.

    Guarantee: every job that was submitted comes back exactly once through `done`, with a result or an exception; no
    job fails because of the size of its batch or another member. `done` is called from the device thread.
    """

    def __init__(
        self,
        task: Task[P, R],
        batch_size: int,
        done: Callable[[J, R | Exception], None],
        expected: Callable[[], int],
    ) -> None:
        """`expected` tells how many pictures are being prepared right now."""
        self._task = task
        self._batch_size = batch_size
        self._done = done
        self._expected = expected
        self._queue: queue.SimpleQueue[tuple[J, P] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Load the model and begin."""
        self._thread.start()

    def submit(self, job: J, prepared: P) -> None:
        """Queue one prepared picture."""
        self._queue.put((job, prepared))

    def close(self) -> None:
        """End after what is queued."""
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            started = time.monotonic()
            self._task.load()
            log.info("model loaded", group=self._task.group, seconds=round(time.monotonic() - started, 1))
            while batch := self._collect():
                self._compute(batch)
        except BaseException as error:  # noqa: BLE001 - whoever polls must learn of it
            self.failure = error

    def _collect(self) -> list[tuple[J, P]]:
        first = self._queue.get()
        if first is None:
            return []
        batch = [first]
        deadline = time.monotonic() + LINGER
        while len(batch) < self._batch_size:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()) if self._expected() else 0.0)
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            batch.append(item)
        return batch

    def _compute(self, batch: Sequence[tuple[J, P]]) -> None:
        started = time.monotonic()
        try:
            results = self._task.compute([prepared for _, prepared in batch])
        except Exception as error:  # noqa: BLE001 - out of memory, or one member that breaks the pass
            if len(batch) == 1:
                self._done(batch[0][0], error)
                return
            if "out of memory" in str(error).lower():
                self._batch_size = max(1, len(batch) // 2)
                log.warning("out of memory; smaller batches from now on", size=self._batch_size)
            half = len(batch) // 2
            self._compute(batch[:half])
            self._compute(batch[half:])
            return
        BATCH_SECONDS.labels(group=self._task.group).observe(time.monotonic() - started)
        BATCH_PICTURES.labels(group=self._task.group).observe(len(batch))
        for (job, _), result in zip(batch, results, strict=True):
            self._done(job, result)
