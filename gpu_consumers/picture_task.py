"""What embedding and captioning share: decode once, then pixels for the model and metadata from the same read."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpu_consumers.trial import survive
from pixeldetective.errors import PixdError
from pixeldetective.images.decode import decode
from pixeldetective.images.metadata import Metadata
from pixeldetective.models.model import PictureModel

M = TypeVar("M", bound=PictureModel)


@dataclass(frozen=True)
class Prepared:
    """One picture, ready for the device."""

    pixels: NDArray[np.float32]  # (3, side, side)
    metadata: Metadata


class LoadedLater(Generic[M]):
    """A model that the device thread loads while the pool already waits for it."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._loaded = threading.Event()
        self._model: M | None = None

    def set(self, model: M) -> None:
        """The model is here."""
        self._model = model
        self._loaded.set()

    def get(self) -> M:
        """The model; waits until it is loaded."""
        self._loaded.wait()
        if self._model is None:
            raise PixdError("The model could not be loaded.")
        return self._model

    def survive(self, data: bytes, extension: str) -> None:
        """Return if decoding the picture leaves a process alive. Raises PictureError."""
        survive(data, extension, self.get().side, self._max_pixels)

    def prepare(self, data: bytes, extension: str) -> Prepared:
        """Decode one picture, on any thread. Raises PictureError."""
        model = self.get()
        picture = decode(data, extension=extension, side=model.side, max_pixels=self._max_pixels)
        return Prepared(model.preprocess(picture.pixels), picture.metadata)
