"""Captions by a small BLIP with random weights, saved and loaded as transformers does it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pixeldetective.errors import PixdError
from pixeldetective.models.model import CaptionModel, load_for_captions
from tests.models.small import save_blip

Photos = dict[str, npt.NDArray[np.uint8]]
NAMES = ("chelsea", "coffee", "astronaut", "china")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blip(tmp_path_factory.mktemp("models") / "blip")


@pytest.fixture(scope="module")
def blip(folder: Path, notes: Path) -> CaptionModel:
    return load_for_captions(f"blip:{folder}", "cpu", cache=notes)


def test_photos_are_described_the_same_each_time(blip: CaptionModel, folder: Path, notes: Path, photos: Photos) -> None:
    batch = np.stack([blip.preprocess(photos[name]) for name in NAMES])
    captions = blip.caption(batch)
    assert len(captions) == 4
    assert all(word.startswith("word") for caption in captions for word in caption.split())
    assert all(0 < len(caption.split()) <= 30 for caption in captions)
    assert blip.caption(batch) == captions
    assert [blip.caption(one[None])[0] for one in batch] == captions
    assert load_for_captions(blip.id, "cpu", cache=notes).caption(batch) == captions
    assert blip.caption(batch[:0]) == []


def test_preparing_squeezes_the_whole_picture_as_the_paper_does(blip: CaptionModel, photos: Photos) -> None:
    pixels = photos["china"]
    prepared = blip.preprocess(pixels)
    scaled = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC), np.float32) / 255
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert prepared.shape == (3, blip.side, blip.side) == (3, 64, 64)
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous
    assert np.abs(prepared - ((scaled - mean) / deviation).transpose(2, 0, 1)).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (3, 5), (4, 4), (64, 3)])
def test_any_shape_can_be_prepared(blip: CaptionModel, shape: tuple[int, int]) -> None:
    assert blip.preprocess(np.full((*shape, 3), 200, np.uint8)).shape == (3, 64, 64)


def test_the_id_holds_a_digest_of_the_weights(blip: CaptionModel, folder: Path, notes: Path, tmp_path: Path) -> None:
    assert blip.id.startswith("blip:blip@")
    other = shutil.copytree(folder, tmp_path / "blip")
    (other / "generation_config.json").write_text("{}")
    assert load_for_captions(f"blip:{other}", "cpu", cache=notes).id != blip.id


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json", "config.json", "tokenizer.json"])
def test_damaged_files_are_named(folder: Path, notes: Path, tmp_path: Path, file: str) -> None:
    other = shutil.copytree(folder, tmp_path / "copy")
    (other / file).write_text("nonsense")
    with pytest.raises(PixdError, match=r"copy cannot be loaded as a BLIP model for captions: .*Fetch them again"):
        load_for_captions(f"blip:{other}", "cpu", cache=notes)


def test_weights_of_another_model_are_refused(folder: Path, notes: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    other = shutil.copytree(folder, tmp_path / "copy")
    tensors = load_file(other / "model.safetensors")
    tensors.pop(next(name for name in tensors if "self_attn" in name))
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PixdError, match="1 weights are missing, vision_model"):
        load_for_captions(f"blip:{other}", "cpu", cache=notes)


def test_a_hub_that_cannot_be_reached_is_answered_with_what_to_do(
    notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PixdError, match=r"cannot be had from the model hub: .*PIXD_CAPTION_MODEL.*HF_HOME"):
        load_for_captions("blip:Salesforce/blip-image-captioning-base", "cpu", cache=notes)
