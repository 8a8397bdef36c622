"""What a model is to the rest of the system, and how to get one by its id.

Importing this module is cheap; torch comes with the first `load_…`. The embedder uses `load_for_images`, the API
`load_for_queries`, the captioner `load_for_captions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.models.slug import BUILTIN

OPEN_CLIP = "open_clip"

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class PictureModel(Protocol):
    """The half that every model has: pixels to the input of its network."""

    @property
    def id(self) -> str:
        """The model's id, as PIXD_MODEL names it."""
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

    The same picture gets the same vector (to 1e-5) whatever else is in its batch. `embed_images` is for one thread, the
    one that feeds the device; `embed_texts` may be called from any.
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
    _require_builtin(model_id)
    return 384


def load_for_images(model_id: str, device: str, *, cache: Path) -> EmbeddingModel:
    """Load what embedding pictures needs, onto `device` ("cpu", "cuda", "cuda:1"; "" for CUDA where there is one).

    `cache` is a folder for what the model computes once per machine (see `builtin`). Raises UsageError for an id or a
    device that does not exist, PixdError if the model's files are missing.
    """
    _require_builtin(model_id)
    from pixeldetective.models.builtin import BuiltinEmbedding

    return BuiltinEmbedding(device, cache=cache)


def load_for_queries(model_id: str, device: str, *, cache: Path) -> EmbeddingModel:
    """Load a model whose first text is as fast as the next. Otherwise as `load_for_images`."""
    _require_builtin(model_id)
    from pixeldetective.models.builtin import BuiltinEmbedding

    model = BuiltinEmbedding(device, cache=cache)
    model.embed_texts([""])
    return model


def load_for_captions(model_id: str, device: str) -> CaptionModel:
    """Load a model that describes pictures. Arguments and errors as for `load_for_images`."""
    _require_builtin(model_id)
    from pixeldetective.models.builtin import BuiltinCaption

    return BuiltinCaption(device)


def _require_builtin(model_id: str) -> None:
    family, _, rest = model_id.partition(":")
    if model_id == BUILTIN:
        return
    architecture, _, weights = rest.partition("/")
    if family == OPEN_CLIP and architecture and weights:
        raise PixdError(f"This version cannot run {model_id} yet: the only model it has is “{BUILTIN}”.")
    raise UsageError(
        f"“{model_id}” names no model. Valid are “{BUILTIN}” and “{OPEN_CLIP}:<architecture>/<weights>”, for example "
        f"{OPEN_CLIP}:ViT-B-32/laion2b_s34b_b79k."
    )
