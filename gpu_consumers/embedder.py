"""The embedder: pictures in, unit vectors and metadata out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from gpu_consumers.batch_worker import BatchWorker
from gpu_consumers.picture_task import LoadedLater, Prepared
from pixeldetective import metrics, records, topics
from pixeldetective.errors import PictureError, Reason
from pixeldetective.images.metadata import Metadata
from pixeldetective.models.model import EmbeddingModel, load_for_images, resolve
from pixeldetective.process import stop_on_signals
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import endpoints

READER = 1  # raise it when decoding or metadata change: cached results are computed anew then


class Embedded(msgspec.Struct, frozen=True):
    """What is known of one picture, without where it lies."""

    vector: str
    metadata: Metadata


class EmbeddingTask:
    """Embeds pictures with one model."""

    answers_for_pictures = True

    def __init__(self, settings: Settings, model: str) -> None:
        self.group = topics.embedder_group(model)
        self.topic = topics.embeddings(model)
        self.cache_key = f"{self.topic}|{READER}".encode()
        self._settings = settings
        self._model_id = model
        self._model: LoadedLater[EmbeddingModel] = LoadedLater(settings.max_pixels)
        self._decoder = msgspec.json.Decoder(Embedded)

    def load(self) -> None:
        """Load the model; takes seconds."""
        cache = self._settings.models_folder
        self._model.set(load_for_images(self._model_id, self._settings.device, cache=cache))

    def survive(self, data: bytes, extension: str) -> None:
        """Try a suspect. Raises PictureError."""
        self._model.survive(data, extension)

    def prepare(self, data: bytes, extension: str) -> Prepared:
        """Decode one picture. Raises PictureError."""
        return self._model.prepare(data, extension)

    def compute(self, batch: Sequence[Prepared]) -> list[Embedded | Exception]:
        """Embed a batch; a vector that is not finite is its picture's own failure."""
        vectors = self._model.get().embed_images(np.stack([prepared.pixels for prepared in batch]))
        return [
            Embedded(records.encode_vector(vector), prepared.metadata)
            if np.isfinite(vector).all()
            else PictureError(Reason.BAD_VECTOR, "The model's vector has values that are not numbers.")
            for vector, prepared in zip(vectors, batch, strict=True)
        ]

    def encode(self, result: Embedded) -> bytes:
        """As it is cached."""
        return msgspec.json.encode(result)

    def decode(self, data: bytes) -> Embedded:
        """From the cache. Raises ValueError."""
        return self._decoder.decode(data)

    def answer(self, result: Embedded, caused_by: int) -> bytes:
        """A record of `embeddings.<model>`."""
        return records.encode(records.Embedding(result.vector, result.metadata, caused_by))


def run(settings: Settings, model: str, worker_id: str) -> None:
    """Run one embedder until SIGTERM or SIGINT."""
    stopping = stop_on_signals()
    metrics.serve(settings.metrics_port)
    resolved = resolve(model, cache=settings.models_folder, configured=settings.model)
    task = EmbeddingTask(settings, resolved.id)
    BatchWorker(settings, endpoints(settings).kafka_bootstrap, task, worker_id).run(stopping)
