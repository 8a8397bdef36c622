"""CLIP models through open_clip: the models for real use.

open_clip loads the weights and decides how a picture is prepared; what is added here is where the work happens. Scaling
and cropping are for the threads of the decoding pool, so they run on Pillow and NumPy alone: torch would start threads
of its own in each of them. The network runs on the device.

On CUDA the image tower computes in half precision. fp16 and not bf16: it rounds to 11 bits instead of 8, so that the
batch in which a picture happens to travel moves its vector by 1e-4, not by 1e-3, at the same speed. Should a network
overflow its range, which a trial picture shows at the start, bf16 takes its place. Everything else is float32: the text
tower, whose one query a time costs nothing, the scaling to unit length, and all that runs on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import structlog
import torch
from PIL import Image
from torch.nn.functional import normalize

from pixeldetective.errors import PixdError
from pixeldetective.models import hub
from pixeldetective.models.device import resolve as resolve_device
from pixeldetective.models.identity import OPEN_CLIP, ResolvedModel, dimension, resolve
from pixeldetective.models.weights import OPEN_CLIP_CONFIG, open_clip_checkpoint

log = structlog.get_logger(__name__)

# A picture longer than four times its width is cut to that before it is scaled: the centre crop keeps a square of it,
# and scaling a strip of 20 × 100,000 pixels as a whole would take 750 MB.
LONGEST = 4
# Texts per forward pass: bounds memory.
TEXTS = 64


class OpenClipEmbedding:
    """An EmbeddingModel of open_clip.

    `for_queries=False` keeps only the image tower, half of the memory; a text then loads the whole model once more.
    """

    def __init__(
        self,
        resolved: ResolvedModel,
        device: str,
        *,
        cache: Path,
        for_queries: bool,
        precision: torch.dtype | None = None,
    ) -> None:
        """`precision` of the image tower; None: fp16 on CUDA, float32 on a CPU. Raises UsageError, PixdError."""
        self.id = resolved.id
        self.dimension = dimension(resolved.id)
        self.device = resolve_device(device)
        self._device = torch.device(self.device)
        self._resolved = resolved
        self._cache = cache
        self._lock = Lock()
        self._texts: _Texts | None = None

        network, transform = self._load()
        *self._scale, _, normalization = transform.transforms
        self._mean = np.asarray(normalization.mean, np.float32)
        self._deviation = np.asarray(normalization.std, np.float32)
        size = network.visual.preprocess_cfg["size"]
        self.side = size if isinstance(size, int) else max(size)
        self._resize_mode: str = network.visual.preprocess_cfg["resize_mode"]
        # In these classes encode_image is the image tower and nothing more; in others, CoCa, it is not.
        plain = type(network) in {open_clip.CLIP, open_clip.CustomTextCLIP}
        self._visual: torch.nn.Module = network.visual
        self._encode: Callable[[torch.Tensor], torch.Tensor] = network.visual if plain else network.encode_image
        self._choose_precision(precision)
        if for_queries:
            self._texts = self._texts_of(network)

    def preprocess(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See PictureModel: what open_clip's own transform for evaluation gives."""
        image: Image.Image = Image.fromarray(_bounded(pixels, self._resize_mode, self.side))
        for step in self._scale:
            image = step(image)
        planes = np.asarray(image).transpose(2, 0, 1) / np.float32(255)
        planes -= self._mean[:, None, None]
        planes /= self._deviation[:, None, None]
        return np.ascontiguousarray(planes)

    @torch.inference_mode()
    def embed_images(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See EmbeddingModel. (n, 3, side, side) float32 to (n, dimension) float32, unit length."""
        if not len(batch):
            return np.empty((0, self.dimension), np.float32)
        features = self._encode(torch.from_numpy(batch).to(self._device).to(self._precision))
        return _unit(features)

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """See EmbeddingModel. A text past the model's context, 77 tokens in most, is cut."""
        with self._lock:
            if self._texts is None:
                self._texts = self._texts_of(self._load()[0])
        chunks = [self._texts(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)]
        return np.concatenate(chunks) if chunks else np.empty((0, self.dimension), np.float32)

    def _load(self) -> tuple[Any, Any]:
        """The network, in float32 on its device, and open_clip's transform."""
        resolved = self._resolved
        if resolved.path is None:
            with hub.downloading(self.id, cache=self._cache):
                try:
                    open_clip.download_pretrained(open_clip.get_pretrained_cfg(resolved.architecture, resolved.hub))
                except Exception as error:  # noqa: BLE001 (of three libraries, and none documents what it raises)
                    raise self._unreachable(error) from None
                return self._create(*open_clip_arguments(resolved))
        loaded = self._create(*open_clip_arguments(resolved))
        # A file that was replaced since it was hashed would give vectors under a name that is not theirs.
        if resolve(f"{OPEN_CLIP}:{resolved.architecture}/{resolved.path}", cache=self._cache).id != self.id:
            raise PixdError(f"The weights at {resolved.path} changed while they were loaded. Start again.")
        return loaded

    def _create(self, name: str, pretrained: str | None) -> tuple[Any, Any]:
        try:
            network, transform = open_clip.create_model_from_pretrained(
                name, pretrained=pretrained, device=self._device
            )
        except Exception as error:  # noqa: BLE001 (as many kinds as there are ways for a file to be damaged)
            where = self._resolved.path or "from the model hub"
            raise PixdError(
                f"The weights {where} cannot be loaded as {self._resolved.architecture}: {hub.cause(error)} They are "
                "damaged, or of another architecture. Fetch them again, or name the architecture that they are of."
            ) from None
        return network.eval().requires_grad_(requires_grad=False), transform

    def _texts_of(self, network: Any) -> _Texts:
        resolved = self._resolved
        name, _ = open_clip_arguments(resolved)
        try:
            if resolved.path is None:
                # Some tokenizers come from the hub, too.
                with hub.downloading(self.id, cache=self._cache):
                    tokenizer = open_clip.get_tokenizer(name)
            else:
                tokenizer = open_clip.get_tokenizer(name)
        except PixdError:
            raise
        except Exception as error:  # noqa: BLE001 (see _load)
            if resolved.path is None:
                raise self._unreachable(error) from None
            raise PixdError(
                f"The tokenizer of {resolved.path} cannot be loaded: {hub.cause(error)} A model whose "
                f"{OPEN_CLIP_CONFIG} names a tokenizer needs that tokenizer's files in the same directory."
            ) from None
        return _Texts(network, tokenizer, self._device)

    def _unreachable(self, error: Exception) -> PixdError:
        example = f"{OPEN_CLIP}:{self._resolved.architecture}//path/to/directory"
        return hub.unreachable(self.id, "PIXD_MODEL", example, error)

    def _choose_precision(self, precision: torch.dtype | None) -> None:
        self._precision = precision or (torch.float16 if self._device.type == "cuda" else torch.float32)
        if self._device.type == "cuda":
            # float32 on CUDA (the text tower) means float32: TF32 would round to 10 bits.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._visual.to(self._precision)
        noise = np.random.default_rng(0).integers(0, 256, (2 * self.side, 2 * self.side, 3), np.uint8)
        if self._precision == torch.float16 and not np.isfinite(self.embed_images(self.preprocess(noise)[None])).all():
            log.warning("the network overflows in fp16; it runs in bf16", model=self.id)
            # What fp16 rounded stays rounded, but its weights are finite: they fit, the activations did not.
            self._precision = torch.bfloat16
            self._visual.to(self._precision)


class _Texts:
    """The text tower and its tokenizer. May be called from several threads."""

    def __init__(self, network: Any, tokenizer: Any, device: torch.device) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._device = device
        # Tokenizers of the library `tokenizers` refuse to be used by two threads at once.
        self._lock = Lock()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed 1 to 64 texts: (n, dimension), unit length."""
        with self._lock:
            tokens = self._tokenizer(list(texts))
        return _unit(self._network.encode_text(tokens.to(self._device)))


def open_clip_arguments(resolved: ResolvedModel) -> tuple[str, str | None]:
    """Name and weights under which open_clip loads a model."""
    path = resolved.path
    if path is None:
        return resolved.architecture, resolved.hub
    if (path / OPEN_CLIP_CONFIG).is_file():
        return f"local-dir:{path}", None
    return resolved.architecture, str(open_clip_checkpoint(path))


def _unit(features: torch.Tensor) -> npt.NDArray[np.float32]:
    vectors: npt.NDArray[np.float32] = normalize(features.float(), dim=-1).cpu().numpy()
    return vectors


def _bounded(pixels: npt.NDArray[np.uint8], resize_mode: str, side: int) -> npt.NDArray[np.uint8]:
    """Make a picture of extreme shape, (h, w, 3), fit for scaling; any other comes back as it is."""
    height, width = pixels.shape[:2]
    short, long = min(height, width), max(height, width)
    axis = int(width > height)
    if resize_mode == "shortest" and long > LONGEST * short:
        start = (long - LONGEST * short) // 2
        return np.ascontiguousarray(np.take(pixels, range(start, start + LONGEST * short), axis=axis))
    if resize_mode == "longest" and long > side * short:
        # Its short side would be scaled to no pixel at all.
        return np.repeat(pixels, -(-long // (side * short)), axis=1 - axis)
    return pixels
