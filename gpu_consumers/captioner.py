"""The captioner: pictures in, one sentence each out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from gpu_consumers.batch_worker import BatchWorker
from gpu_consumers.picture_task import LoadedLater, Prepared
from pixeldetective import metrics, records, topics
from pixeldetective.models.model import CaptionModel, load_for_captions, resolve_captions
from pixeldetective.process import stop_on_signals
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints

READER = 1  # raise it when decoding changes


class CaptionTask:
    """Captions pictures with one model.

    A picture that cannot be read has no caption, which is a tombstone; why it cannot be read is the embedder's to tell,
    once.
    """

    answers_for_pictures = False

    def __init__(self, settings: Settings, model: str) -> None:
        self.group = topics.captioner_group(model)
        self.topic = topics.captions(model)
        self.cache_key = f"{self.topic}|{READER}".encode()
        self._settings = settings
        self._model_id = model
        self._model: LoadedLater[CaptionModel] = LoadedLater(settings.max_pixels)

    def load(self) -> None:
        """Load the model; takes seconds."""
        cache = self._settings.models_folder
        self._model.set(load_for_captions(self._model_id, self._settings.device, cache=cache))

    def survive(self, data: bytes, extension: str) -> None:
        """Try a suspect. Raises PictureError."""
        self._model.survive(data, extension)

    def prepare(self, data: bytes, extension: str) -> Prepared:
        """Decode one picture. Raises PictureError."""
        return self._model.prepare(data, extension)

    def compute(self, batch: Sequence[Prepared]) -> list[str | Exception]:
        """Caption a batch."""
        return [*self._model.get().caption(np.stack([prepared.pixels for prepared in batch]))]

    def encode(self, result: str) -> bytes:
        """As it is cached."""
        return result.encode()

    def decode(self, data: bytes) -> str:
        """From the cache. Raises ValueError."""
        return data.decode()

    def answer(self, result: str, caused_by: int) -> bytes:
        """A record of `captions.<model>`."""
        return records.encode(records.Caption(result, caused_by))


def run(settings: Settings, model: str, worker_id: str) -> None:
    """Run one captioner until SIGTERM or SIGINT."""
    os.nice(10)  # a picture is found by its vector: captions take the processor time that embedders leave
    stopping = stop_on_signals()
    metrics.serve(settings.metrics_port)
    resolved = resolve_captions(model, cache=settings.models_folder, configured=settings.caption_model)
    task = CaptionTask(settings, resolved.id)
    BatchWorker(settings, endpoints(settings).kafka_bootstrap, task, worker_id).run(stopping)
