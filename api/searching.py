"""Searching: a query becomes a vector of the collection's model, Qdrant finds its neighbours."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from api.hit import Hit
from pixeldetective.errors import PixdError, UsageError
from pixeldetective.images.decode import decode
from pixeldetective.models.model import EmbeddingModel, load_for_queries, resolve
from pixeldetective.qdrant import ERRORS, Fault, connect, details, fault
from pixeldetective.records import VECTOR
from pixeldetective.registry import Registry
from pixeldetective.settings import Settings
from pixeldetective.stack.addresses import Endpoints

MOST = 1000  # pictures in one answer


class Searcher:
    """Answers queries against the collections that are bound to one model. Safe to use from several threads."""

    def __init__(self, settings: Settings, endpoints: Endpoints, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._client: QdrantClient = connect(settings, endpoints)
        self._cache = settings.models_folder
        self.model_id = resolve(settings.model, cache=self._cache).id
        self._model: EmbeddingModel | None = None
        self._loading = threading.Lock()
        self._device = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._model is not None

    def model(self) -> EmbeddingModel:
        """The model; the first call loads it, which takes seconds. Raises PixdError."""
        with self._loading:
            if self._model is None:
                self._model = load_for_queries(self.model_id, self._settings.device, cache=self._cache)
            return self._model

    def check_model(self, wanted: str | None) -> None:
        """Raise UsageError if a caller expects another model than this process has."""
        if wanted is not None and wanted not in {self._settings.model, self.model_id}:
            raise UsageError(
                f"The API process that answers has the model {self.model_id}, PIXD_MODEL asks for {wanted}. After "
                "another setting, `pixd down` and `pixd up` bring it into force."
            )

    def text(self, text: str, count: int, collection: str) -> list[Hit]:
        """The `count` pictures nearest to a text, nearest first. Raises PixdError."""
        if not text.strip():
            raise UsageError("The query is empty. Say what the picture shows, for example “a cat on a sofa”.")
        self._check(count, collection)
        return self._nearest(self.model().embed_texts([text])[0], count, collection)

    def image(self, data: bytes, extension: str, count: int, collection: str) -> list[Hit]:
        """The `count` pictures nearest to a picture, nearest first. Raises PictureError if it cannot be decoded."""
        self._check(count, collection)
        model = self.model()
        picture = decode(data, extension=extension, side=model.side, max_pixels=self._settings.max_pixels)
        pixels = model.preprocess(picture.pixels)
        with self._device:
            vector = model.embed_images(pixels[np.newaxis])[0]
        return self._nearest(vector, count, collection)

    def close(self) -> None:
        """Close the connection to Qdrant."""
        self._client.close()

    def _check(self, count: int, collection: str) -> None:
        if not 1 <= count <= MOST:
            raise UsageError(f"The number of pictures must be between 1 and {MOST}.")
        known = self._registry.collections.get(collection)
        if known is None:
            names = ", ".join(self._registry.collections) or "none"
            raise UsageError(f"There is no collection “{collection}”. There are: {names}.")
        if known.model != self.model_id:
            raise UsageError(
                f"The collection “{collection}” is bound to the model {known.model}; this query would be made with "
                f"{self.model_id}, and their vectors cannot be compared. Set PIXD_MODEL={known.model}."
            )

    def _nearest(self, vector: NDArray[np.float32], count: int, collection: str) -> list[Hit]:
        try:
            found = self._client.query_points(
                collection,
                query=vector.tolist(),
                using=VECTOR,
                limit=count,
                with_payload=["sha256", "paths", "caption"],
            )
        except ERRORS as error:
            if fault(error) is Fault.NO_COLLECTION:
                return []  # nothing has been indexed yet
            raise PixdError(f"Qdrant did not answer the search: {details(error)}") from None
        return [self._hit(point) for point in found.points]

    def _hit(self, point: Any) -> Hit:
        pids: Sequence[str] = point.payload.get("paths", [])
        return Hit(
            score=round(float(point.score), 4),
            sha256=point.payload["sha256"],
            paths=tuple(pids),
            files=tuple(self._registry.shown_file(pid) for pid in pids),
            caption=point.payload.get("caption"),
        )
