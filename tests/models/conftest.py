"""One loaded model for all tests: loading takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn

from pixeldetective.images.decode import decode
from pixeldetective.models import architectures
from pixeldetective.models.builtin import BuiltinEmbedding


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that the loaded model has filled."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def model(cache: Path) -> BuiltinEmbedding:
    """`builtin` on the CPU."""
    return BuiltinEmbedding("cpu", cache=cache)


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that knows open_clip's tags already."""
    folder = tmp_path_factory.mktemp("notes")
    architectures.tags(cache=folder)
    return folder


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """The sample photos in the wheels of scikit-image and scikit-learn, by name: pixels (h, w, 3)."""
    samples = Path(skimage.__file__).parent / "data"
    paths = [*samples.glob("*.png"), *samples.glob("*.jpg")]
    paths += (Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg")
    return {
        path.stem: decode(path.read_bytes(), extension=path.suffix, side=224, max_pixels=100_000_000).pixels
        for path in sorted(paths)
    }
