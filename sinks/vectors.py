"""Which vectors may reach Qdrant. The server accepts NaN and zero vectors, so this is the only guard."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pixeldetective import records
from pixeldetective.errors import PictureError, Reason

# Unit vectors rounded to float16 on the way are off by up to 5e-4; anything more is no rounding.
TOLERANCE = 1e-3


def checked(text: str, dimension: int) -> NDArray[np.float32]:
    """The vector of an `Embedding`, (dimension,) float32, finite, of length 1 ± 0.001.

    Raises PictureError (bad-vector) with a sentence for anything else.
    """
    try:
        vector = records.decode_vector(text)
    except ValueError as error:
        raise PictureError(Reason.BAD_VECTOR, f"The vector is not base64 of float32: {error}.") from None
    if vector.shape != (dimension,):
        raise PictureError(
            Reason.BAD_VECTOR, f"The vector has {vector.size} dimensions, the collection's model has {dimension}."
        )
    if not np.isfinite(vector).all():
        raise PictureError(Reason.BAD_VECTOR, "The vector contains NaN or infinity.")
    # In float64: the squares of finite float32 values can overflow float32.
    length = math.sqrt(float(np.square(vector, dtype=np.float64).sum()))
    if abs(length - 1) > TOLERANCE:
        raise PictureError(Reason.BAD_VECTOR, f"The vector has length {length:g}, it must be 1.")
    return vector
