"""Captions by BLIP (Li et al., 2022, arXiv:2201.12086) through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pixeldetective.errors import PixdError
from pixeldetective.models import hub
from pixeldetective.models.device import resolve as resolve_device
from pixeldetective.models.identity import BLIP, ResolvedModel, resolve_captions

# As the paper decodes: three beams, and at most twenty tokens; 30 leave room for long words.
BEAMS = 3
MOST_TOKENS = 30


class BlipCaption:
    """A CaptionModel: BlipForConditionalGeneration, float32 on a CPU, fp16 on CUDA. Deterministic."""

    def __init__(self, resolved: ResolvedModel, device: str, *, cache: Path) -> None:
        """Raises UsageError for the device, PixdError if the weights cannot be had."""
        self.id = resolved.id
        self.device = resolve_device(device)
        self._resolved = resolved
        self._device = torch.device(self.device)
        self._precision = torch.float16 if self._device.type == "cuda" else torch.float32
        if resolved.path is None:
            with hub.downloading(self.id, cache=cache):
                self._load(resolved.hub)
        else:
            self._load(str(resolved.path))
            # A file that was replaced since it was hashed would give captions under a name that is not theirs.
            if resolve_captions(f"{BLIP}:{resolved.path}", cache=cache).id != self.id:
                raise PixdError(f"The weights at {resolved.path} changed while they were loaded. Start again.")
        size = self._processor.size
        self.side = max(size["height"], size["width"])

    def preprocess(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See PictureModel: what the model's own processor gives; the whole picture, squeezed into a square."""
        prepared = self._processor(images=pixels, input_data_format="channels_last", return_tensors="np")
        return np.ascontiguousarray(prepared["pixel_values"][0], dtype=np.float32)

    @torch.inference_mode()
    def caption(self, batch: npt.NDArray[np.float32]) -> list[str]:
        """See CaptionModel."""
        if not len(batch):
            return []
        pixels = torch.from_numpy(batch).to(self._device).to(self._precision)
        tokens = self._network.generate(pixels, num_beams=BEAMS, do_sample=False, max_new_tokens=MOST_TOKENS)
        return [" ".join(text.split()) for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    def _load(self, source: str) -> None:
        # transformers takes 8 s to import, and only a captioner needs it.
        from transformers import AutoTokenizer, BlipForConditionalGeneration
        from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
        from transformers.utils import logging

        # Its bars are for a terminal; in a worker's log they are thousands of lines.
        logging.disable_progress_bar()
        local = self._resolved.path is not None
        try:
            # Pillow's scaling, on which BLIP was trained; torchvision's would start threads in each decoding thread.
            self._processor: Any = BlipImageProcessorPil.from_pretrained(source, local_files_only=local)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source, local_files_only=local)
            network, report = BlipForConditionalGeneration.from_pretrained(
                source, dtype=self._precision, local_files_only=local, output_loading_info=True
            )
        except Exception as error:  # noqa: BLE001 (of four libraries, and none documents what it raises)
            if not local:
                raise hub.unreachable(self.id, "PIXD_CAPTION_MODEL", f"{BLIP}:/path/to/directory", error) from None
            raise self._damaged(hub.cause(error)) from None
        # transformers fills what is missing with random numbers.
        if missing := sorted(report["missing_keys"]):
            raise self._damaged(f"{len(missing)} weights are missing, {missing[0]} among them.")
        self._network: Any = network.eval().requires_grad_(requires_grad=False).to(self._device)

    def _damaged(self, why: str) -> PixdError:
        return PixdError(
            f"{self._resolved.path or self.id} cannot be loaded as a BLIP model for captions: {why} It needs what "
            "transformers saves: config.json, the weights, preprocessor_config.json and the tokenizer's files. Fetch "
            "them again."
        )
