from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixeldetective import records
from pixeldetective.errors import PictureError, Reason
from sinks.vectors import TOLERANCE, checked
from tests.sinks.world import DIMENSION, unit


@given(st.integers(0, 10_000), st.floats(1 - 0.9 * TOLERANCE, 1 + 0.9 * TOLERANCE))
def test_unit_vectors_pass_unchanged(seed: int, length: float) -> None:
    vector = (unit(seed) * np.float32(length)).astype(np.float32)
    assert np.array_equal(checked(records.encode_vector(vector), DIMENSION), vector)


@given(st.lists(st.floats(width=32), max_size=2 * DIMENSION) | st.lists(st.just(0.0), max_size=2 * DIMENSION))
def test_only_finite_unit_vectors_of_the_right_dimension_pass(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    fine = len(values) == DIMENSION and np.isfinite(vector).all()
    fine = fine and abs(np.linalg.norm(vector.astype(np.float64)) - 1) <= TOLERANCE
    if fine:
        checked(records.encode_vector(vector), DIMENSION)
        return
    with pytest.raises(PictureError) as caught:
        checked(records.encode_vector(vector), DIMENSION)
    assert caught.value.reason is Reason.BAD_VECTOR
    assert str(caught.value).endswith(".")


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_text_that_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(PictureError):
        checked(text, 3 * DIMENSION)
