"""`builtin`: the model that needs no download, for trying things out, for tests and for machines without a network.

It sees what an ImageNet classifier sees, and no more. EfficientNet-lite0 gives a picture the probabilities of 1,000
classes; the picture's vector is the mean of the likeliest classes' sentence vectors, MiniLM("a photo of a <class>"),
weighted by probability. A text query is a sentence vector of the same MiniLM. So "a cat" finds tabbies, and
"grandmother's birthday" finds nothing sensible: ImageNet has neither people nor occasions. For real use choose an
open_clip model.

The recipe, measured (benchmarks/builtin_recall.py, 430 captioned pictures of Debian's tuxpaint-stamps-default; the
caption is the query, any picture with the same caption a hit): text recall@10 = 0.53, where 0.03 is chance. Ten to
fifty classes, temperatures from 1 to 2 and three prompts differ by less than 0.05 there, the best of them by less than
noise. 2 is chosen because it shares the weight among breeds: among the sample photos of scikit-image and scikit-learn,
"a cat" then finds the cat by a margin of 0.11; at 1 it loses to the silhouette of a horse.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from pixeldetective.models import minilm
from pixeldetective.models.classifier import SIDE, Classifier, preprocess, probabilities
from pixeldetective.models.device import resolve
from pixeldetective.models.imagenet import class_names
from pixeldetective.models.slug import BUILTIN
from pixeldetective.models.weights import write

PROMPT = "a photo of a {}"
CLASSES = 20
TEMPERATURE = 2.0

# A caption is sure of itself from this probability of the likeliest class on: in the 28 sample photos that is about
# where the classes stop being absurd. It then names all classes that are at least so likely, but not more than so many.
SURE = 0.2
CAPTION_PROBABILITY = 0.05
CAPTION_CLASSES = 3


class BuiltinPicture:
    """What embedding and captions share: the classifier."""

    def __init__(self, device: str) -> None:
        self.id = BUILTIN
        self.side = SIDE
        self.device = resolve(device)
        self._classifier = Classifier(self.device)

    def preprocess(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See PictureModel: the whole picture, letterboxed on white."""
        return preprocess(pixels)


class BuiltinEmbedding(BuiltinPicture):
    """The EmbeddingModel `builtin`. MiniLM is loaded with the first text; pictures need only the class vectors."""

    def __init__(self, device: str, *, cache: Path) -> None:
        super().__init__(device)
        self.dimension = minilm.DIMENSION
        self._lock = Lock()
        self._sentences: minilm.MiniLM | None = None
        self._class_vectors = self._cached_class_vectors(cache)

    def embed_images(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See EmbeddingModel."""
        if not len(batch):
            return np.empty((0, self.dimension), np.float32)
        likely = probabilities(self._classifier.logits(batch), temperature=TEMPERATURE)
        vectors = weights(likely) @ self._class_vectors
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See EmbeddingModel."""
        with self._lock:
            if self._sentences is None:
                self._sentences = minilm.MiniLM(self.device)
        return self._sentences.encode(texts)

    def _cached_class_vectors(self, folder: Path) -> npt.NDArray[np.float32]:
        """Sentence vectors of the class names, (1000, 384), computed once per machine: 4 s on two cores.

        The file's name holds a digest of all that goes into it, so a changed model or prompt never meets an old file.
        """
        sentences = [PROMPT.format(name) for name in class_names()]
        key = hashlib.sha256("\n".join([minilm.digest(), *sentences]).encode()).hexdigest()[:16]
        path = folder / f"builtin-classes-{key}.npy"
        shape = (len(sentences), minilm.DIMENSION)
        try:
            vectors: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            vectors = np.empty((0, 0), np.float32)
        if vectors.shape == shape and vectors.dtype == np.float32:
            return vectors
        vectors = self.embed_texts(sentences)
        data = io.BytesIO()
        np.save(data, vectors)
        write(path, data.getvalue())
        return vectors


class BuiltinCaption(BuiltinPicture):
    """The CaptionModel `builtin`: no description, only what the classifier saw ("Egyptian Mau, tabby cat")."""

    def caption(self, batch: npt.NDArray[np.float32]) -> list[str]:
        """Name the likeliest classes of each picture; "perhaps …" where the classifier saw nothing clearly."""
        return [caption(row) for row in probabilities(self._classifier.logits(batch))] if len(batch) else []


def weights(likely: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the weights of the classes, (n, classes), from their probabilities: all but the top 20 of a row are 0.

    What the 21st has is taken off the others, so that a class enters and leaves the top 20 with weight 0, and rounding
    in the network, which differs between batch sizes, cannot make a vector jump.
    """
    threshold = np.partition(likely, -CLASSES - 1, axis=1)[:, -CLASSES - 1, None]
    return np.maximum(likely - threshold, 0)


def caption(likely: npt.NDArray[np.float64]) -> str:
    """Say what the classifier saw in one picture, from the probabilities (classes,)."""
    names = class_names()
    top = np.argsort(-likely, kind="stable")[:CAPTION_CLASSES]
    if likely[top[0]] < SURE:
        return f"perhaps {names[top[0]]}"
    return ", ".join(names[index] for index in top if likely[index] >= CAPTION_PROBABILITY)
