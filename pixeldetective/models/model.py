"""What a model is to the rest of the system, and how to get one by its id.

Importing this module is cheap; torch comes with the first `load_…`. `resolve` and `resolve_captions` turn a setting
into the id that all else takes. The embedder uses `load_for_images`, the API `load_for_queries`, the captioner
`load_for_captions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pixeldetective.models import identity
from pixeldetective.models.identity import ResolvedModel, resolve, resolve_captions
from pixeldetective.models.slug import BUILTIN

__all__ = [
    "CaptionModel",
    "EmbeddingModel",
    "PictureModel",
    "ResolvedModel",
    "dimension_of",
    "load_for_captions",
    "load_for_images",
    "load_for_queries",
    "resolve",
    "resolve_captions",
]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class PictureModel(Protocol):
    """The half that every model has: pixels to the input of its network."""

    @property
    def id(self) -> str:
        """The model's resolved id (see `identity`)."""
        ...

    @property
    def side(self) -> int:
        """Pixels that `preprocess` scales to: a picture whose shorter side is below it is enlarged."""
        ...

    @property
    def device(self) -> str:
        """Where the network runs, as torch names it: "cpu", "cuda:0"."""
        ...

    def preprocess(self, pixels: Pixels) -> Floats:
        """Turn one picture, (h, w, 3) sRGB, into network input, (3, side, side), C-contiguous.

        Computes on the CPU and may be called from many threads at once.
        """
        ...


class EmbeddingModel(PictureModel, Protocol):
    """Pictures and texts to vectors of one space: the cosine of two vectors says how alike they are in meaning.

    The same picture gets the same vector whatever else is in its batch, to 1e-5, in half precision to 1e-3.
    `embed_images` is for one thread, the one that feeds the device; `embed_texts` may be called from any.
    """

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def embed_images(self, batch: Floats) -> Floats:
        """Embed preprocessed pictures, (n, 3, side, side): (n, dimension), unit length."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Embed queries: (n, dimension), unit length."""
        ...


class CaptionModel(PictureModel, Protocol):
    """Pictures to one line of English each."""

    def caption(self, batch: Floats) -> list[str]:
        """Describe preprocessed pictures, (n, 3, side, side), in order."""
        ...


def dimension_of(model_id: str) -> int:
    """Length of the model's vectors, without loading it. Raises UsageError for an id that names no model."""
    return identity.dimension(model_id)


def load_for_images(model_id: str, device: str, *, cache: Path) -> EmbeddingModel:
    """Load what embedding pictures needs, onto `device` ("cpu", "cuda", "cuda:1"; "" for CUDA where there is one).

    `model_id` as it is set or as it was resolved. `cache` is a folder for what is computed or found out once per
    machine, PIXD_HOME/cache/models. Raises UsageError for an id or a device that does not exist, PixdError if the
    model's files cannot be had or are damaged.
    """
    return _load(model_id, device, cache=cache, for_queries=False)


def load_for_queries(model_id: str, device: str, *, cache: Path) -> EmbeddingModel:
    """Load a model whose first text is as fast as the next. Otherwise as `load_for_images`."""
    model = _load(model_id, device, cache=cache, for_queries=True)
    model.embed_texts([""])
    return model


def load_for_captions(model_id: str, device: str, *, cache: Path) -> CaptionModel:
    """Load a model that describes pictures. Arguments and errors as for `load_for_images`."""
    resolved = resolve_captions(model_id, cache=cache)
    if resolved.family == BUILTIN:
        from pixeldetective.models.builtin import BuiltinCaption

        return BuiltinCaption(device)
    from pixeldetective.models.blip import BlipCaption

    return BlipCaption(resolved, device, cache=cache)


def _load(model_id: str, device: str, *, cache: Path, for_queries: bool) -> EmbeddingModel:
    resolved = resolve(model_id, cache=cache)
    if resolved.family == BUILTIN:
        from pixeldetective.models.builtin import BuiltinEmbedding

        return BuiltinEmbedding(device, cache=cache)
    from pixeldetective.models.open_clip import OpenClipEmbedding

    return OpenClipEmbedding(resolved, device, cache=cache, for_queries=for_queries)
