"""MiniLM as written here against the reference implementation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest

from pixeldetective.models import minilm
from pixeldetective.models.imagenet import class_names
from pixeldetective.models.minilm import MiniLM

TEXTS = (
    *(
        "",
        "a",
        "a cat",
        "  spaces  ",
        "Zwei Möwen am Strand – im März",
        "猫が好き",
        "🐈 on a 🛋",
        "\0\n\t",
        "[MASK] [SEP] [PAD]",
    ),
    *("word " * 250, "word " * 400, "supercalifragilisticexpialidocious" * 20, "a,b;c.d!e?f"),
)


@pytest.fixture(scope="module")
def sentences() -> MiniLM:
    return MiniLM()


def reference(texts: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(minilm.folder()), device="cpu", local_files_only=True)
        vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = model.encode(list(texts), show_progress_bar=False)
        return vectors


def test_vectors_equal_those_of_sentence_transformers(sentences: MiniLM) -> None:
    texts = [*TEXTS, *class_names()[::20]]
    expected, ours = reference(texts), sentences.encode(texts)
    assert (expected * ours).sum(axis=1).min() > 0.99999
    assert np.abs(expected - ours).max() < 1e-5


def test_vectors_have_unit_length_and_the_type_promised(sentences: MiniLM) -> None:
    vectors = sentences.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_a_vector_does_not_depend_on_its_batch(sentences: MiniLM) -> None:
    together = sentences.encode(TEXTS)
    alone = np.concatenate([sentences.encode([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5


def test_no_sentences_give_no_vectors(sentences: MiniLM) -> None:
    assert sentences.encode([]).shape == (0, 384)
