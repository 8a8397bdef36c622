"""Small networks with random weights, saved as their own libraries save them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf

TINY: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 96, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
SQUASHED = {"interpolation": "bilinear", "resize_mode": "squash", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
LONGEST = {"interpolation": "bicubic", "resize_mode": "longest"}


class _NoTokenizer:
    """open_clip's own tokenizer lies in its package."""

    def save_pretrained(self, _: Path) -> None:
        """Nothing to save."""


def shaken(network: Any, seed: int) -> Any:
    """Give a network random weights under which pictures differ, as they do under trained ones."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and "embedding" not in name:
                weight.copy_(torch.randn_like(weight) / weight[0].numel() ** 0.5)
    return network.eval()


def save_open_clip(
    folder: Path, *, seed: int = 0, config: dict[str, Any] = TINY, preprocess: dict[str, Any] | None = None
) -> Path:
    """Save a network, with safetensors and its configuration, and return the folder."""
    classes = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    arguments = {key: value for key, value in deepcopy(config).items() if key != "custom_text"}
    network = shaken(classes(**arguments), seed)
    cfg = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD, **(preprocess or {})}
    open_clip.set_model_preprocess_cfg(network, cfg)
    save_for_hf(network, _NoTokenizer(), deepcopy(config), str(folder), safe_serialization=True)
    return folder


def save_blip(folder: Path) -> Path:
    """Save a small BLIP with its image processor and a tokenizer of fifty words, and return the folder."""
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *(f"word{index}" for index in range(44))]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), bos_token="[DEC]").save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={**size, "vocab_size": 50, "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0,
                     "eos_token_id": 3, "encoder_hidden_size": 32, "projection_dim": 16},
        vision_config={**size, "image_size": 64, "patch_size": 16, "projection_dim": 16},
        projection_dim=16, image_text_hidden_size=16,
    )  # fmt: skip
    torch.manual_seed(0)
    network = BlipForConditionalGeneration(config)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn_like(weight) * 0.5)
    network.save_pretrained(folder)
    return folder
